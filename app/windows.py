"""Sliding windows over an image, and which window answers for a cell."""

import math
from typing import Iterable, List, NamedTuple, Sequence, Tuple, TypeVar

import numpy as np

from app.cells import Cells
from app.outlines import on_grid, star_shaped
from app.suppression import Grid, Outlined, Rules, box_iou, suppress_between, weights

# By which windows may be larger than asked for: a little more than one window holds would
# otherwise take two, mostly of pixels that the first one has, and large images more overlap.
STRETCH = 1.5
# From this IoU on, two detections of one region show the same cell.
_SAME = 0.3
MARGIN = 3  # pixels at the edge of a window: what reaches into them may go on beyond it

T = TypeVar("T")


class Window(NamedTuple):
    """The pixels x0 <= x < x1, y0 <= y < y1 of an image."""

    x0: int
    y0: int
    x1: int
    y1: int

    def scaled(self, factor: float) -> "Window":
        """The same of the image scaled by a factor, at least a pixel."""
        x0, y0, x1, y1 = (int(side * factor) for side in self)
        return Window(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))

    def shown_at(self, factor: float) -> "Window":
        """The same, or of an enlarged image the middle of it, which is no larger than this."""
        x0, y0, x1, y1 = self.scaled(factor)
        width, height = min(x1 - x0, self.x1 - self.x0), min(y1 - y0, self.y1 - self.y0)
        left, top = (x0 + x1 - width) // 2, (y0 + y1 - height) // 2
        return Window(left, top, left + width, top + height)

    def squares(self, side: int) -> List["Window"]:
        """Its parts, nearly side by side: squares about so large where it is larger itself."""
        parts = windows(self.y1 - self.y0, self.x1 - self.x0, side, side)
        move = (self.x0, self.y0) * 2
        return [Window(*(end + by for end, by in zip(part, move))) for part in parts]


