"""OME-Zarr (NGFF 0.4): the folder NAME.ome.zarr, the image with its cells as labels in it.

The image is there as well since labels are those of an image in NGFF, and programs open the image
and look for labels in it. Both have the same levels: the whole, and
halves of the level before until one chunk holds all of it.
"""

from itertools import zip_longest
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import zarr
from numcodecs import Blosc
from ome_zarr.format import FormatV04
from ome_zarr.writer import write_label_metadata, write_multiscales_metadata

from app.atomic import new_folder
from app.exports import Result
from app.exports.preview import OKABE_ITO
from app.exports.properties import properties
from app.selection import channel_count

LOOKS = True
NAME = "cells"  # of the labels
CHUNK = 1024  # pixels: side of a chunk
COLOURS = ("FF0000", "00FF00", "0000FF")  # of the channels that the network looks at
PERCENTILES = 0.1, 99.9  # of the values that a viewer shows as black and as white
_FORMAT = FormatV04()


def write(path: Path, result: Result) -> List[str]:
    """Write the image (c, y, x) and the labels (y, x) of a Result; nothing is to be said.

    Colours are those of the preview; of each label it has what app.exports.properties knows.
    """
    pixels, size, labels = result.image.pixels, result.image.pixel_size, result.labels
    stored = np.dtype(np.uint16 if len(result.cells) < 2**16 else np.uint32)
    count = channel_count(pixels.shape)

    def planes(top, bottom):
        rows = pixels[top:bottom, :]
        return np.moveaxis(rows.reshape(*rows.shape[:2], count), 2, 0)

    with new_folder(path) as folder:
        image = zarr.open_group(str(folder), mode="w", zarr_format=2)
        shape = count, *pixels.shape[:2]
        smallest = write_levels(image, shape, pixels.dtype, planes, halved)
        describe(image, result.path.name, size, {"omero": {"channels": channels(smallest)}})
        of_labels = image.create_group("labels")
        cells = of_labels.create_group(NAME)
        write_levels(cells, labels.shape, stored, lambda *rows: labels[slice(*rows)], nearest)
        describe(cells, NAME, size)
        write_label_metadata(
            of_labels,
            NAME,
            colors=colours(len(result.cells)),
            properties=known_of(result),
            fmt=_FORMAT,
            source={"image": "../../"},
        )
    return []


def write_levels(
    group: zarr.Group,
    shape: Tuple[int, ...],
    dtype: np.dtype,
    rows_of: Callable[[int, int], np.ndarray],
    half: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Write an image of this shape (..., H, W) as arrays 0, 1 ...; gives the last of them.

    rows_of: (top, bottom) -> these rows of the image. half: rows -> those of the next level. No
    more than a row of chunks is in memory.
    """
    level = _array(group, 0, shape, dtype)
    for top in range(0, shape[-2], CHUNK):
        level[..., top : top + CHUNK, :] = rows_of(top, top + CHUNK)
    number = 0
    while max(level.shape[-2:]) > CHUNK:
        number, larger = number + 1, level
        height, width = (-(-side // 2) for side in larger.shape[-2:])
        level = _array(group, number, (*shape[:-2], height, width), dtype)
        for top in range(0, height, CHUNK):
            rows = larger[..., 2 * top : 2 * (top + CHUNK), :]
            level[..., top : top + CHUNK, :] = half(rows)
    return level[:]


def _array(group, number, shape, dtype):
    """A new array of a level. (Blosc is what all readers of NGFF 0.4 know.)"""
    return group.create_array(
        str(number),
        shape=shape,
        dtype=dtype,
        chunks=(*(1 for _ in shape[:-2]), *(min(side, CHUNK) for side in shape[-2:])),
        compressors=Blosc("zstd"),
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )


def halved(pixels: np.ndarray) -> np.ndarray:
    """The means of squares of four: (C, H, W) -> half of it, in the same dtype.

    Those at an odd end are of two or one.
    """
    channels, height, width = pixels.shape
    even = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    squares = even.reshape(channels, -(-height // 2), 2, -(-width // 2), 2)
    means = squares.mean(axis=(2, 4), dtype=np.float64)
    return (np.rint(means) if pixels.dtype.kind in "ui" else means).astype(pixels.dtype)


def nearest(labels: np.ndarray) -> np.ndarray:
    """Every other label of every other row: (H, W) -> half of it."""
    return labels[::2, ::2]


def describe(
    group: zarr.Group, name: str, pixel_size: Optional[float], metadata: Optional[dict] = None
) -> None:
    """Write what NGFF says of the levels 0, 1 ... in a group: axes, and how large pixels are.

    pixel_size: in µm, where it is known.
    """
    unit = {"unit": "micrometer"} if pixel_size else {}
    axes = [{"name": axis, "type": "space", **unit} for axis in "yx"]
    if group["0"].ndim == 3:
        axes.insert(0, {"name": "c", "type": "channel"})
    datasets = []
    for number in range(len(list(group.array_keys()))):
        side = (pixel_size or 1.0) * 2**number
        scale = [side if axis["type"] == "space" else 1.0 for axis in axes]
        transformations = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(number), "coordinateTransformations": transformations})
    how = {"metadata": metadata} if metadata else {}
    write_multiscales_metadata(group, datasets, _FORMAT, axes, name=name, **how)


def channels(image: np.ndarray) -> List[Dict[str, Any]]:
    """How viewers show the channels of an image (C, H, W).

    Grey in white, others in COLOURS; those that the network does not look at are off.
    """
    colours = COLOURS[: len(image)] if len(image) > 1 else ("FFFFFF",)
    return [
        {
            "label": f"channel {number}",
            "color": colour or "FFFFFF",
            "active": colour is not None,
            "window": window(values),
        }
        for number, (values, colour) in enumerate(zip_longest(image, colours), 1)
    ]


def window(values: np.ndarray) -> Dict[str, float]:
    """Which values (h, w) of a channel are shown: 8 bit as they are, others between PERCENTILES."""
    finite = values[np.isfinite(values)]
    if values.dtype == np.uint8 or not finite.size:
        least, start, end, most = 0, 0, 255, 255
    else:
        least, start, end, most = np.percentile(finite, (0, *PERCENTILES, 100)).tolist()
        if start == end:  # nearly all have one value
            most = max(most, least + 1)
            start, end = least, most
    return {"min": least, "max": most, "start": start, "end": end}


def colours(count: int) -> List[Dict[str, Any]]:
    """A colour for each of the labels 1..count."""
    return [
        {"label-value": label, "rgba": [*OKABE_ITO[(label - 1) % len(OKABE_ITO)], 255]}
        for label in range(1, count + 1)
    ]


def known_of(result: Result) -> List[Dict[str, Any]]:
    """What is known of each label, as NGFF has it."""
    return [{"label-value": known.pop("label"), **known} for known in properties(result)]
