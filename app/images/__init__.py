"""Everything that knows image files: find the inputs of a folder, read one, write a label image.

What a file holds is decided by its content; its extension only decides whether it is tried.
"""

import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple, Union

import numpy as np

from app.images.folder import A_FOLDER, inputs_among, list_inputs
from app.images.labels import (
    LabelError,
    read_description,
    read_labels,
    write_label_strips,
    write_labels,
)
from app.images.limits import MAX_PIXELS, ImageError, failures_as_image_errors, silence_libraries
from app.images.metadata import Metadata
from app.images.ome_zarr import ZarrImage, is_zarr, read_zarr
from app.images.pictures import read_picture, read_png, read_webp
from app.images.selection import channel_indices, plane_indices, select
from app.images.tiff import SMALL, TiffImage, guess_axes, read_tiff
from app.selection import Channels, Plane, channel_count, check_channels, check_plane

__all__ = [
    "A_FOLDER",
    "MAX_PIXELS",
    "Channels",
    "ImageError",
    "LabelError",
    "Loaded",
    "Plane",
    "TiffImage",
    "ZarrImage",
    "guess_axes",
    "inputs_among",
    "is_zarr",
    "is_void",
    "list_inputs",
    "load",
    "load_by_region",
    "read",
    "read_description",
    "read_labels",
    "silence_libraries",
    "write_label_strips",
    "write_labels",
]


_STRIP = 512  # rows looked at at a time


class Loaded(NamedTuple):
    """An image and what its file says of it.

    pixels: an array (H, W) or (H, W, C) in the file's own dtype (native byte order). Of a large
        TIFF or OME-Zarr a TiffImage or ZarrImage instead: rectangles of it are decoded where they
        are taken, as pixels[y0:y1, x0:x1]. The file stays open until nothing refers to it any more.
        None where nobody needs them any more.
    warnings: sentences about what was left out.
    pixel_size: side of a pixel in µm, where the file knows it.
    nodata: the value of pixels that are no image, where the file declares one.
    quantization: the values by whose multiples JPEG has the coarsest patterns in its blocks of 8 x
        8 pixels. Of noise these are left, or nothing. 0 of other files (in which JPEG within TIFF
        and WebP are not looked into).
    """

    pixels: Union[np.ndarray, TiffImage, ZarrImage, None]
    warnings: List[str]
    pixel_size: Optional[float]
    nodata: Optional[float]
    quantization: float = 0.0


def read(path: Union[str, Path]) -> Tuple[Union[np.ndarray, TiffImage, ZarrImage], List[str]]:
    """(pixels, warnings) of `load`."""
    return load(path)[:2]


def load(
    path: Union[str, Path], channels: Optional[Channels] = None, plane: Optional[Plane] = None
) -> Loaded:
    """Read the image in a TIFF, PNG, JPEG, BMP or WebP file, or in a folder that is an OME-Zarr.

    channels: one to three of them, in this order, by their numbers from 1 on or by the names that
    OME or ImageJ metadata have for them; by default all. plane: of a stack of images the one of
    this number from 1 on, as the file has them (of several axes the last changes first), or their
    "max" or "mean", for which each of them is decoded.

    - TIFF may be in strips or tiles, uncompressed or by LZW, deflate, PackBits, LZMA, Zstandard,
      JPEG or JPEG 2000.
    - Colours come as RGB: palettes and CMYK are converted. Alpha is dropped: all that PNG, BMP
      and WebP call so, TIFF samples marked as alpha, and the fourth sample of 8-bit RGB TIFF.
    - 0 is black: TIFF that stores white as 0 is inverted. Fewer than 8 bits are spread to 0..255.
    - Orientation tags (EXIF, TIFF) are not applied: labels match the pixels as stored.
    - Of a TIFF's axes C and S are channels. Of all others (pages, Z, T, ...), of further images
      in the file and of the frames of an animated WebP only the first is used, with a warning,
      unless `plane` says which; of a file that is one of an OME set, its first page.
    - The axes of an array that tifffile or scikit-image wrote without names follow
      `guess_axes`, by its shape alone; planes that are taken for channels so, with a warning. With
      `plane` they are a stack.
    - More than three channels are returned whole, with a warning: the conversion to RGB uses
      the first three.

    Raises ImageError for everything that cannot be read whole, that claims to be larger than its
    file lets it be (see app.images.limits), or that has not these channels or this plane, and
    ValueError for what can be neither in any image. Damage within a TiffImage shows when the
    rectangle is taken.
    """
    check_channels(channels)
    check_plane(plane)
    return _load(path, channels, plane, SMALL)


