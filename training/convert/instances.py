"""Data sets that give each object by itself, which may overlap: BBBC038, Sartorius.

An object is an array of the flat, row-major indices of its pixels.
"""

import csv
import warnings
from collections import defaultdict
from functools import partial

import numpy as np

from training import catalog, own_data
from training.convert.sample import Sample, by_stem, matched

COLUMNS = ("id", "annotation", "width", "height")  # of Sartorius's train.csv


def paint(objects, shape):
    """The label image (H, W) int32 of a list of objects: object k has the value k + 1.

    A pixel of several belongs to the one with the fewest pixels (of equals, to the last): a cell
    that lies on another one is not hidden by it, whatever their order in the file. An object that
    has no pixel of its own then has none in the label image.
    """
    labels = np.zeros(shape, np.int32)
    for k in sorted(range(len(objects)), key=lambda k: -len(objects[k])):
        labels.flat[objects[k]] = k + 1
    return labels


def find_bbbc038(source):
    """The Samples of stage1_train/ID/images/ID.png with ID/masks/*.png, one nucleus each."""
    samples, unusable = [], []
    for place in own_data.visible(source / "stage1_train"):
        pictures, masks = (own_data.image_files(place / part) for part in ("images", "masks"))
        if len(pictures) == 1 and masks:
            samples.append(Sample(place.name, pictures[0], partial(read_masks, masks)))
        else:
            unusable.append(place)
    own_data.warn(source, "not one image in images/ and files in masks/:", unusable)
    return samples


def read_masks(paths, shape):
    """The label image of binary masks in files, each of an image's shape and of one object."""
    return paint([read_mask(path, shape) for path in paths], shape)


def read_mask(path, shape):
    """The object in a binary mask."""
    mask = catalog.read_image(path)
    if mask.shape[:2] != shape:
        raise ValueError(f"{path} has the shape {mask.shape[:2]}, its image {shape}")
    return np.flatnonzero(mask.reshape(*shape, -1).any(2))


def find_sartorius(source):
    """The Samples of train/ID.png with the rows of that id in train.csv."""
    pictures, rows = by_stem(source / "train"), read_rows(source / "train.csv")
    return [
        Sample(name, pictures[name], partial(draw_rows, rows[name]))
        for name in matched(source, pictures, rows, "no row in train.csv for")
    ]


def read_rows(table):
    """{id: its rows} of Sartorius's train.csv. ValueError: it is damaged."""
    rows = defaultdict(list)
    if not table.is_file():
        warnings.warn(f"{table} is missing", stacklevel=1)
        return rows
    try:
        with table.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                rows[row["id"]].append({name: row[name] for name in COLUMNS})
    except (csv.Error, KeyError) as error:
        raise ValueError(f"{table} is no table with the columns {COLUMNS}: {error}") from error
    return rows


def draw_rows(rows, shape):
    """The label image of an image's rows in train.csv. ValueError: a row is damaged."""
    for row in rows:
        told = f"{row['height']} x {row['width']} pixels"
        if told != "{} x {} pixels".format(*shape):
            raise ValueError(f"train.csv says that the image has {told}, not {shape}")
    return paint([pixels_of_runs(row["annotation"], shape) for row in rows], shape)


def pixels_of_runs(text, shape):
    """The object of "start length start length ...", row by row, the first pixel being 1."""
    try:
        runs, size = np.array(text.split(), np.int64).reshape(-1, 2), np.prod(shape)
        if runs.min() < 1 or runs.max() > size or (runs.sum(1) - 1).max() > size:
            raise ValueError("runs end beyond the image")
    except (AttributeError, OverflowError, ValueError) as error:
        raise ValueError(f"'{str(text)[:40]}' are no runs of an image {shape}") from error
    return np.concatenate([np.arange(start, start + length) for start, length in runs]) - 1
