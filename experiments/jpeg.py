"""python -m experiments jpeg: what JPEG does to empty frames and to images of cells.

- empty frames of a camera, 512 x 512, of three means and of noise of some strengths: how many have
  cells, and how many, by the quality that they are saved with.
- grey validation images of 8 bits, as they are and dimmed to a quarter: mean F1 by the organisers'
  rules.

All go through files, as users' images do.
"""

import tempfile
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from app import images
from app.rasterize import rasterize
from evaluate.official import score_pair
from evaluate.tables import text_table
from experiments.on_validation import add_arguments as add_arguments
from experiments.on_validation import read
from training import catalog
from training.own_data import read_truth

QUALITIES = (None, 95, 90, 75, 50, 30)  # None: PNG
MEANS, NOISES = (8, 20, 60), (1, 1.5, 2, 2.5, 3, 4, 6, 8)  # grey levels
SIDE = 512
DIMMED = (1, 4)


def run(options):
    """Print both tables; returns the exit status. EvaluationError."""
    listing, segmenter = read(options)
    names = ["PNG" if quality is None else f"quality {quality}" for quality in QUALITIES]
    empty = [by_quality(frame, lambda found: len(found.cells), segmenter) for frame in frames()]
    empty = np.array(empty).T
    rows = [(n, len(c), np.count_nonzero(c), c.sum()) for n, c in zip(names, empty)]
    print(text_table(("empty", "frames", "with cells", "cells"), rows), end="\n\n")
    scores = {dimmed: [] for dimmed in DIMMED}
    for entry in tqdm(listing, disable=None):
        grey, truth = grey_of(catalog.read_image(entry.image)), read_truth(entry.label)
        for dimmed, rows in scores.items() if grey is not None else ():
            image = np.rint(grey / dimmed).astype(np.uint8)
            rows.append(by_quality(image, partial(f1_of, truth), segmenter))
    means = [np.mean(rows, axis=0) for rows in scores.values()]
    header = ("cells", "images", "mean F1", *(f"dimmed by {dimmed}" for dimmed in DIMMED[1:]))
    print(text_table(header, [(n, len(scores[1]), *f1) for n, *f1 in zip(names, *means)]))
    return 0


def frames():
    """Yield empty frames (SIDE, SIDE) uint8."""
    draw = np.random.default_rng(0)
    for mean in MEANS:
        for noise in NOISES:
            frame = mean + draw.normal(0, noise, (SIDE, SIDE))
            yield frame.clip(0, 255).astype(np.uint8)


def grey_of(image):
    """The one channel (H, W) of an image of 8 bits; None for others."""
    if image.dtype != np.uint8:
        return None
    if image.ndim == 3 and (image != image[..., :1]).any():
        return None
    return image if image.ndim == 2 else image[..., 0]


def by_quality(image, told, segmenter):
    """What `told` says of what is Found in an image saved with each of QUALITIES: a list."""
    with tempfile.TemporaryDirectory() as folder:
        return [told(found_in(saved(image, q, Path(folder)), segmenter)) for q in QUALITIES]


def saved(image, quality, folder):
    """The path of a file in a folder that holds an image."""
    if quality is None:
        ending, parameters = ".png", []
    else:
        ending, parameters = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]
    path = folder / f"image{ending}"
    path.write_bytes(cv2.imencode(ending, image, parameters)[1].tobytes())
    return path


def found_in(path, segmenter):
    """What a Segmenter Found in an image file."""
    image = images.load(path)
    return segmenter.find(image.pixels, quantization=image.quantization)


def f1_of(truth, found):
    """F1 of what is Found."""
    return score_pair(truth, rasterize(found.cells, truth.shape)[0]).f1
