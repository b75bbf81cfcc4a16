"""Outlines as masks of pixels."""

from typing import Sequence, Tuple, Union

import cv2
import numpy as np

PART = 10**4  # contours looked at at a time, for the memory's sake


def star_shaped(contours: np.ndarray) -> np.ndarray:
    """Which contours (n, S, 2) run once around their mean point without turning back: (n,) bool.

    These cross themselves nowhere. Most round cells are so, few of the long and bent ones.
    """
    parts = np.array_split(contours, range(PART, len(contours), PART))
    return np.concatenate([_star_shaped(part) for part in parts])


def _star_shaped(contours):
    with np.errstate(invalid="ignore"):  # of contours that are not finite
        middle = contours.sum(axis=1, keepdims=True) / max(contours.shape[1], 1)
        x, y = np.moveaxis((contours - middle).astype(np.float64), -1, 0)
        next_x, next_y = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
        turns = np.arctan2(x * next_y - y * next_x, x * next_x + y * next_y)
        once = np.abs(np.abs(turns.sum(axis=1)) - 2 * np.pi) < 1
    return once & ((turns > 0).all(axis=1) | (turns < 0).all(axis=1))


def on_grid(
    contours: np.ndarray, corners: Union[np.ndarray, Sequence[int]], fineness: int = 1
) -> np.ndarray:
    """Contours (..., S, 2) on grids of `fineness` lines per pixel: (..., S, 2) int32.

    corners (..., 2): x, y of the pixel from which each is counted.
    """
    with np.errstate(invalid="ignore"):  # of contours that are not finite
        # Not np.rint, which rounds halves to even: it would draw a moved cell differently.
        points = np.floor(contours * fineness + 0.5).astype(np.int32)
    points -= np.multiply(corners, fineness)[..., None, :].astype(np.int32)
    return points


def fill(
    points: np.ndarray, shape: Tuple[int, int], crosses: bool, fineness: int = 1, pen: int = 0
) -> np.ndarray:
    """The mask (h, w), uint8 of 0 and 1, of a contour with its border.

    points (S, 2): the contour as `on_grid` has it with this fineness, from the mask's top left on.
    crosses: whether the contour may cross itself (see `star_shaped`); what it runs around twice is
    inside then, too. pen: thickness of the border on the grid, 0 for that of the filling.
    """
    mask = np.zeros([side * fineness for side in shape], np.uint8)
    if not mask.size:
        return mask
    cv2.fillPoly(mask, [points], 1)
    if pen:
        cv2.polylines(mask, [points], True, 1, pen)
    mask = mask[::fineness, ::fineness]
    if crosses:
        mask = mask | (winding_number(points, mask.shape, fineness) != 0)
    return mask


def winding_number(points: np.ndarray, shape: Tuple[int, int], step: int = 1) -> np.ndarray:
    """How often a polygon (S, 2), x y, runs around each pixel of an image of this shape, which lie
    `step` apart.

    (OpenCV fills by the even-odd rule, which leaves a hole where an outline laps over itself.)
    """
    (x, y), (next_x, next_y) = points.T / step, np.roll(points, -1, 0).T / step
    rows = np.arange(shape[0])[:, None]
    direction = ((y <= rows) & (rows < next_y)).astype(np.int8) - ((next_y <= rows) & (rows < y))
    row, edge = np.nonzero(direction)
    share = (row - y[edge]) / (next_y - y)[edge]
    column = np.ceil(x[edge] + share * (next_x - x)[edge]).clip(0, shape[1]).astype(int)
    changes = np.zeros((shape[0], shape[1] + 1), np.int16)
    np.add.at(changes, (row, column), direction[row, edge])
    return changes[:, :-1].cumsum(axis=1, dtype=np.int16)
