"""PNG, JPEG, BMP and WebP by Pillow, which is strict on damage. Each image is decoded whole.

The classes of the formats are used: Image.open has a limit on sizes, one for the whole process.
(OpenCV fills what a JPEG lacks with grey, and prints what it finds odd in a PNG; imagecodecs of
2021, the last for Python 3.7, ends the process on a damaged PNG.)
"""

import struct
import zlib
from importlib import import_module
from io import BytesIO
from typing import BinaryIO, List, Optional, Tuple

import numpy as np

from app.images.limits import ImageError, check_jpeg_scans, check_size
from app.images.selection import first_of_stack, plane_indices, project
from app.selection import Plane

# Colour type of PNG -> samples of a pixel in the file and as decoded.
_PNG_SAMPLES = {0: (1, 1), 2: (3, 3), 3: (1, 4), 4: (2, 4), 6: (4, 4)}
# The passes of an interlaced PNG: first row, first column, step of the rows, step of the columns.
_ADAM7 = tuple(
    zip((0, 0, 4, 0, 2, 0, 1), (0, 4, 0, 2, 0, 1, 0), (8, 8, 8, 4, 4, 2, 2), (8, 8, 4, 4, 2, 2, 1))
)
_PILLOW_NAMES = {"PNG": "Png", "JPEG": "Jpeg", "BMP": "Bmp", "WebP": "WebP"}


def read_picture(file: BinaryIO, kind: str) -> Tuple[np.ndarray, float]:
    """The image of an open JPEG or BMP file: (H, W) or (H, W, 3), uint8; and its quantization, as
    of app.images.Loaded."""
    if kind == "JPEG":
        check_jpeg_scans(file.read())
        file.seek(0)
    image = _opened(file, kind)
    check_size(image.height, image.width, 4, file, len(image.getbands()))
    pixels = _pixels(image)
    return pixels, _quantization(image, pixels) if kind == "JPEG" else 0.0


def read_webp(file: BinaryIO, plane: Optional[Plane]) -> Tuple[np.ndarray, List[str]]:
    """The image of an open WebP file, (H, W) or (H, W, 3), uint8, and what was left out.

    The frames of an animation are a stack, of which `plane` says what is taken.
    """
    image = _opened(file, "WebP")
    count = image.n_frames
    check_size(image.height, image.width, 4, file, len(image.getbands()))

    def frame(index):
        image.seek(index)
        return _pixels(image)

    frames = map(frame, plane_indices(plane, count))
    return project(frames, plane), [first_of_stack(count)] if count > 1 and plane is None else []


def read_png(file: BinaryIO, indices: bool = False) -> np.ndarray:
    """The image of an open PNG file: (H, W) or (H, W, 3), uint8 or uint16.

    indices: of a palette, these instead of its colours.
    """
    data = file.read()
    chunks = _critical_chunks(data)
    width, height, bits, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][8:-4])
    stored, decoded = _PNG_SAMPLES[colour_type]
    check_size(height, width, decoded * max(bits // 8, 1), file, stored * bits / 8)

    kept = BytesIO(data[:8] + b"".join(chunks))
    image = _opened(kept, "PNG")
    last_row = image.crop((0, height - 1, width, height))
    if interlaced or not any(last_row.tobytes()):
        _check_rows(chunks, width, height, stored * bits, interlaced)
    del data, chunks  # their memory is free before that of the pixels is needed
    high = np.array(image) if indices and image.mode == "P" else _pixels(image)
    if bits < 16 or colour_type == 0:
        return high
    # Of colours of 16 bits Pillow keeps the high byte. It keeps the low one where it takes them for
    # little-endian, and both of grey and alpha where it takes these for colours of 8 bits.
    del image
    kept.seek(0)
    image = _opened(kept, "PNG")
    rawmode = "RGBA" if colour_type == 4 else image.mode + ";16L"
    image.tile = [(*image.tile[0][:3], rawmode)]
    low = _pixels(image)
    high, low = (high[..., 0], low[..., 1]) if colour_type == 4 else (high, low)
    whole = high.astype(np.uint16)
    del high
    whole <<= 8
    whole |= low
    return whole


def _critical_chunks(data: bytes) -> List[memoryview]:
    """The chunks of a PNG that decide its pixels. Raises ImageError for a wrong checksum.

    (Pillow ignores the checksums of pixels, and refuses files for what it does not need.)
    """
    chunks, view, end, kind = [], memoryview(data), 8, b""
    while kind != b"IEND":
        start = end
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + length + 12
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if kind[:1].isupper():
            if zlib.crc32(view[start + 4 : end - 4]) != checksum:
                raise ImageError("the PNG data is damaged")
            chunks.append(view[start:end])
    return chunks


def _check_rows(chunks, width, height, pixel_bits, interlaced):
    """Refuse a PNG in which rows are missing, which Pillow leaves black."""
    size, held, inflate = 0, 0, zlib.decompressobj()
    for top, left, down, across in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        rows, columns = -(-(height - top) // down), -(-(width - left) // across)
        size += rows * (1 + -(-columns * pixel_bits // 8)) if columns else 0
    for chunk in chunks:
        if chunk[4:8] == b"IDAT" and held < size:
            held += len(inflate.decompress(chunk[8:-4], size))
    if held < size:
        raise ImageError("the PNG data is cut short")


def _quantization(image, pixels):
    """That of a JPEG: the mean step of the three lowest frequencies, of its components the largest;
    of one that is grey, of the first."""
    is_grey = pixels.ndim == 2 or not (pixels != pixels[..., :1]).any()
    numbers = [layer[3] for layer in (image.layer[:1] if is_grey else image.layer)]
    tables = [image.quantization[number] for number in numbers if number in image.quantization]
    # Each is 8 x 8, row by row.
    return float(max((np.mean([table[1], table[8], table[9]]) for table in tables), default=0))


def _opened(file: BinaryIO, kind: str):
    """The Pillow image of an open file, not decoded yet."""
    name = _PILLOW_NAMES[kind]
    plugin = import_module(f"PIL.{name}ImagePlugin")
    return getattr(plugin, name + "ImageFile")(file)


def _pixels(image) -> np.ndarray:
    """A Pillow image as an array (H, W) or (H, W, 3), without alpha."""
    image.load()  # here, since numpy might go on without pixels where it fails
    if image.mode.startswith("I"):  # grey of 16 bits, which Pillow 9 has in 32
        return np.asarray(image).astype(np.uint16)
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    return np.array(image if image.mode == mode else image.convert(mode))