def windows(height: int, width: int, size: int, stride: int, plan: str = "even") -> List[Window]:
    """Windows, row by row, that cover each pixel of an image.

    plan "exact": all of `size`, every `stride` pixels, the last of a row or column shifted back
    inside (paper, section 2.4). plan "even": as few as overlaps of at least size - stride allow
    when sides may be STRETCH * size; then as small as that number allows, all alike and evenly
    spread. An image that fits into one window is one, unpadded. ValueError unless
    1 <= stride <= size.
    """
    if not 1 <= stride <= size:
        raise ValueError(f"the stride of windows must be in 1..{size} (their size), not {stride}")
    spans = {"exact": _exact_spans, "even": _even_spans}[plan]
    rows, columns = spans(height, size, stride), spans(width, size, stride)
    return [Window(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]


def _exact_spans(length, size, stride):
    if length <= size:
        return [(0, length)]
    starts = [*range(0, length - size, stride), length - size]
    return [(start, start + size) for start in starts]


def _even_spans(length, size, stride):
    overlap = size - stride
    count = max(math.ceil((length - overlap) / (int(STRETCH * size) - overlap)), 1)
    side = math.ceil((length + (count - 1) * overlap) / count)
    starts = [index * (length - side) // max(count - 1, 1) for index in range(count)]
    return [(start, start + side) for start in starts]


def spread_over(items: Sequence[T], count: int) -> List[T]:
    """Of items in their order so many, evenly spread, if there are more."""
    if len(items) <= count:
        return list(items)
    return [items[(2 * k + 1) * len(items) // (2 * count)] for k in range(count)]


def cut_by_window(cells: Cells, window: Window, height: int, width: int) -> np.ndarray:
    """Which cells (n,), bool, the window does not show whole.

    Those that reach into its outermost MARGIN pixels on a side where the image (height, width)
    goes on. Cells are in image coordinates.
    """
    x0, y0, x1, y1 = cells.boxes.T
    return (
        ((window.x0 > 0) & (x0 < window.x0 + MARGIN))
        | ((window.y0 > 0) & (y0 < window.y0 + MARGIN))
        | ((window.x1 < width) & (x1 > window.x1 - 1 - MARGIN))
        | ((window.y1 < height) & (y1 > window.y1 - 1 - MARGIN))
    )


def merge(
    parts: Iterable[Tuple[Window, Cells]], height: int, width: int, rules: Rules
) -> Tuple[Cells, np.ndarray]:
    """The cells of an image from those found in its windows, each cell once.

    parts: (window, Cells in image coordinates) of every window that has any, in any order. They
        are taken one by one, and only what survives within its window is held: a generator keeps
        memory low.
    Returns Cells in reading order (by y0, x0 of their boxes), and which of them (n,), bool, were
    recovered (see Rules).
    """
    survivors = [
        (window, *settle_within(window, cells, height, width, rules)) for window, cells in parts
    ]
    if not survivors:
        return Cells.empty(), np.zeros(0, bool)
    seen, whole, fragments = zip(*sorted(survivors, key=lambda survivor: survivor[0]))
    of_whole, of_fragments = (
        np.repeat(np.arange(len(seen)), [len(cells) for cells in kind])
        for kind in (whole, fragments)
    )
    whole, fragments = Cells.cat(whole), Cells.cat(fragments)
    points, crosses = on_grid(whole.contours, (0, 0)), ~star_shaped(whole.contours)
    outlined = Outlined(
        whole.boxes,
        weights(whole, rules.certainty),
        of_whole,
        lambda index: (points[index], crosses[index]),
    )
    kept, recovered = settle_across(
        seen, outlined, fragments.boxes, of_fragments, (height, width), rules
    )
    cells = Cells.cat([whole.filter(kept), fragments.filter(recovered)])
    order = reading_order(cells.boxes)
    return cells.filter(order), order >= len(kept)


def settle_within(
    window: Window, cells: Cells, height: int, width: int, rules: Rules
) -> Tuple[Cells, Cells]:
    """(whole cells, fragments of cells that the window cuts) that survive within a window.

    The cells that it found are in coordinates of the image (height, width).
    """
    # Parted before the suppression, so that a cut cell never suppresses a whole one.
    cut = cut_by_window(cells, window, height, width)
    parted = cells.filter(~cut), cells.filter(cut & rules.recovery)
    return tuple(part.filter(rules.suppress(part, window)) for part in parted)


def settle_across(
    seen: Sequence[Window],
    whole: Outlined,
    fragments: np.ndarray,
    of_fragments: np.ndarray,
    shape: Sequence[int],
    rules: Rules,
) -> Tuple[np.ndarray, np.ndarray]:
    """What becomes of the survivors of all windows of an image (see `settle_within`).

    seen: the windows, sorted. whole: the whole cells; group k is window k. fragments (m, 4): the
    boxes of the fragments; of_fragments (m,): which window each is of. shape: of the image.
    Returns the indices (k,) of the whole cells that stay, heaviest first or not, and those of the
    fragments that are recovered.
    """
    seen, frame = np.array(seen).reshape(-1, 4), (0, 0, shape[1], shape[0])
    stays = suppress_between(whole, _beside_others(whole, seen), frame, rules)
    kept, frames = np.flatnonzero(stays), seen[of_fragments]
    return kept, _recover(_extents(fragments), frames - 0.5, _extents(whole.boxes[kept]))


def reading_order(boxes: np.ndarray) -> np.ndarray:
    """The order (n,) of boxes (n, 4) by y0, x0, then y1, x1."""
    x0, y0, x1, y1 = boxes.T
    return np.lexsort((x1, y1, x0, y0))


def _beside_others(cells, seen):
    """Which whole cells (n,), bool, may touch one that another of the windows (k, 4) shows."""
    found = np.zeros(len(cells.group), bool)
    lower, upper = cells.boxes[:, :2] - 2, cells.boxes[:, 2:] + 2
    ends = np.searchsorted(cells.group, np.arange(len(seen) + 1))
    for number, (start, stop) in enumerate(zip(ends, ends[1:])):
        if start == stop:
            continue
        rows = slice(start, stop)
        meet = (seen[:, :2] < seen[number, 2:] + 2) & (seen[number, :2] - 2 < seen[:, 2:])
        for other in np.flatnonzero(meet.all(axis=1)):
            if other != number:
                touch = (lower[rows] < seen[other, 2:]) & (seen[other, :2] < upper[rows])
                found[rows] |= touch.all(axis=1)
    return found


def _extents(boxes):
    """Boxes of whole pixels, float64: a sliver of one pixel has an area too."""
    return boxes + np.array((-0.5, -0.5, 0.5, 0.5))


def _recover(fragments, frames, kept):
    """Indices of the fragments that stand for cells which are not kept, one per cell.

    fragments (n, 4), kept (k, 4): extents of cut and of kept cells. frames (n, 4): extents of
    the window of each fragment.
    """
    shown = _clip(fragments, frames)
    missed = _missed(shown, frames, kept)
    shown, frames = shown[missed], frames[missed]
    areas = (shown[:, 2:] - shown[:, :2]).prod(axis=1)
    grid = Grid(shown)
    settled = np.zeros(len(shown), bool)
    recovered = []
    for index in np.lexsort((*shown.T[::-1], -areas)).tolist():
        if not settled[index]:
            recovered.append(index)
            _settle(index, settled, shown, frames, grid)
    return missed[np.array(recovered, np.int64)]


def _missed(shown, frames, kept):
    """Indices (m,) of the fragments whose cell is not among the kept ones.

    The IoU of a small fragment with its whole cell is small although the cell was found: the
    two are compared where both can be seen, within the window of the fragment.
    """
    fragment, near = Grid(kept).near_each(shown)
    covers = _clip(kept[near], frames[fragment])
    found = fragment[box_iou(shown[fragment], covers) >= _SAME]
    return np.setdiff1d(np.arange(len(shown)), found)


def _settle(index, settled, shown, frames, grid):
    """Mark all fragments of the cell of one fragment as settled, in place.

    Fragments show the same cell if they agree on the region that their windows share. A cell may
    run through windows that share nothing, so this passes on from fragment to fragment.
    """
    settled[index] = True
    pending = [index]
    while pending:
        index = pending.pop()
        near = grid.near(shown[index])
        near = near[~settled[near] & (frames[near] != frames[index]).any(axis=1)]
        mine = _clip(shown[index], frames[near])
        theirs = _clip(shown[near], frames[index])
        same = near[box_iou(mine, theirs) >= _SAME]
        settled[same] = True
        pending.extend(same.tolist())


def _clip(boxes, frames):
    """The part of boxes (..., 4) inside frames (..., 4); of no area where there is none."""
    lower, upper = np.tile(frames[..., :2], 2), np.tile(frames[..., 2:], 2)
    return np.minimum(np.maximum(boxes, lower), upper)
