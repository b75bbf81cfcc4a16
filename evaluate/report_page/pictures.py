"""The pictures of one image, as files: a thumbnail, and tiles of the image at several sizes."""

from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from app.exports.preview import borders, reduced

TILE = 1024  # pixels of a side; an image up to this size is one file
THUMBNAIL = 144  # pixels of the longer side
QUALITY = 90  # of WebP
NO_IMAGE = 60  # the grey of a thumbnail without an image
Painted = Tuple[np.ndarray, Sequence[int], np.ndarray]  # see `thumbnail`


def tiles(rgb: np.ndarray) -> Iterator[Tuple[str, np.ndarray]]:
    """(level_column_row, pixels (h, w, 3)) of all tiles of an image (H, W, 3).

    Level 0 is the image itself; each further one has half the pixels across and down, until one
    tile holds it.
    """
    level = 0
    while True:
        height, width = rgb.shape[:2]
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                name = f"{level}_{left // TILE}_{top // TILE}"
                yield name, rgb[top : top + TILE, left : left + TILE]
        if max(height, width) <= TILE:
            return
        rgb, level = reduced(rgb, 2), level + 1


def thumbnail(
    shape: Tuple[int, int], rgb: Optional[np.ndarray], painted: List[Painted]
) -> np.ndarray:
    """A small picture of an image of this shape, with outlines.

    rgb: of the image, or None where it is not known. painted: label images (H, W) of this shape,
    the last on top, each with the labels in it, ascending (n,), and their colours (n, 3).
    """
    scale = min(1, THUMBNAIL / max(shape))
    height, width = (max(1, round(side * scale)) for side in shape)
    if rgb is None:
        small = np.full((height, width, 3), NO_IMAGE, np.uint8)
    else:
        small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    grid = np.ix_(*(_middles(*sides) for sides in zip(shape, (height, width))))
    for labels, names, colours in painted:
        found = labels[grid]
        at = borders(found)
        small[at] = colours[np.searchsorted(np.array(names, found.dtype), found[at])]
    return small


def _middles(side, small):
    """The pixels, of `side` ones, in the middle of `small` equal parts."""
    return ((np.arange(small) + 0.5) * side / small).astype(int)


def write(path: Path, rgb: np.ndarray) -> None:
    """Write RGB pixels (h, w, 3) uint8 as a WebP file. Raises OSError."""
    settings = [cv2.IMWRITE_WEBP_QUALITY, QUALITY]
    _, data = cv2.imencode(".webp", np.ascontiguousarray(rgb[..., ::-1]), settings)
    path.write_bytes(data.tobytes())
