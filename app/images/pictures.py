"""PNG by OpenCV (16-bit colour, and strict on damage); JPEG (strict, where OpenCV fills what is
missing with grey), BMP and WebP by Pillow. Each is decoded whole.

(imagecodecs of 2021, the last for Python 3.7, ends the whole process on a damaged PNG.)
"""

import os
from contextlib import contextmanager

import numpy as np

from app.images.limits import check_jpeg_scans, check_size

# Colour type -> samples of a pixel in the file and as OpenCV decodes them.
_PNG_SAMPLES = {0: (1, 1), 2: (3, 3), 3: (1, 4), 4: (2, 4), 6: (4, 4)}


def read_png(file):
    """The image of an open PNG file: (H, W) or (H, W, 3), uint8 or uint16."""
    import cv2

    data = np.fromfile(file, np.uint8)
    width, height = (int(n) for n in data[16:24].view(">u4"))
    bits, colour_type = int(data[24]), int(data[25])
    is_grey = colour_type in (0, 4)  # without and with alpha
    stored, decoded = _PNG_SAMPLES[colour_type]
    check_size(height, width, decoded * max(bits // 8, 1), file, stored * bits / 8)
    with _silence():
        array = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if array is None:
        raise ValueError("OpenCV gives no reason")
    if is_grey:  # OpenCV makes BGRA of grey + alpha
        return array if array.ndim == 2 else array[..., 0]
    return array[..., 2::-1]


@contextmanager
def _silence():
    """Keep off standard error what libpng writes there, past Python."""
    error_output, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(error_output, 2)
        os.close(error_output)
        os.close(nothing)


def read_picture(file, kind):
    """The image of an open JPEG, BMP or WebP file: (H, W) or (H, W, 3), uint8."""
    from PIL import Image

    if kind == "JPEG":
        check_jpeg_scans(file.read())
    Image.MAX_IMAGE_PIXELS = None  # check_size has our limits
    with Image.open(file, formats=[kind]) as image:
        check_size(image.height, image.width, 4, file, len(image.getbands()))
        image.load()
        mode = "L" if image.mode in ("1", "L") else "RGB"
        return np.asarray(image if image.mode == mode else image.convert(mode))
