"""NAME_seg.npy, the file in which Cellpose keeps what it found: its masks.

It is a pickled dict. A pickle may call any function of any library, so this one gets stand-ins for
the four things of numpy that such a file needs, and nothing else.
"""

import pickle
from typing import Any, BinaryIO

import numpy as np


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, name, *rest):
        self._name, self._order = name, "|"

    def __setstate__(self, state):
        self._order = state[1]

    def __str__(self):
        return self._order + self._name


class _Array:
    """Stands in for numpy.ndarray: keeps what it is made of."""

    def __init__(self, *rest):
        self._state = ()

    def __setstate__(self, state):
        self._state = state

    @property
    def data(self):
        """Bytes, or a list of objects."""
        return self._state[4]

    def pixels(self):
        """The array of numbers that it stands for."""
        _, shape, dtype, is_fortran, data = self._state
        order = "F" if is_fortran else "C"
        return np.frombuffer(data, np.dtype(str(dtype))).reshape(shape, order=order)


def _number(*made_of):
    """Stands in for the function that makes numbers of numpy: nobody asks for them."""


_ADMITTED = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before numpy 2, and since
    _ADMITTED.update({(_module, "_reconstruct"): _Array, (_module, "scalar"): _number})


class _Unpickler(pickle.Unpickler):
    """Makes plain values and stand-ins for arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name of a library stands for."""
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise ValueError(
                f"it asks for {module}.{name}, which is neither an array nor a plain value"
            ) from None


def read_masks(file: BinaryIO) -> np.ndarray:
    """The label image in an open _seg.npy file. Raises ValueError and whatever else pickle does."""
    version = np.lib.format.read_magic(file)
    read_header = getattr(np.lib.format, "read_array_header_{}_{}".format(*version))
    if not read_header(file)[2].hasobject:
        raise ValueError("it is a numpy file, but none of Cellpose's")
    (content,) = _Unpickler(file).load().data
    if not isinstance(content, dict) or not isinstance(content.get("masks"), _Array):
        raise ValueError("it holds no masks")
    return content["masks"].pixels()
