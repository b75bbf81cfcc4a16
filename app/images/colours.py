"""What the samples of a TIFF page stand for: grey, RGB or channels."""

import numpy as np
from tifffile import TiffPage

from app.images.limits import ImageError, name_of

# PhotometricInterpretation of TIFF; CIELAB, LogLuv and the like are not supported.
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_READABLE = (_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _CMYK)
JPEG, OLD_JPEG = (7, 33007, 34892), 6  # values of Compression


class Colours:
    """Conversion of a page's samples, pixel by pixel: of the whole image or any part of it."""

    def __init__(self, page: TiffPage):
        """page: a TiffPage. Raises ImageError for colours and types that are not supported."""
        # The JPEG decoder turns YCbCr into RGB.
        is_jpeg = page.photometric == _YCBCR and page.compression in JPEG
        if page.photometric not in _READABLE and not is_jpeg:
            kind = name_of(page.photometric)
            raise ImageError(f"TIFF colours of the kind {kind} are not supported")
        self._page = page

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """(h, w, channels, samples) as decoded -> (h, w) or (h, w, C)."""
        page, bits = self._page, self._page.bitspersample
        if page.photometric == _PALETTE and array.shape[2] == 1:  # the others of its samples: alpha
            return _colormap(page)[array[..., 0, 0].astype(np.uint16)]
        if isinstance(bits, int) and bits < 8:
            array, bits = (array.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8), 8
        if page.photometric == _MINISWHITE:
            array = _inverted(array, bits)
        if array.shape[3] > 1:
            array = array[..., _colour_samples(page)]
        if page.photometric == _CMYK and array.shape[3] == 4:
            array = _rgb_of_cmyk(array)
        height, width, channels, samples = array.shape
        array = array.reshape(height, width, channels * samples)
        return array[..., 0] if channels * samples == 1 else array


def _colormap(page):
    """The page's palette as (n, 3) uint8; TIFF keeps 16 bits, careless writers only 8 of them."""
    palette = np.asarray(page.colormap).T
    return (palette if palette.max() < 256 else palette >> 8).astype(np.uint8)


def _inverted(array, bits):
    """Black for white: unsigned integers within their bits, others by their sign."""
    if array.dtype.kind == "u":
        return array.dtype.type(2**bits - 1) - array
    return ~array if array.dtype.kind == "i" else -array


def _colour_samples(page):
    """The indices of a pixel's samples that are not alpha: a slice where they are the first."""
    count, extras = page.samplesperpixel, tuple(page.extrasamples)
    if page.photometric == _RGB and count == 4 and page.dtype == np.uint8:
        return slice(3)
    roles = (0,) * (count - len(extras)) + extras
    samples = [i for i, role in enumerate(roles) if role not in (1, 2)]
    return slice(len(samples)) if samples == list(range(len(samples))) else samples


def _rgb_of_cmyk(array):
    """(..., 4) unsigned integers, 0 is no ink -> (..., 3), as Pillow does for JPEG."""
    white = np.iinfo(array.dtype).max
    light = (white - array).astype(np.uint32)
    return ((light[..., :3] * light[..., 3:] + white // 2) // white).astype(array.dtype)
