"""Folders of images and label images: which files belong together, and what they hold.

A stem is what app.predict names labels by: a file name without its extension, `_label.tiff` or the
like; it may hold dots. The name of an image is its file name up to the first dot (so the challenge
names labels): `a` of the stem `a.b`.
"""

import csv
import re
from collections import namedtuple
from pathlib import Path
from typing import Collection, Dict, Iterable, List, Optional, Sequence, Set, Tuple, Union

import numpy as np

from app.images import LabelError, read_labels
from app.names import (
    CELLPOSE_ENDING,
    DOUBLE_EXTENSIONS,
    EXTENSIONS,
    LABEL_ENDING,
    LABEL_ENDINGS,
    LABEL_EXTENSIONS,
    PREVIEW_ENDINGS,
    output_names,
    without_ending,
)

Files = Dict[str, List[Path]]  # by their stems
Groups = Dict[str, Set[str]]  # by stem or name, see `group_of`
Pair = namedtuple("Pair", "stem name truth labels")  # see `pairs`


class EvaluationError(Exception):
    """Why a command cannot start, in one sentence for people."""


def list_images(folder: Union[str, Path]) -> Files:
    """{stem: [Path]} of the microscopy images in a folder, by `stems_of`, sorted by stem.

    Label images, previews and hidden files are none. EvaluationError.
    """
    found = _by_stem(folder, EXTENSIONS, passed_over=(*LABEL_ENDINGS, *PREVIEW_ENDINGS))
    stems = stems_of([path for paths in found.values() for path in paths])
    return {stem: [path] for path, stem in sorted(stems.items(), key=lambda item: item[1])}


def stems_of(paths: Sequence[Path]) -> Dict[Path, str]:
    """The stems of all images of a folder, by which app.predict names their labels: where files
    differ in their extension only, x_tif and x_jpg."""
    return {path: name[: -len(LABEL_ENDING)] for path, name in output_names(paths).items()}


def list_labels(folder: Union[str, Path], suffix: Optional[str] = None) -> Files:
    """{stem: [Path]} of the label images STEM<suffix> in a folder, in any case of letters.

    The suffix (as `_mask.png`) is by default any of app.names.LABEL_ENDINGS, or that of Cellpose's
    own files where a stem has none of these. Sorted by stem; several paths where files differ in
    their suffix only. EvaluationError.
    """
    if suffix:
        return _by_stem(folder, (suffix,))
    found = {**_by_stem(folder, (CELLPOSE_ENDING,)), **_by_stem(folder, LABEL_ENDINGS)}
    return dict(sorted(found.items()))


def list_truth(folder: Union[str, Path], suffix: Optional[str] = None) -> Files:
    """As `list_labels`; without a suffix, a folder without any such file holds STEM.(tiff|tif|png).

    (All or none: an image without labels beside labelled ones is not taken for a truth.)
    """
    found = list_labels(folder, suffix)
    if found or suffix:
        return found
    return _by_stem(folder, (*DOUBLE_EXTENSIONS, *LABEL_EXTENSIONS))


def pairs(
    truth_dir: Union[str, Path],
    labels_dir: Union[str, Path],
    truth_suffix: Optional[str] = None,
    label_suffix: Optional[str] = None,
) -> List[Pair]:
    """The `Pair`s of true and predicted label images of two folders, sorted by name.

    stem: the prediction's, or if there is none that of the truth. name: the file name that the
    prediction has or should have. truth, labels: lists of Path: one each in good order; none where
    there is no such file; several where more than one file claims the stem (`only` tells).
    EvaluationError: a folder cannot be listed, or there is nothing in them.
    """
    truths, labels = list_truth(truth_dir, truth_suffix), list_labels(labels_dir, label_suffix)
    found = []
    for own, theirs in paired(truths, labels):
        stem, paths = theirs or own, labels.get(theirs, [])
        name = paths[0].name if paths else stem + (label_suffix or LABEL_ENDINGS[0])
        found.append(Pair(stem, name, truths.get(own, []), paths))
    if not found:
        raise EvaluationError(f"{truth_dir} and {labels_dir} hold no label images to compare")
    return sorted(found, key=lambda pair: pair.name)


