"""The sizes of cells: equivalent diameters, in pixels or in micrometres. Without any library, for
the command line."""

import math
import re
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

if TYPE_CHECKING:
    import numpy as np

    from app.cells import Cells

NATIVE_DIAMETER = 40.0  # pixels: of the cells with which the network is at home
LEAST, MOST = 1 / 16, 16.0  # factors: cells of 2.5 to 640 pixels become native


class UnknownPixelSize(ValueError):
    """Sizes are wanted in micrometres, and nobody knows how large a pixel is: one sentence."""


class Size(NamedTuple):
    """An equivalent diameter: that of a disc of the same area. in_um: not pixels but µm."""

    diameter: float
    in_um: bool = False

    @classmethod
    def of(cls, value: Union["Size", float, str]) -> "Size":
        """A number of pixels, or a text like "12", "8.5um" or "8.5 µm". Raises ValueError."""
        if isinstance(value, Size):
            return value
        found = re.fullmatch(r"([\d.]+(?:e[+-]?\d+)?)\s*([uµμ]m|px)?", str(value).strip())
        try:
            number, unit = found.groups()
            size = cls(float(number), unit not in (None, "px"))
        except (AttributeError, ValueError):
            size = cls(0)
        if not 0 < size.diameter < math.inf:
            raise ValueError(f"a size is a number of pixels, or of µm as in 8.5um, not {value}")
        return size

    def pixels(self, pixel_size: Optional[float]) -> float:
        """The diameter in pixels, whose side is pixel_size µm. Raises UnknownPixelSize."""
        if not self.in_um:
            return self.diameter
        if not pixel_size:
            raise UnknownPixelSize(
                "the file does not say how large its pixels are, so sizes in µm cannot be told"
            )
        return self.diameter / pixel_size

    def __str__(self):
        return f"{self.diameter:g} {'µm' if self.in_um else 'pixels'}"


class Sizes(NamedTuple):
    """The least and the largest Size of cells, where there is one."""

    least: Optional[Size] = None
    most: Optional[Size] = None

    @classmethod
    def of(
        cls, least: Union[Size, float, str, None], most: Union[Size, float, str, None]
    ) -> "Sizes":
        """As of Size. Raises ValueError, also where no size is between them."""
        sizes = cls(*(size if size is None else Size.of(size) for size in (least, most)))
        comparable = None not in sizes and sizes.least.in_um == sizes.most.in_um
        if comparable and sizes.least.diameter > sizes.most.diameter:
            raise ValueError(f"no cell is at least {sizes.least} and at most {sizes.most} large")
        return sizes

    def in_pixels(self, pixel_size: Optional[float]) -> "Sizes":
        """The same in pixels, whose side is pixel_size µm. Raises UnknownPixelSize."""
        return Sizes(*(size and Size(size.pixels(pixel_size)) for size in self))

    def fit(self, cells: "Cells") -> "np.ndarray":
        """Which cells (n,), bool, have a size between these, which are in pixels."""
        least, most = (None if size is None else size.diameter for size in self)
        found = diameters(cells)
        return (found >= (least or 0)) & (found <= (most or math.inf))


def diameters(cells: "Cells") -> "np.ndarray":
    """The equivalent diameters (n,) of cells in pixels.

    A contour runs through the centres of its border pixels: half a pixel is missing all round.
    """
    return (cells.areas() * 4 / math.pi) ** 0.5 + 1


def factor_of(diameter: float) -> float:
    """By how much an image is scaled whose cells have this diameter in pixels. ValueError: by none
    that is allowed."""
    least, most = NATIVE_DIAMETER / MOST, NATIVE_DIAMETER / LEAST
    if not least <= diameter <= most:
        raise ValueError(f"a diameter must be in {least:g}..{most:g} pixels, not {diameter:g}")
    return NATIVE_DIAMETER / diameter


def check_scale(factor: Optional[float]) -> None:
    """ValueError for a factor that is not allowed; None is."""
    if factor is not None and not LEAST <= factor <= MOST:
        raise ValueError(f"a scale must be in {LEAST:g}..{MOST:g}, not {factor:g}")
