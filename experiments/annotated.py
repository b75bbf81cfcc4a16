"""python -m experiments annotated: scale bars and text drawn into images.

Into validation images a scale bar with its text, and a time, are drawn as viewers do, in white or
yellow on what is dark and in black or red on what is bright, with some fonts and sizes. How many of
the bars and lines of text app.annotations finds; F1 by the organisers' rules and cells that lie on
what is drawn, with what it finds and without, beside the images as they are. And in how many images
as they are, of all of the catalogue, it finds anything.
"""

from unittest.mock import patch

import cv2
import numpy as np
from tqdm import tqdm

from app import annotations, images
from app.intensity import no_image
from app.rasterize import rasterize
from evaluate.folders import EvaluationError
from evaluate.official import score_pair
from evaluate.tables import text_table
from experiments.left_out import SPLITS
from experiments.on_validation import add_arguments as add_arguments
from experiments.on_validation import read
from training import catalog
from training.own_data import read_truth

LEAST_SIDE = 200  # pixels of an image into which anything is drawn
TEXTS = ("50 um", "100 um", "5 um", "0.5 mm")
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)
SIZES = (0.5, 0.7, 1.0, 1.5)  # of the fonts: digits of 11 to 33 pixels
COLOURS = {False: ((255, 255, 255), (255, 255, 0)), True: ((0, 0, 0), (255, 0, 0))}  # on bright
MARGIN, GAP = 8, 5  # pixels to the frame, and between text and bar


def run(options):
    """Print the tables; returns the exit status. EvaluationError."""
    chosen, segmenter = read(options)
    try:
        listing = [entry for split in SPLITS for entry in catalog.entries(options.data, split)]
    except ValueError as error:
        raise EvaluationError(error) from error
    rows, draw = [], np.random.default_rng(0)
    for entry in tqdm(chosen, disable=None):
        image = shown(catalog.read_image(entry.image))
        if image is not None and min(image.shape[:2]) >= LEAST_SIDE:
            rows.append(compared(segmenter, image, read_truth(entry.label), draw))
    if rows:
        found = np.array(rows)
        header = ("images", "bars and texts", "found", "F1 as it is", "cells there")
        header += ("drawn into", "cells there", "as found", "cells there")
        counts = (len(found), 3 * len(found), int(found[:, 0].sum()))
        print(text_table(header, [(*counts, *np.mean(found[:, 1:], axis=0))]), end="\n\n")
    by_mistake = sum(is_annotated(entry.image) for entry in tqdm(listing, disable=None))
    print(f"{by_mistake} of {len(listing)} images as they are have a scale bar or text")
    return 0


def shown(image):
    """An image of 8 bits as RGB (H, W, 3), as a viewer exports it; None for others."""
    if image.dtype != np.uint8 or image.ndim == 3 and image.shape[2] != 3:
        return None
    return image if image.ndim == 3 else np.dstack([image] * 3)


def compared(segmenter, image, truth, draw):
    """A row: how many of the three drawings are found, then F1 and cells on them of the image as it
    is, with them unknown, and with what is found of them."""
    drawn, boxes = annotated(image, draw)
    there = masked(boxes, image.shape)
    found = masked(no_image(drawn).drawn, image.shape)
    row = [sum(found[y0:y1, x0:x1].mean() >= 0.5 for x0, y0, x1, y1 in boxes)]
    with patch.object(annotations, "LARGEST", 0):
        row += judged(segmenter, image, truth, there) + judged(segmenter, drawn, truth, there)
    return row + judged(segmenter, drawn, truth, there)


def judged(segmenter, image, truth, there):
    """[F1 of an image, how many of its cells lie mostly where a mask says]."""
    labels = rasterize(segmenter.find(image).cells, truth.shape)[0]
    pixels = np.bincount(labels.ravel(), minlength=2)[1:]
    inside = np.bincount(labels[there], minlength=len(pixels) + 1)[1:]
    return [score_pair(truth, labels).f1, np.count_nonzero(2 * inside > pixels)]


def annotated(image, draw):
    """(the image with a bar, text above it and a time, where these are: boxes (3, 4))."""
    image, (height, width) = image.copy(), image.shape[:2]
    colours = COLOURS[bool(np.median(image) > 127)]
    colour, font = colours[draw.integers(2)], FONTS[draw.integers(len(FONTS))]
    size = SIZES[draw.integers(sum(100 * size <= height / 4 for size in SIZES) or 1)]
    thick = max(1, round(2 * size))
    bar = np.array([width - MARGIN - max(40, width // 5), 0, width - MARGIN, height - MARGIN])
    bar[1] = bar[3] - max(3, height // 100)
    cv2.rectangle(image, tuple(bar[:2].tolist()), tuple((bar[2:] - 1).tolist()), colour, -1)
    boxes = [bar]
    for text, foot in ((TEXTS[draw.integers(len(TEXTS))], bar[1] - GAP), ("t = 12:30 h", None)):
        (wide, high), _ = cv2.getTextSize(text, font, size, thick)
        if foot is None:
            left, foot = MARGIN, MARGIN + high
        else:
            left = min(int(bar[[0, 2]].mean()) - wide // 2, width - MARGIN - wide)
        at = (int(left), int(foot))
        cv2.putText(image, text, at, font, size, colour, thick, cv2.LINE_AA)
        boxes.append(np.array([left, foot - high, left + wide, foot]))
    return image, np.maximum(np.stack(boxes), 0)


def masked(boxes, shape):
    """Where boxes (k, 4) are: (H, W) bool."""
    mask = np.zeros(shape[:2], bool)
    for x0, y0, x1, y1 in boxes.tolist():
        mask[y0:y1, x0:x1] = True
    return mask


def is_annotated(path):
    """Whether anything is found in an image as it is."""
    return len(no_image(images.read(path)[0]).drawn) > 0
