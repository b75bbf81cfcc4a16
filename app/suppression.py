"""Which proposals of an image are its cells: uncertainty-aware non-maximum suppression, near-linear
in the number of cells, and scores compared within the image."""

from bisect import bisect_left, bisect_right
from functools import lru_cache
from math import floor
from typing import Callable, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from app.cells import Cells
from app.outlines import fill, on_grid, star_shaped

BEST_SCORES = 0.8  # the quantile of an image's scores that stands for its best ones
SMALLNESS = 0.125  # a cell of half the typical area counts as one of 0.5 ** this times its score

PART = 2**16  # cells whose neighbours are looked for at a time, for the memory's sake
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
    certainty: Optional[str]
    by_outlines: bool
    recovery: bool

    def suppress(self, cells: Cells, frame: Sequence[int]) -> np.ndarray:
        """Indices (k,) of the cells that stay, heaviest first; frame: of `suppress_covered`."""
        if self.by_outlines:
            return suppress_covered(cells, frame, self.threshold, self.certainty)
        return suppress(cells, self.threshold, self.certainty)


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (...) of boxes x0, y0, x1, y1 (..., 4), broadcast against each other.

    0 where a box has no area.
    """
    return _iou(a, b, _area(a), _area(b))


def _iou(a, b, area_a, area_b):
    """`box_iou` of boxes whose areas are known."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    sides = np.maximum(sides, 0)
    shared = sides[..., 0] * sides[..., 1]
    return shared / np.where(shared > 0, area_a + area_b - shared, 1)


