"""Contours to a label image strip by strip, the same as app.rasterize draws at once."""

from typing import Callable, Iterator, Tuple

import cv2
import numpy as np
from scipy import ndimage

from app.rasterize import DISPUTED, draw_all, grow, seeded, settle

ROOM = 2**25  # pixels that are drawn at a time, if these are more rows than a few cells have
LEAST_ROWS = 256
MARGIN = 64  # rows above a strip that are drawn with it, if its cells are small


class Strips:
    """The label image of n cells, from top to bottom: iterate over it once.

    Each strip is (rows, W) uint32; together they are the labels that `rasterize` makes of the same
    cells, numbered alike. Around each strip some more rows are drawn, and only those are given out
    of which nothing can change by what lies beyond: neither by growing nor by what becomes of the
    pieces of a cell. Where cells are larger than expected, more is drawn.

    After the last strip, labelled (n,) bool says which cells have a label.
    """

    def __init__(
        self,
        rows: np.ndarray,
        contours: Callable[[np.ndarray], np.ndarray],
        shape: Tuple[int, int],
    ):
        """rows (n, 2): in which each cell is drawn (y0, y1 of rasterize.corners), in the order of
        labels. contours: indices (m,) -> outlines (m, S, 2). shape: of the image.
        """
        self._rows = np.clip(rows, 0, shape[0])
        self._contours, self._shape = contours, shape
        nowhere = self._rows[:, 0] == self._rows[:, 1]
        self._known = nowhere
        self.labelled = np.zeros(len(rows), bool)

    def __iter__(self) -> Iterator[np.ndarray]:
        height, width = self._shape
        usual = max(ROOM // width, LEAST_ROWS)
        done, more_above, more_below = 0, 1, 1
        while done < height:
            top = max(done - more_above * self._above(done), 0)
            bottom = min(done + more_below * usual, height)
            labels, cells, certain = self._drawn(top, bottom)
            ids, settled = self._ids()
            # A label that grew far from its own contour may be one whose number is not known yet.
            unknown = (labels > np.searchsorted(cells, settled)).any(axis=1)
            first, last = certain
            if unknown[: last - top].any():
                last = top + int(unknown.argmax())
            if first > done:
                more_above *= 2
            elif last <= done:
                more_below *= 2
            else:
                numbers = np.concatenate([np.zeros(1, np.uint32), ids[cells[cells < settled]]])
                yield numbers[labels[done - top : last - top]]
                done, more_above, more_below = last, 1, 1

    def _above(self, row):
        """How many rows above a row are drawn with it."""
        tall = self._rows[(self._rows[:, 0] < row) & (self._rows[:, 1] > row)]
        return max(MARGIN, 3 * int(np.ptp(tall, axis=1).max(initial=0)))

    def _ids(self):
        """(the labels of cells (k,), 0 for those without; k: up to which they are known)."""
        known = len(self._known) if self._known.all() else int(self._known.argmin())
        labelled = self.labelled[:known]
        return np.where(labelled, labelled.cumsum(), 0).astype(np.uint32), known

    def _drawn(self, top, bottom):
        """Rows of the image: (labels, the cells that label k + 1 is, from and to which row of the
        image they are certain)."""
        height, width = self._shape
        start, stop = self._rows.T
        cells = np.flatnonzero((start < bottom) & (stop > top) & (start < stop))
        labels = np.zeros((bottom - top, width), np.int32)
        draw_all(self._contours(cells), labels, top, height)
        whole = (start[cells] >= top) & (stop[cells] <= bottom)
        self.labelled[cells[whole]] = seeded(labels, len(cells))[whole]
        self._known[cells[whole]] = True
        disputed = (labels == DISPUTED).view(np.uint8)
        grow(labels)
        boxes = ndimage.find_objects(labels, len(cells))
        nowhere = len(labels), 0
        spans = [(box[0].start, box[0].stop) if box else nowhere for box in boxes]
        spans = np.array(spans, int).reshape(-1, 2)
        first = last = 0
        if top > 0:
            first = _reach(labels, disputed, spans[:, 1], stop[cells] - top, start[cells] < top)
        if bottom < height:
            last = _reach(
                labels[::-1],
                disputed[::-1],
                len(labels) - spans[:, 0],
                bottom - start[cells],
                stop[cells] > bottom,
            )
        settle(labels, boxes)
        return labels, cells, (top + first, bottom - last)


def _reach(labels, disputed, ends, ends_of_patches, cut):
    """Down to which row what lies above the first one may change labels that have grown.

    ends, ends_of_patches (n,): behind the last rows of cells, and of where they are drawn; cut
    (n,): whether there is more of these above. Disputed pixels that go on above may have other
    labels, and so may lose pieces or get holes all cells which touch these pixels, or are cut.
    """
    pieces, end = _from_above(disputed)
    beside = cv2.dilate(pieces, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    touching = labels[: len(beside)][beside > 0]
    reached = cut.copy()
    reached[touching[touching > 0] - 1] = True
    return max([1, end, *ends_of_patches[cut], *ends[reached]])


def _from_above(mask):
    """Of a mask (h, w) the pieces (4-connected) that its first row has part of: (rows of them
    alone, with one to spare if there is one, uint8; behind which row they end)."""
    rows = MARGIN
    while True:
        _, pieces, boxes, _ = cv2.connectedComponentsWithStats(mask[:rows], connectivity=4)
        through = np.setdiff1d(pieces[0], 0)
        tops, heights = boxes[through][:, [cv2.CC_STAT_TOP, cv2.CC_STAT_HEIGHT]].T
        end = int((tops + heights).max(initial=0))
        if end < rows or rows >= len(mask):
            return np.isin(pieces[: end + 1], through).astype(np.uint8), end
        rows *= 2