def paired(
    first: Collection[str], second: Collection[str]
) -> List[Tuple[Optional[str], Optional[str]]]:
    """Which stems of two collections belong together: a list of (stem or None, stem or None).

    Equal stems do; else two that agree up to their first dot, when each is the only such one.
    The others come with None. `first`'s come in its order, then the rest of `second`.
    """
    names = [_by_name(stems) for stems in (first, second)]

    def partner(stem):
        own, theirs = (found.get(name_of(stem), []) for found in names)
        if stem in second:
            return stem
        return theirs[0] if len(own) == len(theirs) == 1 else None

    together = [(stem, partner(stem)) for stem in first]
    taken = {stem for _, stem in together}
    return together + [(None, stem) for stem in second if stem not in taken]


def only(paths: Sequence[Path], what: str) -> Path:
    """The only path of a list. LabelError, with `what` was looked for, for none or several."""
    if not paths:
        raise LabelError(f"no {what}")
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        raise LabelError(f"more than one {what}: {names}; keep one")
    return paths[0]


def read_one(paths: Sequence[Path], what: str) -> np.ndarray:
    """The label image (H, W) of the only path of a list. LabelError: see `only`, `read_labels`."""
    return read_labels(only(paths, what))


def name_of(stem: str) -> str:
    """The name of an image: its stem up to the first dot."""
    return stem.split(".")[0]


def read_groups(path: Union[str, Path], label_suffixes: Iterable[str] = ()) -> Groups:
    """{stem or name: its groups} of a CSV file with a header, for `group_of`.

    Columns: `name` or `image`, and `group` or `modality`; others are passed over. Names are file
    names of images or of label images, or names without ending; folders before them do not count.
    EvaluationError: not such a file. OSError: it cannot be opened.
    """
    groups = {}
    for file_name, group in _rows(path, (("name", "image"), ("group", "modality"))):
        name = re.split(r"[/\\]", file_name)[-1]
        stem = (
            without_ending(
                name,
                (*label_suffixes, *LABEL_ENDINGS, CELLPOSE_ENDING, *DOUBLE_EXTENSIONS, *EXTENSIONS),
            )
            or name
        )
        for key in {stem, name_of(stem)} if group else ():
            groups.setdefault(key, set()).add(group)
    return groups


def read_pairs(path: Union[str, Path]) -> Tuple[Files, Files]:
    """The images, and the label images, by name, of a CSV file with columns name, image and labels.

    The latter two are paths; label images that are not there are left out. A path of `-` is the
    standard input. EvaluationError: not such a file. OSError: it cannot be opened.
    """
    images, labels = {}, {}
    columns = ("name",), ("image",), ("labels",)
    for name, image, label_image in _rows(path, columns, errors="surrogateescape"):
        images[name] = [Path(image)]
        if Path(label_image).exists():
            labels[name] = [Path(label_image)]
    return images, labels


def _rows(path, choices, errors="strict"):
    """Of each row of a CSV file, the values of columns: the first that is there of each choice."""
    try:
        place = 0 if str(path) == "-" else path
        with open(place, newline="", encoding="utf-8-sig", errors=errors) as lines:
            table = csv.DictReader(lines)
            header = table.fieldnames or []
            columns = [next((name for name in names if name in header), None) for names in choices]
            if None in columns:
                needed = ", ".join(" or ".join(names) for names in choices)
                raise EvaluationError(f"{path} needs a header with the columns {needed}")
            return [[row[column] or "" for column in columns] for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{path} is no CSV file: {error}") from error


def group_of(groups: Groups, stem: str) -> str:
    """The group of an image or label image by `read_groups`. EvaluationError: none, or several."""
    found = groups.get(stem) or groups.get(name_of(stem)) or set()
    if len(found) != 1:
        given = " and ".join(sorted(found)) or "no group"
        raise EvaluationError(f"the table of groups gives {stem} {given}; each image needs one")
    return min(found)


def _by_stem(folder, endings, passed_over=()):
    """{stem: [Path]} of a folder's files with one of the endings, sorted.

    Hidden files are passed over, and those with an ending that is to be passed over.
    """
    try:
        paths = sorted(path for path in Path(folder).iterdir() if path.is_file())
    except OSError as error:
        raise EvaluationError(f"{folder} cannot be listed: {error.strerror}") from error
    found = {}
    for path in paths:
        stem = without_ending(path.name, endings)
        if stem and path.name[0] != "." and not path.name.lower().endswith(passed_over):
            found.setdefault(stem, []).append(path)
    return dict(sorted(found.items()))


def _by_name(stems):
    """{name: stems that begin with it}."""
    found = {}
    for stem in stems:
        found.setdefault(name_of(stem), []).append(stem)
    return found
