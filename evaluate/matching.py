"""Label images compared cell by cell (arrays only, no files).

A label image is an array (H, W) of whole numbers >= 0: 0 is background, every other value is the
label of one cell. Memory and time grow with pixels and with pairs of cells that overlap, not with
true times predicted cells.
"""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

FRAME = 2  # pixels: the organisers do not count cells that touch an image's outermost ones
BAND = 2**22  # pixels that are taken apart at a time


@dataclass(frozen=True)
class Score:
    """One image, or several together, scored at the IoU threshold `tau`.

    The counts are of cells; a correct one is a true and a predicted cell with IoU >= tau.
    Ratios are in [0, 1]; mean_matched_iou is NaN where no cell is correct; dice compares all
    foreground pixels.
    """

    tau: float
    true_num: int
    pred_num: int
    correct_num: int
    missed_num: int
    wrong_num: int
    precision: float
    recall: float
    f1: float
    mean_matched_iou: float
    panoptic_quality: float
    average_precision: float
    dice: float


def rate(tau: float, counts: Sequence[int], iou_sum: float, dice: float, empty: float) -> Score:
    """The `Score` of so many true, predicted and correct cells (counts).

    iou_sum: of the correct pairs. empty: what the ratios are where there is no cell at all, neither
    true nor predicted.
    """
    true_num, pred_num, correct_num = counts
    counts = (*counts, true_num - correct_num, pred_num - correct_num)
    if not correct_num:
        ratio = 0.0 if true_num or pred_num else empty
        return Score(tau, *counts, ratio, ratio, ratio, float("nan"), ratio, ratio, dice)
    precision, recall = correct_num / pred_num, correct_num / true_num
    return Score(
        tau,
        *counts,
        precision,
        recall,
        f1=2 * (precision * recall) / (precision + recall),
        mean_matched_iou=iou_sum / correct_num,
        panoptic_quality=iou_sum / ((true_num + pred_num) / 2),
        average_precision=correct_num / (true_num + pred_num - correct_num),
        dice=dice,
    )


@dataclass(frozen=True)
class Overlaps:
    """Which of n true and m predicted cells share pixels.

    truth_labels (n,), prediction_labels (m,): the labels of the cells, ascending.
    truth_pixels (n,), prediction_pixels (m,): the area of each cell in pixels.
    rows (k,), columns (k,): true cell and predicted cell (indices) of each pair that shares pixels.
    pixels (k,): how many pixels the pair shares, 1 or more.
    """

    truth_labels: np.ndarray
    prediction_labels: np.ndarray
    truth_pixels: np.ndarray
    prediction_pixels: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    pixels: np.ndarray

    def iou(self) -> np.ndarray:
        """Intersection over union of each pair (k,), in (0, 1]."""
        both = self.truth_pixels[self.rows] + self.prediction_pixels[self.columns]
        return self.pixels / (both - self.pixels)

    def dice(self) -> float:
        """Dice of the foreground pixels of all cells; 1 where there are none."""
        total = self.truth_pixels.sum() + self.prediction_pixels.sum()
        return float(2 * self.pixels.sum() / total) if total else 1.0

    def without(self, truth_labels: np.ndarray, prediction_labels: np.ndarray) -> "Overlaps":
        """The table without these true and these predicted cells."""
        rows = ~np.isin(self.truth_labels, truth_labels)
        columns = ~np.isin(self.prediction_labels, prediction_labels)
        kept = rows[self.rows] & columns[self.columns]
        true = self.truth_labels[rows], self.truth_pixels[rows]
        predicted = self.prediction_labels[columns], self.prediction_pixels[columns]
        row, column = np.cumsum(rows)[self.rows] - 1, np.cumsum(columns)[self.columns] - 1
        pairs = np.stack([row, column, self.pixels])[:, kept]
        return Overlaps(true[0], predicted[0], true[1], predicted[1], *pairs)


def overlaps(truth: np.ndarray, prediction: np.ndarray) -> Overlaps:
    """The `Overlaps` of two label images (H, W) of any integer types."""
    parts = []
    for band in bands(truth.shape):
        starts, lengths = runs(truth[band], prediction[band])
        values = (labels[band].ravel()[starts] for labels in (truth, prediction))
        parts.append(_pairs(*values, lengths))
    true, predicted, pixels = _pairs(*map(np.concatenate, zip(*parts)))
    truth_labels, rows, truth_pixels = _cells(true, pixels)
    prediction_labels, columns, prediction_pixels = _cells(predicted, pixels)
    both = (rows >= 0) & (columns >= 0)
    pairs = np.stack([rows, columns, pixels])[:, both]
    return Overlaps(truth_labels, prediction_labels, truth_pixels, prediction_pixels, *pairs)


