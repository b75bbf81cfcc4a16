"""napari opens NAME_label.tiff of this program as layers: the image, its cells, their contours.

A package of its own, which is installed where napari is and knows nothing of the program but the
names and the content of its files. What is not there is left out: the image is looked for beside
the label image and, as the command has it by default, in the folder X of labels in X-labels.
"""

import csv
import gzip
import json
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import imageio.v3 as imageio
import numpy as np
import tifffile

LABELS, TABLE, OUTLINES = "_label.tiff", "_cells.csv", ".geojson.gz"
FOLDER_OF_LABELS = "-labels"  # INPUTS-labels are those of INPUTS
CORNER = 0.5  # pixels from the corner of an image, where GeoJSON begins, to its first pixel
MOST_SHAPES = 5000  # napari is slow with more

Layer = Tuple[Any, Dict[str, Any], str]  # as napari has it: data, arguments of the layer, its type


def reader(path: Union[str, Sequence[str]]) -> Optional[Callable[[str], List[Layer]]]:
    """What reads `path`, if it is a label image by its name; else None."""
    return read if isinstance(path, str) and path.endswith(LABELS) else None


def read(path: str) -> List[Layer]:
    """The layers of a label image, below it the image and above it the contours, if there."""
    target = Path(path)
    name = target.name[: -len(LABELS)]
    with tifffile.TiffFile(target) as file:
        labels, description = file.asarray(), file.pages[0].description
    table, outlines = target.with_name(name + TABLE), target.with_name(name + OUTLINES)
    layers = [(labels, {"name": f"{name} cells", **features_in(table)}, "labels")]
    image = image_of(target, description)
    if image:
        layers[:0] = image_layer(image, labels.shape)
    if outlines.is_file():
        layers += contours_layer(outlines, name)
    return layers


def features_in(table: Path) -> Dict[str, Any]:
    """The columns of a table of cells as features of a layer; `index` is the label of a row."""
    if not table.is_file():
        return {}
    with open(table, newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    columns = dict(zip(names, np.array(rows, float).reshape(-1, len(names)).T))
    return {"features": {"index": columns["label"].astype(int), **columns}}


def image_of(target: Path, description: str) -> Optional[Path]:
    """The file that a label image was made of, whose name it keeps; None where there is none."""
    try:
        name = json.loads(description)["input"]["name"]
    except (ValueError, TypeError, KeyError):
        return None
    folders = [target.parent]
    if target.parent.name.endswith(FOLDER_OF_LABELS):
        folders.append(target.parent.with_name(target.parent.name[: -len(FOLDER_OF_LABELS)]))
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def image_layer(path: Path, shape: Tuple[int, int]) -> List[Layer]:
    """The layer of an image file whose labels are of this shape (H, W); none if it is no such."""
    try:
        tiff = path.suffix.lower() in (".tif", ".tiff")
        pixels = tifffile.imread(path) if tiff else imageio.imread(path)
    except Exception as error:  # whatever its decoder raises: the labels are still shown
        warnings.warn(f"{path.name} is not shown: {error}", stacklevel=2)
        return []
    if pixels.shape[-2:] == shape:  # grey, or planes before it
        how = {}
    elif pixels.shape[:2] != shape:
        warnings.warn(
            f"{path.name} is not shown: it has another size than the labels", stacklevel=2
        )
        return []
    elif pixels.dtype == np.uint8 and pixels.shape[2] in (3, 4):
        how = {"rgb": True}
    else:
        how = {"channel_axis": 2}
    return [(pixels, {"name": path.name, **how}, "image")]


def contours_layer(path: Path, name: str) -> List[Layer]:
    """The layer of the contours in a GeoJSON file of exports; none of more than MOST_SHAPES."""
    with gzip.open(path) as file:
        features = json.load(file)["features"]
    if not 0 < len(features) <= MOST_SHAPES:
        if features:
            warnings.warn(f"{len(features)} contours are not shown: too many", stacklevel=2)
        return []
    rings = (np.array(feature["geometry"]["coordinates"][0]) for feature in features)
    known = [feature["properties"]["measurements"] for feature in features]
    how = {
        "name": f"{name} contours",
        "shape_type": "polygon",
        "face_color": "transparent",
        "edge_color": "yellow",
        "edge_width": 1,
        "features": {column: [row[column] for row in known] for column in known[0]},
    }
    return [([ring[:-1, ::-1] - CORNER for ring in rings], how, "shapes")]
