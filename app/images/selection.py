"""Which channels of an image, and which plane of a stack, are taken."""

from functools import reduce
from typing import Iterable, List, Optional, Sequence

import numpy as np

from app.images.limits import ImageError
from app.selection import PROJECTIONS, Channels, Plane


def channel_indices(channels: Channels, count: int, names: Sequence[str]) -> List[int]:
    """Which of `count` channels are meant, from 0 on.

    names: the channels', or none; capitals do not matter. What is a number and too large for one
    may be a name. Raises ImageError for what is neither, which says what there is.
    """
    known = [name.casefold() for name in names]
    indices = []
    for channel in channels:
        if isinstance(channel, int) and channel <= count:
            indices.append(channel - 1)
        elif str(channel).casefold() in known:
            indices.append(known.index(str(channel).casefold()))
        else:
            there = [f"{k} {name}".rstrip() for k, name in enumerate(names or [""] * count, 1)]
            raise ImageError(
                f"there is no channel {channel}: the image has {', '.join(there)}"
                + ("" if names else ", without names")
            )
    return indices


def select(image: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    """Channels of an array (h, w) or (h, w, C), by index; (h, w) if it is one of them."""
    image = image if image.ndim == 3 else image[..., None]
    return image[..., list(channels)] if len(channels) > 1 else image[..., channels[0]]


def first_of_stack(count: int) -> str:
    """The warning that of a stack of so many planes one is used, since nobody chose."""
    return f"of its {count} planes the first is used (--plane N, max or mean takes others)"


def plane_indices(plane: Optional[Plane], count: int) -> Sequence[int]:
    """Which of a stack's `count` planes are meant, from 0 on. Raises ImageError if there is none.

    By default the first.
    """
    if plane in PROJECTIONS:
        return range(count)
    number = plane or 1
    if number > count:
        there = "1 plane" if count == 1 else f"{count} planes"
        raise ImageError(f"there is no plane {number}: the image has {there}")
    return [number - 1]


def project(planes: Iterable[np.ndarray], plane: Optional[Plane]) -> np.ndarray:
    """One array of several of the same shape and dtype: their maximum, or their mean.

    Any other plane than those of PROJECTIONS is the only one. NaN counts only in the mean.
    """
    if plane != "mean":
        return reduce(np.fmax, planes)
    total, count, dtype = 0.0, 0, None
    for array in planes:
        total, count, dtype = total + array.astype(np.float64), count + 1, array.dtype
    mean = total / count
    return (mean if dtype.kind == "f" else np.rint(mean)).astype(dtype)
