"""python -m experiments sizes: F1 of the images of a split, resized, with all settings automatic.

Images whose median cell would be smaller than 8 pixels (--least) are left out of a size; the row of
size 1 beside each other one is of the same images. Rules are the organisers'.
"""

import csv
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from app.atomic import replacing
from app.options import Extend
from evaluate.folders import EvaluationError, read_labels
from evaluate.official import score_pair
from evaluate.tables import text_table
from training import catalog, validation

LEAST_CELL = 8  # pixels: equivalent diameter of the median cell


def add_arguments(parser):
    """What the command takes."""
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with a catalog.csv")
    add("--weights", type=Path, required=True)
    add("--split", default="val")
    sizes = "factors beside 1 (default: 0.5 2 4)"
    add("--sizes", type=float, nargs="+", action=Extend, default=[0.5, 2.0, 4.0], help=sizes)
    add("--every", type=int, default=1, help="take every so many images only (×4 takes an hour)")
    least = f"pixels that the median cell has at least (default: {LEAST_CELL})"
    add("--least", type=float, default=LEAST_CELL, help=least)
    add("--out", type=Path, required=True, help="a CSV file of the F1 of each image and size")


def run(options):
    """Print a row for each size; returns the exit status. EvaluationError."""
    try:
        listing = catalog.entries(options.data, options.split)[:: options.every]
        segmenter, _ = validation.load(options.weights)
    except ValueError as error:
        raise EvaluationError(error) from error
    wanted = [1.0, *(size for size in options.sizes if size != 1)]
    found = []
    for entry in tqdm(listing, disable=None):
        image, truth = catalog.read_image(entry.image), read_labels(entry.label)
        cell = median_cell(truth)
        for size in wanted:
            if size == 1 or cell * size >= options.least:
                f1 = f1_at(size, segmenter, image, truth)
                found.append((entry.flat_name, size, round(cell * size, 1), f1))
    with replacing(options.out, text=True) as file:
        csv.writer(file).writerows([("image", "size", "median cell", "F1"), *found])
    print(text_table(("size", "images", "mean F1", "the same at 1"), summary(found, wanted)))
    return 0


def median_cell(truth):
    """Equivalent diameter in pixels of the median cell of a label image; 0 without cells."""
    areas = np.bincount(truth.ravel())[1:]
    areas = areas[areas > 0]
    return float(2 * np.sqrt(np.median(areas) / np.pi)) if len(areas) else 0.0


def f1_at(size, segmenter, image, truth):
    """Official F1 at IoU 0.5 of an image and its true labels (H, W), both resized."""
    image, truth = resized(image, truth, size)
    return score_pair(truth, validation.labels_of(segmenter, image)).f1


def resized(image, truth, size):
    """An image and its label image, `size` times as large, at least a pixel."""
    if size == 1:
        return image, truth
    shape = tuple(max(round(side * size), 1) for side in truth.shape[::-1])
    kind = cv2.INTER_AREA if size < 1 else cv2.INTER_CUBIC
    limits = (np.iinfo if image.dtype.kind in "iu" else np.finfo)(image.dtype)
    # OpenCV resizes no wide integers; cubic interpolation leaves the range of a type.
    wide = cv2.resize(image.astype(np.float64), shape, interpolation=kind)
    wide = np.rint(wide) if image.dtype.kind in "iu" else wide
    wide = wide.clip(limits.min, limits.max).astype(image.dtype)
    near = cv2.resize(truth.astype(np.float64), shape, interpolation=cv2.INTER_NEAREST)
    return wide, near.astype(truth.dtype)


def summary(found, sizes):
    """(size, images, mean F1, mean F1 of the same images at 1) of each size."""
    whole = {name: f1 for name, size, _, f1 in found if size == 1}
    rows = []
    for size in sizes:
        pairs = [(f1, whole[name]) for name, of, _, f1 in found if of == size]
        rows.append((size, len(pairs), *(round(float(m), 4) for m in np.mean(pairs, axis=0))))
    return rows
