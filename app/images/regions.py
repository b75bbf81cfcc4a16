"""An image in a TIFF file, decoded where it is looked at."""

import math
import re
import struct
import weakref
from typing import BinaryIO, Callable, List, Optional, Sequence, Tuple, Union

import numpy as np
from tifffile import TiffFrame, TiffPage

from app.images.chunked import ChunkedImage
from app.images.colours import JPEG
from app.images.limits import (
    ImageError,
    check_jpeg_scans,
    failures_as_image_errors,
    name_of,
)
from app.images.selection import project, select
from app.selection import Plane, channel_count

_READ = 2**20  # bytes of uncompressed pixels that are read at a time
_BLOCK = 16  # rows: a strip of JPEG may go on to a multiple of them
_CODECS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, deflate, PackBits, LZMA, Zstandard
JPEG_2000 = (33003, 33005, 34712)
_MAX_JPEG_2000_TILES = 1024  # in one strip or tile: there is no need for any
_JPEG_END = b"\xff\xd9"


class TiffImage(ChunkedImage):
    """An image whose chunks are the strips or tiles of a file."""

    def __init__(
        self, file: BinaryIO, stack: List[list], colours: Callable, plane: Optional[Plane] = None
    ):
        """file: open, and to be left open. stack: images, each a list of Rows or Chunks that are
        its channels, all of one size. plane: how they become one image (selection.project).

        colours: a function of pixels (h, w, planes, samples) as decoded, the same for any part.
        """
        self._file, self._stack, self._colours, self._plane = file, stack, colours, plane
        first = stack[0][0]
        blank = colours(np.zeros((0, first.width, len(stack[0]), first.samples), first.dtype))
        super().__init__((first.height,) + blank.shape[1:], blank.dtype, first.size)

    def when_done(self, close: Callable[[], None]) -> None:
        """Call `close` when nothing refers to the image any more."""
        weakref.finalize(self, close)

    def select(self, channels: Sequence[int]) -> "TiffImage":
        """The same of these of its channels alone, in this order; (H, W) if it is one.

        Planes that are channels are decoded only if they are among them.
        """
        if channel_count(self.shape) == len(self._stack[0]):
            stack = [[planes[index] for index in channels] for planes in self._stack]
            return TiffImage(self._file, stack, self._colours, self._plane)

        def colours(pixels):
            return select(self._colours(pixels), channels)

        return TiffImage(self._file, self._stack, colours, self._plane)

    def _read(self, row, column):
        with failures_as_image_errors("TIFF", self._place(row, column)):
            parts = (self._colours(self._joined(planes, row, column)) for planes in self._stack)
            return project(parts, self._plane)

    def _joined(self, planes, row, column):
        """The pixels (h, w, planes, samples) at one place, as decoded."""
        parts = [plane.chunk(self._file, row, column) for plane in planes]
        return parts[0][:, :, None] if len(parts) == 1 else np.stack(parts, axis=2)