def bands(shape: Tuple[int, int]) -> List[slice]:
    """Slices of whole rows that make up an image (H, W), each of `BAND` pixels or one row."""
    height, width = shape
    step = max(BAND // max(width, 1), 1)
    return [slice(top, top + step) for top in range(0, height, step)]


def runs(*images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Runs of pixels of a row along which none of the images (H, W) changes.

    Returns starts, lengths (k,): the flat index of each run's first pixel, and its pixels.
    """
    changes = np.ones(images[0].shape, bool)
    changes[:, 1:] = False
    for image in images:
        changes[:, 1:] |= image[:, 1:] != image[:, :-1]
    starts = np.flatnonzero(changes)
    return starts, np.diff(np.append(starts, changes.size))


def foreground(labels: np.ndarray) -> List[np.ndarray]:
    """The runs of pixels along the rows of an image (H, W) that are of one cell, in their order.

    Returns row, start, end (excluded) and label of each run, arrays (k,).
    """
    width = labels.shape[1]
    parts = []
    for band in bands(labels.shape):
        starts, lengths = runs(labels[band])
        values = labels[band].ravel()[starts]
        row, start = np.divmod(starts, width)
        parts.append(np.stack([row + band.start, start, start + lengths])[:, values > 0])
        parts.append(values[values > 0])
    return [*np.concatenate(parts[::2], axis=1), np.concatenate(parts[1::2])]


def extents(group: np.ndarray, row: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The box of each group of runs: left, top, right, bottom (ends excluded), (n, 4).

    group (k,): the number 0..n-1 of the group of each run. row, start, end: see `foreground`.
    """
    order = np.argsort(group, kind="stable")
    firsts = np.flatnonzero(np.diff(group[order], prepend=-1))
    row, start, end = row[order], start[order], end[order]
    least, most = np.minimum.reduceat, np.maximum.reduceat
    sides = [least(start, firsts), least(row, firsts), most(end, firsts), most(row, firsts) + 1]
    return np.stack(sides, axis=1)


def boxes(labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The labels > 0 of an image (H, W), ascending (n,), and their boxes (n, 4): see `extents`."""
    *places, values = foreground(labels)
    found, group = _indexed(values)
    return found, extents(group, *places)


def _pairs(true, predicted, pixels):
    """Equal (true, predicted) labels taken together: labels, labels, the sum of their pixels."""
    true, row = _indexed(true)
    predicted, column = _indexed(predicted)
    found, pair = _indexed(row * len(predicted) + column)
    sums = _sums(pair, pixels, len(found))
    return true[found // len(predicted)], predicted[found % len(predicted)], sums


def _cells(values, pixels):
    """Labels in many places: those > 0, the index among them of each place (-1), their pixels."""
    labels, index = _indexed(values)
    sums = _sums(index, pixels, len(labels))
    first = int(labels[0] == 0)
    return labels[first:], index - first, sums[first:]


def _indexed(values):
    """The different values, ascending, and the index of each value among them.

    (As numpy.unique with return_inverse, several times faster for neighbouring runs.)
    """
    found = np.unique(values)
    return found, np.searchsorted(found, values)


def _sums(index, amounts, size):
    """The sum of the whole-number amounts at each index 0..size-1 (exact below 2**53)."""
    return np.bincount(index, weights=amounts, minlength=size).astype(np.int64)


def frame_labels(labels: np.ndarray) -> np.ndarray:
    """The labels > 0 in an image (H, W) that touch its outermost `FRAME` pixels, ascending."""
    strips = (labels[:FRAME], labels[-FRAME:], labels[:, :FRAME], labels[:, -FRAME:])
    touching = np.unique(np.concatenate([strip.ravel() for strip in strips]))
    return touching[touching > 0]


def matched(table: Overlaps, tau: float) -> np.ndarray:
    """Which pairs of an `Overlaps` are the correct ones: indices (TP,) into its rows.

    No cell is in two of them, they are as many as can be, all with IoU >= tau > 0, and of several
    such choices it is one with the largest sum of IoU. The organisers' assignment over all n x m
    pairs finds as many: there too, one more correct pair outweighs all that IoU adds. But only
    cells linked by correct pairs compete (from tau > 0.5 none do), so each group of them is
    settled alone.
    """
    iou = table.iou()
    pairs = np.flatnonzero(iou >= tau)
    group = _linked(table, pairs)
    alone = np.bincount(group)[group] == 1
    chosen, pairs, group = [pairs[alone]], pairs[~alone], group[~alone]
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    for part in np.split(pairs[order], starts)[1:]:
        chosen.append(part[_assigned(table.rows[part], table.columns[part], iou[part])])
    return np.sort(np.concatenate(chosen))


def _linked(table, pairs):
    """The number of the group of cells, linked by `pairs`, that each of the pairs is in."""
    n, m = len(table.truth_labels), len(table.prediction_labels)
    links = (np.ones(len(pairs)), (table.rows[pairs], n + table.columns[pairs]))
    _, group = connected_components(coo_matrix(links, (n + m, n + m)), directed=False)
    return group[table.rows[pairs]]


def _assigned(rows, columns, iou):
    """Which of these pairs the best one-to-one assignment takes: (k,) bool.

    One sparse matching of every row, either to a column or, for a gain of 1, to none: a column
    of its own that is added for it.
    """
    rows, row = _indexed(rows)
    columns, column = _indexed(columns)
    n, m = len(rows), len(columns)
    gain = np.concatenate([2 + iou / (2 * min(n, m)), np.ones(n)])
    places = np.concatenate([row, np.arange(n)]), np.concatenate([column, m + np.arange(n)])
    choice = coo_matrix((gain, places), (n, m + n)).tocsr()
    _, taken = min_weight_full_bipartite_matching(choice, maximize=True)
    return taken[row] == column
