"""Any image -> the 8-bit RGB that the network knows (paper, section 2.1; reference.md, section 3).

A conversion is a curve from stored value to 8 bit, one for all channels (`Curve`, the paper's) or
one for each (`Curves`), fitted to the whole image's histogram and then applied to any part of it:
windows of one image always agree.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Callable, Iterator, List, Optional, Tuple, Union

import numpy as np

from app import annotations
from app.no_image import NoImage, Parts, find
from app.selection import MOST_CHANNELS, channel_count

SAMPLE = 2**22  # values that decide the percentiles of images that have no short histogram
BAND = 2**22  # pixels looked at or converted at a time, so that memory does not grow with the image
GAMMA_FLOOR = 0.6  # exponent of black images
TABLE_STEPS = 4096  # of A and of B, at which `Curve.tables` follows them
LINES = 2**16  # pixels, in whole rows, by which noise, photographs and the edges of fills are told
LEAST_LINES = 16  # rows, and columns, of large images: one or two may show a margin alone
LEVELS = 16  # values of an image from which on one far from all others is none of a camera's
NOISE_RANGE = 20  # standard deviations of its noise over which a channel is stretched at least
# And over so many steps of JPEG's quantization, up to that many values: little noise becomes flat
# by it, but for patterns here and there as large as cells, of a quarter of a step
# (experiments/EXPERIMENTS.md, 2026-12-01).
QUANTIZATION_RANGE, MOST_QUANTIZED = 14, 255


def to_rgb8(image: np.ndarray, curve: Union["Curve", "Curves", None] = None) -> np.ndarray:
    """Convert a whole image.

    image: (H, W) or (H, W, C), any real dtype, any value range; NaN counts as the least value.
    An array, or what gives rectangles of one as app.images.TiffImage does. curve: a Curve or
    Curves, by default the paper's. Returns (H, W, 3) uint8. Raises ValueError for an image
    without pixels or of other dimensions.
    """
    curve = curve or Curve.fit(image)
    rgb = np.empty((*image.shape[:2], 3), np.uint8)
    for rows in bands(image.shape):
        rgb[rows] = curve(image[rows, :], (rows.start, 0))
    return rgb


def bands(shape: Tuple[int, ...], multiple: int = 1) -> Iterator[slice]:
    """Slices of the rows of an image of this shape, each of about BAND pixels.

    Each but the last has a multiple of so many rows.
    """
    step = max(1, BAND // shape[1] // multiple) * multiple
    return (slice(top, top + step) for top in range(0, shape[0], step))


def select_channels(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) -> (H, W, 1 to 3), the channels that the network sees.

    One channel is grey; two become red and green (blue is 0); of three or more the first three
    are taken as red, green and blue.
    """
    return image[..., None] if image.ndim == 2 else image[..., :MOST_CHANNELS]


def parts(image: np.ndarray, multiple: int = 1) -> Parts:
    """All of an image by its `bands`: (rows, their pixels (h, W, 1 to 3) in those channels)."""
    return ((rows, select_channels(image[rows, :])) for rows in bands(image.shape, multiple))


def spacing(image: np.ndarray) -> int:
    """Pixels from one to the next of those that make the histogram: 1 where it is exact."""
    if image.dtype in (np.uint8, np.uint16):
        return 1
    height, width = image.shape[:2]
    seen = min(channel_count(image.shape), MOST_CHANNELS)
    return math.ceil(math.sqrt(max(1, height * width * seen / SAMPLE)))


def grid(rows: slice, step: int) -> Tuple[slice, slice]:
    """Every step-th pixel of the image's rows and columns, in the part of these rows."""
    return slice(-rows.start % step, None, step), slice(None, None, step)


def check(image: np.ndarray) -> None:
    """ValueError for what is no image with pixels."""
    if len(image.shape) not in (2, 3) or 0 in image.shape:
        raise ValueError(f"an image of shape {image.shape} cannot be segmented")


