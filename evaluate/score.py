"""Folders of label images, scored: which truth belongs to which prediction, tables, averages.

A row is (name, `Score`), where name is the file name of the prediction; a problem is (name,
reason), both texts for people.
"""

import csv
from collections import namedtuple
from dataclasses import astuple
from pathlib import Path

import cv2
import numpy as np
import tifffile

from .matching import score_pair

SUFFIXES = (".tiff", ".tif", ".png")
COLUMNS = (
    "names",
    "true_num",
    "pred_num",
    "correct_num(TP)",
    "missed_num(FN)",
    "wrong_num(FP)",
    "precision",
    "recall",
    "dice",
    "F1",
)  # the organisers' names of them, in the order of the fields of `Score`

Summary = namedtuple("Summary", "images mean median")  # of F1; mean and median NaN without images


class LabelError(Exception):
    """A label image that cannot be read or scored; the message says why."""


def score_folder(truth_dir, labels_dir, tau=0.5):
    """Scores every `*_label.(tiff|tif|png)` of labels_dir, sorted by name: rows, problems.

    OSError: labels_dir is not a folder that can be read.
    """
    rows, problems = [], []
    for path in sorted(p for p in Path(labels_dir).iterdir() if _is_prediction(p)):
        try:
            truth = read_labels(find_truth(truth_dir, path.name))
            rows.append((path.name, score_pair(truth, read_labels(path), tau)))
        except (LabelError, ValueError) as error:
            problems.append((path.name, str(error)))
    return rows, problems


def find_truth(truth_dir, name):
    """The true label image of the prediction file `name` (NAME_label.tiff or .tif or .png).

    It is NAME_label.(tiff|tif|png) in truth_dir, else NAME.(tiff|tif|png). LabelError: neither.
    """
    label = Path(name).stem
    stems = (label, label[: -len("_label")])
    candidates = [Path(truth_dir) / (stem + suffix) for stem in stems for suffix in SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise LabelError(f"no truth: {truth_dir} has no {' or '.join(stems)} (.tiff, .tif, .png)")


def read_labels(path):
    """The label image of a TIFF or PNG file: (H, W), in the file's own dtype. LabelError."""
    path = Path(path)
    try:
        if path.suffix == ".png":
            labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        else:
            labels = tifffile.imread(str(path))
    except Exception as error:  # decoders raise whatever their libraries do
        raise LabelError(f"{path} cannot be read: {error}") from error
    if labels is None:  # how OpenCV says that it could not
        raise LabelError(f"{path} cannot be read: not a whole PNG file")
    if labels.ndim != 2:
        raise LabelError(f"{path} has the shape {labels.shape}; a label image is (height, width)")
    return labels


def summary(rows):
    """The `Summary` of rows: number of images, mean and median of their F1."""
    f1 = [score.f1 for _, score in rows]
    if not f1:
        return Summary(0, float("nan"), float("nan"))
    return Summary(len(f1), float(np.mean(f1)), float(np.median(f1)))


def grouped(rows, groups):
    """{group: `Summary`} sorted by group, and macro, the mean over groups of their mean F1.

    groups: {name: group} for the name of every row (more names do no harm). KeyError: one lacks.
    """
    members = {}
    for name, score in rows:
        members.setdefault(groups[name], []).append((name, score))
    summaries = {group: summary(members[group]) for group in sorted(members)}
    means = [group.mean for group in summaries.values()]
    return summaries, float(np.mean(means)) if means else float("nan")


def score_table(rows):
    """A text table of the rows, the organisers' columns, a line per image."""
    return _table(COLUMNS, [[_text(value) for value in _values(row)] for row in rows])


def group_table(rows, groups):
    """A text table of n, mean and median F1 per group (see `grouped`), over all, and macro."""
    summaries, macro = grouped(rows, groups)
    lines = [(group, *map(_text, found)) for group, found in summaries.items()]
    lines.append(("all images", *map(_text, summary(rows))))
    lines.append(("macro over groups", _text(len(summaries)), _text(macro), ""))
    return _table(("group", "n", "mean F1", "median F1"), lines)


def write_csv(path, rows):
    """The rows as a file of the organisers' columns."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_values(row) for row in rows)


def _is_prediction(path):
    return path.stem.endswith("_label") and path.suffix in SUFFIXES and path.is_file()


def _values(row):
    """A row as the values of `COLUMNS`."""
    name, score = row
    return (name, *astuple(score))


def _text(value):
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _table(header, lines):
    """Lines of texts under a header, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *lines)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in (header, *lines)
    )
