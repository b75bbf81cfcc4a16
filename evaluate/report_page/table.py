"""The table of images as data: its columns and rows, which table.js draws a page at a time."""

from typing import Any, Callable, List, NamedTuple, Optional

from .contents import Entry, Report

SCORES = {
    "F1": "f1",
    "Precision": "precision",
    "Recall": "recall",
    "True": "true_num",
    "Pred.": "pred_num",
    "TP": "correct_num",
    "FP": "wrong_num",
    "FN": "missed_num",
    "IoU": "mean_matched_iou",
    "PQ": "panoptic_quality",
    "Dice": "dice",
}
TIMES = {"Seconds": "median_seconds", "Of limit": "share"}
ROUND = 6  # decimals that are kept


class Column(NamedTuple):
    """A column. kind: how table.js shows and sorts it: image, state, text, number, size (width,
    height). value: of an entry, or None. digits: of numbers after the point; 0 of counts."""

    title: str
    kind: str
    value: Callable[[Entry], Any]
    digits: int = 0


def columns(report: Report) -> List[Column]:
    """The columns that have something to show."""
    entries, found = report.entries, [Column("Image", "image", lambda entry: entry.name)]
    if any(entry.problems or entry.remarks for entry in entries):
        found.append(Column("State", "state", state))
    if any(entry.group is not None for entry in entries):
        found.append(Column("Group", "text", lambda entry: entry.group))
    if report.scores:
        for title, name in SCORES.items():
            digits = 0 if name.endswith("_num") else 3
            found.append(Column(title, "number", score_of(name), digits))
    else:
        found.append(Column("Cells", "number", lambda entry: entry.predicted))
        if report.shades.any():
            found.append(Column("Score", "number", lambda entry: entry.mean_score, 3))
            found.append(Column("Uncertainty", "number", lambda entry: entry.mean_uncertainty, 3))
    for run in report.runs():
        for title, name in TIMES.items():
            found.append(Column(run.replace("Time", title), "number", time_of(run, name), 2))
    found.append(Column("Pixels", "size", lambda entry: entry.size))
    return found


def state(entry: Entry) -> Optional[str]:
    """The worst that is said of an entry: a problem, a remark, or nothing."""
    if entry.problems:
        return "problem"
    return "remark" if entry.remarks else None


def score_of(name: str) -> Callable[[Entry], Any]:
    """What takes a number of this name from an entry's score."""
    return lambda entry: entry.score[name] if entry.score else None


def time_of(run: str, name: str) -> Callable[[Entry], Any]:
    """What takes a number of this name from an entry's times in a run."""
    return lambda entry: entry.times[run][name] if run in entry.times else None


def table(report: Report) -> dict:
    """columns (title, kind, digits), and of each row what table.js takes, in the entries' order.

    A row: image, the number of its folder of files, null without one; problems, remarks; values,
    one a column.
    """
    shown = columns(report)
    return {
        "columns": [{"title": c.title, "kind": c.kind, "digits": c.digits} for c in shown],
        "rows": [
            {
                "image": entry.index if entry.size else None,
                "problems": entry.problems,
                "remarks": entry.remarks,
                "values": [rounded(column.value(entry)) for column in shown],
            }
            for entry in report.entries
        ],
    }


def rounded(value: Any) -> Any:
    """A float to ROUND decimals; all else as it is."""
    return round(value, ROUND) if isinstance(value, float) else value
