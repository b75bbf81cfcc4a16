"""Scale bars and text that were drawn into an image, which a network takes for cells.

Who exports an image from a viewer often has them in its pixels. They are told by what optics seldom
make: one colour whose channels are each at an end of the range, an edge of a pixel or two, the
shapes of a bar or of letters in a line, and few of them.
"""

from functools import partial
from typing import Callable, Iterator, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

# Pixels of images that are looked at: less than app.files.LARGE, of whose plan these boxes are no
# part.
LARGEST = 2**25
EDGE = 0.25  # part of the image's height, at its top and its bottom, where such things are drawn
STRIP = 2**21  # pixels there that are looked at, at most
# Of a colour are pixels whose channels differ from it by this part of the range at most, since
# letters are blended with it, and for JPEG's sake. By JUMP of the range what is drawn differs from
# this SHARE of the pixels AWAY from it: from less of those around saturated cells, whose edges are
# blurred.
NEAR, JUMP, SHARE = 0.25, 0.4, 0.95
AWAY = 2
# Of more than 8 bits, which no JPEG blurred, so many pixels of a thing have one exact value: those
# of cells that are the brightest of their image do not.
EXACT = 0.5
# A bar lies along the rows, fills its box, its corners as well, unlike cells, is at least so long
# and so thick, and so many times as long as thick.
FILLED, LONG, THIN, SLENDER = 0.95, 16, 2, 4
# A glyph is at least this high, in pixels, at most so many times as wide, and its strokes are at
# most this part of its size.
HIGH, WIDE, STROKE = 6, 2, 0.4
# So many glyphs make a line, beside a bar one. Their feet differ by FEET pixels, their strokes by
# PEN of the first one's and a pixel. Each is at most so many times as high as the line before it,
# and at least that part of it, and the gap between them is at most so many heights.
LETTERS, FEET, PEN, HIGHER, GAP = 4, 1, 0.25, 2, 2.5
# Who draws into an image draws few things, and letters differ. What is more than that is a pattern
# that was seen: of rods, bands, walls, a grid. Widths and distances of its parts are EVEN.
BARS, LINES, EVEN = 2, 3, 0.15
RIM = 2  # pixels around all, which are a mixture of its colour and the image
MOST = 5000  # parts of a colour in a strip: of more none is drawn


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
    the first and the last are looked at, each strip for itself. Of floats, and of larger images,
    nothing is found.
    """
    height, width = shape[:2]
    high = min(int(EDGE * height), STRIP // width)
    bars, lines = [], []
    if height * width <= LARGEST and high >= HIGH:
        for top in (0, height - high):
            for found, boxes in zip((bars, lines), _in_strip(rows(slice(top, top + high)))):
                found += [box + (0, top) * 2 for box in boxes]
    found = bars + lines if len(bars) <= BARS and len(lines) <= LINES else []
    boxes = np.array(found, int).reshape(-1, 4) + (-RIM, -RIM, RIM, RIM)
    return np.clip(boxes, 0, (width, height) * 2)


def _in_strip(pixels):
    """The boxes (4,) of bars without text, and those of lines of text with the bars beside them, in
    rows (h, W, C) of an image."""
    alone, lines = [], []
    if pixels.dtype.kind not in "ui":
        return alone, lines
    ends = _ends(pixels)
    for colour, mask in _plain(pixels, ends):
        parts = _parts(mask)
        is_drawn = partial(_is_drawn, pixels, colour, JUMP * (ends[1] - ends[0]), parts)
        bars = parts.boxes[_are_bars(parts, is_drawn)]
        is_alone = np.ones(len(bars), bool)
        for line in _lines(*_glyphs(parts, is_drawn)):
            beside = _are_beside(bars, line)
            if len(line) >= LETTERS and not _is_even(line) or beside.any():
                lines.append(_around(np.concatenate([line, bars[beside]])))
                is_alone &= ~beside
        alone += list(bars[is_alone])
    return alone, lines


def _ends(pixels):
    """The least and the greatest value: of 8 bits those that there are, else those that occur in
    these pixels."""
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
    """The connected Parts of a mask that do not touch its frame, or none if there are MOST."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    x, y, width, height, pixels = stats[1:].T
    boxes = np.stack([x, y, x + width, y + height], axis=1)
    frame = np.array([mask.shape[1], mask.shape[0]])
    inside = ((boxes[:, :2] >= AWAY) & (boxes[:, 2:] <= frame - AWAY)).all(axis=1)
    inside &= len(boxes) <= MOST
    return Parts(labels, boxes, pixels, np.arange(1, len(boxes) + 1)).filter(inside)


