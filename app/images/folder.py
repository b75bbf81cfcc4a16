"""Which files of a folder are images to segment."""

import os
from pathlib import Path
from typing import Iterable, List, Tuple, Union

from app.images.limits import ImageError
from app.images.ome_zarr import is_made_here, is_zarr
from app.names import EXTENSIONS, LABEL_ENDINGS, PREVIEW_ENDINGS

A_FOLDER = "a folder"  # why a path is passed over
PassedOver = List[Tuple[Path, str]]  # files and why they are not taken


def list_inputs(folder: Union[str, Path]) -> Tuple[List[Path], PassedOver]:
    """The images of `folder` that are to be segmented, sorted by name.

    Returns (inputs, passed_over): a list of Path; a list of (Path, reason) for what is no input:
    hidden files, folders that are no OME-Zarr, other files, label images (names that end in one of
    app.names.LABEL_ENDINGS, in any case of letters), previews (PREVIEW_ENDINGS).
    Raises ImageError if the folder cannot be listed.
    """
    try:
        paths = sorted(Path(folder).iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise ImageError(f"the folder cannot be listed ({error.strerror})") from error
    return inputs_among(paths)


def inputs_among(paths: Iterable[Path]) -> Tuple[List[Path], PassedOver]:
    """Those of the paths that are to be segmented, and the others with the reason why not."""
    reasons = [(path, _no_input(path)) for path in paths]
    inputs = [path for path, reason in reasons if not reason]
    return inputs, [(path, reason) for path, reason in reasons if reason]


def _no_input(path):
    """Why `path` is no input, or None if it is one. A link to nowhere is one: reading it fails."""
    name = path.name.lower()
    if name.startswith("."):
        return "hidden"
    if is_zarr(path):
        return "an OME-Zarr with cells of this program" if is_made_here(path) else None
    if os.path.isdir(path):  # not path.is_dir(), which Python 3.7 lets fail on a circle of links
        return A_FOLDER
    if os.path.exists(path) and not os.path.isfile(path):
        return "not a regular file"
    if name.endswith(LABEL_ENDINGS):
        return "a label image"
    if name.endswith(PREVIEW_ENDINGS):
        return "a preview"
    if not name.endswith(EXTENSIONS):
        return "not an image by its extension"
    return None
