"""Labels in pieces that lie too far apart for one cell, as where ids are used twice."""

from typing import List, Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .matching import extents, foreground

NAMED = 5  # labels, say, that a sentence names


def remarks(what: str, labels: np.ndarray) -> List[str]:
    """Sentences about the label image (H, W) called `what`: a list of none or one."""
    found = scattered(labels).tolist()
    if not found:
        return []
    label = "label" if len(found) == 1 else "labels"
    return [
        f"{what}: {label} {listed(found)} in pieces far apart"
        " (is an id used for two cells?); each counts as one cell"
    ]


def listed(names: Sequence) -> str:
    """The first `NAMED` of some names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more


def scattered(labels: np.ndarray) -> np.ndarray:
    """The labels of an image (H, W) that come in pieces far apart, ascending.

    A piece is 8-connected. It is far when the gap between its box and that of the label's largest
    piece (by longest side) is longer than that side, across or down. Time and memory grow with
    the runs of pixels in the rows.
    """
    *places, label = foreground(labels)
    if not len(label):
        return label
    piece = _connected(*places, label, labels.shape[1] + 2)
    label = label[np.unique(piece, return_index=True)[1]]
    low, high = np.split(extents(piece, *places), 2, axis=1)
    side = (high - low).max(axis=1)
    order = np.lexsort((-side, label))  # the largest piece of each label first
    low, high, side, label = low[order], high[order], side[order], label[order]
    _, first, number = np.unique(label, return_index=True, return_inverse=True)
    main = first[number]
    gap = np.maximum(low - high[main], low[main] - high).max(axis=1)
    return np.unique(label[gap > side[main]])


def _connected(row, start, end, label, stride):
    """The number of the piece that each run belongs to (k,)."""
    start, end = row * stride + start, row * stride + end
    first = np.searchsorted(end, start - stride, side="left")  # touching it in the row above:
    last = np.searchsorted(start, end - stride, side="right")  # runs first..last - 1
    count = np.maximum(last - first, 0)
    below = np.repeat(np.arange(len(row)), count)
    above = np.arange(len(below)) + np.repeat(first - (np.cumsum(count) - count), count)
    same = label[above] == label[below]
    links = (np.ones(same.sum(), bool), (above[same], below[same]))
    return connected_components(coo_matrix(links, (len(row),) * 2), directed=False)[1]
