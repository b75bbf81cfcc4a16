"""Contours to a label image: undisputed pixels first, then region growing (paper, section 2.4)."""

from typing import List, Optional, Tuple

import cv2
import numpy as np
from scipy import ndimage

from app.cells import Cells
from app.outlines import fill, on_grid, star_shaped

FINENESS = 5  # of the grid on which outlines are drawn, per pixel
PEN = 3  # thickness of outlines on that grid
COARSE_FROM = 1000  # pixels: larger cells are drawn pixel by pixel, for the memory's sake
AT_A_TIME = 2**13  # contours that are put on the grid at a time, for the memory's sake
PART = 2**18  # disputed pixels looked at at a time, for the memory's sake
DISPUTED = -1  # a pixel inside several contours
_NONE = np.iinfo(np.int32).max


def rasterize(cells: Cells, shape: Tuple[int, int]) -> Tuple[np.ndarray, Cells, int]:
    """Draw cells, filled with their border, into an image of shape (H, W).

    A pixel inside one contour alone belongs to it. Pixels inside several are given out by growing
    the former regions by one pixel at a time (3x3 cross) until no change; where two arrive at
    once, the lower row of cells wins. What lies outside the image is cut off. Of a cell that others
    leave in several pieces the largest stays, and background that a cell encloses belongs to it.

    Returns labels (H, W), int32, 0 where there is no cell; the cells that have a pixel, row k
    being label k + 1; and the number of those that have none (outside the image, or inside others).
    """
    labels = np.zeros(shape, np.int32)
    draw_all(cells.contours, labels)
    kept = seeded(labels, len(cells))
    numbers = np.concatenate([np.zeros(1), np.cumsum(kept), [DISPUTED]]).astype(np.int32)
    for row in labels:  # one by one, for the memory's sake
        row[:] = numbers[row]
    grow(labels)
    settle(labels, ndimage.find_objects(labels))
    return labels, cells.filter(kept), len(cells) - int(kept.sum())


def corners(contours: np.ndarray) -> np.ndarray:
    """Around which pixels contours (n, S, 2) are drawn: (n, 4), x0, y0 of the first, and x1, y1 of
    the last plus one; 0 for contours that are not finite.

    With a pixel to spare all round: OpenCV draws a line otherwise where it touches the canvas's
    edge.
    """
    first, last = np.floor(contours.min(axis=1)) - 1, np.ceil(contours.max(axis=1)) + 2
    found = np.concatenate([first, last], axis=1)
    return np.where(np.isfinite(found).all(axis=1)[:, None], found, 0).astype(np.int64)


def draw_all(
    contours: np.ndarray, labels: np.ndarray, top: int = 0, height: Optional[int] = None
) -> None:
    """Draw contours (n, S, 2) into labels (h, W), in place, as 1, 2, 3 ...; what belongs to several
    becomes disputed.

    The labels are all of an image, or from its row `top` on some of its `height` rows.

    A pixel belongs to the cell up to a third of a pixel beyond the outline, whatever the slope:
    outlines run through the centres of border pixels, which a smooth curve misses by about that.
    Drawing at FINENESS times the size with a pen of PEN does it: masks come back from their
    outlines exactly and from their Fourier coefficients almost; discs keep their area.
    """
    size = (labels.shape[1], labels.shape[0] if height is None else height)
    for first in range(0, len(contours), AT_A_TIME):
        _draw(contours[first : first + AT_A_TIME], first + 1, labels, top, size)


def _draw(contours, first, labels, top, size):
    """As `draw_all`, as first, first + 1 ... in an image of (width, height)."""
    places = np.clip(corners(contours), 0, np.tile(size, 2))
    crosses, fine = ~star_shaped(contours), on_grid(contours, places[:, :2], FINENESS)
    for index, (x0, y0, x1, y1) in enumerate(places.tolist()):
        patch = labels[max(y0 - top, 0) : max(y1 - top, 0), x0:x1]
        if not patch.size:
            continue
        points, fineness, pen, shape = fine[index], FINENESS, PEN, (y1 - y0, x1 - x0)
        if max(shape) > COARSE_FROM:
            points, fineness, pen = on_grid(contours[index], (x0, y0)), 1, 1
        inside = fill(points, shape, crosses[index], fineness, pen).astype(bool)
        inside = inside[max(top - y0, 0) :][: len(patch)]
        patch[inside] = np.where(patch[inside] == 0, first + index, DISPUTED)