def _area(boxes):
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


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
            keys = keys[order]
            self._levels.append((side, keys, keys.tolist(), members[order]))

    def near(self, box: np.ndarray) -> np.ndarray:
        """Indices of all boxes that touch the box (4,), and of some more in its vicinity."""
        found = [np.zeros(0, np.int64)]
        for side, _, keys, members in self._levels:
            left, top, right, bottom = (floor(edge / side) for edge in box.tolist())
            for row in range(top - 1, bottom + 1):
                start = bisect_left(keys, row * _ROW + left - 1)
                stop = bisect_right(keys, row * _ROW + right, start)
                if start < stop:
                    found.append(members[start:stop])
        return np.concatenate(found)

    def near_each(self, boxes: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """For each of boxes (m, 4) what `near` finds: (which of them (k,), index found (k,))."""
        found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for side, keys, _, members in self._levels:
            left, top, right, bottom = np.floor(boxes / side).astype(np.int64).T
            box, row = _spread(top - 1, bottom + 1)
            start = np.searchsorted(keys, row * _ROW + left[box] - 1)
            stop = np.searchsorted(keys, row * _ROW + right[box], side="right")
            bins, place = _spread(start, stop)
            found.append((box[bins], members[place]))
        box, index = map(np.concatenate, zip(*found))
        return box, index


def _spread(starts, stops):
    """All numbers of ranges (n,), stops excluded: (which range each is of (k,), they (k,))."""
    counts = np.maximum(stops - starts, 0)
    of = np.repeat(np.arange(len(starts)), counts)
    return of, np.arange(len(of)) - (counts.cumsum() - counts - starts)[of]


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
    grid, areas = Grid(boxes), _area(boxes)
    alive = np.ones(len(cells), bool)
    kept = []
    for index in np.lexsort((*boxes.T[::-1], -weights(cells, certainty))).tolist():
        if alive[index]:
            kept.append(index)
            near = grid.near(boxes[index])
            near = near[alive[near]]
            iou = _iou(boxes[index], boxes[near], areas[index], areas[near])
            alive[near[iou > iou_threshold]] = False
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
    points, crosses = on_grid(cells.contours, lower), ~star_shaped(cells.contours)
    kept = []
    for index in _by_outlines(cells, certainty).tolist():
        (x0, y0), (x1, y1) = lower[index], upper[index]
        beneath = covered[y0 - top : y1 - top, x0 - left : x1 - left]
        mask = fill(points[index], beneath.shape, crosses[index])
        if np.count_nonzero(mask & beneath) <= share * np.count_nonzero(mask):
            kept.append(index)
            beneath |= mask
    return np.array(kept, np.int64)


class Outlined(NamedTuple):
    """What is known of n cells without holding their outlines.

    boxes (n, 4): as of Cells. weights (n,): see `weights`. group (n,): whole numbers; within one
    group the suppression is done. outline: index -> (points (S, 2) as outlines.on_grid has them
    from the pixel (0, 0) on, whether the contour may cross itself, see outlines.star_shaped).
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
    patches = _patches(cells.boxes, frame)
    lighter, heavier, shared = _rivals(cells, open_, patches, rules)
    starts = np.searchsorted(lighter, np.arange(len(open_) + 1))
    falls = _falls(cells, patches, rules)
    stays, settled = np.ones(len(open_), bool), np.ones(len(open_), bool)
    settled[lighter] = False
    for first in np.flatnonzero(~settled).tolist():
        waiting = [first]
        while waiting:
            index = waiting.pop()
            if settled[index]:
                continue
            rows = slice(starts[index], starts[index + 1])
            others = heavier[rows].tolist()
            before = [other for other in others if not settled[other]]
            if before:
                waiting += [index, *before]
                continue
            staying = [pair for pair in zip(others, shared[rows].tolist()) if stays[pair[0]]]
            stays[index] = not (staying and falls(index, staying))
            settled[index] = True
    return stays


def _rivals(cells, open_, patches, rules):
    """Who may make open cells fall: (lighter (k,), heavier (k,), shared (k, 4)), by the former.

    Of `lighter` are all open cells that meet a heavier one of another group, each with all heavier
    ones that it meets. shared: x0, y0, x1, y1 of the pixels that both may have.
    """
    boxes = cells.boxes.astype(np.float64)
    order = np.lexsort((*boxes.T[::-1], -cells.weights))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    (lower, upper), grid, rows, found = patches, Grid(boxes), np.flatnonzero(open_), []
    for some in np.split(rows, range(PART, len(rows), PART)):
        lighter, heavier = grid.near_each(boxes[some] + (-2, -2, 2, 2))
        lighter = some[lighter]
        first = np.maximum(lower[lighter], lower[heavier])
        last = np.minimum(upper[lighter], upper[heavier])
        if rules.by_outlines:
            meet = (first < last).all(axis=1)
        else:
            meet = box_iou(boxes[lighter], boxes[heavier]) > rules.threshold
        meet &= rank[heavier] < rank[lighter]
        foreign = cells.group[heavier] != cells.group[lighter]
        meet &= np.isin(lighter, lighter[meet & foreign])
        found.append((lighter[meet], heavier[meet], np.hstack([first, last])[meet]))
    lighter, heavier, shared = map(np.concatenate, zip(*found))
    order = np.argsort(lighter, kind="stable")
    return lighter[order], heavier[order], shared[order]


def _falls(cells, patches, rules):
    """A function of a cell and of [(a heavier one that stays, the pixels that both may have: x0,
    y0, x1, y1)]: whether it falls to these."""
    if not rules.by_outlines:
        return lambda index, heavier: True
    lower, upper = patches

    @lru_cache(maxsize=MASKS)
    def mask(index):
        points, crosses = cells.outline(index)
        points = np.subtract(points, lower[index], dtype=np.int32)
        width, height = (upper[index] - lower[index]).tolist()
        return fill(points, (height, width), crosses).view(bool), lower[index].tolist()

    def part(index, box):
        (pixels, (left, top)), (x0, y0, x1, y1) = mask(index), box
        return pixels[y0 - top : y1 - top, x0 - left : x1 - left]

    def falls(index, heavier):
        mine, (left, top) = mask(index)
        free = mine.copy()
        for other, (x0, y0, x1, y1) in heavier:
            free[y0 - top : y1 - top, x0 - left : x1 - left] &= ~part(other, (x0, y0, x1, y1))
        pixels = np.count_nonzero(mine)
        return pixels - np.count_nonzero(free) > rules.threshold * pixels

    return falls


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
    points, crosses = on_grid(cells.contours, lower), ~star_shaped(cells.contours)
    for index, ((x0, y0), (x1, y1)) in enumerate(zip(lower, upper)):
        beneath = mask[y0:y1, x0:x1]
        pixels = fill(points[index], beneath.shape, crosses[index])
        found[index] = 2 * np.count_nonzero(pixels & beneath) > np.count_nonzero(pixels)
    return found


def convincing(scores: np.ndarray, areas: np.ndarray, share: float, sure: float) -> np.ndarray:
    """Which cells (n,), bool, of an image reach a share (0 to 1) of its best scores.

    scores, areas (n,): of all of its cells. sure: where no score is above it there are no cells,
    and only those above it tell how good the best ones are. share 0: all cells are taken.

    What a network is sure of differs from one kind of image to the next, and so does the score
    that tells cells from the rest: where it knows little, all scores are lower. What is smaller
    than the typical cell of its image is more often debris or a part, and needs a higher score.
    (Both are chosen by F1, experiments/EXPERIMENTS.md; the paper has one threshold for all.)
    """
    if not share:
        return np.ones(len(scores), bool)
    surest = scores > sure
    if not surest.any():
        return surest
    least = share * np.quantile(scores[surest], BEST_SCORES)
    typical = np.median(areas[surest & (scores >= least)])
    relative = areas / max(typical, 1)
    return scores * np.minimum(relative, 1) ** SMALLNESS >= least
