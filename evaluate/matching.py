"""Label images compared cell by cell, by the organisers' rules (arrays only, no files).

A label image is a 2-D array: 0 is background, every other whole number names one cell.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

TILED_FROM = 25000000  # pixels from which the organisers score an image tile by tile
TILE = 2000


@dataclass(frozen=True)
class Score:
    """One image, scored. The ratios are in [0, 1], rounded to 4 decimals as the organisers do.

    The counts are of cells that do not touch the frame; dice compares all foreground pixels.
    missed_num may be less than true_num - correct_num: see `score_pair`.
    """

    true_num: int
    pred_num: int
    correct_num: int
    missed_num: int
    wrong_num: int
    precision: float
    recall: float
    dice: float
    f1: float


@dataclass(frozen=True)
class Overlaps:
    """Which of n true and m predicted cells share pixels, in ascending order of their labels.

    truth_pixels (n,), prediction_pixels (m,): the area of each cell in pixels.
    rows (k,), columns (k,): true cell and predicted cell of each pair that shares pixels.
    pixels (k,): how many pixels the pair shares, 1 or more.
    """

    truth_pixels: np.ndarray
    prediction_pixels: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    pixels: np.ndarray

    def iou(self):
        """Intersection over union of each pair (k,), in (0, 1]."""
        both = self.truth_pixels[self.rows] + self.prediction_pixels[self.columns]
        return self.pixels / (both - self.pixels)


def score_pair(truth, prediction, tau=0.5):
    """The organisers' `Score` of a predicted label image (H, W) against the true one (H, W).

    A pair of cells with IoU >= tau (0 < tau <= 1) is correct. Their weak spots are kept:
    - without any predicted cell, no true cell counts as missed (nor in such a tile);
    - from 25,000,000 pixels on, tiles of 2000 x 2000 are scored each as an image of its own and
      the counts are summed: a cell on a seam is not scored, a label in two tiles is two cells;
    - labels are cast, and may wrap: to int32, in large images to the data type of the truth.
    ValueError: shapes differ or are not (H, W), or a label is negative (after the cast).
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"its shape is {prediction.shape}, that of its truth {truth.shape}")
    if truth.ndim != 2:
        raise ValueError(f"a label image has two dimensions, not the shape {truth.shape}")
    counts = [_count(*part, tau) for part in _parts(truth, prediction)]
    true_num, pred_num, correct, missed = np.sum(counts, axis=0).tolist()
    precision, recall = (correct / pred_num, correct / true_num) if correct else (0.0, 0.0)
    f1 = 2 * (precision * recall) / (precision + recall) if correct else 0.0
    ratios = (precision, recall, _dice(truth > 0, prediction > 0), f1)
    rounded = (float(np.round(ratio, 4)) for ratio in ratios)
    return Score(true_num, pred_num, correct, missed, pred_num - correct, *rounded)


def remove_frame(labels, width=2):
    """A copy of labels (H, W) without the cells that touch the outermost `width` pixels.

    An image with a side of 2 * width or less is all frame; if it has no background either, its
    smallest label stays (the organisers take the smallest value of the frame for background).
    """
    if min(labels.shape) <= 2 * width:
        touching = np.unique(labels)[1:]
    else:
        strips = (labels[:width], labels[-width:], labels[:, :width], labels[:, -width:])
        touching = np.unique(np.concatenate([strip.ravel() for strip in strips]))
    starts, lengths = _runs(labels)
    values = labels.ravel()[starts]
    values[np.isin(values, touching)] = 0
    return np.repeat(values, lengths).reshape(labels.shape)


