"""Labels in pieces that lie too far apart for one cell, as where ids are used twice."""

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .matching import bands, runs

NAMED = 5  # labels that a remark names


def remarks(what, labels):
    """Sentences about the label image (H, W) called `what`: a list of none or one."""
    found = scattered(labels).tolist()
    if not found:
        return []
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    label = "label" if len(found) == 1 else "labels"
    return [
        f"{what}: {label} {', '.join(map(str, found[:NAMED]))}{more} in pieces far apart"
        " (is an id used for two cells?); each counts as one cell"
    ]


def scattered(labels):
    """The labels of an image (H, W) that come in pieces far apart, ascending.

    A piece is 8-connected. It is far when the gap between its box and that of the label's largest
    piece (by longest side) is longer than that side, across or down. Time and memory grow with
    the runs of pixels in the rows.
    """
    top, left, bottom, right, label = _pieces(labels)
    side = np.maximum(bottom - top, right - left)
    order = np.lexsort((-side, label))
    top, left, bottom, right, label = (a[order] for a in (top, left, bottom, right, label))
    first = np.append(True, label[1:] != label[:-1])[: len(label)]
    main = np.maximum.accumulate(np.where(first, np.arange(len(label)), 0))
    gaps = (top - bottom[main], top[main] - bottom, left - right[main], left[main] - right)
    far = np.max(gaps, axis=0) > side[order][main]
    return np.unique(label[far])


def _pieces(labels):
    """Box top, left, bottom, right (ends excluded) and label of each piece, arrays (k,)."""
    row, start, end, label = _foreground(labels)
    if not len(label):
        return row, start, row, end, label
    piece = _connected(row, start, end, label, labels.shape[1] + 2)
    order = np.argsort(piece, kind="stable")
    firsts = np.flatnonzero(np.diff(piece[order], prepend=-1))
    row, start, end = row[order], start[order], end[order]
    return (
        row[firsts],
        np.minimum.reduceat(start, firsts),
        np.maximum.reduceat(row, firsts) + 1,
        np.maximum.reduceat(end, firsts),
        label[order][firsts],
    )


def _foreground(labels):
    """The runs of foreground in the rows, in their order: row, start, end, label, arrays (k,)."""
    width = labels.shape[1]
    parts = []
    for band in bands(labels.shape):
        starts, lengths = runs(labels[band])
        values = labels[band].ravel()[starts]
        cells = values > 0
        starts, lengths = starts[cells], lengths[cells]
        row, start = starts // width, starts % width
        parts.append((row + band.start, start, start + lengths, values[cells]))
    return [np.concatenate(part) for part in zip(*parts)]


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
