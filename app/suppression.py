"""Which proposals of an image are its cells: uncertainty-aware non-maximum suppression, near-linear
in the number of cells, and scores compared within the image."""

from bisect import bisect_left, bisect_right
from functools import lru_cache
from math import floor
from typing import Callable, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from app.cells import Cells
from app.outlines import fill, star_shaped

BEST_SCORES = 0.8  # the quantile of an image's scores that stands for its best ones
SMALLNESS = 0.125  # a cell of half the typical area counts as one of 0.5 ** this times its score

MASKS = 2**10  # of cells that are held, since their neighbours are often compared with them, too

# Rows of bins lie this far apart in a bin's key: more than the columns of any image.
_ROW = 1 << 24


class Rules(NamedTuple):
    """Which of several cells that overlap stays.

    by_outlines: by `suppress_covered`, else by `suppress`. threshold, certainty: of these.
    recovery: whether a cell that no window shows whole comes from the one that shows most of it
    (design.md, decision 5); without, it is dropped (paper, section 2.4).
    """

    threshold: float
    certainty: Optional[str] = "relative"
    by_outlines: bool = False
    recovery: bool = True

    def suppress(self, cells: Cells, frame: Sequence[int]) -> np.ndarray:
        """Indices (k,) of the cells that stay, heaviest first; frame: of `suppress_covered`."""
        if self.by_outlines:
            return suppress_covered(cells, frame, self.threshold, self.certainty)
        return suppress(cells, self.threshold, self.certainty)


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
    for index in np.lexsort((*boxes.T[::-1], -weights(cells, certainty))).tolist():
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


class Outlined(NamedTuple):
    """What is known of n cells without holding their outlines.

    boxes (n, 4): as of Cells. weights (n,): see `weights`. group (n,): whole numbers; within one
    group the suppression is done. outline: index -> (contour (S, 2), whether it may cross itself,
    see outlines.star_shaped).
    """

    boxes: np.ndarray
    weights: np.ndarray
    group: np.ndarray
    outline: Callable[[int], Tuple[np.ndarray, bool]]


def suppress_between(
    cells: Outlined, open_: np.ndarray, frame: Sequence[int], rules: Rules
) -> np.ndarray:
    """Which cells (n,), bool, stay when groups meet in which the suppression is done.

    open_ (n,), bool: which cells may touch those of other groups. frame: of `suppress_covered`.

    The same stay as if `rules` saw all cells at once: whatever a heavier cell of the same group
    covers did not suffice before, and suffices no more when others fall. So only cells with
    heavier neighbours of other groups are looked at, each after these neighbours. That goes from
    place to place and not by weight, so that few outlines are needed at a time. Equal weights are
    ordered by boxes, then by index.
    """
    boxes = cells.boxes.astype(np.float64)
    order = np.lexsort((*boxes.T[::-1], -cells.weights))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    grid, falls = Grid(boxes), _falls(cells, boxes, frame, rules)
    settled, stays = ~open_, np.ones(len(rank), bool)
    for first in np.flatnonzero(open_).tolist():
        waiting = [(first, None)]
        while waiting:
            index, heavier = waiting.pop()
            if settled[index]:
                continue
            if heavier is None:
                near = grid.near(boxes[index] + (-2, -2, 2, 2))
                heavier = near[rank[near] < rank[index]]
                if (cells.group[heavier] == cells.group[index]).all():
                    heavier = heavier[:0]
            before = heavier[~settled[heavier]].tolist()
            if before:
                waiting.append((index, heavier))
                waiting.extend((one, None) for one in before)
                continue
            heavier = heavier[stays[heavier]]
            stays[index] = not (len(heavier) and falls(index, heavier))
            settled[index] = True
    return stays


def _falls(cells, boxes, frame, rules):
    """A function of a cell and the heavier ones that stay around it: whether it falls to them."""
    if not rules.by_outlines:
        return lambda index, heavier: (
            box_iou(boxes[index], boxes[heavier]) > rules.threshold
        ).any()
    lower, upper = _patches(cells.boxes, frame)

    @lru_cache(maxsize=MASKS)
    def mask(index):
        (contour, crosses), (width, height) = cells.outline(index), upper[index] - lower[index]
        return fill(contour, lower[index], (height, width), crosses)

    def falls(index, heavier):
        mine, beneath = mask(index), np.zeros_like(mask(index))
        meet = (lower[heavier] < upper[index]) & (lower[index] < upper[heavier])
        for other in heavier[meet.all(axis=1)].tolist():
            first = np.maximum(lower[index], lower[other])
            last = np.minimum(upper[index], upper[other])
            here, there = (_region(first - lower[one], last - lower[one]) for one in (index, other))
            beneath[here] |= mask(other)[there]
        return np.count_nonzero(mine & beneath) > rules.threshold * np.count_nonzero(mine)

    return falls


def _region(first, last):
    """The slices of rows and columns between two corners x, y."""
    return slice(first[1], last[1]), slice(first[0], last[0])


def weights(cells: Cells, certainty: Optional[str]) -> np.ndarray:
    """The weights (n,) of cells, as of `suppress`."""
    return cells.scores * cells.certainties(certainty) if certainty else cells.scores


def _by_outlines(cells, certainty):
    """Indices (n,) of the cells, heaviest first; equal weights by boxes, outlines, then index."""
    x, y = cells.contours.transpose(2, 1, 0)
    return np.lexsort((*y, *x, *cells.boxes.T[::-1], -weights(cells, certainty)))


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


def convincing(scores: np.ndarray, areas: np.ndarray, share: float) -> np.ndarray:
    """Which cells (n,), bool, of an image reach a share (0 to 1) of its best scores.

    scores, areas (n,): of all of its cells.

    What a network is sure of differs from one kind of image to the next, and so does the score
    that tells cells from the rest: where it knows little, all scores are lower. What is smaller
    than the typical cell of its image is more often debris or a part, and needs a higher score.
    (Both are chosen by F1, experiments/EXPERIMENTS.md; the paper has one threshold for all.)
    """
    if not share or not len(scores):
        return np.ones(len(scores), bool)
    least = share * np.quantile(scores, BEST_SCORES)
    typical = np.median(areas[scores >= least])
    relative = areas / max(typical, 1)
    return scores * np.minimum(relative, 1) ** SMALLNESS >= least
