"""What the viewer of the page draws of one image: its picture, and outlines of its cells.

All becomes JSON. The cells of the truth, or of the prediction, are columns of equal length:
labels, areas (pixels), outlines, and where they are known kinds (numbers of KINDS), ious (with the
partner of a matched cell, else with the one that fits best; null at the frame), scores and
uncertainties (top, right, bottom, left). An outline is a list of rings, a ring a flat list of whole
pixels [x, y, dx, dy, ...]: the first point, then differences. Rings run through the centres of the
border pixels, (0, 0) is the centre of the top-left pixel.
"""

import base64

import cv2
import numpy as np

from .. import strict
from ..matching import boxes, matched

KINDS = ("matched", "false_positive", "missed", "unscored")  # as in outlines.js
MATCHED, FALSE_POSITIVE, MISSED, UNSCORED = range(len(KINDS))

SIDE = 1024  # pixels of the longer side of a picture, at most
QUALITY = 80  # of WebP
TOLERANCE = 0.5  # pixels that an outline may be off, which leaves it half of its points


def picture(image, side=SIDE):
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


def add_fates(columns, fates):
    """Add the columns kinds and ious, by a dict of `compare`."""
    found = [fates.get(label, (UNSCORED, None)) for label in columns["labels"]]
    columns["kinds"] = [kind for kind, _ in found]
    columns["ious"] = [iou for _, iou in found]


def add_uncertainties(columns, kept):
    """Add the columns scores and uncertainties, by the `uncertainty.CellFile` of the prediction.

    LabelError: it is not about these labels.
    """
    kept.check(columns["labels"])
    columns["scores"] = kept.cells.scores.round(3).tolist()
    columns["uncertainties"] = kept.cells.uncertainties.round(3).tolist()


def compare(truth, labels, tau):
    """How the cells of two label images (H, W) fare at tau: a dict label -> (kind, IoU) for each.

    Only of cells that are scored: by the strict rules, those that do not touch the frame.
    LabelError: the shapes differ.
    """
    table = strict.counted(truth, labels)
    iou, pairs = table.iou(), matched(table, tau)
    return (
        _fates(table.truth_labels, table.rows, iou, pairs, MISSED),
        _fates(table.prediction_labels, table.columns, iou, pairs, FALSE_POSITIVE),
    )


def _fates(names, members, iou, pairs, lone):
    """label -> (kind, IoU) of one side of the comparison.

    names (n,): its cells; members (k,), iou (k,): cell and IoU of each pair that shares pixels;
    pairs: which of those are matched; lone: the kind of the cells in none of these.
    """
    best, kinds = np.zeros(len(names)), np.full(len(names), lone)
    np.maximum.at(best, members, iou)
    best[members[pairs]] = iou[pairs]
    kinds[members[pairs]] = MATCHED
    return dict(zip(names.tolist(), zip(kinds.tolist(), best.round(3).tolist())))


def _rings(mask, corner):
    """The rings of a mask (h, w) whose top-left pixel lies at `corner` (x, y) of the image."""
    rings, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=corner)
    simple = (cv2.approxPolyDP(ring, TOLERANCE, True)[:, 0] for ring in rings)
    return [np.diff(ring, axis=0, prepend=0).ravel().tolist() for ring in simple]