@dataclass
class Curve:
    """value -> mix * A + (1 - mix) * B in 0..255; A and B are linear stretches, B with a gamma.

    stretch_a, stretch_b: (low, high), the values that become 0 and 255.
    """

    stretch_a: Tuple[float, float]
    stretch_b: Tuple[float, float]
    gamma: float
    mix: float

    @classmethod
    def fit(
        cls, image: np.ndarray, percentile: Optional[float] = None, gamma_floor: float = GAMMA_FLOOR
    ) -> "Curve":
        """The curve of a whole image, as of `to_rgb8`, by the inference rule of the paper.

        percentile: the upper one of B's stretch, 50..100 (the lower one is 100 - it); by default
        the rule of the dtype. gamma_floor: the least gamma, 0..1. Some sets of training images
        need others (reference.md, section 4).
        """
        check(image)
        return cls.of(Histogram.of_channels(image), image.dtype, percentile, gamma_floor)

    @classmethod
    def of(
        cls,
        channels: List["Histogram"],
        dtype: np.dtype,
        percentile: Optional[float] = None,
        gamma_floor: float = GAMMA_FLOOR,
        least_range: float = 0,
    ) -> "Curve":
        """The curve of an image that has channels of these Histograms.

        least_range: values that both stretches cover at least.
        """
        histogram = Histogram.cat(channels)
        stretch_a = histogram.without_zero().percentiles(1, 99)
        if percentile is not None:
            stretch_b = histogram.percentiles(100 - percentile, percentile)
        elif dtype == np.uint8:
            stretch_b = (0.0, 255.0)
        elif dtype.kind == "f":
            stretch_b = histogram.percentiles(0.05, 99.95)
        else:
            stretch_b = histogram.percentiles(0.12, 99.88)
        wide = ((low, max(high, low + least_range)) for low, high in (stretch_a, stretch_b))
        curve = cls(*wide, gamma=1.0, mix=0.0)
        curve.gamma = dark_gamma(histogram.moments(curve._b)[0], gamma_floor)
        curve.mix = curve._choose_mix(channels)
        return curve

    def __call__(self, image: np.ndarray, at: Optional[Tuple[int, int]] = None) -> np.ndarray:
        """Convert the image or a part of it: (h, w) or (h, w, C) -> (h, w, 3) uint8.

        at: row and column of its first pixel in the image, which Curves need.
        """
        converted = self.levels(select_channels(image))
        if converted.shape[2] == 2:
            return np.dstack([converted, np.zeros_like(converted[..., 0])])
        return np.broadcast_to(converted, (*converted.shape[:2], 3)).copy()

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Stored values of any shape -> the same in 8 bit."""
        if values.dtype in (np.uint8, np.uint16):
            return self._convert(np.arange(np.iinfo(values.dtype).max + 1))[values]
        return self._convert(without_nan(values))

    @property
    def photograph(self) -> bool:
        """Whether the channels share one curve, as of Curves."""
        return True

    @property
    def mixes(self) -> Tuple[float, ...]:
        """The share of A in red, green and blue."""
        return (self.mix,) * 3

    def even(self) -> "Curve":
        """The same with A and B in equal parts: 8 bits from which `tables` recovers both."""
        return replace(self, mix=0.5)

    def tables(self) -> np.ndarray:
        """A and B, in 0..1, of each level 0..255 of the even mix: (2, 256) float32.

        Neither falls where the other rises, and together they change by twice the mix: each is
        recovered to 1 / 255 from the rounded level. Level 0, also that of a channel which is not
        there, is 0 of both.
        """
        steps = np.linspace(0, 1, TABLE_STEPS + 1)
        (low_a, high_a), (low_b, high_b) = self.stretch_a, self.stretch_b
        where_a = low_a + (high_a - low_a) * steps
        where_b = low_b + (high_b - low_b) * steps ** (1 / self.gamma)
        values = np.sort(np.concatenate([where_a, where_b]))
        both = np.stack([self._a(values), self._b(values)])
        levels = np.arange(256) / 255
        return np.stack([np.interp(levels, both.mean(0), part) for part in both]).astype("f4")

    def _convert(self, values):
        mixed = self.mix * self._a(values) + (1 - self.mix) * self._b(values)
        return np.round(mixed * 255).astype(np.uint8)

    def _a(self, values):
        return stretch(values, *self.stretch_a)

    def _b(self, values):
        return stretch(values, *self.stretch_b) ** self.gamma

    def _choose_mix(self, channels):
        """1 for stained bright-field, 0.5 for dark grey images of little contrast, else 0.

        channels: a Histogram of each.
        """
        if len(channels) == 2:
            return 0.0
        mean, std = Histogram.cat(channels[-1:]).moments(self._b)
        if len(channels) == 3:
            return 1.0 if mean * 255 > 200 and std * 255 < 20 else 0.0
        return 0.5 if mean * 255 < 45 and std * 255 < 33 else 0.0


BLACK = Curve((0, 0), (0, 0), gamma=1.0, mix=0.0)


@dataclass
class Curves:
    """One Curve for a photograph's channels, or for a grey image; else one for each channel.

    Used as a Curve is. So that no channel drowns another, each is converted as the paper's curve
    would convert it alone, but stretched over NOISE_RANGE times its noise at least, and over
    QUANTIZATION_RANGE times what JPEG rounded it by: an empty image stays one, neither its noise
    nor what became of that is blown up. (What is trained on is hardly rounded, and converted
    without the latter.) A constant channel is black.

    curves: 1, or one per channel. count: of the image's channels so many are taken (one of a grey
    image stored as RGB). photograph: see `is_photograph`. no_image: tells the pixels that are
    none; they count in no percentile, and are black; in photographs they are converted as well.
    is_coarse: whether what JPEG rounded decides the contrast of a channel.
    """

    curves: List[Curve]
    count: int
    photograph: bool
    no_image: NoImage
    is_coarse: bool = False

    @classmethod
    def fit(
        cls,
        image: np.ndarray,
        percentile: Optional[float] = None,
        gamma_floor: float = GAMMA_FLOOR,
        nodata: Optional[float] = None,
        quantization: float = 0.0,
    ) -> "Curves":
        """The curves of a whole image, as of `to_rgb8`.

        percentile, gamma_floor: as of Curve.fit. nodata: the value that the file declares to be
        none. quantization: of the file, as of images.Loaded. Raises ValueError as `to_rgb8`.
        """
        channels, lines, no_image = survey(image, nodata)
        grey = is_grey(channels, lines)
        photograph = not grey and is_photograph(image.shape, lines)
        is_coarse = False
        channels = channels[:1] if grey else channels
        given = (image.dtype, percentile, gamma_floor)
        if photograph:
            curves = [Curve.of(channels, *given)]
        else:
            floor = min(QUANTIZATION_RANGE * quantization, MOST_QUANTIZED)
            noises = [noise(line, image.dtype) for line in np.moveaxis(lines, 2, 0)]
            ranges = [max(NOISE_RANGE * sigma, floor) for sigma in noises]
            curves = [
                Curve.of([part], *given, least) if len(part.levels) > 1 else BLACK
                for part, least in zip(channels, ranges)
            ]
            is_coarse = any(0 < np.ptp(curve.stretch_a) <= floor + 1e-6 for curve in curves)
        return cls(curves, len(channels), photograph, no_image, is_coarse)

    def __call__(self, image: np.ndarray, at: Optional[Tuple[int, int]] = None) -> np.ndarray:
        """Convert the image or a part of it: (h, w) or (h, w, C) -> (h, w, 3) uint8.

        at: row and column of its first pixel in the image. Without it all pixels that have a
        fill's value are black, those of cells as well.
        """
        channels = select_channels(image)
        if len(self.curves) == 1:
            rgb = self.curves[0](channels[..., : self.count])
        else:
            rgb = np.zeros((*channels.shape[:2], 3), np.uint8)
            for index, curve in enumerate(self.curves):
                rgb[..., index] = curve.levels(channels[..., index])
        if not self.photograph:
            rgb[self.no_image(channels, at)] = 0
        return rgb

    def even(self) -> "Curves":
        """The same with A and B in equal parts, as of Curve."""
        return replace(self, curves=[curve.even() for curve in self.curves])

    def with_drawn(self) -> "Curves":
        """The same for people, who want to see what was drawn into the image as well."""
        return replace(self, no_image=replace(self.no_image, drawn=self.no_image.drawn[:0]))

    def tables(self) -> np.ndarray:
        """Curve.tables of red, green and blue: (3, 2, 256) float32."""
        return np.stack([curve.tables() for curve in self._rgb()])

    @property
    def mixes(self) -> Tuple[float, ...]:
        """The share of A in red, green and blue."""
        return tuple(curve.mix for curve in self._rgb())

    def _rgb(self):
        """The curves of red, green and blue; of a blue that is not there some other."""
        return (self.curves * 3)[:3]


# How a whole image becomes 8 bit, by the name that a configuration has for it: image -> what
# converts any part of it.
CONVERSIONS = {"paper": Curve.fit, "channels": Curves.fit}


def no_image(image: np.ndarray, nodata: Optional[float] = None) -> NoImage:
    """What tells the pixels that are none, in any part of a whole image as of `to_rgb8`."""
    return survey(image, nodata)[2]


def survey(
    image: np.ndarray, nodata: Optional[float]
) -> Tuple[List["Histogram"], np.ndarray, NoImage]:
    """All that `Curves` have to know of a whole image, by looking at it once.

    (Twice more if it has fills, and at its first and last rows for what is drawn there.) Returns
    (a Histogram of each channel, lines (L, W, C) float64, a NoImage). lines: evenly spaced rows.
    What is no image is NaN there, and not in the histograms; so are values far from all others
    (`Histogram.without_far_ends`).
    """
    check(image)
    height, width = image.shape[:2]
    every, across = (
        min(math.ceil(height * width / LINES), math.ceil(side / LEAST_LINES))
        for side in (height, width)
    )
    lines, columns, frame, declared = [], [], [], []

    def looked_at():
        for rows, pixels in parts(image):
            lines.append(pixels[grid(rows, every)[0]].copy())
            columns.append(pixels[:, ::across].copy())
            ends = ([pixels[0]] if rows.start == 0 else []) + [pixels[:, 0], pixels[:, -1]]
            ends += [pixels[-1]] if rows.stop >= height else []
            frame.extend(end.copy() for end in ends)
            if nodata is not None:
                counted = pixels[grid(rows, spacing(image))]
                declared.append(np.count_nonzero((counted == nodata).all(2)))
            yield rows, pixels

    channels = Histogram.of_channels(image, looked_at())
    lines, columns = np.concatenate(lines), np.concatenate(columns).swapaxes(0, 1)
    rows = np.arange(0, height, every)
    looks = ((rows, lines), (np.arange(0, width, across), columns))
    found = find(image.shape, frame, looks, partial(parts, image), nodata)
    found.drawn = annotations.find(image.shape, lambda rows: select_channels(image[rows, :]))
    for box in found.drawn:
        parts_of = Histogram.of_channels(image, [box_of(image, *box)])
        channels = [part.less(drawn) for part, drawn in zip(channels, parts_of)]
    if nodata is not None:
        channels = [part.without(nodata, sum(declared)) for part in channels]
    for value, times in zip(found.values, fill_counts(image, found)):
        if nodata is not None and (value == nodata).all():
            continue  # counted already
        channels = [part.without(level, times) for part, level in zip(channels, value)]
    none = found(lines)
    if found.values or len(found.drawn):
        none = np.stack([found(line[None], (row, 0))[0] for row, line in zip(rows, lines)])
    lines = lines.astype(np.float64)
    lines[none[..., None] | ~np.isfinite(lines)] = np.nan
    if image.dtype != np.uint8:  # whose values cannot be that far apart
        channels = [part.without_far_ends() for part in channels]
        for index, part in enumerate(channels):
            lines[part.is_far(lines[..., index])] = np.nan
    return channels, lines, found


def box_of(image: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> Tuple[slice, np.ndarray]:
    """A box of an image as its `parts` are: (rows, pixels (h, w, C)), and of its columns, too,
    those on from where the histogram's sample has one."""
    x0 += -x0 % spacing(image)
    return slice(y0, y1), select_channels(image[y0:y1, x0:x1])


