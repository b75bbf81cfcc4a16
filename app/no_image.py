"""Which pixels of an image are none: put where nothing was seen, by stitching, turning, shifting.

That is what has no finite value, the value that the file declares, what was drawn into the image
(app.annotations), and fills: one exact value in a connected region that touches the frame and is
larger than any cell could be. What a camera saw can be that large and of one value, too: a
background clipped to black or white. But it is reached gradually and around every cell, while a
fill ends in straight lines, or at least in a short edge at which all values jump.
"""

import math
from dataclasses import dataclass, field
from typing import Callable, Iterable, List, Optional, Sequence, Tuple

import cv2
import numpy as np

# The fills of a value are together this share of the image, or as many pixels as the largest cell
# (500 across), each at least PART of that; or one is a whole side of the frame.
LEAST_SHARE = 0.05
LARGEST_CELL = round(math.pi * 250**2)
PART = 0.25
# How sharp an edge is: how far the values STEP pixels from it are from the fill's, in changes
# between them and those STEP pixels further on, both in the median. (Backgrounds clipped by a
# camera: up to 2 in 1,751 regions of 14 sources; the rim of an eyepiece: up to 5.4.)
STEP = 2
GRADUAL, SHARP = 2, 6
CROSSINGS = 8  # of the edge by the lines looked at: fewer tell nothing
# The edge of a fill is not gradual, and this share of it lies in lines of LINE pixels and more
# along rows or columns (JPEG's blocks leave up to 0.51 of clipped backgrounds so). Or it is
# sharp, at least JUMP of the image's range high, and not longer than the frame, as it would be
# around every cell.
STRAIGHT_SHARE = 0.75
LINE = 32
JUMP = 1 / 16
MAP = 2**18  # squares of the map of fills at most: up to as many pixels it has one for each
VALUES = 2  # that fills of one image may have

Parts = Iterable[Tuple[slice, np.ndarray]]


