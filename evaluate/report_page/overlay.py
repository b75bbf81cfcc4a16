"""What the viewer of the page draws of one image: outlines of its cells, and what is known of them.

All becomes JSON. The cells of the truth, or of the prediction, are columns of equal length:
labels, areas (pixels), outlines, and where they are known match_status (numbers of MATCH_STATUSES),
ious (with the partner of a matched cell, else with the one that fits best; null at the frame),
scores and uncertainties (top, right, bottom, left). An outline is a list of rings along the edges
of pixels. A ring is a flat list of whole numbers [x, y, right, down, right, down, ...]: its first
corner, then how far it runs to the right and down by turns, until it is back. (0, 0) is the
top-left corner of the image.
"""

from typing import Dict, List, Tuple

import cv2
import numpy as np

from .. import strict
from ..matching import boxes, matched
from ..uncertainty import CellFile

MATCH_STATUSES = ("matched", "false_positive", "missed", "unscored")  # as in outlines.js
MATCHED, FALSE_POSITIVE, MISSED, UNSCORED = range(len(MATCH_STATUSES))
Matches = Dict[int, Tuple[int, float]]  # label: match status, IoU


def cells(labels: np.ndarray) -> dict:
    """The columns labels, areas and outlines of a label image (H, W)."""
    names, places = boxes(labels)
    columns = {"labels": names.tolist(), "areas": [], "outlines": []}
    for name, (left, top, right, bottom) in zip(names, places.tolist()):
        mask = (labels[top:bottom, left:right] == name).view(np.uint8)
        columns["areas"].append(int(mask.sum()))
        columns["outlines"].append(_rings(mask, (left, top)))
    return columns


def add_match_status(columns: dict, found: Matches) -> None:
    """Add the columns match_status and ious, by a dict of `compare`."""
    known = [found.get(label, (UNSCORED, None)) for label in columns["labels"]]
    columns["match_status"] = [status for status, _ in known]
    columns["ious"] = [iou for _, iou in known]


def add_uncertainties(columns: dict, kept: CellFile) -> None:
    """Add the columns scores and uncertainties, by the `uncertainty.CellFile` of the prediction.

    LabelError: it is not about these labels.
    """
    kept.check(columns["labels"])
    columns["scores"] = kept.cells.scores.round(3).tolist()
    columns["uncertainties"] = kept.cells.uncertainties.round(3).tolist()


def compare(truth: np.ndarray, labels: np.ndarray, tau: float) -> List[Matches]:
    """How the cells of two label images (H, W) are matched at tau: those of the truth, and of the
    prediction, each a dict {label: (match status, IoU)}.

    Only of cells that are scored: by the strict rules, those that do not touch the frame.
    LabelError: the shapes differ.
    """
    table = strict.counted(truth, labels)[0]
    iou, pairs = table.iou(), matched(table, tau)
    found = []
    for names, members, alone in (
        (table.truth_labels, table.rows, MISSED),
        (table.prediction_labels, table.columns, FALSE_POSITIVE),
    ):
        best, status = np.zeros(len(names)), np.full(len(names), alone)
        np.maximum.at(best, members, iou)
        best[members[pairs]] = iou[pairs]
        status[members[pairs]] = MATCHED
        found.append(dict(zip(names.tolist(), zip(status.tolist(), best.round(3).tolist()))))
    return found


def _rings(mask, corner):
    """The rings of a mask (h, w) whose top-left pixel lies at `corner` (x, y) of the image.

    OpenCV's contours run through the centres of pixels. Those of the mask at twice its size run
    a quarter of a pixel inside (around holes, outside) the edges, which rounding up undoes.
    """
    double = mask.repeat(2, axis=0).repeat(2, axis=1)
    rings, _ = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [_encoded((ring[:, 0] + 1) // 2 + corner) for ring in rings]


def _encoded(points):
    """The ring of the corners (n, 2) of a polygon along the edges of pixels."""
    steps = np.diff(points, axis=0, append=points[:1])
    points, steps = points[steps.any(axis=1)], steps[steps.any(axis=1)]
    across = steps[:, 0] != 0
    turns = across != np.roll(across, 1)  # the others lie between two corners
    points, across = points[turns], across[turns]
    points = np.roll(points, -across.argmax(), axis=0)  # the first step is to the right or left
    steps = np.diff(points, axis=0, append=points[:1])
    return [*points[0].tolist(), *steps.sum(axis=1).tolist()]
