"""At which size an image is segmented: the whole way there for its pixels, and back for its cells.

The network is at home with cells of some sizes. An image that is scaled by a factor f has round(f
times its side) pixels along each side, and what lies at x there is at (x + 0.5) / f - 0.5 in the
image itself: (0, 0) is the centre of the first pixel of both.
"""

import math
from dataclasses import replace
from heapq import nlargest
from typing import Callable, List, NamedTuple, Sequence, Tuple

import numpy as np
from skimage.measure import points_in_poly

from app.background import is_background, means
from app.cells import Cells
from app.intensity import select_channels
from app.no_image import NoImage
from app.sizes import diameters
from app.windows import Window

# A factor this close to 1 is none: it would move the cells within the sizes that are native, and
# cost the sharpness of all pixels.
TOLERANCE = 0.1
# The scales that are tried beside 1, since cells may be too large for the network: the last one,
# which takes a sixteenth of the time, tells whether the other has a chance.
COARSER = (0.5, 0.25)
# The scale that is tried where the cells of the scale 1 are smaller than SMALL pixels: the network
# finds few of those. Where there are none they may be smaller still, which FEW squares of PROBE
# pixels tell first.
FINER, SMALL, FEW, PROBE = 2.0, 12.0, 2, 256
LEAST_SEEN = 16.0  # pixels: of cells that a coarser scale may answer for
SURER = 0.01  # by which their mean score has to be higher than a finer scale's
# Of so many cells of a finer scale, each less than this part of its size and on average so sure,
# what a coarser scale takes for one cell is a group: a piece of tissue, say, or all that a round
# diaphragm shows. Pieces of a cell that is too large for the network are less sure.
GROUP, MEMBER, SURE = 5, 0.25, 0.7
# What is found at FINER may be the grain of something empty. It counts from so high a mean score,
# and where nothing is found at the scale 1 from so many cells and a higher one.
LEAST_SURE, LEAST_CELLS, SURE_ALONE = 0.65, 5, 0.75
PART = 2**23  # pixels of the image that are brought to their size at a time


def typical(cells: Cells) -> float:
    """Median equivalent diameter of cells in pixels; 0 where there are none."""
    return float(np.median(diameters(cells))) if len(cells) else 0.0


def are_seen(cells: Cells, factor: float) -> bool:
    """Whether there are cells, in pixels of the image, large enough to be told at a scale."""
    return typical(cells) * factor >= LEAST_SEEN


def is_better(coarse: Cells, factor: float, fine: Cells) -> bool:
    """Whether the cells found at the scale `factor` are taken, and not those at a finer one.

    Both are in pixels of the image. The coarse ones have to be seen there and, but for groups, to
    be surer: what is too large for the network falls to pieces of low scores. Of a cell something
    is found at any scale; where nothing is, an empty well with a gradient looks like one from afar.
    (experiments/EXPERIMENTS.md has what the rule is worth.)
    """
    if not are_seen(coarse, factor) or not len(fine):
        return False
    alone = coarse.filter(~are_groups(coarse, fine))
    return are_seen(alone, factor) and alone.scores.mean() >= fine.scores.mean() + SURER


def may_be_too_small(cells: Cells) -> bool:
    """Whether the cells found at the scale 1, none included, call for a look at FINER."""
    return typical(cells) < SMALL


def clearest(view: "View", shown: Sequence[Window]) -> List[Window]:
    """FEW squares of about PROBE pixels in some windows of a View: those that show most.

    By how much means over a few pixels differ there, so that a well's empty corners are left out
    and noise decides nothing. Fewer or none where the rest is background.
    """
    contrasts = []
    for square in (square for window in shown for square in window.squares(PROBE)):
        rgb, none = view.window(square)
        if not is_background(rgb, none):
            contrasts.append((float(means(rgb, none).std(axis=(0, 1)).max()), square))
    return [square for _, square in nlargest(FEW, contrasts)]


def is_finer_better(finer: Cells, cells: Cells) -> bool:
    """Whether the cells found at the scale FINER are better than those of the scale 1.

    They have to be small, and as sure, or sure by themselves where there are no others.
    (experiments/EXPERIMENTS.md has what the rule is worth.)
    """
    if not 0 < typical(finer) < SMALL:
        return False
    if not len(cells):
        return len(finer) >= LEAST_CELLS and bool(finer.scores.mean() >= SURE_ALONE)
    return bool(finer.scores.mean() >= max(cells.scores.mean(), LEAST_SURE))


def are_groups(coarse: Cells, fine: Cells) -> np.ndarray:
    """Which of the coarse cells (n,), bool, are groups of fine ones, by GROUP, MEMBER and SURE."""
    fine = fine.filter(np.argsort(fine.boxes[:, 1::2].sum(axis=1)))  # from top to bottom
    middles, areas = fine.boxes.reshape(-1, 2, 2).mean(axis=1), fine.areas()
    found = np.zeros(len(coarse), bool)
    spans = np.searchsorted(middles[:, 1], coarse.boxes[:, 1::2])
    for index, (area, (first, last)) in enumerate(zip(coarse.areas(), spans)):
        x0, x1 = coarse.boxes[index, ::2]
        x = middles[first:last, 0]
        near = first + np.flatnonzero((areas[first:last] < MEMBER * area) & (x0 < x) & (x < x1))
        if len(near) >= GROUP:
            near = near[points_in_poly(middles[near], coarse.contours[index])]
            found[index] = len(near) >= GROUP and fine.scores[near].mean() >= SURE
    return found