class Rows:
    """A plane that lies uncompressed in one piece. Attributes as of Chunks."""

    def __init__(self, shape: Tuple[int, ...], dtype: np.dtype, offset: int):
        """shape: separate samples, 1, height, width, joint samples; dtype: as in the file."""
        self._separate, _, self.height, self.width, self._joint = shape
        self.samples, self.dtype = self._separate * self._joint, dtype.newbyteorder("=")
        self._stored, self._offset = dtype, offset
        self._row = self.width * self._joint * dtype.itemsize
        self.size = max(1, min(_READ // self._row, self.height)), self.width

    def chunk(self, file: BinaryIO, row: int, column: int) -> np.ndarray:
        """The pixels (h, w, samples) of one piece, which is as wide as the image."""
        start = row * self.size[0]
        shape = min(self.size[0], self.height - start), self.width, self._joint
        parts = []
        for sample in range(self._separate):
            part = np.empty(shape, self._stored)
            file.seek(self._offset + (sample * self.height + start) * self._row)
            if file.readinto(part) < part.nbytes:
                raise ImageError("the TIFF file is cut short")
            parts.append(part)
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        return joined.astype(self.dtype, copy=False)


class Chunks:
    """A plane in strips or tiles.

    Attributes height, width, samples and dtype of its pixels, and size: rows and columns of a
    strip or tile.
    """

    def __init__(self, page: Union[TiffPage, TiffFrame]):
        """page: a TiffPage or TiffFrame. Raises ImageError for compressions not supported."""
        keyframe = page.keyframe
        self._separate, _, self.height, self.width, self._joint = keyframe.shaped
        self.samples, self.dtype = self._separate * self._joint, keyframe.dtype
        if keyframe.is_tiled:
            self._stored = keyframe.tilelength, keyframe.tilewidth
        else:
            self._stored = min(keyframe.rowsperstrip, self.height + _BLOCK), self.width
        self.size = min(self._stored[0], self.height), self._stored[1]
        self._rows = math.ceil(self.height / self.size[0])
        self._columns = math.ceil(self.width / self.size[1])
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        self._empty = keyframe.nodata
        self._compression = keyframe.compression
        if self._compression not in JPEG + JPEG_2000 + _CODECS:
            kind = name_of(self._compression)
            raise ImageError(f"TIFF compression of the kind {kind} is not supported")
        self._decode, self._tables = keyframe.decode, {}
        if self._compression in JPEG:
            self._tables = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}

    def chunk(self, file: BinaryIO, row: int, column: int) -> np.ndarray:
        """The pixels (h, w, samples) of one strip or tile, as far as they are in the image."""
        shape = (
            min(self.size[0], self.height - row * self.size[0]),
            min(self.size[1], self.width - column * self.size[1]),
            self._joint,
        )
        number = row * self._columns + column
        each = self._rows * self._columns
        parts = [
            self._decoded(file, sample * each + number, shape) for sample in range(self._separate)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def _decoded(self, file, index, shape):
        """The pixels (height, width, joint samples) at the top left of one strip or tile."""
        count = self._counts[index]
        if not count:  # a hole in the image, as GDAL has them
            return np.full(shape, self._empty, self.dtype)
        file.seek(self._offsets[index])
        data = file.read(count)
        self._check_data(data)
        chunk = self._decode(data, index, **self._tables)[0][0, : shape[0], : shape[1]]
        if chunk.shape != shape or chunk.dtype != self.dtype:
            raise ImageError("the TIFF data is damaged")
        return chunk

    def _check_data(self, data):
        """Refuse data that says itself that it is larger than its strip or tile.

        The decoders of the other codecs are told how much may come out.
        """
        sizes = []
        if self._compression in JPEG:
            check_jpeg_scans(data)
            header = self._tables["jpegheader"]
            # Strips of NDPI are parts of one stream, whose header and end are not in them.
            sizes = [_jpeg_size(header + data + _JPEG_END if header else data)]
        elif self._compression in JPEG_2000:
            sizes = list(_jpeg_2000_sizes(data, self._joint))
        if any(height > self._stored[0] or width > self._stored[1] for height, width in sizes):
            raise ImageError("the TIFF data is damaged")


def _jpeg_size(data):
    """(height, width) in a JPEG stream, whose markers are found as libjpeg finds them."""
    data.rindex(_JPEG_END)  # ValueError where the end is missing, which libjpeg makes up
    place = 0
    while True:
        place = data.index(b"\xff", place) + 1
        marker = data[place]
        if marker in (0xC0, 0xC1, 0xC2):
            return struct.unpack(">HH", data[place + 4 : place + 8])
        if marker in (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF):
            raise ImageError("lossless or arithmetic JPEG in TIFF is not supported")
        if marker not in (0x00, 0x01, 0xFF) and not 0xD0 <= marker <= 0xD8:
            place += 1 + struct.unpack(">H", data[place + 1 : place + 3])[0]


def _jpeg_2000_sizes(data, samples):
    """(height, width) of each JPEG 2000 stream in data; ImageError unless it is a plain one."""
    headers = re.findall(rb"\xff\x4f\xff\x51.{4}(.{34})", data, re.DOTALL)
    if not headers:
        raise ImageError("the TIFF data is damaged")
    for header in headers:
        x1, y1, x0, y0, width, height, left, top, count = struct.unpack(">8IH", header)
        tiles = math.ceil((x1 - left) / width) * math.ceil((y1 - top) / height)
        if tiles > _MAX_JPEG_2000_TILES or count != samples:
            raise ImageError("the TIFF data is damaged")
        yield y1 - y0, x1 - x0