def seeded(labels: np.ndarray, count: int) -> np.ndarray:
    """Which of the labels 1..count (count,), bool, have a pixel of what `draw_all` has drawn.

    Only those can grow: who has no pixel of its own by then gets none later.
    """
    found = np.zeros(count + 2, bool)  # the first is background, the last what is disputed
    for row in labels:  # one by one, for the memory's sake
        found[row] = True
    return found[1:-1]


def grow(labels: np.ndarray) -> None:
    """Replace disputed pixels by the label that reaches them first, or else by 0, in place."""
    pixels = labels.reshape(-1)
    front = np.flatnonzero(pixels == DISPUTED)
    while front.size:
        parts = np.split(front, range(PART, front.size, PART))
        reached, lowest = map(np.concatenate, zip(*(_reached(labels, part) for part in parts)))
        pixels[reached] = lowest
        beside = _cross(reached, labels.shape)
        front = np.unique(beside[pixels[beside] == DISPUTED])
    np.maximum(pixels, 0, out=pixels)


def settle(labels: np.ndarray, boxes: List[Optional[Tuple[slice, slice]]]) -> None:
    """Leave of each label its largest piece (8-connected), without holes, in place.

    boxes: as ndimage.find_objects has them.
    """
    unsettled = []
    for index in np.flatnonzero(~_are_simple(labels, len(boxes))).tolist():
        box = boxes[index]
        own = (labels[box] == index + 1).astype(np.uint8)
        outlines, _ = cv2.findContours(own, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        if len(outlines) > 1:  # those of holes count, too
            unsettled.append((labels[box], index + 1))
    for patch, label in unsettled:
        own = (patch == label).astype(np.uint8)
        _, pieces, sizes, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
        largest = 1 + sizes[1:, cv2.CC_STAT_AREA].argmax()
        patch[(own > 0) & (pieces != largest)] = 0
    for patch, label in unsettled:  # now, since the pieces of others have left holes, too
        patch[ndimage.binary_fill_holes(patch == label) & (patch == 0)] = label


def _are_simple(labels, count):
    """Which of the labels 1..count (count,), bool, have a single run of pixels in each of their
    rows, which touches the one above: they are in one piece without holes. Most cells are so."""
    height, width = labels.shape
    first = np.ones((height, width), bool)  # pixels of runs
    np.not_equal(labels[:, 1:], labels[:, :-1], out=first[:, 1:])
    start = np.flatnonzero(first)
    stop = np.append(start[1:], labels.size)
    label = labels.reshape(-1)[start]
    order = np.flatnonzero(label > 0)
    order = order[np.argsort(label[order], kind="stable")]
    label, start, stop = label[order], start[order], stop[order]
    below = start[1:] // width == start[:-1] // width + 1
    touch = (start[1:] <= stop[:-1] + width) & (start[:-1] + width <= stop[1:])
    simple = np.ones(count + 1, bool)
    simple[label[1:][(label[1:] == label[:-1]) & ~(below & touch)]] = False
    return simple[1:]


def _reached(labels, front):
    """Which of the pixels (n,) touch a label, and the lowest one that each touches."""
    around = labels.reshape(-1)[_cross(front, labels.shape)]
    lowest = np.where(around > 0, around, _NONE).min(axis=0)
    reached = lowest < _NONE
    return front[reached], lowest[reached]


def _cross(pixels, shape):
    """The four neighbours (4, n) of pixels (n,), as flat indices; itself beyond the image edge."""
    y, x = np.unravel_index(pixels, shape)
    dy, dx = np.array([[[-1], [0], [0], [1]], [[0], [-1], [1], [0]]])
    return np.ravel_multi_index((y + dy, x + dx), shape, mode="clip")
