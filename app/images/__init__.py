"""Everything that knows image files: find the inputs of a folder, read one, write a label image.

What a file holds is decided by its content; its extension only decides whether it is tried.
"""

import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import List, Tuple, Union

import numpy as np

from app.images.folder import inputs_among, list_inputs
from app.images.labels import LabelError, read_description, read_labels, write_labels
from app.images.limits import MAX_PIXELS, ImageError, failures_as_image_errors, silence_libraries
from app.images.pictures import read_picture, read_png
from app.images.tiff import TiffImage, guess_axes, read_tiff

__all__ = [
    "MAX_PIXELS",
    "ImageError",
    "LabelError",
    "guess_axes",
    "inputs_among",
    "list_inputs",
    "read",
    "read_description",
    "read_labels",
    "silence_libraries",
    "write_labels",
]


def read(path: Union[str, Path]) -> Tuple[Union[np.ndarray, TiffImage], List[str]]:
    """Read the image in a TIFF, PNG, JPEG, BMP or WebP file.

    Returns (image, warnings): an array (H, W) or (H, W, C) in the file's own dtype (native byte
    order) and a list of sentences about what was left out. Of a large TIFF the image is a
    TiffImage instead of an array: rectangles of it are decoded where they are taken, as
    image[y0:y1, x0:x1]. The file stays open until nothing refers to the image any more.

    - TIFF may be in strips or tiles, uncompressed or by LZW, deflate, PackBits, LZMA, Zstandard,
      JPEG or JPEG 2000.
    - Colours come as RGB: palettes and CMYK are converted. Alpha is dropped: all that PNG, BMP
      and WebP call so, TIFF samples marked as alpha, and the fourth sample of 8-bit RGB TIFF.
    - 0 is black: TIFF that stores white as 0 is inverted. Fewer than 8 bits are spread to 0..255.
    - Orientation tags (EXIF, TIFF) are not applied: labels match the pixels as stored.
    - Of a TIFF's axes C and S are channels. Of all others (pages, Z, T, ...) and of further
      images in the file only the first is used, with a warning; of a file that is one of an OME
      set, its first page.
    - The axes of an array that tifffile or scikit-image wrote without names follow
      `guess_axes`, by its shape alone; planes that are taken for channels so, with a warning.
    - More than three channels are returned whole, with a warning: the conversion to RGB uses
      the first three.

    Raises ImageError for everything that cannot be read whole, or that claims to be larger than
    its file lets it be (see app.images.limits). Damage within a TiffImage shows when the
    rectangle is taken.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            raise ImageError("a directory, pipe or device is no image file")
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "rb"))
            image, warnings = _decode(file)
            if isinstance(image, TiffImage):
                image.when_done(stack.pop_all().close)
    except OSError as error:
        raise ImageError(f"the file cannot be opened ({error.strerror})") from error
    if image.dtype.kind not in "uif":
        raise ImageError(f"pixels of type {image.dtype} are no intensities")
    if image.ndim == 3 and image.shape[2] > 3:
        warnings.append(f"the image has {image.shape[2]} channels; the first three are used")
    return image, warnings


def _decode(file):
    """The (image, warnings) of an open file."""
    kind = _kind(file.read(12))
    file.seek(0)
    with failures_as_image_errors(kind):
        if kind == "TIFF":
            return read_tiff(file)
        return read_png(file) if kind == "PNG" else read_picture(file, kind), []


def _kind(head):
    """The name of the format that starts with these bytes."""
    if not head:
        raise ImageError("the file is empty")
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:2] == b"BM":
        return "BMP"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    raise ImageError("the content is not TIFF, PNG, JPEG, BMP or WebP")
