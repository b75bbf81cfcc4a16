"""Label images: complete or absent."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Optional, Union

import numpy as np
import tifffile

from app.atomic import replacing
from app.images.limits import ImageError
from app.images.tiff import check_complete

INCH = 25400.0  # µm


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