def _are_bars(parts, is_drawn):
    """Which of the Parts (n,), bool, are bars. is_drawn: as `_is_drawn`."""
    wide, high = (parts.boxes[:, 2:] - parts.boxes[:, :2]).T
    found = (wide >= LONG) & (high >= THIN) & (wide >= SLENDER * high)
    found &= parts.pixels >= FILLED * wide * high
    for index in np.flatnonzero(found):
        corners = _mask(parts, index, 0)[[0, 0, -1, -1], [0, -1, 0, -1]]
        found[index] = corners.all() and is_drawn(index)
    return found


def _glyphs(parts, is_drawn):
    """(boxes (k, 4), the strokes' thickness in pixels (k,)) of those of the Parts that may be
    letters and digits."""
    wide, high = (parts.boxes[:, 2:] - parts.boxes[:, :2]).T
    strokes, found = np.zeros(len(high)), []
    for index in np.flatnonzero((high >= HIGH) & (wide <= WIDE * high)).tolist():
        mask = _mask(parts, index, 1)
        strokes[index] = 2 * cv2.distanceTransform(mask, cv2.DIST_L2, 3).max()
        if strokes[index] <= STROKE * max(wide[index], high[index]) and is_drawn(index):
            found.append(index)
    return parts.boxes[found], strokes[found]


def _mask(parts, index, around):
    """One of the Parts as a mask (h, w) uint8, with so many pixels around."""
    return (parts.labels[_near(parts, index, around)] == parts.label[index]).view(np.uint8)


def _near(parts, index, around):
    """Where one of the Parts lies, with so many pixels around: slices."""
    x0, y0, x1, y1 = parts.boxes[index].tolist()
    return slice(y0 - around, y1 + around), slice(x0 - around, x1 + around)


def _is_drawn(pixels, colour, least, parts, index):
    """Whether the pixels AWAY from one of the Parts differ so much from its colour, and of its own
    enough have one value."""
    near, mask = _near(parts, index, AWAY), _mask(parts, index, AWAY)
    squares = (np.ones((2 * n + 1,) * 2, np.uint8) for n in (AWAY - 1, AWAY))
    wider, widest = (cv2.dilate(mask, square) for square in squares)
    ring = (widest != wider) & ((parts.labels[near] == 0) | (mask > 0))
    differ = np.abs(pixels[near][ring] - colour).max(axis=1) >= least
    if not len(differ) or differ.mean() < SHARE:
        return False
    if pixels.dtype.itemsize == 1:
        return True
    counts = np.unique(pixels[near][mask > 0], axis=0, return_counts=True)[1]
    return counts.max() >= EXACT * counts.sum()


def _lines(glyphs, strokes) -> Iterator[np.ndarray]:
    """Yield lines of text, of boxes (n, 4) of glyphs and their strokes (n,): (k, 4) each, from left
    to right."""
    order = np.argsort(glyphs[:, 0], kind="stable")
    rest, strokes = glyphs[order], strokes[order]
    while len(rest):
        line, pen = rest[:1], strokes[0]
        rest, strokes = rest[1:], strokes[1:]
        while True:
            _, y0, x1, foot = _around(line)
            high, heights = foot - y0, rest[:, 3] - rest[:, 1]
            follows = np.abs(rest[:, 3] - foot) <= FEET
            follows &= np.abs(strokes - pen) <= PEN * pen + 1
            follows &= (heights <= HIGHER * high) & (HIGHER * heights >= high)
            follows &= rest[:, 0] - x1 <= GAP * high
            if not follows.any():
                break
            line = np.concatenate([line, rest[follows]])
            rest, strokes = rest[~follows], strokes[~follows]
        yield line


def _is_even(line):
    """Whether the widths and the distances of glyphs (k, 4), from left to right, are all alike."""
    widths, steps = line[:, 2] - line[:, 0], np.diff(np.sort(line[:, 0]))
    return all(part.std() <= EVEN * part.mean() for part in (widths, steps))


def _around(boxes):
    """The box (4,) around boxes (k, 4)."""
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _are_beside(bars, line):
    """Which of the bars (n, 4), bool, lie above or below a line of text, two of its heights away at
    most, and share columns with it."""
    x0, y0, x1, y1 = _around(line)
    away = np.maximum(bars[:, 1] - y1, y0 - bars[:, 3])
    near = (away >= 0) & (away <= 2 * (y1 - y0))
    return (bars[:, 0] < x1) & (bars[:, 2] > x0) & near
