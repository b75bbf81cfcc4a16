"""How reading fails, and what is refused before memory is asked for."""

import logging
import warnings
from contextlib import contextmanager
from functools import reduce
from operator import mul
from typing import BinaryIO, Iterable, Iterator

# Height x width beyond this is refused where an image has to be decoded whole.
MAX_PIXELS = 2**30
# No more bytes come out of one than this, by deflate, LZW or JPEG ...
MAX_EXPANSION = 1400
# ... but by other codecs, of images without contents: up to these bytes they are taken for such.
ALWAYS_POSSIBLE = 2**24
# Larger images than this (9398 x 9398 RGB of 16 bits are just below) must not be nearly empty:
# such files are made to exhaust the memory and the time of those who open them.
LARGE, MAX_EXPANSION_OF_LARGE = 2**29, 200
# Decoding costs time in proportion; cameras and programs write about ten.
MAX_JPEG_SCANS = 100


class ImageError(Exception):
    """Why a file or folder cannot be read or written: one sentence, which leaves out its path."""


def check_size(
    height: int,
    width: int,
    pixel_bytes: float,
    file: BinaryIO,
    stored_bytes: float = 0,
    whole: bool = True,
) -> None:
    """Refuse an image without pixels, or with more than the open file can or should hold.

    pixel_bytes: what a pixel of all channels needs in memory. stored_bytes: and in the file, if
    it were not compressed; the same unless given. whole: whether it is decoded at once; what is
    looked at by region needs no memory of its size.
    """
    if height < 1 or width < 1:
        raise ImageError("the image has no pixels")
    if whole and height * width > MAX_PIXELS:
        raise ImageError(
            f"{width} x {height} pixels are more than the {MAX_PIXELS} that are decoded at once: "
            "save them as a TIFF in tiles, which is read by region"
        )
    held, stored = file.seek(0, 2), height * width * (stored_bytes or pixel_bytes)
    is_possible = stored <= max(MAX_EXPANSION * held, ALWAYS_POSSIBLE)
    is_empty = height * width * pixel_bytes > max(MAX_EXPANSION_OF_LARGE * held, LARGE)
    if not is_possible or (whole and is_empty):
        raise ImageError(
            f"{width} x {height} pixels in {held} bytes are a damaged file or a decompression bomb"
        )


def check_jpeg_scans(data: bytes) -> None:
    """Refuse a JPEG stream whose decoding takes very long."""
    if data.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise ImageError(f"the JPEG data has more than {MAX_JPEG_SCANS} scans")


def product(numbers: Iterable) -> int:
    """The product of whole numbers, however large it is."""
    return reduce(mul, (int(number) for number in numbers), 1)


def name_of(value: object) -> object:
    """What to call the value of a TIFF tag; ImageError for what is no number at all."""
    if not isinstance(value, int):
        raise ImageError("the TIFF data is damaged")
    return getattr(value, "name", value)


@contextmanager
def failures_as_image_errors(kind: str, place: str = "") -> Iterator[None]:
    """Make one sentence of whatever a decoder of `kind` raises. place: its end, of damaged data."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("the image does not fit into memory") from error
    except Exception as error:  # each decoder fails in many ways of its own on damaged data
        reason = f"the {kind} data is damaged, cut short or not supported{place}"
        raise ImageError(reason) from error


def silence_libraries() -> None:
    """For a program, never for a library: do not show what Pillow and tifffile find odd in a file.

    What matters of that is said in an ImageError.
    """
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"(PIL|tifffile)\b")
