"""What is known of the cells of one image: one struct of arrays for the whole way."""

from dataclasses import dataclass, fields
from typing import Sequence, Tuple

import numpy as np
from scipy import ndimage

UNCERTAINTY_SCALE = 7.0  # pixels: the delta of equation 4 is 7 * uncertainty
STRIP = 512  # rows of a label image measured at a time, so that memory does not grow with it
COLUMNS = (
    ("label", "x0", "y0", "x1", "y1", "area", "centroid_x", "centroid_y", "score")
    + ("uncertainty_top", "uncertainty_right", "uncertainty_bottom", "uncertainty_left")
    + ("label_x0", "label_y0", "label_x1", "label_y1")
)  # fmt: skip


@dataclass
class Cells:
    """n cells; row k is the same cell in every array (and label k + 1 in the label image).

    contours (n, S, 2): x, y of S points along each closed outline, float32, in pixels;
        (0, 0) is the centre of the top-left pixel.
    boxes (n, 4): x0, y0, x1, y1, the extent of the contour, float32, in pixels.
    scores (n,): how sure the network is that this is a cell, float32 in [0, 1].
    uncertainties (n, 4): of the top, right, bottom and left boundary, float32 in [0, 1]
        (0 is certain). Only here in this order: the network uses left, top, right, bottom.
    """

    contours: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    uncertainties: np.ndarray

    @classmethod
    def empty(cls, samples: int = 0) -> "Cells":
        """No cells, of contours with `samples` points."""
        shapes = ((0, samples, 2), (0, 4), (0,), (0, 4))
        return cls(*(np.zeros(shape, np.float32) for shape in shapes))

    @classmethod
    def cat(cls, parts: Sequence["Cells"]) -> "Cells":
        """All cells of a non-empty list of Cells, in order."""
        return cls(
            *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)),
        )

    def __len__(self):
        return len(self.scores)

    def filter(self, keep: np.ndarray) -> "Cells":
        """The cells that `keep` names: a boolean mask (n,) or indices, which may reorder."""
        return Cells(*(getattr(self, f.name)[keep] for f in fields(self)))

    def shift(self, dx: float, dy: float) -> "Cells":
        """The same cells moved by dx, dy pixels (window coordinates to image coordinates)."""
        offset = np.asarray((dx, dy), np.float32)
        return Cells(
            self.contours + offset,
            self.boxes + np.tile(offset, 2),
            self.scores,
            self.uncertainties,
        )

    def areas(self) -> np.ndarray:
        """The areas (n,) that the contours enclose, in square pixels."""
        x, y = np.moveaxis(self.contours.astype(np.float64), -1, 0)
        return np.abs((x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1)) / 2

    def certainties(self, kind: str) -> np.ndarray:
        """How certain the boundaries of each cell are (n,), in [0, 1]; see `certainties`."""
        return certainties(self.boxes, self.uncertainties, kind)

    def finite(self) -> np.ndarray:
        """Which cells (n,), bool, have boxes and uncertainties that are numbers."""
        return np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.uncertainties).all(axis=1)


def counted(number: int) -> str:
    """ "1 cell", or so many cells."""
    return "1 cell" if number == 1 else f"{number} cells"


def certainties(boxes: np.ndarray, uncertainties: np.ndarray, kind: str) -> np.ndarray:
    """How certain boundaries are (n,), in [0, 1].

    boxes (n, 4): x0, y0, x1, y1. uncertainties (n, 4): top, right, bottom, left.
    kind: "absolute" is 1 - mean uncertainty, at any size (paper, section 2.2.7). By that, of the
    proposals for a large cell the too small ones win; so "relative" is 1 / (1 + mean relative
    error): the error that a side expects, UNCERTAINTY_SCALE * uncertainty in pixels, over the
    extent of the box across it (1 pixel or more).
    """
    if kind == "absolute":
        return 1 - uncertainties.mean(axis=1)
    width, height = np.maximum(boxes[:, 2:] - boxes[:, :2], 1).T
    top, right, bottom, left = uncertainties.T
    relative = ((top + bottom) / height + (right + left) / width) / 4
    return 1 / (1 + UNCERTAINTY_SCALE * relative)


def table(cells: Cells, labels: np.ndarray) -> np.ndarray:
    """What is known of cells in a label image (H, W): (n, 17) float64, one row per label.

    COLUMNS: label; box of the contour, pixels; number of the label's pixels and their mean x and
    y; score; uncertainties; box of the label's pixels, ends included (it and the means are NaN
    where there are none). Row k of the cells is label k + 1.
    """
    area, centroids = measure(labels, len(cells))
    label = np.arange(1, len(cells) + 1)
    return np.column_stack(
        (label, cells.boxes, area, centroids, cells.scores, cells.uncertainties)
        + (label_boxes(labels, len(cells)),)
    ).astype(np.float64)


def label_boxes(labels: np.ndarray, count: int) -> np.ndarray:
    """The boxes (count, 4) of the pixels of labels 1..count, x0 y0 x1 y1, ends included.

    NaN where a label has no pixel.
    """
    found = ndimage.find_objects(labels, max_label=count) if count else []
    boxes = [
        (np.nan,) * 4 if box is None else (box[1].start, box[0].start, box[1].stop, box[0].stop)
        for box in found
    ]
    return np.array(boxes, np.float64).reshape(-1, 4) - (0, 0, 1, 1)


def measure(labels: np.ndarray, count: int) -> Tuple[np.ndarray, np.ndarray]:
    """Pixels (count,) and mean x, y (count, 2) of the labels 1..count of an image (H, W)."""
    sums = np.zeros((3, count + 1))
    for top in range(0, len(labels), STRIP):
        strip = labels[top : top + STRIP]
        y, x = np.indices(strip.shape, np.float64)
        for total, weights in zip(sums, (None, x.ravel(), y.ravel() + top)):
            total += np.bincount(strip.ravel(), weights, minlength=count + 1)
    area, *centroids = sums[:, 1:]
    with np.errstate(invalid="ignore"):
        return area, np.stack(centroids, axis=1) / area[:, None]