def load_by_region(path: Union[str, Path]) -> Union[TiffImage, ZarrImage, None]:
    """The image of a TIFF or OME-Zarr of which nothing is decoded yet, however small it is.

    None for a file of another kind. Raises ImageError as `load` does.
    """
    try:
        if not is_zarr(path):
            with open(path, "rb") as file:
                if _kind(file.read(12)) != "TIFF":
                    return None
    except OSError as error:
        raise ImageError(f"the file cannot be opened ({error.strerror})") from error
    image = _load(path, None, None, small=-1).pixels
    return None if isinstance(image, np.ndarray) else image


def _load(path, channels, plane, small):
    """As `load`; of TIFF, images of `small` bytes and more are read by region."""
    if is_zarr(path):
        return _load_zarr(path, channels, plane, small)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            raise ImageError("a directory, pipe or device is no image file")
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "rb"))
            image, warnings, metadata = _decode(file, plane, small)
            if channels is not None:
                count = channel_count(image.shape)
                image = _selected(image, channel_indices(channels, count, metadata.names))
            if isinstance(image, TiffImage):
                image.when_done(stack.pop_all().close)
    except OSError as error:
        raise ImageError(f"the file cannot be opened ({error.strerror})") from error
    return _loaded(image, warnings, metadata)


def _load_zarr(path, channels, plane, small):
    """As `_load`, of a folder."""
    image, warnings, metadata = read_zarr(path, plane)
    if channels is not None:
        count = channel_count(image.shape)
        image = image.select(channel_indices(channels, count, metadata.names))
    return _loaded(image[:, :] if image.nbytes < small else image, warnings, metadata)


def _loaded(image, warnings, metadata):
    """What was read as Loaded. ImageError for what is no image."""
    if image.dtype.kind not in "uif":
        raise ImageError(f"pixels of type {image.dtype} are no intensities")
    if image.ndim == 3 and image.shape[2] > 3:
        count = f"the image has {image.shape[2]} channels"
        warnings.append(f"{count}; the first three are used (--channels takes others)")
    return Loaded(image, warnings, *metadata[1:])


def is_void(image: Union[np.ndarray, TiffImage, ZarrImage]) -> bool:
    """Whether no pixel of an image (H, W) or (H, W, C) has a finite value."""
    return image.dtype.kind == "f" and not any(
        np.isfinite(image[top : top + _STRIP, :]).any() for top in range(0, image.shape[0], _STRIP)
    )


def _selected(image, indices):
    """The channels of these indices, of an array or a TiffImage."""
    return select(image, indices) if isinstance(image, np.ndarray) else image.select(indices)


def _decode(file, plane, small):
    """(image, warnings, Metadata) of an open file."""
    kind = _kind(file.read(12))
    file.seek(0)
    with failures_as_image_errors(kind):
        if kind == "TIFF":
            return read_tiff(file, plane, small)
        if kind == "WebP":
            return (*read_webp(file, plane), Metadata())
        plane_indices(plane, count=1)
        if kind == "PNG":
            return read_png(file), [], Metadata()
        image, quantization = read_picture(file, kind)
        return image, [], Metadata(quantization=quantization)


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
