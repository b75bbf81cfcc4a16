"""How well a network agrees with itself: what judges it on images without labels.

It outlines an image, and the same turned, smaller, of another contrast and with noise. Which cells
are there has not changed; how far it finds the same ones in both tells whether weights have come
nearer to these images or gone astray (experiments/EXPERIMENTS.md says how well).
"""

from pathlib import Path
from typing import List, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from app import images
from app.segmenter import Segmenter
from app.windows import Window, spread_over
from evaluate.official import score_pair
from training.catalog import Entry
from training.engine import Log, State
from training.outcome import validations
from training.validation import labels_of

LOOKED_AT = 10  # images, at most
SIDE = 640  # pixels of their middle that is looked at, at most
# How they are changed: size, exponent of the intensities (0..1), standard deviation of the noise.
SCALE, GAMMA, NOISE = 0.75, 0.7, 0.02
LEAST_FOUND = (
    0.8  # of as many cells as the weights of the start found: what finds less is no better
)


class Agreement:
    """Judges the averaged network of a run; validation.csv has what it found."""

    def __init__(
        self, listing: List[Entry], out: Path, step: int = 0, uncertainty_nms: bool = True
    ):
        """listing: of the images. out: folder of the run, which goes on after `step`."""
        self.listing, self.out = spread_over(listing, LOOKED_AT), out
        self.uncertainty_nms = uncertainty_nms
        self.log = Log(out / "validation.csv", step)

    def __call__(self, state: State) -> float:
        """The agreement, 0 to 1, of the averaged network of a run; 0 where it finds fewer than
        LEAST_FOUND of the cells that the weights of the start found."""
        segmenter = Segmenter(state.average, state.device.type, self.uncertainty_nms)
        try:
            judged = [agreement(segmenter, images.read(e.image)[0]) for e in self.listing]
        finally:
            state.average.to(state.device)  # where the GPU's memory was too small, it is elsewhere
        shares, counts = zip(*judged)
        mean, found = float(np.mean(shares)), sum(counts)
        minutes = round(state.seconds / 60, 1)
        row = {"step": state.step, "minutes": minutes, "agreement": round(mean, 4), "cells": found}
        self.log(row)
        tqdm.write(f"After {minutes:.1f} minutes: agreement {mean:.4f}, cells {found}")
        least = LEAST_FOUND * int(validations(self.out)[0]["cells"])
        return row["agreement"] if found >= least else 0.0


def agreement(segmenter: Segmenter, image: np.ndarray) -> Tuple[float, int]:
    """(F1 at IoU 0.5 of the cells in the middle of an image (H, W[, C]) against those in the same
    pixels changed, number of cells)."""
    view = segmenter.view(image)
    pixels, _ = view.window(middle(view.shape))
    labels = labels_of(segmenter, pixels)
    again = restored(labels_of(segmenter, changed(pixels)), labels.shape)
    found = len(np.unique(labels[labels > 0]))
    return (score_pair(labels, again).f1 if found else 0.0), found


def middle(shape: Tuple[int, int]) -> Window:
    """The Window of at most SIDE pixels a side in the middle of an image (H, W)."""
    height, width = (min(side, SIDE) for side in shape)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return Window(left, top, left + width, top + height)


def changed(pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, 3) uint8 turned by a quarter, smaller, of other contrast, with noise."""
    height, width = (max(1, round(SCALE * side)) for side in pixels.shape[:2])
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA) / 255
    noise = np.random.default_rng(0).normal(0, NOISE, small.shape)
    values = np.rint(255 * (small**GAMMA + noise).clip(0, 1)).astype(np.uint8)
    return np.ascontiguousarray(np.rot90(values))


def restored(labels: np.ndarray, shape: Tuple[int, int]) -> np.ndarray:
    """Labels of changed pixels as those of the pixels (H, W) themselves."""
    back = np.ascontiguousarray(np.rot90(labels, -1)).astype(np.float64)
    return cv2.resize(back, shape[::-1], interpolation=cv2.INTER_NEAREST).astype(labels.dtype)
