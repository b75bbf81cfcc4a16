"""The rules that this evaluator goes by unless told otherwise: as the organisers', but nothing is
left out, wraps, or is cut into tiles.

- A cell that touches the outermost 2 pixels does not count, as with the organisers: ordinary images
  score the same. In an image with a side of 4 pixels or less, where every cell would touch,
  all count.
- A missing, unreadable or wrong-shaped prediction scores 0, all its true cells missed.
- An empty prediction misses all true cells. An image without any cell, true or predicted, scores 1.
- Large images are scored whole; labels may be of any integer type.
- Dice is of all foreground pixels, those of cells at the frame included. Nothing is rounded.
"""

from typing import List, Sequence, Tuple

import numpy as np

from .matching import FRAME, Overlaps, Score, frame_labels, matched, overlaps, rate
from .official import check_shapes

EMPTY = 1.0  # what an image without any cell scores


def scores(truth: np.ndarray, labels: np.ndarray, taus: Sequence[float]) -> List[Score]:
    """A `Score` per tau of predicted labels (H, W) against the true ones (H, W).

    LabelError: the shapes differ, or are not (H, W).
    """
    table, dice = counted(truth, labels)
    found = []
    for tau in taus:
        pairs = matched(table, tau)
        counts = len(table.truth_labels), len(table.prediction_labels), len(pairs)
        found.append(rate(tau, counts, float(table.iou()[pairs].sum()), dice, EMPTY))
    return found


def missing(truth: np.ndarray, taus: Sequence[float]) -> List[Score]:
    """A `Score` of 0 per tau, for an image whose prediction is missing or cannot be scored."""
    cells = np.setdiff1d(np.unique(truth[truth > 0]), _removed(truth))
    return [rate(tau, (len(cells), 0, 0), 0.0, dice=0.0, empty=0.0) for tau in taus]


def counted(truth: np.ndarray, labels: np.ndarray) -> Tuple[Overlaps, float]:
    """The `Overlaps` of the cells that count, and Dice of all. LabelError: see `scores`.

    Which of the pairs are correct at tau, `matched` tells.
    """
    check_shapes(truth, labels)
    whole = overlaps(truth, labels)
    return whole.without(_removed(truth), _removed(labels)), whole.dice()


def _removed(labels):
    """The labels that touch the frame and do not count."""
    return frame_labels(labels) if min(labels.shape) > 2 * FRAME else labels[:0, 0]
