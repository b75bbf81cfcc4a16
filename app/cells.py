"""What is known of the cells of one image: one struct of arrays for the whole way."""

from dataclasses import dataclass, fields
from typing import Sequence

import numpy as np
from scipy import ndimage

UNCERTAINTY_SCALE = 7.0  # pixels: the delta of equation 4 is 7 * uncertainty
STRIP = 128  # rows of a label image measured at a time, so that memory does not grow with it
NOWHERE = np.array((np.inf, np.inf, -np.inf, -np.inf))  # the box of no pixels
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
    def without_contours(
        cls, boxes: np.ndarray, scores: np.ndarray, uncertainties: np.ndarray
    ) -> "Cells":
        """Cells of which all but the contours is given; these have no points."""
        return cls(np.zeros((len(boxes), 0, 2), np.float32), boxes, scores, uncertainties)

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

    def flipped(self, sides: Sequence[int], size: Sequence[int]) -> "Cells":
        """The same cells in the flipped image, which is their own where that was flipped before.

        sides: which sides of (B, C, H, W) are flipped, 2 or 3 or both. size: (H, W) of the image.
        Contours keep their direction.
        """
        contours, boxes, uncertainties = self.contours, self.boxes, self.uncertainties
        for side in sides:
            axis, last = 3 - side, size[side - 2] - 1  # axis: of x, y; last: its last pixel
            contours = contours[:, ::-1].copy()
            contours[..., axis] = last - contours[..., axis]
            boxes = boxes.copy()
            boxes[:, [axis, axis + 2]] = last - boxes[:, [axis + 2, axis]]
            uncertainties = uncertainties[:, [2, 1, 0, 3] if side == 2 else [0, 3, 2, 1]]
        return Cells(contours, boxes, self.scores, uncertainties)

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


def table(cells: Cells, pixels: "Pixels") -> np.ndarray:
    """What is known of cells and of their labels' pixels: (n, 17) float64, one row per label.

    COLUMNS: label; box of the contour, pixels; number of the label's pixels and their mean x and
    y; score; uncertainties; box of the label's pixels, ends included (it and the means are NaN
    where there are none). Row k of the cells is label k + 1.
    """
    label = np.arange(1, len(cells) + 1)
    return np.column_stack(
        (label, cells.boxes, pixels.area, pixels.centroids, cells.scores, cells.uncertainties)
        + (pixels.boxes,)
    ).astype(np.float64)


def measure(labels: np.ndarray, count: int) -> "Pixels":
    """The Pixels of the labels 1..count of an image (H, W)."""
    pixels = Pixels(count)
    pixels.add(labels)
    return pixels


class Pixels:
    """How many pixels labels 1..count of an image have, and where; gathered strip by strip.

    count: at least so many; more, if larger labels come. Where a label has no pixel, centroids and
    boxes are NaN.
    """

    def __init__(self, count: int = 0):
        self._sums = np.zeros((3, count))  # of pixels, of their x and of their y
        self._boxes = np.tile(NOWHERE, (count, 1))
        self._rows = 0

    def add(self, rows: np.ndarray) -> None:
        """Look at the next rows (h, W) of the image."""
        for top in range(0, len(rows), STRIP):
            self._add(rows[top : top + STRIP])

    def _add(self, strip):
        top, self._rows = self._rows, self._rows + len(strip)
        first = int(strip.min(initial=np.iinfo(strip.dtype).max, where=strip > 0))
        last = int(strip.max(initial=0))
        if not last:
            return
        more = max(last - len(self._boxes), 0)
        self._sums = np.pad(self._sums, ((0, 0), (0, more)))
        self._boxes = np.concatenate([self._boxes, np.tile(NOWHERE, (more, 1))])
        # Labels of a strip are neighbours: counted from the first on they are few.
        near = np.maximum(strip.astype(np.int64) - (first - 1), 0).astype(np.int32)
        y, x = np.indices(near.shape, np.float64)
        for total, weight in zip(self._sums, (None, x.ravel(), y.ravel() + top)):
            total[first - 1 : last] += np.bincount(near.ravel(), weight)[1:]
        for index, box in enumerate(ndimage.find_objects(near), first - 1):
            if box:
                rows, columns = box
                self._boxes[index, :2] = np.minimum(
                    self._boxes[index, :2], (columns.start, rows.start + top)
                )
                self._boxes[index, 2:] = np.maximum(
                    self._boxes[index, 2:], (columns.stop - 1, rows.stop - 1 + top)
                )

    @property
    def area(self) -> np.ndarray:
        """Numbers of pixels (count,)."""
        return self._sums[0]

    @property
    def centroids(self) -> np.ndarray:
        """Mean x and y (count, 2)."""
        with np.errstate(invalid="ignore"):
            return (self._sums[1:] / self._sums[0]).T

    @property
    def boxes(self) -> np.ndarray:
        """Boxes (count, 4): x0, y0, x1, y1, ends included."""
        return np.where(np.isfinite(self._boxes), self._boxes, np.nan)