def overlaps(truth, prediction):
    """The `Overlaps` of two label images (H, W) of whole numbers >= 0.

    Time and memory grow with pixels and overlapping pairs, not with n x m.
    """
    starts, lengths = _runs(truth, prediction)
    rows, truth_pixels = _cells(truth.ravel()[starts], lengths)
    columns, prediction_pixels = _cells(prediction.ravel()[starts], lengths)
    shared = (rows >= 0) & (columns >= 0)
    m = max(len(prediction_pixels), 1)
    pairs, pair = np.unique(rows[shared] * m + columns[shared], return_inverse=True)
    pixels = _sums(pair, lengths[shared], len(pairs))
    return Overlaps(truth_pixels, prediction_pixels, pairs // m, pairs % m, pixels)


def matched(table, tau):
    """Which pairs of an `Overlaps` are the correct ones: indices (TP,) into its rows.

    No cell is in two of them, they are as many as can be, all with IoU >= tau > 0, and of several
    such choices it is one with the largest sum of IoU. The organisers' assignment over all n x m
    pairs finds as many: there too, one more correct pair outweighs all that IoU adds. But only
    cells linked by correct pairs compete (from tau > 0.5 none do), so each group of them is
    settled alone.
    """
    iou = table.iou()
    pairs = np.flatnonzero(iou >= tau)
    n, m = len(table.truth_pixels), len(table.prediction_pixels)
    if not len(pairs):
        return pairs
    links = (np.ones(len(pairs)), (table.rows[pairs], n + table.columns[pairs]))
    _, group = connected_components(coo_matrix(links, (n + m, n + m)), directed=False)
    group = group[table.rows[pairs]]
    order = np.argsort(group, kind="stable")
    ends = np.flatnonzero(np.diff(group[order])) + 1
    chosen = [
        _assign(table.rows[part], table.columns[part], iou[part], part)
        for part in np.split(pairs[order], ends)
    ]
    return np.sort(np.concatenate(chosen))


def _assign(rows, columns, iou, pairs):
    """Those of `pairs`, all correct, that the best one-to-one assignment takes."""
    if len(pairs) < 2:
        return pairs
    rows, row = np.unique(rows, return_inverse=True)
    columns, column = np.unique(columns, return_inverse=True)
    gain = np.zeros((len(rows), len(columns)))
    gain[row, column] = 1 + iou / (2 * min(gain.shape))
    taken = np.zeros(gain.shape, bool)
    taken[linear_sum_assignment(-gain)] = True
    return pairs[taken[row, column]]


def _parts(truth, prediction):
    """The pairs of images that the organisers score: the two as they are, or tile by tile."""
    if truth.size < TILED_FROM:
        yield truth.astype(np.int32), prediction.astype(np.int32)
        return
    prediction = prediction.astype(truth.dtype)
    for top in range(0, truth.shape[0], TILE):
        for left in range(0, truth.shape[1], TILE):
            tile = (slice(top, top + TILE), slice(left, left + TILE))
            yield _padded(truth[tile]), _padded(prediction[tile])


def _padded(tile):
    """The tile filled up with background: so cells at the right and lower end stay."""
    height, width = tile.shape
    return np.pad(tile, ((0, TILE - height), (0, TILE - width)), mode="constant")


def _count(truth, prediction, tau):
    """true_num, pred_num, correct_num, missed_num of two label images that count as one."""
    for name, labels in (("truth", truth), ("prediction", prediction)):
        if labels.min() < 0:
            raise ValueError(f"the {name} has a negative label, {labels.min()}")
    table = overlaps(remove_frame(truth), remove_frame(prediction))
    true_num, pred_num = len(table.truth_pixels), len(table.prediction_pixels)
    correct = len(matched(table, tau))
    return true_num, pred_num, correct, true_num - correct if pred_num else 0


def _dice(truth, prediction):
    """Dice of two masks; 1 where both are empty."""
    total = np.count_nonzero(truth) + np.count_nonzero(prediction)
    return 2 * np.count_nonzero(truth & prediction) / total if total else 1.0


def _runs(*images):
    """Runs of pixels, row after row, along which none of the images changes: starts, lengths."""
    changes = np.ones(images[0].size, bool)
    changes[1:] = False
    for image in images:
        flat = image.ravel()
        changes[1:] |= flat[1:] != flat[:-1]
    starts = np.flatnonzero(changes)
    return starts, np.diff(np.append(starts, len(changes)))


def _cells(values, lengths):
    """Runs of labels → index of each run's cell (-1 for background), pixels of each cell."""
    labels, index = np.unique(values, return_inverse=True)
    if labels[:1] == 0:
        return index - 1, _sums(index, lengths, len(labels))[1:]
    return index, _sums(index, lengths, len(labels))


def _sums(index, amounts, size):
    """The sum of the whole-number amounts at each index 0..size-1 (exact below 2**53)."""
    return np.bincount(index, weights=amounts, minlength=size).astype(np.int64)