class View:
    """An image as the networks see it: 8-bit RGB, scaled; window by window, so that memory does
    not grow with the image. Any window is the same as in the whole."""

    def __init__(
        self, image: np.ndarray, convert: Callable, no_image: NoImage, factor: float = 1.0
    ):
        """image: as of app.intensity.to_rgb8. convert: the Curve or Curves fitted to it. no_image:
        what tells its pixels that are none. factor: as of `check_scale`; what is all but 1 is 1.
        """
        self._image, self.convert, self.no_image = image, convert, no_image
        self.factor = factor if abs(factor - 1) > TOLERANCE else 1.0
        self.shape = tuple(max(1, round(side * self.factor)) for side in image.shape[:2])

    def at(self, factor: float) -> "View":
        """The same image at another scale."""
        return View(self._image, self.convert, self.no_image, factor)

    def window(self, window: Window) -> Tuple[np.ndarray, np.ndarray]:
        """(pixels (h, w, 3) uint8, which of them (h, w), bool, are no image) of a Window of the
        view."""
        if self.factor == 1:
            return self._converted(slice(window.y0, window.y1), slice(window.x0, window.x1))
        (height, width), (scaled_height, scaled_width) = self._image.shape[:2], self.shape
        columns = Taps.of(width, scaled_width, window.x0, window.x1)
        rows = Taps.of(height, scaled_height, window.y0, window.y1)
        across = columns.range()
        at_a_time = max(1, int(PART * self.factor / (across.stop - across.start)))
        parts = [
            self._scaled(rows.part(slice(top, top + at_a_time)), columns)
            for top in range(0, window.y1 - window.y0, at_a_time)
        ]
        rgb, none = (np.concatenate(kind) for kind in zip(*parts))
        return rgb, none

    def _scaled(self, rows, columns):
        """As `window`, of the pixels in these Taps."""
        rgb, none = self._converted(rows.range(), columns.range())
        rgb = np.rint(columns(rows(rgb, axis=0), axis=1)).astype(np.uint8)
        if not none.any():
            return rgb, np.zeros(rgb.shape[:2], bool)
        return rgb, columns(rows(none, axis=0), axis=1) > 0.5

    def _converted(self, rows, columns):
        """As `window`, of slices of the image itself."""
        pixels, at = self._image[rows, columns], (rows.start, columns.start)
        return self.convert(pixels, at), self.no_image(select_channels(pixels), at)

    def to_image(self, cells: Cells) -> Cells:
        """Cells of the view in pixels of the image; their uncertainties remain as they are.

        A contour runs through the centres of its border pixels (design.md, decision 10): a box of
        w pixels is w - 1 long, and w / factor - 1 in the image. So each is stretched about the
        middle of its box, which goes where its point goes.
        """
        if self.factor == 1:
            return cells
        height, width = (n / m for n, m in zip(self.shape, self._image.shape))
        factors = np.array([width, height])
        lower, upper = cells.boxes[:, :2].astype(np.float64), cells.boxes[:, 2:]
        middle, sides = (lower + upper) / 2, upper - lower
        target = (middle + 0.5) / factors - 0.5
        stretch = np.maximum((sides + 1) / factors - 1, 0) / np.maximum(sides, 1e-6)
        contours = (cells.contours - middle[:, None]) * stretch[:, None] + target[:, None]
        half = sides * stretch / 2
        boxes = np.concatenate([target - half, target + half], axis=1)
        return replace(cells, contours=contours.astype(np.float32), boxes=boxes.astype(np.float32))


class Taps(NamedTuple):
    """Of which pixels along a side, and with which weights, each scaled pixel is the sum.

    index (n, k): pixels of the image, of n scaled ones. weight (n, k): float32, of sum 1.
    """

    index: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, side: int, scaled: int, start: int, stop: int) -> "Taps":
        """Those of the scaled pixels start..stop of a side, which has `scaled` of them.

        What becomes smaller is averaged over its area, what becomes larger is interpolated
        linearly, as the network knows it from its training.
        """
        step, places = side / scaled, np.arange(start, stop)
        if step > 1:
            first = places * step
            index = np.floor(first).astype(int)[:, None] + np.arange(math.ceil(step) + 1)
            last = first[:, None] + step
            weight = np.minimum(index + 1, last) - np.maximum(index, first[:, None])
            weight = np.maximum(weight, 0) / step
        else:
            centre = (places + 0.5) * step - 0.5
            index = np.floor(centre).astype(int)[:, None] + np.arange(2)
            weight = 1 - np.abs(index - centre[:, None])
        return cls(index.clip(0, side - 1), weight.astype(np.float32))

    def range(self) -> slice:
        """The pixels of the image that count."""
        return slice(int(self.index.min()), int(self.index.max()) + 1)

    def part(self, places: slice) -> "Taps":
        """Some of the scaled pixels."""
        return Taps(self.index[places], self.weight[places])

    def __call__(self, pixels: np.ndarray, axis: int) -> np.ndarray:
        """The pixels of `range` along an axis -> the scaled ones, float32."""
        shape = [-1 if k == axis else 1 for k in range(pixels.ndim)]
        total = np.float32(0)
        for index, weight in zip(self.index.T - self.index.min(), self.weight.T):
            total = total + np.take(pixels, index, axis) * weight.reshape(shape)
        return total
