"""OME-Zarr (NGFF 0.4 and 0.5): an image in a folder, read by chunk."""

from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np

from app import extras
from app.images.chunked import ChunkedImage
from app.images.limits import ImageError, failures_as_image_errors, product
from app.images.metadata import Metadata, names_of_all, square_side
from app.images.selection import first_of_stack, plane_indices, project
from app.selection import Plane

LEAST_SIDE = 256  # pixels: smaller chunks are read several at a time
LARGEST_CHUNK = 2**29  # bytes, decoded: larger ones are made to exhaust the memory
OURS = "cells"  # the labels in what --export ome-zarr makes
_UNITS = {"micrometer": "um", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm"}


class ZarrImage(ChunkedImage):
    """An image whose chunks are those of an array in a folder; small ones are read together."""

    def __init__(
        self,
        array: "zarr.Array",  # noqa: F821
        axes: str,
        places: Sequence[Sequence[int]],
        plane: Optional[Plane],
        channels: Optional[Sequence[int]] = None,
    ):
        """array: with an axis for each letter of `axes`, the last two y and x. places: indices on
        all other axes but c, of the planes that become one image (selection.project).
        """
        self._array, self._axes, self._places, self._plane = array, axes, places, plane
        count = array.shape[axes.index("c")] if "c" in axes else 1
        self._channels = list(range(count)) if channels is None else list(channels)
        many = "c" in axes and len(self._channels) > 1
        shape = tuple(array.shape[-2:]) + ((len(self._channels),) if many else ())
        size = tuple(side * max(LEAST_SIDE // side, 1) for side in array.chunks[-2:])
        super().__init__(shape, array.dtype.newbyteorder("="), size)

    def select(self, channels: Sequence[int]) -> "ZarrImage":
        """The same of these of its channels alone, in this order; (H, W) if it is one."""
        wanted = [self._channels[index] for index in channels]
        return ZarrImage(self._array, self._axes, self._places, self._plane, wanted)

    def _read(self, row, column):
        height, width = self._size
        rows = slice(row * height, (row + 1) * height)
        columns = slice(column * width, (column + 1) * width)
        with failures_as_image_errors("OME-Zarr", self._place(row, column)):
            planes = (self._pixels(place, rows, columns) for place in self._places)
            return project(planes, self._plane)

    def _pixels(self, place, rows, columns):
        """The pixels (h, w) or (h, w, C) of a place in the stack."""
        at = iter(place)
        index = [self._channels if axis == "c" else next(at) for axis in self._axes[:-2]]
        # Of all channels at once: a chunk may hold several of them.
        pixels = self._array.oindex[(*index, rows, columns)].astype(self.dtype, copy=False)
        pixels = pixels if "c" in self._axes else pixels[None]
        return pixels[0] if self.ndim == 2 else np.moveaxis(pixels, 0, 2)


def is_zarr(path: Union[str, Path]) -> bool:
    """Whether a path is a folder that is called like an OME-Zarr."""
    path = Path(path)
    return path.name.lower().endswith(".zarr") and path.is_dir()


def is_made_here(path: Union[str, Path]) -> bool:
    """Whether an OME-Zarr holds labels as --export makes them: it is no input."""
    return any((Path(path) / "labels" / OURS / name).exists() for name in (".zattrs", "zarr.json"))


def read_zarr(
    path: Union[str, Path], plane: Optional[Plane] = None
) -> Tuple[ZarrImage, List[str], Metadata]:
    """(the image at full resolution, warnings, its Metadata) of a folder; see `app.images.load`."""
    try:
        with extras.imported("OME-Zarr", "ome-zarr"):
            import zarr
    except extras.Unusable as error:
        raise ImageError(str(error)) from error
    with failures_as_image_errors("OME-Zarr"):
        group = zarr.open_group(str(path), mode="r")
        attributes = group.attrs.asdict()
        attributes = attributes.get("ome", attributes)
        if "multiscales" not in attributes:
            kind = "a plate" if "plate" in attributes else "no image"
            raise ImageError(f"the OME-Zarr is {kind}: name the folder of an image in it")
        scales = attributes["multiscales"][0]
        axes = "".join(_name_of(axis) for axis in scales.get("axes", "tczyx"))
        level = scales["datasets"][0]
        array = group[level["path"]]
        _check(array, axes)
    stack = [n for n, axis in zip(array.shape, axes) if axis not in "cyx"]
    indices = plane_indices(plane, product(stack))
    places = [np.unravel_index(k, stack) if stack else () for k in indices]
    warnings = []
    if product(stack) > 1 and plane is None:
        warnings.append(first_of_stack(product(stack)))
    with failures_as_image_errors("OME-Zarr"):
        channels = attributes.get("omero", {}).get("channels", [])
        names = [str(channel.get("label", "")) for channel in channels]
        count = array.shape[axes.index("c")] if "c" in axes else 1
        metadata = Metadata(
            names_of_all(names, count),
            _pixel_size(scales.get("axes", []), level),
        )
    places = [list(map(int, place)) for place in places]
    return ZarrImage(array, axes, places, plane), warnings, metadata


def _name_of(axis):
    return (axis["name"] if isinstance(axis, dict) else str(axis)).lower()


def _check(array, axes):
    """Refuse what is no image of these axes, or whose chunks would exhaust the memory."""
    if len(axes) != array.ndim or len(set(axes)) != len(axes) or axes[-2:] != "yx":
        raise ImageError(f"an OME-Zarr with the axes {axes} is not supported")
    if 0 in array.shape:
        raise ImageError("the image has no pixels")
    if product(array.chunks) * array.dtype.itemsize > LARGEST_CHUNK:
        raise ImageError("the chunks of the OME-Zarr are larger than an image's could be")


def _pixel_size(axes, level):
    """The side of a pixel in µm, where it is known."""
    units = [_UNITS.get(axis.get("unit", "")) for axis in axes if isinstance(axis, dict)][-2:]
    for transformation in level.get("coordinateTransformations", []):
        if transformation.get("type") == "scale" and len(units) == 2 and all(units):
            y, x = transformation["scale"][-2:]
            return square_side(x, y, *units[::-1])
    return None
