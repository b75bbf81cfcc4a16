"""Cells as simple polygons, which no program refuses."""

from typing import Iterator, Tuple

import cv2
import numpy as np
from scipy import ndimage
from skimage.measure import find_contours

from app.cells import Cells
from app.outlines import star_shaped

CORNER = 0.5  # pixels from the top-left corner of an image to the middle of its first pixel
TOLERANCE = 0.1  # pixels by which a polygon may differ from its contour, to have fewer points
DECIMALS = 2
PART = 4096  # contours looked at at a time, for the memory's sake


def polygons(cells: Cells, labels: np.ndarray) -> Iterator[np.ndarray]:
    """The outline (m, 2) of each cell, x y in pixels from the corner of the image, float64.

    The corner is the top-left one, as QuPath and ImageJ have it.
    m is 3 or more, the last point is not the first one again, and no outline crosses or touches
    itself: a contour that does is replaced by the outline of its label in labels (H, W).
    """
    boxes = None
    for start in range(0, len(cells), PART):
        part = cells.filter(slice(start, start + PART))
        contours = np.round(part.contours, DECIMALS)
        # On average wider than a pixel: thinning does not move its middle out of it.
        wide = part.areas() > np.ptp(part.contours, axis=1).max(axis=1)
        trusted = star_shaped(contours) & wide
        found = [thinned(contour) for contour in contours]
        for row in np.flatnonzero(~trusted):
            if not is_simple(found[row]):
                boxes = boxes or ndimage.find_objects(labels)
                found[row] = outline_of(labels, start + row + 1, boxes[start + row])
        ends = np.cumsum([len(polygon) for polygon in found])
        joined = np.round(np.concatenate(found).astype(np.float64) + CORNER, DECIMALS)
        yield from np.split(joined, ends[:-1])


def thinned(contour: np.ndarray) -> np.ndarray:
    """Those of the points (S, 2), float32, that the others do not tell to TOLERANCE."""
    return cv2.approxPolyDP(contour, TOLERANCE, True)[:, 0]


def is_simple(polygon: np.ndarray) -> bool:
    """Whether a polygon (m, 2) has an area and nowhere crosses or touches itself.

    Looks at all pairs of edges.
    """
    m = len(polygon)
    if m < 3:
        return False
    start = polygon.astype(np.float64)
    end = np.roll(start, -1, axis=0)
    along = end - start
    # side[i, j]: on which side of edge i the start and the end of edge j lie
    at_start = _cross(along[:, None], start[None] - start[:, None])
    at_end = _cross(along[:, None], end[None] - start[:, None])
    astride = at_start * at_end <= 0
    gap = np.abs(np.arange(m)[:, None] - np.arange(m))
    apart = (gap > 1) & (gap < m - 1)
    if (astride & astride.T & apart).any():
        return False
    turns = _cross(along, np.roll(along, -1, axis=0))
    return bool((turns != 0).all())


def _cross(a, b):
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def outline_of(labels: np.ndarray, label: int, box: Tuple[slice, slice]) -> np.ndarray:
    """The outline (m, 2) of the largest piece of a label, which lies in a box of rows and columns.

    It runs halfway between the pixels inside and those outside, and so nowhere touches itself.
    """
    rows, columns = box
    mask = np.pad(labels[box] == label, 1)
    pieces = find_contours(mask.astype(np.uint8), 0.5, fully_connected="low")
    largest = max(pieces, key=lambda piece: cv2.contourArea(piece.astype(np.float32)))
    return largest[:-1, ::-1] + (columns.start - 1, rows.start - 1)
