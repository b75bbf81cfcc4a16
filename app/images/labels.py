"""Label images: one reader for all, and a writer whose files are complete or absent."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Optional, Union

import cv2
import numpy as np
import tifffile

from app.atomic import replacing
from app.images.limits import ImageError
from app.images.tiff import check_complete

INCH = 25400.0  # µm
PNG = b"\x89PNG"


def write_labels(
    path: Union[str, Path],
    labels: np.ndarray,
    description: Optional[str] = None,
    pixel_size: Optional[float] = None,
) -> None:
    """Write labels (H, W), integers 0..2**32 - 1, as zlib-compressed TIFF.

    uint16, or uint32 if a label is above 65,535. description: a text to keep in the file, as is
    pixel_size, the side of a pixel in µm. The file is complete or absent. Raises ImageError if it
    cannot be written.
    """
    path, labels = Path(path), np.asarray(labels)
    least, most = labels.min(initial=0), labels.max(initial=0)
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or least < 0 or most >= 2**32:
        raise ValueError(f"no label image: {labels.dtype} of shape {labels.shape}")
    options = {"photometric": "minisblack", "compression": "zlib", "metadata": None}
    if description is not None:
        options["description"] = description.encode()
    if pixel_size:  # per inch, which tifffile takes for the unit, whatever its version
        per_inch = INCH / pixel_size
        ratio = Fraction(per_inch).limit_denominator(max(int((2**32 - 1) / (per_inch + 1)), 1))
        options["resolution"] = ((ratio.numerator, ratio.denominator),) * 2
    pixels = labels.astype(np.uint16 if most < 2**16 else np.uint32, copy=False)
    try:
        with replacing(path) as file:
            tifffile.imwrite(file, pixels, **options)
    except OSError as error:
        raise ImageError(f"the label image cannot be written ({error.strerror})") from error


def read_description(path: Union[str, Path]) -> Optional[str]:
    """The text that `write_labels` kept in a label image; None where there is no such file.

    That is: none that is complete and has a text.
    """
    if not os.path.isfile(path):
        return None
    try:
        with tifffile.TiffFile(os.fspath(path)) as tif:
            page = tif.pages[0]
            check_complete(tif, page)
            return page.description or None
    except Exception:  # whatever tifffile meets in a file that is not ours
        return None


class LabelError(Exception):
    """Why a label image cannot be read or scored, in one sentence that names the file."""


def read_labels(path: Union[str, Path]) -> np.ndarray:
    """The label image in a TIFF or PNG file: (H, W) whole numbers >= 0, 0 is background.

    Integers keep the file's dtype; whole numbers stored as floats come as uint32 or uint64.
    LabelError: not a whole file, not (H, W), a negative label, a fraction.
    """
    path = Path(path)
    try:
        labels = _decoded(path)
    except Exception as error:  # decoders raise whatever their libraries do
        raise LabelError(f"{path} cannot be read: {error}") from error
    if labels.ndim != 2:
        raise LabelError(f"{path} has the shape {labels.shape}; a label image is (height, width)")
    if not labels.size:
        raise LabelError(f"{path} has no pixels")
    if labels.dtype.kind in "fb":
        labels = _whole_numbers(path, labels)
    if labels.dtype.kind not in "ui":
        raise LabelError(f"{path} holds {labels.dtype}; labels are whole numbers")
    if labels.min() < 0:
        raise LabelError(f"{path} has a negative label, {labels.min()}")
    return labels


def _decoded(path):
    """The array of a PNG or TIFF file, by its content."""
    with path.open("rb") as file:
        if file.read(4) == PNG:
            labels = cv2.imdecode(np.fromfile(str(path), np.uint8), cv2.IMREAD_UNCHANGED)
            if labels is None:  # how OpenCV says that it could not
                raise ValueError("not a whole PNG file")
            return labels
        file.seek(0)
        with tifffile.TiffFile(file) as tif:
            if not tif.series:
                raise ValueError("there is no image in it")
            for page in tif.series[0].pages:
                ends = map(sum, zip(page.dataoffsets, page.databytecounts))
                if max(ends, default=0) > tif.filehandle.size:  # would be filled with zeros
                    raise ValueError("the TIFF file is cut short")
            return tif.asarray()


def _whole_numbers(path, labels):
    """Floats or booleans as unsigned integers."""
    if not (np.isfinite(labels).all() and (np.floor(labels) == labels).all()):
        raise LabelError(f"{path} holds fractions; labels are whole numbers")
    if labels.min() < 0:
        raise LabelError(f"{path} has a negative label, {labels.min()}")
    largest = float(labels.max())  # the limits would overflow half precision
    if largest >= 2.0**64:
        raise LabelError(f"{path} has a label beyond 64 bits, {largest}")
    return labels.astype(np.uint32 if largest < 2**32 else np.uint64)