def fill_counts(image: np.ndarray, found: NoImage) -> List[int]:
    """How many of the values in the histograms of an image are those of each of its fills."""
    counts = [0] * len(found.values)
    for rows, pixels in parts(image) if counts else ():
        for index, value in enumerate(found.values):
            fill = found.fill(value, pixels, (rows.start, 0))
            counts[index] += np.count_nonzero(fill[grid(rows, spacing(image))])
    return counts


def is_grey(channels: List["Histogram"], lines: np.ndarray) -> bool:
    """Whether an image's channels (see `survey`) are one, all alike."""
    first, *others = channels
    same = all(np.array_equal(first.levels, part.levels) for part in others)
    same = same and all(np.array_equal(first.counts, part.counts) for part in others)
    return same and not np.nan_to_num(np.ptp(lines, axis=2)).any()


def is_photograph(shape: Tuple[int, ...], lines: np.ndarray) -> bool:
    """Whether an image's colours are those of light that a camera saw: of `survey`'s lines.

    It has three channels, whose ranges (of all values but the outermost thousandth) differ by a
    factor of 10 at most. And it has either a bright background, as stained and transparent cells
    have: the median lies in the upper half of the range, in the mean over channels, and the
    channels agree a little (mean correlation of at least 0.3). Or all channels show the same
    (least correlation of at least 0.7), at ranges that differ by a factor of 2 at most, so that
    none drowns: crowded tissue, or things in incident light.
    """
    pixels = lines[np.isfinite(lines).all(2)]
    if len(shape) == 2 or shape[2] != 3 or not len(pixels):
        return False
    low, high = np.percentile(pixels, (0.1, 99.9), axis=0)
    ranges = high - low
    if ranges.min() <= ranges.max() / 10:
        return False
    pixels = np.clip((pixels - low) / ranges, 0, 1)
    correlations = np.corrcoef(pixels.T)[np.triu_indices(3, 1)]
    bright = np.median(pixels, axis=0).mean() >= 0.5 and correlations.mean() >= 0.3
    return bright or (correlations.min() >= 0.7 and ranges.max() <= 2 * ranges.min())


