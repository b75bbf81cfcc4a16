"""LIVECell: annotations in COCO's format.

In it, coordinates (x, y) count from the top-left corner of the top-left pixel, whose centre is
(0.5, 0.5): half a pixel from ours (design.md, decision 10). A pixel belongs to a polygon when its
centre is inside; a run-length mask is coded column by column, beginning with background.
"""

import json
import warnings
from functools import partial
from pathlib import PurePosixPath

import numpy as np
from skimage import draw

from training import own_data
from training.convert.instances import paint, spans
from training.convert.sample import Sample, below


def find_livecell(source):
    """The Samples of the images that livecell_coco_train.json, _val.json and _test.json list.

    Both lie anywhere below the folder; of two image files of one name the first path is taken.
    Some images are annotated twice, or in the training and in the validation part: they come
    once, with the larger number of cells, and in the latter for validation.
    """
    paths = below(source)
    pictures = {path.name: path for path in reversed(paths) if path.suffix.lower() == ".tif"}
    found = {}
    for part in ("train", "val", "test"):
        for name, cells in read_part(paths, f"livecell_coco_{part}.json").items():
            _, others = found.get(name, (None, []))
            found[name] = part, max(others, cells, key=len)
    own_data.warn(source, "no image for", ([source / n] for n in sorted(found.keys() - pictures)))
    return [
        Sample(pictures[name].stem, pictures[name], partial(draw_cells, cells), split)
        for name, (split, cells) in found.items()
        if name in pictures
    ]


def read_part(paths, name):
    """`read_annotations` of the path of this name; empty, with a warning, if it is no good."""
    path = next((path for path in paths if path.name == name), None)
    if path is None:
        warnings.warn(f"{name} is missing", stacklevel=1)
        return {}
    try:
        return read_annotations(path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        warnings.warn(f"{path} is left out, it is no COCO file: {error!r}", stacklevel=1)
        return {}


def read_annotations(path):
    """{image file's name: [segmentation]} of a COCO file; of two of one name the longer list."""
    with path.open(encoding="utf-8") as file:
        content = json.load(file)
    annotations = content["annotations"]
    if isinstance(annotations, dict):  # by their ids
        annotations = annotations.values()
    by_image, found = {}, {}
    for annotation in annotations:
        by_image.setdefault(annotation["image_id"], []).append(annotation["segmentation"])
    for image in content["images"]:
        name = PurePosixPath(image["file_name"]).name
        found[name] = max(found.get(name, []), by_image.get(image["id"], []), key=len)
    return found


def draw_cells(segmentations, shape):
    """The label image of COCO segmentations. ValueError: one is damaged."""
    objects = []
    for number, segmentation in enumerate(segmentations):
        try:
            objects.append(pixels_of(segmentation, shape))
        except (IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"its annotation {number} is damaged: {error!r}") from error
    return paint(objects, shape)


def pixels_of(segmentation, shape):
    """The object of a COCO segmentation: a list of polygons or a run-length mask."""
    if isinstance(segmentation, dict):
        return pixels_of_mask(segmentation, shape)
    return np.unique(np.concatenate([pixels_of_polygon(points, shape) for points in segmentation]))


def pixels_of_polygon(points, shape):
    """The object of a polygon [x, y, x, y, ...]."""
    x, y = np.reshape(np.array(points, np.float64), (-1, 2)).T - 0.5
    if not np.isfinite([x, y]).all():
        raise ValueError("a polygon's coordinates are no numbers")
    return np.ravel_multi_index(draw.polygon(y, x, shape), shape)


def pixels_of_mask(mask, shape):
    """The object of a run-length mask {"size": [height, width], "counts": list or text}."""
    counts = mask["counts"]
    runs = np.array(decompress(counts) if isinstance(counts, str) else counts, np.int64)
    ends = np.cumsum(runs)
    if tuple(mask["size"]) != shape or runs.min() < 0 or ends[-1] != np.prod(shape):
        raise ValueError(f"a run-length mask is not that of an image {shape}")
    lengths = runs[1::2]
    columns, rows = np.divmod(spans(ends[1::2] - lengths, lengths), shape[0])
    return rows * shape[1] + columns


def decompress(text):
    """The counts of a compressed run-length mask.

    Five bits a character, the lowest first, from "0" on; 32 says that more follow, 16 in the last
    is the sign. From the fourth on, a count is the difference to the one before the last.
    """
    counts, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - ord("0")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16 > 0) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
