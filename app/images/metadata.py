"""What a TIFF says of its image beside the pixels: names of channels, size of a pixel, no-data."""

import math
from typing import NamedTuple, Optional, Sequence, Tuple
from xml.etree import ElementTree

import numpy as np
import tifffile

_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _GDAL_NODATA = 282, 283, 296, 42113  # tags
_MINISBLACK, _RGB = 1, 2
MICROMETRES = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "micron": 1.0,
    "microns": 1.0,
    "um": 1.0,
    "µm": 1.0,  # the micro sign
    "μm": 1.0,  # the Greek letter
    "\\u00B5m": 1.0,  # as ImageJ writes it
    "nm": 1e-3,
    "pm": 1e-6,
    "Å": 1e-4,
    "inch": 25400.0,
}
_TIFF_UNITS = {2: "inch", 3: "cm"}
# Of the resolution that every TIFF may have: what a microscope's pixel can be, in µm. Programs
# that know nothing write that of a screen or a printer there: 72 to 1200 per inch, 353 to 21 µm.
_PLAUSIBLE = (0.005, 5.0)


class Metadata(NamedTuple):
    """names: of all channels, or none. pixel_size: side of a pixel in µm, where it is known (of
    one that is no square, that of a square of its area). nodata: the value that the file declares
    to be no image. quantization: as of app.images.Loaded."""

    names: Tuple[str, ...] = ()
    pixel_size: Optional[float] = None
    nodata: Optional[float] = None
    quantization: float = 0.0


def read_metadata(tif: tifffile.TiffFile, page: tifffile.TiffPage, channels: int) -> Metadata:
    """The Metadata of the first image, which has so many channels; page: its first one."""
    ome = _ome(tif)
    names = _names(tif, ome)
    return Metadata(
        names_of_all(names, channels),
        _pixel_size(tif, page, ome),
        _nodata(page),
    )


def names_of_all(names: Sequence[str], channels: int) -> Tuple[str, ...]:
    """The names of so many channels; () unless each has one."""
    return tuple(names) if len(names) == channels and all(names) else ()


def _ome(tif):
    """The element Pixels of the first image of OME metadata; None where there is none."""
    try:
        elements = ElementTree.fromstring(tif.ome_metadata).iter() if tif.is_ome else ()
    except ElementTree.ParseError:
        elements = ()
    return next((element for element in elements if _tag(element) == "Pixels"), None)


def _tag(element):
    return element.tag.rsplit("}", 1)[-1]


def _names(tif, ome):
    """The names of channels that OME or ImageJ metadata list, or what they list instead."""
    if ome is not None:
        return tuple(part.get("Name", "").strip() for part in ome if _tag(part) == "Channel")
    content = (tif.imagej_metadata or {}) if tif.is_imagej else {}
    # A label for each plane; the channels of the first one come first.
    labels, channels = content.get("Labels"), content.get("channels", 1)
    if not isinstance(labels, list) or not isinstance(channels, int):
        return ()
    return tuple(str(label).strip() for label in labels[:channels])


def _pixel_size(tif, page, ome):
    if ome is not None and ome.get("PhysicalSizeX"):
        x, y = ome.get("PhysicalSizeX"), ome.get("PhysicalSizeY") or ome.get("PhysicalSizeX")
        units = (ome.get(f"PhysicalSize{axis}Unit", "µm") for axis in "XY")
        return square_side(_number(x), _number(y), *units)
    x, y = (_ratio(page, tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    if not x:
        return None
    sides = 1 / x, 1 / (y or x)
    if tif.is_imagej:
        unit = str((tif.imagej_metadata or {}).get("unit", ""))
        return square_side(*sides, unit, unit)
    tag = page.tags.get(_RESOLUTION_UNIT)
    unit = _TIFF_UNITS.get(tag.value if tag else 2, "")
    size = square_side(*sides, unit, unit)
    return size if size and _PLAUSIBLE[0] <= size <= _PLAUSIBLE[1] else None


def square_side(x: float, y: float, x_unit: str, y_unit: str) -> Optional[float]:
    """The side in µm of a square of the area x times y; None where that is not known."""
    area = x * y * MICROMETRES.get(x_unit, math.nan) * MICROMETRES.get(y_unit, math.nan)
    return math.sqrt(area) if 0 < area < math.inf else None


def _ratio(page, number):
    """The value of a tag of two numbers, or 0."""
    tag = page.tags.get(number)
    try:
        above, below = tag.value
        return above / below
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return 0.0


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _nodata(page):
    """The value that GDAL declares, as the pixels have it; None for NaN, which never is image.

    And None for colours that are not read as stored (see Colours).
    """
    tag = page.tags.get(_GDAL_NODATA)
    as_stored = page.photometric in (_MINISBLACK, _RGB) and page.dtype.kind in "uif"
    value = _number(tag.value) if tag and as_stored else math.nan
    if page.dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = float(page.dtype.type(value))
    return value if math.isfinite(value) else None
