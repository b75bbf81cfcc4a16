"""What the viewer of the page draws of one image: its picture, and outlines of its cells.

All becomes JSON. The cells of the truth, or of the prediction, are columns of equal length:
labels, areas (pixels), outlines, and where they are known match_status (numbers of MATCH_STATUSES),
ious (with the partner of a matched cell, else with the one that fits best; null at the frame),
scores and uncertainties (top, right, bottom, left). An outline is a list of rings, a ring a flat
list of whole pixels [x, y, dx, dy, ...]: the first point, then differences. Rings run through the
centres of the border pixels, (0, 0) is the centre of the top-left pixel.
"""

import base64
from typing import Dict, List, Tuple

import cv2
import numpy as np

from .. import strict
from ..matching import boxes, matched
from ..uncertainty import CellFile

MATCH_STATUSES = ("matched", "false_positive", "missed", "unscored")  # as in outlines.js
MATCHED, FALSE_POSITIVE, MISSED, UNSCORED = range(len(MATCH_STATUSES))
Matches = Dict[int, Tuple[int, float]]  # label: match status, IoU

SIDE = 1024  # pixels of the longer side of a picture, at most
QUALITY = 80  # of WebP
TOLERANCE = 0.5  # pixels that an outline may be off, which leaves it half of its points


def picture(image: np.ndarray, side: int = SIDE) -> str:
    """An RGB image (H, W, 3) uint8, reduced to `side` pixels if larger, as WebP in base64."""
    scale = side / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(n * scale)) for n in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    settings = [cv2.IMWRITE_WEBP_QUALITY, QUALITY]
    _, data = cv2.imencode(".webp", np.ascontiguousarray(image[..., ::-1]), settings)
    return base64.b64encode(data).decode("ascii")


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
    """The rings of a mask (h, w) whose top-left pixel lies at `corner` (x, y) of the image."""
    rings, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=corner)
    simple = (cv2.approxPolyDP(ring, TOLERANCE, True)[:, 0] for ring in rings)
    return [np.diff(ring, axis=0, prepend=0).ravel().tolist() for ring in simple]
