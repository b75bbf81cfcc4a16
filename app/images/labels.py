"""Label images: one reader for all, and a writer whose files are complete or absent."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Callable, Iterable, Optional, Tuple, Union

import cv2
import numpy as np
import tifffile

from app.atomic import replaced, replacing
from app.images.limits import ImageError
from app.images.pictures import read_png
from app.images.seg_npy import read_masks
from app.images.tiff import check_complete, first_image

INCH = 25400.0  # µm
TILE = 512  # pixels: side of the tiles of large label images
PNG, NUMPY = b"\x89PNG", b"\x93NUMPY"  # how files begin
PALETTE = b"\3"  # the type of colours of a PNG, byte 25 of it


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
    pixels = labels.astype(np.uint16 if most < 2**16 else np.uint32, copy=False)
    options = _options(pixel_size)
    if description is not None:
        options["description"] = description.encode()
    try:
        with replacing(path) as file:
            tifffile.imwrite(file, pixels, **options)
    except OSError as error:
        raise _not_written(error) from error


def write_label_strips(
    path: Union[str, Path],
    strips: Iterable[np.ndarray],
    shape: Tuple[int, int],
    describe: Callable[[], Optional[str]],
    pixel_size: Optional[float] = None,
) -> None:
    """As `write_labels`, of strips (h, W) uint32 that are together labels of this shape.

    The file is a BigTIFF of tiles, uint32. describe: called when all strips are written; returns
    the text to keep in the file.
    """
    try:
        with replaced(path) as temporary:
            with tifffile.TiffWriter(str(temporary), bigtiff=True) as tif:
                tif.write(
                    _tiles(strips, shape[1]),
                    shape=shape,
                    dtype=np.uint32,
                    tile=(TILE, TILE),
                    description=" ",  # makes room in the header for what is not known yet
                    **_options(pixel_size),
                )
            tifffile.tiffcomment(str(temporary), (describe() or " ").encode())
    except OSError as error:
        raise _not_written(error) from error


def _tiles(strips, width):
    """Yield the tiles (TILE, TILE) of strips of this width, row by row."""
    rows = np.zeros((0, width), np.uint32)
    for strip in strips:
        rows = np.concatenate([rows, strip]) if len(rows) else strip
        whole = len(rows) // TILE * TILE
        yield from _tiles_of(rows[:whole])
        rows = rows[whole:]
    yield from _tiles_of(rows)


def _tiles_of(rows):
    for top in range(0, len(rows), TILE):
        for left in range(0, rows.shape[1], TILE):
            tile = np.zeros((TILE, TILE), np.uint32)
            part = rows[top : top + TILE, left : left + TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _options(pixel_size):
    """What tifffile has to know of a label image whose pixels have this side in µm, if known."""
    options = {"photometric": "minisblack", "compression": "zlib", "metadata": None}
    if pixel_size:  # per inch, which tifffile takes for the unit, whatever its version
        per_inch = INCH / pixel_size
        ratio = Fraction(per_inch).limit_denominator(max(int((2**32 - 1) / (per_inch + 1)), 1))
        options["resolution"] = ((ratio.numerator, ratio.denominator),) * 2
    return options


def _not_written(error):
    return ImageError(f"the label image cannot be written ({error.strerror})")


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


class LabelError(ValueError):
    """Why a label image cannot be read or scored, in one sentence that names the file."""


def read_labels(path: Union[str, Path]) -> np.ndarray:
    """The label image in a TIFF, PNG or Cellpose's _seg.npy file: (H, W) whole numbers >= 0.

    0 is background, and so is -1. Values are those stored: the indices of a palette, and not
    inverted where white is 0 (greys of fewer than 8 bits in a PNG come spread to 0..255). Axes of
    length 1 do not count, nor three channels that are alike (and alpha beside them). Integers keep
    the file's dtype; whole numbers stored as floats come as uint32 or uint64.
    LabelError: not a whole file, not (H, W), a label below -1, a fraction.
    """
    path = Path(path)
    try:
        labels = _flat(_decoded(path))
    except Exception as error:  # decoders raise whatever their libraries do
        raise LabelError(f"{path} cannot be read: {error}") from error
    if labels.ndim != 2:
        raise LabelError(f"{path} has the shape {labels.shape}; a label image is (height, width)")
    if not labels.size:
        raise LabelError(f"{path} has no pixels")
    if labels.dtype.kind not in "fbui":
        raise LabelError(f"{path} holds {labels.dtype}; labels are whole numbers")
    if labels.dtype.kind in "fi" and (labels == -1).any():
        labels = np.where(labels == -1, labels.dtype.type(0), labels)
    if labels.dtype.kind in "fb":
        labels = _whole_numbers(path, labels)
    if labels.min() < 0:
        raise LabelError(f"{path} has a negative label, {labels.min()}")
    return labels


def _decoded(path):
    """The array of a PNG, TIFF or _seg.npy file, by its content."""
    with path.open("rb") as file:
        head = file.read(26)
        file.seek(0)
        if head.startswith(NUMPY):
            return read_masks(file)
        if head.startswith(PNG):
            if head[25:] == PALETTE:
                return read_png(file, indices=True)
            labels = cv2.imdecode(np.fromfile(str(path), np.uint8), cv2.IMREAD_UNCHANGED)
            if labels is None:  # how OpenCV says that it could not
                raise ValueError("not a whole PNG file")
            return labels
        with tifffile.TiffFile(file) as tif:
            if not tif.series:
                raise ValueError("there is no image in it")
            series = first_image(tif)
            for page in series.pages:
                check_complete(tif, page)
            return series.asarray()


def _flat(array):
    """An array without axes of length 1 beyond two, and one of three channels if they are alike.

    Channels come last, or first as planes; a fourth one is alpha.
    """
    while array.ndim > 2 and 1 in array.shape:
        array = array.squeeze(array.shape.index(1))
    for channels in (array, np.moveaxis(array, 0, -1)) if array.ndim == 3 else ():
        first = channels[..., :1]
        if channels.shape[2] in (3, 4) and (channels[..., 1:3] == first).all():
            return first[..., 0]
    return array


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
