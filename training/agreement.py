"""How far weights still find the cells of those that a run began with: its guard without labels.

Nothing tells without labels which outlines are better: networks agree with themselves on changed
images as well when they are wrong (experiments/EXPERIMENTS.md). But weights that lose most cells of
those that they began with have gone astray.
"""

from pathlib import Path
from typing import List, Tuple

import numpy as np
from tqdm import tqdm

from app import images
from app.images import Loaded, write_labels
from app.names import LABEL_ENDING
from app.rasterize import rasterize
from app.scale import View
from app.segmenter import Segmenter
from app.windows import Window, spread_over
from evaluate.folders import read_labels
from evaluate.official import score_pair
from training.catalog import Entry
from training.engine import Log, State
from training.outcome import labels_folder

LOOKED_AT = 10  # images, at most
SIDE = 640  # pixels of their middle that is looked at, at most
LEAST = 0.5  # agreement with the start below which weights have gone astray


class Agreement:
    """Judges the averaged network of a run; labels/ and validation.csv have what it found."""

    def __init__(
        self, listing: List[Entry], out: Path, step: int = 0, uncertainty_nms: bool = True
    ):
        """listing: of the images. out: folder of the run, which goes on after `step`."""
        self.listing, self.out = spread_over(listing, LOOKED_AT), out
        self.uncertainty_nms = uncertainty_nms
        self.log = Log(out / "validation.csv", step)

    def __call__(self, state: State) -> float:
        """The agreement, 0 to 1, of the averaged network of a run with that which it began with,
        whose own is 0 and which is better than one below LEAST (-1)."""
        segmenter = Segmenter(state.average, state.device.type, self.uncertainty_nms)
        try:
            found = [labels_in_middle(segmenter, images.load(e.image)) for e in self.listing]
        finally:
            state.average.to(state.device)  # where the GPU's memory was too small, it is elsewhere
        folder = labels_folder(self.out, state.step)
        folder.mkdir(parents=True, exist_ok=True)
        for number, labels in enumerate(found):
            write_labels(folder / f"{number}{LABEL_ENDING}", labels)
        mean = round(float(np.mean([self._agreement(*pair) for pair in enumerate(found)])), 4)
        cells = sum(np.count_nonzero(np.unique(labels)) for labels in found)
        minutes = round(state.seconds / 60, 1)
        self.log({"step": state.step, "minutes": minutes, "agreement": mean, "cells": cells})
        if state.step == 0:
            tqdm.write(f"The weights that it begins with find {cells} cells")
            return 0.0
        tqdm.write(f"After {minutes:.1f} minutes {cells} cells are found, agreement {mean:.3f}")
        return mean if mean >= LEAST else -1.0

    def _agreement(self, number, labels):
        """That of the labels of an image with those that the weights of the start found."""
        begun = read_labels(labels_folder(self.out, 0) / f"{number}{LABEL_ENDING}")
        return agreement(begun, labels)


def agreement(begun: np.ndarray, labels: np.ndarray) -> float:
    """F1 at IoU 0.5 of labels (H, W) against those that were found before; 1 where there are no
    cells in both. Cells at the frame do not count."""
    score = score_pair(begun, labels)
    return score.f1 if score.true_num or score.pred_num else 1.0


def labels_in_middle(segmenter: Segmenter, image: Loaded) -> np.ndarray:
    """The label image (h, w) int32 of the middle of an image, which is converted as a whole."""
    view = segmenter.view(image.pixels, image.nodata)
    pixels, none = view.window(middle(view.shape))
    part = View(pixels, lambda pixels, at: pixels, lambda pixels, at: within(none, pixels, at))
    return rasterize(segmenter.find_in(part).cells, pixels.shape[:2])[0]


def within(mask: np.ndarray, pixels: np.ndarray, at: Tuple[int, int]) -> np.ndarray:
    """The part of a mask (H, W) that pixels (h, w[, C]) from the row and column `at` on take."""
    (top, left), (height, width) = at, pixels.shape[:2]
    return mask[top : top + height, left : left + width]


def middle(shape: Tuple[int, int]) -> Window:
    """The Window of at most SIDE pixels a side in the middle of an image (H, W)."""
    height, width = (min(side, SIDE) for side in shape)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return Window(left, top, left + width, top + height)
