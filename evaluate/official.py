"""The organisers' rules, to the last digit and with their weak spots (strict.py has none of these).

- A cell that touches the outermost 2 pixels does not count. An image with a side of 4 pixels or
  less is all frame; without any background, its smallest label stays nevertheless.
- Without any predicted cell, no true cell counts as missed (nor in such a tile), and an image
  without any cell, true or predicted, scores 0.
- From 25,000,000 pixels on, tiles of 2000 x 2000 are scored each as an image of its own and the
  counts are summed: a cell on a seam is not scored, a label in two tiles is two cells.
- Labels are cast and may wrap: to int32, in large images to the data type of the truth.
- Images without a prediction are left out.
- Precision, recall, F1 and Dice are rounded to 4 decimals. (The organisers have no other ratios;
  ours beside them are not rounded.)
"""

from dataclasses import replace
from typing import List, Sequence

import numpy as np

from .folders import LabelError
from .matching import FRAME, Score, frame_labels, matched, overlaps, rate

EMPTY = 0.0  # what an image without any cell scores
TILED_FROM = 25000000  # pixels
TILE = 2000  # pixels

# The organisers' names of a table's columns, and the fields of `Score` that they hold.
COLUMNS = {
    "true_num": "true_num",
    "pred_num": "pred_num",
    "correct_num(TP)": "correct_num",
    "missed_num(FN)": "missed_num",
    "wrong_num(FP)": "wrong_num",
    "precision": "precision",
    "recall": "recall",
    "dice": "dice",
    "F1": "f1",
}


def scores(truth: np.ndarray, labels: np.ndarray, taus: Sequence[float]) -> List[Score]:
    """A `Score` per tau of predicted labels (H, W) against the true ones (H, W).

    missed_num may be less than true_num - correct_num: see above. LabelError: shapes differ, or a
    label is negative after the cast.
    """
    check_shapes(truth, labels)
    tables = [_table(*part) for part in _parts(truth, labels)]
    dice = _dice(truth > 0, labels > 0)
    return [_score(tables, tau, dice) for tau in taus]


def score_pair(truth: np.ndarray, labels: np.ndarray, tau: float = 0.5) -> Score:
    """The only `Score` of `scores` for one tau."""
    return scores(truth, labels, [tau])[0]


def missing(truth: np.ndarray, taus: Sequence[float]) -> List[Score]:
    """No scores for an image whose prediction is missing or cannot be scored."""
    return []


def check_shapes(truth: np.ndarray, labels: np.ndarray) -> None:
    """LabelError unless both are (H, W) of the same size."""
    if truth.shape != labels.shape:
        raise LabelError(f"its shape is {labels.shape}, that of its truth {truth.shape}")
    if truth.ndim != 2:
        raise LabelError(f"a label image has two dimensions, not the shape {truth.shape}")


def _score(tables, tau, dice):
    """The `Score` of the parts of an image."""
    pairs = [matched(table, tau) for table in tables]
    true_num = sum(len(table.truth_labels) for table in tables)
    pred_num = sum(len(table.prediction_labels) for table in tables)
    counts = true_num, pred_num, sum(map(len, pairs))
    unseen = sum(len(t.truth_labels) for t in tables if not len(t.prediction_labels))
    iou_sum = float(sum(table.iou()[found].sum() for table, found in zip(tables, pairs)))
    score = rate(tau, counts, iou_sum, dice, EMPTY)
    rounded = {
        name: float(np.round(getattr(score, name), 4))
        for name in ("precision", "recall", "f1", "dice")
    }
    return replace(score, missed_num=score.missed_num - unseen, **rounded)


def _table(truth, labels):
    """The `Overlaps` of the cells that count in an image or tile."""
    for name, image in (("truth", truth), ("prediction", labels)):
        if image.min() < 0:
            raise LabelError(f"the {name} has a negative label, {image.min()}, as int32 or so")
    return overlaps(truth, labels).without(_removed(truth), _removed(labels))


def _removed(labels):
    """The labels that count as touching the frame; the smallest of them for background."""
    if min(labels.shape) <= 2 * FRAME:
        return np.unique(labels)[1:]
    return frame_labels(labels)


def _parts(truth, labels):
    """The pairs of images that the organisers score: the two as they are, or tile by tile."""
    if truth.size < TILED_FROM:
        yield truth.astype(np.int32), labels.astype(np.int32)
        return
    labels = labels.astype(truth.dtype)
    for top in range(0, truth.shape[0], TILE):
        for left in range(0, truth.shape[1], TILE):
            tile = (slice(top, top + TILE), slice(left, left + TILE))
            yield _padded(truth[tile]), _padded(labels[tile])


def _padded(tile):
    """The tile filled up with background: so cells at the right and lower end stay."""
    height, width = tile.shape
    return np.pad(tile, ((0, TILE - height), (0, TILE - width)), mode="constant")


def _dice(truth, labels):
    """Dice of two masks; 1 where both are empty."""
    total = np.count_nonzero(truth) + np.count_nonzero(labels)
    return 2 * np.count_nonzero(truth & labels) / total if total else 1.0