def noise(lines: np.ndarray, dtype: np.dtype) -> float:
    """Standard deviation of the noise of a channel's lines (L, W), as neighbours differ by it.

    Of integers at least 1, by which they are rounded.
    """
    steps = np.abs(np.diff(lines, axis=1))
    steps = steps[np.isfinite(steps)]
    found = np.median(steps) / 0.6745 / math.sqrt(2) if len(steps) else 0.0
    return max(found, float(dtype.kind != "f"))


@dataclass
class Histogram:
    """Values in ascending order and how often each occurs."""

    levels: np.ndarray
    counts: np.ndarray

    @classmethod
    def of_channels(cls, image: np.ndarray, bands: Optional[Parts] = None) -> List["Histogram"]:
        """One of each channel that the network sees, from a whole image.

        Exact for 8- and 16-bit images; of an evenly spaced sample for wide ones. bands: the
        `parts` of the image, where someone else looks at them, too.
        """
        bands = parts(image) if bands is None else bands
        if image.dtype in (np.uint8, np.uint16):
            return cls._exact(bands, np.iinfo(image.dtype).max + 1)
        return cls._sampled(bands, spacing(image))

    @classmethod
    def _exact(cls, bands, size):
        counts = 0
        for _, pixels in bands:
            channels = np.moveaxis(pixels, 2, 0)
            counts += np.array([np.bincount(part.ravel(), minlength=size) for part in channels])
        return [cls(np.flatnonzero(row), row[row > 0]) for row in counts]

    @classmethod
    def _sampled(cls, bands, step):
        sample = [pixels[grid(rows, step)].astype(np.float64) for rows, pixels in bands]
        channels = np.moveaxis(np.concatenate(sample), 2, 0)
        finite = (values[np.isfinite(values)] for values in channels)
        return [cls(*np.unique(values, return_counts=True)) for values in finite]

    @classmethod
    def cat(cls, histograms: List["Histogram"]) -> "Histogram":
        """The histogram of several together; of the value 0 where there is nothing."""
        if len(histograms) == 1 and len(histograms[0].levels):
            return histograms[0]
        levels = np.concatenate([part.levels for part in histograms])
        counts = np.concatenate([part.counts for part in histograms])
        if not len(levels):
            return cls(np.zeros(1), np.ones(1, np.int64))
        levels, index = np.unique(levels, return_inverse=True)
        return cls(levels, np.bincount(index.ravel(), weights=counts).astype(np.int64))

    def without_zero(self) -> "Histogram":
        """The same without the value 0, unless there is nothing else."""
        rest = self.without(0)
        return rest if len(rest.levels) else self

    def without_far_ends(self) -> "Histogram":
        """The same without the least value, and the greatest, where it lies further from all others
        than these from one another: that of defect pixels, say, or of a missing tile.

        The others have to be LEVELS or more, as those of a camera are.
        """
        found = self
        for end, neighbour in ((0, 1), (-1, -2), (0, 1)):  # the least may hide behind the greatest
            levels = found.levels
            if len(levels) > LEVELS:
                others = np.delete(levels, end)
                if abs(levels[neighbour] - levels[end]) > np.ptp(others):
                    found = found.without(levels[end])
        return found

    def is_far(self, values: np.ndarray) -> np.ndarray:
        """Which of the values lie further from all of these than these from one another, bool."""
        if len(self.levels) < LEVELS:
            return np.zeros(values.shape, bool)
        low, high = self.levels[0], self.levels[-1]
        return (values < 2 * low - high) | (values > 2 * high - low)

    def without(self, value: float, times: Optional[int] = None) -> "Histogram":
        """The same without a value, or with so many of it less."""
        less = self.counts if times is None else times
        counts = np.where(self.levels == value, self.counts - less, self.counts)
        return Histogram(self.levels[counts > 0], counts[counts > 0])

    def less(self, other: "Histogram") -> "Histogram":
        """The same without what another has of it."""
        counts = dict(zip(other.levels.tolist(), other.counts.tolist()))
        less = np.array([counts.get(level, 0) for level in self.levels.tolist()], np.int64)
        kept = self.counts > less
        return Histogram(self.levels[kept], (self.counts - less)[kept])

    def percentiles(self, low: float, high: float) -> Tuple[float, float]:
        """Two percentiles in 0..100, linearly interpolated as numpy does."""
        last = self.counts.cumsum() - 1
        ranks = np.array([low, high]) / 100 * last[-1]
        below = self.levels[np.searchsorted(last, np.floor(ranks))].astype(np.float64)
        above = self.levels[np.searchsorted(last, np.ceil(ranks))].astype(np.float64)
        return tuple((below + (above - below) * (ranks % 1)).tolist())

    def moments(self, curve: Callable) -> Tuple[float, float]:
        """Mean and standard deviation of curve(values)."""
        values = curve(self.levels)
        mean = np.average(values, weights=self.counts)
        return mean, math.sqrt(np.average((values - mean) ** 2, weights=self.counts))


def without_nan(values: np.ndarray) -> np.ndarray:
    """Values as float64; NaN, of which nothing is known, counts as the least of all."""
    values = values.astype(np.float64)
    return np.where(np.isnan(values), -np.inf, values)


def stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Linear map of low..high to 0..1, clipped; all 0 where there is no range."""
    if high <= low:
        return np.zeros(np.shape(values))
    return np.clip((values - low) / (high - low), 0, 1)


def dark_gamma(mean: float, floor: float = GAMMA_FLOOR) -> float:
    """Exponent for an image of mean intensity 0..1: `floor` if black, 1 from 17 pi / 255 on."""
    mean = mean * 255
    if mean >= 17 * math.pi:
        return 1.0
    return floor + (1 - floor) * (1 - (math.cos(mean / 17) + 1) / 2)
