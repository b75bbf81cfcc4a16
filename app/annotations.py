"""Scale bars and text that were drawn into an image, which a network takes for cells.

Who exports an image from a viewer often has them in its pixels. They are told by what optics do not
make: one colour whose channels are each at an end of the range, and an edge of a pixel or two.
"""

from functools import partial
from typing import Callable, Iterator, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

LARGEST = 2**25  # pixels of images that are looked at: larger ones are slides and mosaics
EDGE = 0.25  # part of the image's height, at its top and its bottom, where such things are drawn
STRIP = 2**21  # pixels there that are looked at, at most
# Of a colour are pixels whose channels differ from it by this part of the image's range at most,
# since letters are blended with it, and for JPEG's sake. By JUMP of the range what is drawn differs
# from this SHARE of the pixels AWAY from it: from less of those around saturated cells, whose edges
# are blurred.
NEAR, JUMP, SHARE = 0.25, 0.4, 0.95
AWAY = 2
# A bar fills its box, its corners as well, unlike cells, is at least so long, and so many times as
# long as thick.
FILLED, LONG, SLENDER = 0.95, 16, 4
THIN = 2  # pixels: the least thickness of a bar
# A glyph is at least this high, in pixels, at most so many times as wide, and its strokes are at
# most this part of its size.
HIGH, WIDE, STROKE = 6, 2, 0.4
# So many glyphs make a line, beside a bar one: of one pen, whose feet differ by FEET pixels, whose
# heights differ by a factor of 2 at most, and the gaps between which are at most so many heights.
LETTERS, PEN, FEET, GAP = 4, 0.25, 1, 2.5
RIM = 2  # pixels around all, which are a mixture of its colour and the image
MOST = 5000  # parts of a colour that may be glyphs: of more none is one


class Parts(NamedTuple):
    """Connected parts of one colour: labels (H, W), and of n of them the boxes (n, 4) x0, y0, x1,
    y1, the last excluded, numbers of pixels (n,) and labels (n,)."""

    labels: np.ndarray
    boxes: np.ndarray
    pixels: np.ndarray
    label: np.ndarray

    def filter(self, keep: np.ndarray) -> "Parts":
        """Some of the parts."""
        return Parts(self.labels, *(column[keep] for column in self[1:]))


