"""LIVECell: annotations in COCO's format, decoded by COCO's own pycocotools.

Coordinates (x, y) count from the top-left corner of the top-left pixel, whose centre is (0.5, 0.5):
half a pixel from ours (design.md, decision 10). pycocotools knows that: to it, a pixel belongs to a
polygon when its centre is inside, give or take a tenth of a pixel. A run-length mask goes column by
column and begins with background. pycocotools believes what it is given, so that a damaged
annotation could crash the interpreter: annotations are checked here first.
"""

import json
import re
import warnings
from collections import defaultdict
from functools import partial
from pathlib import PurePosixPath

import numpy as np
from pycocotools import mask

from training import own_data
from training.convert.instances import paint
from training.convert.sample import Sample, below, matched

# Counts of runs as text: five bits a character, "0" being 0; 32 more say that the count goes on.
COMPRESSED = re.compile("([P-o]{0,6}[0-O])+")
FARTHEST = 10**6  # pixels: a polygon that reaches farther, or has a longer outline, is damaged


def find_livecell(source):
    """The Samples of the images that livecell_coco_train.json, _val.json and _test.json list.

    All lie anywhere below the folder; of two image files of one name the first path is taken.
    Some images are annotated twice, or in the training and in the validation part: they come
    once, with the larger number of cells, and in the latter for validation.
    """
    paths, found = below(source), {}
    for part in ("train", "val", "test"):
        for name, cells in read_part(paths, f"livecell_coco_{part}.json").items():
            _, others = found.get(name, (part, []))
            found[name] = part, max(others, cells, key=len)
    pictures = {path.name: path for path in reversed(paths) if path.name in found}
    samples = []
    for name in matched(source, pictures, found, own_data.NO_LABEL):
        split, cells = found[name]
        samples.append(
            Sample(pictures[name].stem, pictures[name], partial(draw_cells, cells), split)
        )
    return samples


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
    by_image, found = defaultdict(list), defaultdict(list)
    for annotation in annotations:
        by_image[annotation["image_id"]].append(annotation["segmentation"])
    for image in content["images"]:
        name = PurePosixPath(image["file_name"]).name
        found[name] = max(found[name], by_image[image["id"]], key=len)
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
        runs = compressed(segmentation, shape)
    else:
        runs = mask.merge(mask.frPyObjects([outline(points) for points in segmentation], *shape))
    columns, rows = mask.decode(runs).T.view(bool).nonzero()  # as they lie in memory
    return np.ravel_multi_index((rows, columns), shape)


def outline(points):
    """The numbers x, y, x, y, ... of a polygon, checked for pycocotools.

    It takes memory for the whole outline without looking whether it gets any, and four numbers for
    a box: a line is made to run to its end and back.
    """
    points = np.array(points, np.float64).reshape(-1, 2)
    reach = np.abs(points).max() + np.abs(np.diff(points, axis=0)).sum()
    if not reach < FARTHEST:  # or it is no number
        raise ValueError("a polygon reaches too far")
    return np.resize(points, (max(len(points), 3), 2)).ravel()


def compressed(runs, shape):
    """A run-length mask {"size": [height, width], "counts": list or text}, with text.

    ValueError: it is not that of an image of this shape. pycocotools would read on behind a text
    that is cut short, and write beyond its memory where counts are too large.
    """
    counts, size = runs["counts"], int(np.prod(shape))
    if not isinstance(counts, str):
        numbers = np.array(counts, np.int64)
        if numbers.min() < 0 or numbers.max() > size:
            raise ValueError("a run-length mask has runs longer than its image")
        counts = mask.frPyObjects({"size": shape, "counts": numbers}, *shape)["counts"].decode()
    if tuple(runs["size"]) != shape or not COMPRESSED.fullmatch(counts) or fits(counts, size - 1):
        raise ValueError(f"a run-length mask is not that of an image {shape}")
    return {"size": shape, "counts": counts}


def fits(counts, pixels):
    """Whether the runs of a mask, as text, go over so many pixels or fewer."""
    try:
        mask.decode({"size": [pixels, 1], "counts": counts})
    except ValueError:
        return False
    return True
