"""The shapes of labels as scikit-image defines them, of all labels of an image together.

(skimage.measure.regionprops looks at one after the other: half a million take minutes, and memory.)
"""

import math
from typing import Dict, List

import cv2
import numpy as np
from scipy.ndimage import find_objects

from app.cells import STRIP, Pixels
from app.exports.preview import borders

SHAPES = ("perimeter", "eccentricity", "solidity")
PART = 4096  # labels whose hulls are looked at at a time, for the memory's sake
HALO = 2  # rows and columns around a strip: a border pixel's neighbours have neighbours
# What the neighbours of a border pixel that are on the border, too, add to 1, and how long the
# outline is within the pixel by that sum.
NEIGHBOURS = {(0, 1): 2, (1, 0): 2, (0, -1): 2, (-1, 0): 2}
NEIGHBOURS.update({(1, 1): 10, (1, -1): 10, (-1, 1): 10, (-1, -1): 10})
LENGTHS = np.zeros(1 + sum(NEIGHBOURS.values()) + 1)
LENGTHS[[5, 7, 15, 17, 25, 27]] = 1
LENGTHS[[21, 33]] = math.sqrt(2)
LENGTHS[[13, 23]] = (1 + math.sqrt(2)) / 2
SIDES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])  # their middles, in halves of a pixel


def shapes(labels: np.ndarray, pixels: Pixels) -> Dict[str, np.ndarray]:
    """SHAPES (n,) of the labels 1..n, each of which is there, of an image (H, W).

    pixels: cells.measure of them.
    """
    columns = perimeters(labels), eccentricities(labels, pixels), solidities(labels, pixels)
    return dict(zip(SHAPES, columns))


def perimeters(labels: np.ndarray) -> np.ndarray:
    """How long (n,), in pixels, the lines through the centres of the labels' border pixels are."""
    count, found = labels.max(initial=0), 0.0
    width = labels.shape[1] + 2 * HALO
    for top in range(0, len(labels), STRIP):
        rows = labels[max(top - HALO, 0) : top + STRIP + HALO]
        above, below = max(HALO - top, 0), max(top + STRIP + HALO - len(labels), 0)
        strip = np.pad(rows, ((above, below), (HALO, HALO)))
        border = borders(strip)
        at = np.flatnonzero(border[HALO:-HALO]) + HALO * width
        strip, border = strip.ravel(), border.ravel()
        sums = np.ones(len(at), np.intp)
        for (down, right), value in NEIGHBOURS.items():
            there = at + down * width + right
            sums += value * (border[there] & (strip[there] == strip[at]))
        found = found + np.bincount(strip[at], LENGTHS[sums], count + 1)[1:]
    return found


def eccentricities(labels: np.ndarray, pixels: Pixels) -> np.ndarray:
    """Those (n,) of the ellipses with the labels' second moments: 0 is a circle, 1 a line."""
    moments, count = 0.0, len(pixels.area)
    for top in range(0, len(labels), STRIP):
        y, x = np.nonzero(labels[top : top + STRIP])
        row = labels[y + top, x] - 1
        x, y = np.stack([x, y + top]) - pixels.centroids[row].T
        moments = moments + np.stack([np.bincount(row, v, count) for v in (x * x, y * y, x * y)])
    xx, yy, xy = moments / pixels.area
    middle, apart = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    with np.errstate(invalid="ignore"):  # of a single pixel
        share = np.maximum(middle - apart, 0) / (middle + apart)
    return np.sqrt(1 - np.where(middle > 0, share, 1))


def solidities(labels: np.ndarray, pixels: Pixels) -> np.ndarray:
    """The shares (n,) that the labels have of the pixels within their convex hulls.

    A hull is that of the middles of all sides of pixels; what lies on its border is within.
    """
    places, within = find_objects(labels), [np.zeros(0)]
    for start in range(0, len(places), PART):
        part = enumerate(places[start : start + PART], start + 1)
        within.append(pixels_within([hull(labels[place] == label) for label, place in part]))
    return pixels.area / np.concatenate(within)


def hull(mask: np.ndarray) -> np.ndarray:
    """The convex hull (m, 2), x y in halves of a pixel, of the middles of all sides of the pixels
    of a mask (h, w); clockwise on the screen."""
    corners = cv2.convexHull(cv2.findNonZero(mask.view(np.uint8)))
    middles = (2 * corners + SIDES).reshape(-1, 2)
    return cv2.convexHull(middles.astype(np.int32), clockwise=False)[:, 0]


def pixels_within(hulls: List[np.ndarray]) -> np.ndarray:
    """How many pixels (n,) have their centres within these convex polygons or on their borders.

    As of `hull`; exact, by the rows that each edge crosses: those on the right count the pixels
    up to them, those on the left take away the pixels before them.
    """
    ends = np.cumsum([len(polygon) for polygon in hulls])
    start = np.concatenate(hulls).astype(np.int64)
    following = np.arange(1, len(start) + 1)
    following[ends - 1] = np.r_[0, ends[:-1]]
    (x0, y0), (x1, y1) = start.T, start[following].T
    first, after = (-(-y // 2) for y in (np.minimum(y0, y1), np.maximum(y0, y1)))
    edge = np.repeat(np.arange(len(start)), after - first)
    before = np.cumsum(after - first) - (after - first)
    row = np.arange(len(edge)) - before[edge] + first[edge]
    x0, y0, across, down = (values[edge] for values in (x0, y0, x1 - x0, y1 - y0))
    above, below = x0 * down + (2 * row - y0) * across, 2 * down  # x = above / below, in pixels
    counts = np.where(down > 0, above // below + 1, -above // below)
    return np.bincount(np.searchsorted(ends, edge, side="right"), counts, len(hulls))
