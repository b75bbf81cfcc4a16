"""The cells of an image in the forms that other programs open, as files beside its label image.

(One of them, OME-Zarr, is a folder; it is complete or absent like a file.)

A format is a module of its own, imported when it is asked for: it has LOOKS (whether it needs the
image's pixels) and write(path, result), which writes the file and returns sentences for the user.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Callable, List, NamedTuple, Sequence, Tuple

import numpy as np

from app import extras, images
from app.cells import Cells
from app.formats import PREVIEWS
from app.names import LABEL_ENDING, PREVIEW_ENDINGS

ENDINGS = {  # of the files: NAME_label.tiff becomes NAME + ending
    "geojson": (".geojson.gz",),
    "roi": ("_rois.zip",),
    "coco": ("_coco.json",),
    "ome-zarr": (".ome.zarr",),  # a folder
    "preview": PREVIEW_ENDINGS,  # the latter above PNG_PIXELS
    "uncertainty": PREVIEW_ENDINGS,
}
PNG_PIXELS = 4 * 10**6
HEAD = 1024  # bytes of a preview, within which it says of which kind it is


class Result(NamedTuple):
    """What came of an image.

    path: its file. image: what was read of it; its pixels are None where no format looks at them.
    labels (H, W): 0 is background; label k + 1 is row k of the cells.
    """

    path: Path
    image: images.Loaded
    labels: np.ndarray
    cells: Cells


class Export(NamedTuple):
    """A format that is asked for; see the module's docstring. endings: its file has one of them."""

    name: str
    endings: Tuple[str, ...]
    looks: bool
    write: Callable[[Path, Result], List[str]]

    def paths(self, target: Path) -> List[Path]:
        """Where its file may be, beside the label image `target`."""
        return [beside(target, ending) for ending in self.endings]

    def is_done(self, target: Path) -> bool:
        """Whether its file is beside the label image `target`."""
        found = [path for path in self.paths(target) if path.exists()]
        if self.name not in PREVIEWS.values():
            return bool(found)
        return any(kind(self.name) in _head(path) for path in found)


def kind(name: str) -> bytes:
    """What a preview of this name has as its comment."""
    return f"cpn {name}".encode()


def _head(path):
    with open(path, "rb") as file:
        return file.read(HEAD)


def load(names: Sequence[str]) -> List[Export]:
    """The Exports of these names of formats. Raises extras.Unusable."""
    modules = ((name, _module(name)) for name in names)
    return [Export(name, ENDINGS[name], module.LOOKS, module.write) for name, module in modules]


def _module(name: str) -> ModuleType:
    module = f"app.exports.{name.replace('-', '_')}"
    if name not in extras.NAMES:
        return importlib.import_module(module)
    with extras.imported(f"the export {name}", name):
        return importlib.import_module(module)


def beside(target: Path, ending: str) -> Path:
    """The file of an export of the label image `target`: NAME_label.tiff -> NAME + ending."""
    return target.with_name(target.name[: -len(LABEL_ENDING)] + ending)


def all_paths(target: Path) -> List[Path]:
    """Where the files of all exports may be, beside the label image `target`."""
    endings = dict.fromkeys(ending for endings in ENDINGS.values() for ending in endings)
    return [beside(target, ending) for ending in endings]


def write(exports: Sequence[Export], target: Path, result: Result) -> List[str]:
    """Write the exports as those of the label image `target`; returns what is to be said.

    Raises OSError.
    """
    remarks = []
    for export in exports:
        remarks += export.write(beside(target, export.endings[0]), result)
    return remarks
