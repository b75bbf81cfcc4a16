"""Which proposals of an image are its cells: uncertainty-aware non-maximum suppression, near-linear
in the number of cells, and scores compared within the image."""

from bisect import bisect_left, bisect_right
from math import floor
from typing import Optional, Sequence

import numpy as np

from app.cells import Cells
from app.outlines import fill, star_shaped

BEST_SCORES = 0.8  # the quantile of an image's scores that stands for its best ones
SMALLNESS = 0.125  # a cell of half the typical area counts as one of 0.5 ** this times its score

# Rows of bins lie this far apart in a bin's key: more than the columns of any image.
_ROW = 1 << 24


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (...) of boxes x0, y0, x1, y1 (..., 4), broadcast against each other.

    0 where a box has no area.
    """
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    union = _area(a) + _area(b) - shared
    return shared / np.where(shared > 0, union, 1)


def _area(boxes):
    return (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)


class Grid:
    """Finds the boxes near a box, in a time that does not grow with the boxes elsewhere.

    Boxes of similar size share a level: a grid of square bins that are wider than each of them.
    A box lies in the bin of its top left corner, so that it reaches the next bin at most.
    """

    def __init__(self, boxes: np.ndarray):
        """boxes (n, 4): x0, y0, x1, y1 in pixels, finite, with x0 <= x1 and y0 <= y1."""
        exponents = np.frexp((boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=1))[1]
        self._levels = []
        for exponent in np.unique(exponents):
            members = np.flatnonzero(exponents == exponent)
            side = 2.0 ** int(exponent)
            columns, rows = np.floor(boxes[members, :2] / side).astype(np.int64).T
            keys = rows * _ROW + columns
            order = np.argsort(keys, kind="stable")
            self._levels.append((side, keys[order].tolist(), members[order]))

    def near(self, box: np.ndarray) -> np.ndarray:
        """Indices of all boxes that touch the box (4,), and of some more in its vicinity."""
        found = [np.zeros(0, np.int64)]
        for side, keys, members in self._levels:
            left, top, right, bottom = (floor(edge / side) for edge in box.tolist())
            for row in range(top - 1, bottom + 1):
                start = bisect_left(keys, row * _ROW + left - 1)
                stop = bisect_right(keys, row * _ROW + right, start)
                if start < stop:
                    found.append(members[start:stop])
        return np.concatenate(found)


def suppress(
    cells: Cells, iou_threshold: float, certainty: Optional[str] = "relative"
) -> np.ndarray:
    """Indices (k,), int64, of the cells that stay, heaviest first (paper, section 2.2.7).

    The weight of a cell is its score times its certainty ("absolute" or "relative", see
    Cells.certainties), or where that is None its score alone. A cell falls to a
    heavier one that stays when the IoU of their boxes is greater than iou_threshold. Equal weights
    are ordered by their boxes, then by index: the order of the cells does not matter.
    """
    boxes = cells.boxes.astype(np.float64)
    grid = Grid(boxes)
    alive = np.ones(len(cells), bool)
    kept = []
    for index in np.lexsort((*boxes.T[::-1], -_weights(cells, certainty))).tolist():
        if alive[index]:
            kept.append(index)
            near = grid.near(boxes[index])
            near = near[alive[near]]
            alive[near[box_iou(boxes[index], boxes[near]) > iou_threshold]] = False
    return np.array(kept, np.int64)


def suppress_covered(
    cells: Cells, frame: Sequence[int], share: float, certainty: Optional[str] = "relative"
) -> np.ndarray:
    """Indices (k,), int64, of the cells that stay, heaviest first, by their outlines.

    A cell falls when heavier ones that stay cover more than `share` (0..1) of its pixels: a label
    image has room for one cell at a pixel. Unlike boxes, outlines tell a double from a neighbour
    that lies aslant, and also a part of a cell from a cell (experiments/EXPERIMENTS.md). Weights
    are those of `suppress`. Equal ones are ordered by boxes, by outlines, then by index: the order
    of the cells does not matter.

    frame: x0, y0, x1, y1 in pixels. Only its pixels x0 <= x < x1, y0 <= y < y1 count; a cell
    without any stays. The memory is a byte for each.
    """
    left, top, right, bottom = frame
    covered = np.zeros((bottom - top, right - left), np.uint8)
    lower, upper = _patches(cells.boxes, frame)
    crosses = ~star_shaped(cells.contours)
    kept = []
    for index in _by_outlines(cells, certainty).tolist():
        (x0, y0), (x1, y1) = lower[index], upper[index]
        beneath = covered[y0 - top : y1 - top, x0 - left : x1 - left]
        mask = fill(cells.contours[index], lower[index], beneath.shape, crosses[index])
        if np.count_nonzero(mask & beneath) <= share * np.count_nonzero(mask):
            kept.append(index)
            beneath |= mask
    return np.array(kept, np.int64)


def _weights(cells, certainty):
    return cells.scores * cells.certainties(certainty) if certainty else cells.scores


def _by_outlines(cells, certainty):
    """Indices (n,) of the cells, heaviest first; equal weights by boxes, outlines, then index."""
    x, y = cells.contours.transpose(2, 1, 0)
    return np.lexsort((*y, *x, *cells.boxes.T[::-1], -_weights(cells, certainty)))


def _patches(boxes, frame):
    """Corners (n, 2) of the pixels around boxes (n, 4): the first, and the last plus one.

    With a pixel to spare all round, as in `rasterize`, but cut off at the frame.
    """
    corners = np.floor(boxes + 0.5) + (-1, -1, 2, 2)
    corners = np.clip(corners, np.tile(frame[:2], 2), np.tile(frame[2:], 2)).astype(np.int64)
    return corners[:, :2], corners[:, 2:]


def mostly_on(cells: Cells, mask: np.ndarray) -> np.ndarray:
    """Which cells (n,), bool, have more than half of their pixels inside a mask (h, w) there."""
    found = np.zeros(len(cells), bool)
    if not mask.any():
        return found
    lower, upper = _patches(cells.boxes, (0, 0, mask.shape[1], mask.shape[0]))
    crosses = ~star_shaped(cells.contours)
    for index, ((x0, y0), (x1, y1)) in enumerate(zip(lower, upper)):
        beneath = mask[y0:y1, x0:x1]
        pixels = fill(cells.contours[index], lower[index], beneath.shape, crosses[index])
        found[index] = 2 * np.count_nonzero(pixels & beneath) > np.count_nonzero(pixels)
    return found


def convincing(cells: Cells, share: float) -> np.ndarray:
    """Which cells (n,), bool, of an image reach a share (0 to 1) of its best scores.

    What a network is sure of differs from one kind of image to the next, and so does the score
    that tells cells from the rest: where it knows little, all scores are lower. What is smaller
    than the typical cell of its image is more often debris or a part, and needs a higher score.
    (Both are chosen by F1, experiments/EXPERIMENTS.md; the paper has one threshold for all.)
    """
    if not share or not len(cells):
        return np.ones(len(cells), bool)
    least = share * np.quantile(cells.scores, BEST_SCORES)
    areas = cells.areas()
    typical = np.median(areas[cells.scores >= least])
    relative = areas / max(typical, 1)
    return cells.scores * np.minimum(relative, 1) ** SMALLNESS >= least
