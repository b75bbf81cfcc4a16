"""Any image -> the 8-bit RGB that the network knows (paper, section 2.1; reference.md, section 3).

The conversion is one curve from stored value to 8 bit, fitted to the whole image's histogram and
then applied to any part of it: windows of one image always agree.
"""

import math
from dataclasses import dataclass, replace
from typing import Callable, Iterator, List, Optional, Tuple

import numpy as np

SAMPLE = 2**22  # values that decide the percentiles of images that have no short histogram
BAND = 2**22  # pixels looked at or converted at a time, so that memory does not grow with the image
GAMMA_FLOOR = 0.6  # exponent of black images
TABLE_STEPS = 4096  # of A and of B, at which `Curve.tables` follows them


def to_rgb8(image: np.ndarray, curve: Optional["Curve"] = None) -> np.ndarray:
    """Convert a whole image.

    image: (H, W) or (H, W, C), any real dtype, any value range; NaN counts as the least value.
    An array, or what gives rectangles of one as app.images.TiffImage does. curve: a Curve, that
    of prediction unless given. Returns (H, W, 3) uint8. Raises ValueError for an image without
    pixels or of other dimensions.
    """
    curve = curve or Curve.fit(image)
    rgb = np.empty((*image.shape[:2], 3), np.uint8)
    for rows in bands(image.shape):
        rgb[rows] = curve(image[rows, :])
    return rgb


def bands(shape: Tuple[int, ...]) -> Iterator[slice]:
    """Slices of the rows of an image of this shape, each of about BAND pixels."""
    step = max(1, BAND // shape[1])
    return (slice(top, top + step) for top in range(0, shape[0], step))


def select_channels(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) -> (H, W, 1 to 3), the channels that the network sees.

    One channel is grey; two become red and green (blue is 0); of three or more the first three
    are taken as red, green and blue.
    """
    return image[..., None] if image.ndim == 2 else image[..., :3]


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
        if len(image.shape) not in (2, 3) or 0 in image.shape:
            raise ValueError(f"an image of shape {image.shape} cannot be segmented")
        channels = Histogram.of_channels(image)
        histogram = Histogram.cat(channels)
        stretch_a = histogram.without_zero().percentiles(1, 99)
        if percentile is not None:
            stretch_b = histogram.percentiles(100 - percentile, percentile)
        elif image.dtype == np.uint8:
            stretch_b = (0.0, 255.0)
        elif image.dtype.kind == "f":
            stretch_b = histogram.percentiles(0.05, 99.95)
        else:
            stretch_b = histogram.percentiles(0.12, 99.88)
        curve = cls(stretch_a, stretch_b, gamma=1.0, mix=0.0)
        curve.gamma = dark_gamma(histogram.moments(curve._b)[0], gamma_floor)
        curve.mix = curve._choose_mix(channels)
        return curve

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Convert the image or a part of it: (h, w) or (h, w, C) -> (h, w, 3) uint8."""
        channels = select_channels(image)
        if image.dtype in (np.uint8, np.uint16):
            table = self._convert(np.arange(np.iinfo(image.dtype).max + 1))
            converted = table[channels]
        else:
            converted = self._convert(without_nan(channels))
        if converted.shape[2] == 2:
            return np.dstack([converted, np.zeros_like(converted[..., 0])])
        return np.broadcast_to(converted, (*converted.shape[:2], 3)).copy()

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


# How a whole image becomes 8 bit, by the name that a configuration has for it: image -> Curve.
CONVERSIONS = {"paper": Curve.fit}


@dataclass
class Histogram:
    """Values in ascending order and how often each occurs."""

    levels: np.ndarray
    counts: np.ndarray

    @classmethod
    def of_channels(cls, image: np.ndarray) -> List["Histogram"]:
        """One of each channel that the network sees, from a whole image.

        Exact for 8- and 16-bit images; of an evenly spaced sample for wide ones.
        """
        if image.dtype in (np.uint8, np.uint16):
            return cls._exact(image)
        return cls._sampled(image)

    @classmethod
    def _exact(cls, image):
        size, counts = np.iinfo(image.dtype).max + 1, 0
        for rows in bands(image.shape):
            channels = np.moveaxis(select_channels(image[rows, :]), 2, 0)
            counts += np.array([np.bincount(part.ravel(), minlength=size) for part in channels])
        return [cls(np.flatnonzero(row), row[row > 0]) for row in counts]

    @classmethod
    def _sampled(cls, image):
        height, width, count = *image.shape[:2], 1 if len(image.shape) == 2 else image.shape[2]
        step = math.ceil(math.sqrt(max(1, height * width * min(count, 3) / SAMPLE)))
        sample = []
        for rows in bands(image.shape):
            pixels = select_channels(image[rows, :])
            sample.append(pixels[-rows.start % step :: step, ::step].astype(np.float64))
        channels = np.moveaxis(np.concatenate(sample), 2, 0)
        finite = (values[np.isfinite(values)] for values in channels)
        return [cls(*np.unique(values, return_counts=True)) for values in finite]

    @classmethod
    def cat(cls, histograms: List["Histogram"]) -> "Histogram":
        """The histogram of several together; of the value 0 where there is nothing."""
        levels = np.concatenate([part.levels for part in histograms])
        counts = np.concatenate([part.counts for part in histograms])
        if not len(levels):
            return cls(np.zeros(1), np.ones(1, np.int64))
        levels, index = np.unique(levels, return_inverse=True)
        return cls(levels, np.bincount(index.ravel(), weights=counts).astype(np.int64))

    def without_zero(self) -> "Histogram":
        """The same without the value 0, unless there is nothing else."""
        keep = self.levels != 0
        return Histogram(self.levels[keep], self.counts[keep]) if keep.any() else self

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