def find(shape: Sequence[int], rows: Callable[[slice], np.ndarray]) -> np.ndarray:
    """The boxes (k, 4) x0, y0, x1, y1, the last excluded, of the scale bars and lines of text.

    shape: of an image, (H, W) or (H, W, C). rows: slice -> those of its rows (h, W, C), of which
    the first and the last are looked at. Of floats, and of larger images, nothing is found.
    """
    height, width = shape[:2]
    high = min(int(EDGE * height), STRIP // width)
    found = [np.zeros((0, 4), int)]
    if height * width <= LARGEST and high >= HIGH:
        for top in (0, height - high):
            found.append(_in_strip(rows(slice(top, top + high))) + (0, top) * 2)
    return np.clip(np.concatenate(found) + (-RIM, -RIM, RIM, RIM), 0, (width, height) * 2)


def _in_strip(pixels):
    """As `find`, in rows (h, W, C) of an image."""
    if pixels.dtype.kind not in "ui":
        return np.zeros((0, 4), int)
    found, ends = [], _ends(pixels)
    for colour, mask in _plain(pixels, ends):
        parts = _parts(mask)
        stands_out = partial(_stands_out, pixels, colour, JUMP * (ends[1] - ends[0]), parts)
        bars = parts.boxes[_are_bars(parts, stands_out)]
        glyphs = _lines(*_glyphs(parts, stands_out))
        lines = [line for line in glyphs if len(line) >= LETTERS or _beside(line, bars)]
        found += [*bars, *map(_around, lines)]
    return np.array(found, int).reshape(-1, 4)


def _ends(pixels):
    """The least and the greatest value: of 8 bits those that there are, else those that occur."""
    if pixels.dtype == np.uint8:
        return 0.0, 255.0
    return float(pixels.min()), float(pixels.max())


def _plain(pixels, ends) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Yield (a colour (C,) float64, where it is (H, W) uint8): those of values at the ends."""
    low, high = ends
    near = NEAR * (high - low)
    lower, upper = pixels.dtype.type(low + near), pixels.dtype.type(np.ceil(high - near))
    kind, plain = np.zeros(pixels.shape[:2], np.uint8), np.full(pixels.shape[:2], low < high)
    for channel in range(pixels.shape[2]):
        values = pixels[..., channel]
        is_high = values >= upper
        plain &= is_high | (values <= lower)
        kind |= is_high.view(np.uint8) << channel
    colours = 2 ** pixels.shape[2]
    kind[~plain] = colours
    for number in range(colours):
        mask = (kind == number).view(np.uint8)
        if mask.any():
            is_high = [bool(number >> channel & 1) for channel in range(pixels.shape[2])]
            yield np.where(is_high, high, low), mask


def _parts(mask):
    """The connected Parts of a mask that do not touch its frame."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    x, y, width, height, pixels = stats[1:].T
    boxes = np.stack([x, y, x + width, y + height], axis=1)
    frame = np.array([mask.shape[1], mask.shape[0]])
    inside = ((boxes[:, :2] > AWAY) & (boxes[:, 2:] < frame - AWAY)).all(axis=1)
    return Parts(labels, boxes, pixels, np.arange(1, len(boxes) + 1)).filter(inside)


def _are_bars(parts, stands_out):
    """Which of the Parts (n,), bool, are bars. stands_out: as `_stands_out`."""
    sides = parts.boxes[:, 2:] - parts.boxes[:, :2]
    long, thin = sides.max(axis=1), sides.min(axis=1)
    found = (long >= LONG) & (thin >= THIN) & (long >= SLENDER * thin)
    found &= parts.pixels >= FILLED * sides.prod(axis=1)
    for index in np.flatnonzero(found):
        corners = _mask(parts, index, 0)[[0, 0, -1, -1], [0, -1, 0, -1]]
        found[index] = corners.all() and stands_out(index)
    return found


def _glyphs(parts, stands_out):
    """(boxes (k, 4), the strokes' thickness in pixels (k,)) of those of the Parts that may be
    letters and digits."""
    wide, high = (parts.boxes[:, 2:] - parts.boxes[:, :2]).T
    may_be = np.flatnonzero((high >= HIGH) & (wide <= WIDE * high))
    strokes, found = np.zeros(len(high)), []
    for index in may_be.tolist() if len(may_be) <= MOST else ():
        mask = _mask(parts, index, 1)
        strokes[index] = 2 * cv2.distanceTransform(mask, cv2.DIST_L2, 3).max()
        if strokes[index] <= STROKE * max(wide[index], high[index]) and stands_out(index):
            found.append(index)
    return parts.boxes[found], strokes[found]


def _mask(parts, index, around):
    """One of the Parts as a mask (h, w) uint8, with so many pixels around."""
    return (parts.labels[_near(parts, index, around)] == parts.label[index]).view(np.uint8)


def _near(parts, index, around):
    """Where one of the Parts lies, with so many pixels around: slices."""
    x0, y0, x1, y1 = parts.boxes[index].tolist()
    return slice(y0 - around, y1 + around), slice(x0 - around, x1 + around)


def _stands_out(pixels, colour, least, parts, index):
    """Whether the pixels AWAY from one of the Parts differ so much from its colour."""
    near, mask = _near(parts, index, AWAY), _mask(parts, index, AWAY)
    wider, widest = (
        cv2.dilate(mask, np.ones((2 * n + 1,) * 2, np.uint8)) for n in (AWAY - 1, AWAY)
    )
    ring = (widest != wider) & ((parts.labels[near] == 0) | (mask > 0))
    differ = np.abs(pixels[near][ring] - colour).max(axis=1) >= least
    return bool(len(differ)) and differ.mean() >= SHARE


def _lines(glyphs, strokes) -> Iterator[np.ndarray]:
    """Yield lines of text, of boxes (n, 4) of glyphs and their strokes (n,): (k, 4) each, from left
    to right."""
    order = np.argsort(glyphs[:, 0], kind="stable")
    rest, strokes = glyphs[order], strokes[order]
    while len(rest):
        line, pen = rest[:1], strokes[0]
        rest, strokes = rest[1:], strokes[1:]
        while True:
            x0, y0, x1, foot = _around(line)
            high, heights = foot - y0, rest[:, 3] - rest[:, 1]
            follows = np.abs(rest[:, 3] - foot) <= FEET
            follows &= np.abs(strokes - pen) <= PEN * pen + 1
            follows &= (heights <= 2 * high) & (2 * heights >= high)
            follows &= (rest[:, 0] >= x0) & (rest[:, 0] - x1 <= GAP * high)
            if not follows.any():
                break
            line = np.concatenate([line, rest[follows]])
            rest, strokes = rest[~follows], strokes[~follows]
        yield line


def _around(boxes):
    """The box (4,) around boxes (k, 4)."""
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _beside(line, bars):
    """Whether a line of text lies above or below one of the bars (k, 4), two of its heights away at
    most, and shares columns with it."""
    x0, y0, x1, y1 = _around(line)
    away = np.maximum(bars[:, 1] - y1, y0 - bars[:, 3])
    near = (away >= 0) & (away <= 2 * (y1 - y0))
    return bool(((bars[:, 0] < x1) & (bars[:, 2] > x0) & near).any())