@dataclass
class NoImage:
    """Tells which pixels are no image, in any part of one.

    nodata: the value that the file declares. values: the fills', each of all channels (C,).
    squares (rows, columns) bool: a map of the fills; those of the pixels of a square, side x side,
    that have a fill's value are no image. drawn (k, 4): boxes as of annotations.find.
    """

    nodata: Optional[float] = None
    values: List[np.ndarray] = field(default_factory=list)
    squares: Optional[np.ndarray] = None
    side: int = 1
    drawn: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), int))

    def __call__(self, pixels: np.ndarray, at: Optional[Tuple[int, int]] = None) -> np.ndarray:
        """Pixels (h, w, C) of the image, the first at (row, column) -> (h, w) bool.

        Without a place all pixels of a fill's value count as the fill's, those of cells as well,
        and nothing is known of what is drawn.
        """
        none = np.zeros(pixels.shape[:2], bool)
        if pixels.dtype.kind == "f":
            none |= ~np.isfinite(pixels).any(2)
        if self.nodata is not None:
            none |= (pixels == self.nodata).all(2)
        for value in self.values:
            none |= self.fill(value, pixels, at)
        if at is not None:
            for x0, y0, x1, y1 in np.maximum(self.drawn - np.tile(at[::-1], 2), 0).tolist():
                none[y0:y1, x0:x1] = True
        return none

    def fill(
        self, value: np.ndarray, pixels: np.ndarray, at: Optional[Tuple[int, int]]
    ) -> np.ndarray:
        """The same for the fills of this value alone."""
        same = equal(pixels, value)
        if at is None:
            return same
        rows, columns = ((first + np.arange(n)) // self.side for first, n in zip(at, same.shape))
        return same & self.squares[np.ix_(rows, columns)]


def find(
    shape: Sequence[int],
    frame: Sequence[np.ndarray],
    lines: Sequence[Tuple[np.ndarray, np.ndarray]],
    parts: Callable[[int], Parts],
    nodata: Optional[float] = None,
) -> NoImage:
    """What is no image in an image of this shape, (H, W) or (H, W, C).

    frame: pieces (n, C) of its outermost rows and columns, together all of them. lines: some of
    its rows and some of its columns, each as (numbers (L,), pixels (L, n, C)). parts(n): all of
    the image once more, as (rows, pixels (h, W, C)) from a multiple of n on; only called where the
    frame looks like a fill.
    """
    found = NoImage(nodata, side=math.ceil(math.sqrt(shape[0] * shape[1] / MAP)))
    values = _suspects(frame, least=min(shape[:2]) // 8)
    least = min(LEAST_SHARE * shape[0] * shape[1], LARGEST_CELL)
    for value, squares in zip(values, _maps(values, parts, found.side)):
        fills, spread = np.zeros(squares.shape, bool), _spread(value, lines)
        for region in _regions(squares, PART * least / found.side**2):
            if _is_fill(region, value, spread, shape, lines, found.side):
                fills |= region
        sides = (fills[0], fills[-1], fills[:, 0], fills[:, -1])
        if fills.sum() * found.side**2 >= least or any(side.all() for side in sides):
            fills = _with_edge(fills, found.side)
            found.values.append(value)
            found.squares = fills if found.squares is None else found.squares | fills
    return found


def equal(pixels: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Where pixels (h, w, C) have the value (C,): (h, w) bool."""
    same = pixels[..., 0] == value[0]
    for channel in range(1, len(value)):
        same &= pixels[..., channel] == value[channel]
    return same


def _suspects(frame, least):
    """The values that so many neighbours on the frame share, the most frequent first."""
    shared = np.concatenate([piece[1:][(piece[1:] == piece[:-1]).all(1)] for piece in frame])
    values, counts = np.unique(shared, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:VALUES]
    return [values[k] for k in order if counts[k] >= least and np.isfinite(values[k]).all()]


def _maps(values, parts, side):
    """For each value the squares all of whose pixels have it: (rows, columns) uint8, 0 or 1."""
    maps, square = [[] for _ in values], np.ones((side, side), np.uint8)
    for _, pixels in parts(side) if values else ():
        for value, bands in zip(values, maps):
            # The least of the square that begins at each pixel; beyond the image nothing is less.
            least = cv2.erode(equal(pixels, value).view(np.uint8), square, anchor=(0, 0))
            bands.append(least[::side, ::side].copy())
    return [np.concatenate(bands) for bands in maps]


def _regions(squares, least):
    """Yield the connected regions (rows, columns) bool at the frame that may be (parts of) fills.

    They have at least so many squares, or reach from side to side.
    """
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(squares, connectivity=4)
    height, width = squares.shape
    for label, (left, top, w, h, area) in enumerate(boxes[1:], 1):
        at_frame = left == 0 or top == 0 or left + w == width or top + h == height
        if at_frame and (area >= least or w == width or h == height):
            yield labels == label


def _is_fill(region, value, spread, shape, lines, side):
    """Whether the edge of a region of squares is that of a fill, not of a clipped background."""
    whole = _with_edge(region, side)
    sharpness, jump = _sharpness(whole, value, spread, lines, side)
    if sharpness < GRADUAL:
        return False
    line = np.ones((max(2, min(LINE, min(shape[:2]) // 8) // side), 1), np.uint8)
    length = straight = 0
    for part in (region, region.T):
        edge = (part[:, 1:] != part[:, :-1]).astype(np.uint8)
        if edge.any():
            length += int(edge.sum())
            straight += int(cv2.morphologyEx(edge, cv2.MORPH_OPEN, line).sum())
    if straight >= STRAIGHT_SHARE * length:
        return True
    return sharpness >= SHARP and jump >= JUMP and length * side <= 2 * sum(shape[:2])


def _spread(value, lines):
    """The range of what does not have the value, without its outermost hundredths."""
    pixels = np.concatenate([part[~equal(part, value)] for _, part in lines]).astype(np.float64)
    pixels = pixels[np.isfinite(pixels).all(1)]
    if not len(pixels):
        return 0.0
    low, high = np.percentile(pixels, (1, 99), axis=0)
    return (high - low).max()


def _sharpness(region, value, spread, lines, side):
    """How sharp a region's edge is where the lines cross it, and how high in parts of `spread`.

    NaN, NaN where they tell nothing.
    """
    jumps, changes = [], []
    for (numbers, pixels), squares in zip(lines, (region, region.T)):
        along = np.arange(pixels.shape[1]) // side
        inside = squares[np.ix_(numbers // side, along)] & equal(pixels, value)
        for line, fill in ((pixels, inside), (pixels[:, ::-1], inside[:, ::-1])):
            row, column = np.nonzero(fill[:, : -2 * STEP] & ~fill[:, 1 : 1 - 2 * STEP])
            near, far = (line[row, column + n * STEP].astype(np.float64) for n in (1, 2))
            known = (np.isfinite(near) & np.isfinite(far)).all(1)
            jumps.append(np.abs(near[known] - value).max(1))
            changes.append(np.abs(far[known] - near[known]).max(1))
    jumps, changes = np.concatenate(jumps), np.concatenate(changes)
    if len(jumps) < CROSSINGS:
        return math.nan, math.nan
    # What is less than one of the levels, as stored or as there will be, is no change.
    level = max(spread / 255, float(value.dtype.kind != "f"), np.finfo(np.float64).tiny)
    jump = np.median(jumps)
    return jump / max(np.median(changes), level), jump / max(spread, level)


def _with_edge(region, side):
    """A region of squares with those at its edge, some of whose pixels belong to it."""
    if side == 1:
        return region.astype(bool)
    return cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
