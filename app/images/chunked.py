"""An image that is decoded chunk by chunk, where it is looked at."""

import math
from typing import Tuple

import numpy as np

from app.images.limits import product

_KEPT = 2**27  # bytes of decoded chunks that are kept since windows may need them again


class ChunkedImage:
    """Looks like an array (H, W) or (H, W, C) to who takes rectangles: image[y0:y1, x0:x1].

    Chunks are decoded as a whole, and those of the latest rectangle are kept. So are, up to _KEPT
    bytes, all others in its rows: windows that follow each other along the rows of an image decode
    each of them once.
    Rectangles are arrays; taking one raises ImageError where the data is damaged.
    """

    def __init__(self, shape: Tuple[int, ...], dtype: np.dtype, size: Tuple[int, int]):
        """size: rows and columns of a chunk, but for the last ones, which the image may cut."""
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self.nbytes = product(shape) * dtype.itemsize
        self._size = size
        self._chunks = {}

    def __getitem__(self, rectangle: Tuple[slice, slice]) -> np.ndarray:
        """The pixels of (slice of rows, slice of columns), both without a step."""
        rows, columns = rectangle
        top, bottom, _ = rows.indices(self.shape[0])
        left, right, _ = columns.indices(self.shape[1])
        pixels = np.empty((max(bottom - top, 0), max(right - left, 0)) + self.shape[2:], self.dtype)
        height, width = self._size
        rows, columns = (
            range(first // side, math.ceil(last / side)) if pixels.size else range(0)
            for first, last, side in ((top, bottom, height), (left, right, width))
        )
        self._forget(rows, columns)
        for row in rows:
            for column in columns:
                y, x = row * height, column * width
                chunk = self._chunk(row, column)
                part = chunk[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x]
                y, x = max(y - top, 0), max(x - left, 0)
                pixels[y : y + part.shape[0], x : x + part.shape[1]] = part
        return pixels

    def __array__(self, dtype=None, copy=None):
        """The whole image, for numpy."""
        return self[:, :].astype(dtype or self.dtype, copy=False)

    def _forget(self, rows, columns):
        """Drop what was decoded outside of these rows, and where it is much, of these columns."""
        kept = {place: chunk for place, chunk in self._chunks.items() if place[0] in rows}
        if sum(chunk.nbytes for chunk in kept.values()) > _KEPT:
            kept = {place: chunk for place, chunk in kept.items() if place[1] in columns}
        self._chunks = kept

    def _chunk(self, row, column):
        """The pixels (h, w) or (h, w, C) of the chunk at this place."""
        place = row, column
        if place not in self._chunks:
            self._chunks[place] = self._read(row, column)
        return self._chunks[place]

    def _place(self, row, column):
        """Where a chunk is, as the end of a sentence; nothing where it is the only one."""
        height, width = self._size
        if self.shape[0] <= height and self.shape[1] <= width:
            return ""
        return f", from row {row * height}, column {column * width} on"

    def _read(self, row, column):
        """What `_chunk` returns, decoded. Raises ImageError."""
        raise NotImplementedError
