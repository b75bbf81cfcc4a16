"""The cells of an image in the forms that other programs open, as files beside its label image.

A format is a module of its own, imported when it is asked for: it has LOOKS (whether it needs the
image's pixels) and write(path, result), which writes the file and returns sentences for the user.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Callable, List, NamedTuple, Sequence, Tuple

import numpy as np

from app import images
from app.cells import Cells
from app.names import LABEL_ENDING, PREVIEW_ENDINGS

FORMATS = ("geojson", "roi", "coco")
ENDINGS = {  # of the files: NAME_label.tiff becomes NAME + ending
    "geojson": (".geojson.gz",),
    "roi": ("_rois.zip",),
    "coco": ("_coco.json",),
    "preview": PREVIEW_ENDINGS,  # the latter above PNG_PIXELS
    "uncertainty": PREVIEW_ENDINGS,
}
PREVIEWS = ("preview", "uncertainty")
PNG_PIXELS = 4 * 10**6
HEAD = 1024  # bytes of a preview, within which it says of which kind it is
REQUIREMENTS = Path(__file__).with_name("requirements.txt")


class MissingLibrary(Exception):
    """A format needs what is not installed: one sentence that says how to install it."""


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

    def is_done(self, target: Path) -> bool:
        """Whether its file is beside the label image `target`."""
        found = [path for path in (beside(target, e) for e in self.endings) if path.is_file()]
        if self.name not in PREVIEWS:
            return bool(found)
        return any(kind(self.name) in _head(path) for path in found)


def kind(name: str) -> bytes:
    """What a preview of this name has as its comment."""
    return f"cpn {name}".encode()


def _head(path):
    with open(path, "rb") as file:
        return file.read(HEAD)


def parse_formats(text: str) -> List[str]:
    """The formats of a text like "geojson,roi". Raises ValueError."""
    formats = [part.strip() for part in text.split(",")]
    for unknown in set(formats) - set(FORMATS):
        raise ValueError(f"a format is one of {', '.join(FORMATS)}, not {unknown!r}")
    return list(dict.fromkeys(formats))


def load(names: Sequence[str]) -> List[Export]:
    """The Exports of these names of formats. Raises MissingLibrary."""
    modules = ((name, _module(name)) for name in names)
    return [Export(name, ENDINGS[name], module.LOOKS, module.write) for name, module in modules]


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"app.exports.{name}")
    except ImportError as error:
        raise MissingLibrary(
            f"the export {name} needs the package {error.name}; with Python 3.11 or newer this "
            f"installs it: {sys.executable} -m pip install -r {REQUIREMENTS}"
        ) from error


def beside(target: Path, ending: str) -> Path:
    """The file of an export of the label image `target`: NAME_label.tiff -> NAME + ending."""
    return target.with_name(target.name[: -len(LABEL_ENDING)] + ending)


def write(exports: Sequence[Export], target: Path, result: Result) -> List[str]:
    """Write the exports for the label image that will be at `target`; returns remarks.

    An export is always that of the label image beside it: those of earlier runs go, and while one
    is written there is no label image. Raises images.ImageError.
    """
    remarks = []
    earlier = [beside(target, ending) for endings in ENDINGS.values() for ending in endings]
    try:
        for path in (target if exports else None, *earlier):
            if path and path.is_file():
                path.unlink()
        for export in exports:
            remarks += export.write(beside(target, export.endings[0]), result)
    except OSError as error:
        reason = f"an export cannot be written ({error.strerror})"
        raise images.ImageError(reason) from error
    return remarks
