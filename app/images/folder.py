"""Which files of a folder are images to segment."""

import os
from pathlib import Path
from typing import List, Tuple, Union

from app.images.limits import ImageError
from app.names import EXTENSIONS, LABEL_ENDINGS, PREVIEW_ENDINGS, output_name

Refused = List[Tuple[Path, str]]  # files and why they are not taken


def list_inputs(folder: Union[str, Path]) -> Tuple[List[Path], Refused, Refused]:
    """The images of `folder` that are to be segmented, sorted by name.

    Returns (inputs, refused, passed_over): a list of Path; a list of (Path, reason) for images
    whose names agree up to the first dot, which would write the same output; a list of
    (Path, reason) for what is no input: hidden files, folders, other files, label images (names
    that end in _label.png, _label.tif or _label.tiff in any case), previews (_preview.png, .jpg).
    Raises ImageError if the folder cannot be listed.
    """
    try:
        paths = sorted(Path(folder).iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise ImageError(f"the folder cannot be listed ({error.strerror})") from error
    reasons = [(path, _no_input(path)) for path in paths]
    by_output = {}
    for path, reason in reasons:
        if not reason:
            by_output.setdefault(output_name(path), []).append(path)
    inputs, refused = [], []
    for path, reason in reasons:
        rivals = [] if reason else by_output[output_name(path)]
        if len(rivals) == 1:
            inputs.append(path)
        elif rivals:
            refused.append((path, f"{len(rivals)} inputs would write {output_name(path)}"))
    return inputs, refused, [(path, reason) for path, reason in reasons if reason]


def _no_input(path):
    """Why `path` is no input, or None if it is one. A link to nowhere is one: reading it fails."""
    name = path.name.lower()
    if name.startswith("."):
        return "hidden"
    if os.path.isdir(path):  # not path.is_dir(), which Python 3.7 lets fail on a circle of links
        return "a folder"
    if os.path.exists(path) and not os.path.isfile(path):
        return "not a regular file"
    if name.endswith(LABEL_ENDINGS):
        return "a label image"
    if name.endswith(PREVIEW_ENDINGS):
        return "a preview"
    if not name.endswith(EXTENSIONS):
        return "not an image by its extension"
    return None
