"""What is known of the cells of one image: one struct of arrays for the whole way."""

from dataclasses import dataclass, fields

import numpy as np


@dataclass
class Cells:
    """n cells; row k is the same cell in every array (and label k + 1 in the label image).

    contours (n, S, 2): x, y of S points along each closed outline, float32, in pixels;
        (0, 0) is the centre of the top-left pixel.
    boxes (n, 4): x0, y0, x1, y1, the extent of the contour, float32, in pixels.
    scores (n,): how sure the network is that this is a cell, float32 in [0, 1].
    uncertainties (n, 4): of the top, right, bottom and left boundary, float32 in [0, 1]
        (0 is certain). Only here in this order: the network uses left, top, right, bottom.
    """

    contours: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    uncertainties: np.ndarray

    @classmethod
    def empty(cls, samples=0):
        """No cells, of contours with `samples` points."""
        shapes = ((0, samples, 2), (0, 4), (0,), (0, 4))
        return cls(*(np.zeros(shape, np.float32) for shape in shapes))

    @classmethod
    def cat(cls, parts):
        """All cells of a non-empty list of Cells, in order."""
        return cls(
            *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)),
        )

    def __len__(self):
        return len(self.scores)

    def filter(self, keep):
        """The cells that `keep` names: a boolean mask (n,) or indices, which may reorder."""
        return Cells(*(getattr(self, f.name)[keep] for f in fields(self)))

    def shift(self, dx, dy):
        """The same cells moved by dx, dy pixels (window coordinates to image coordinates)."""
        offset = np.asarray((dx, dy), np.float32)
        return Cells(
            self.contours + offset,
            self.boxes + np.tile(offset, 2),
            self.scores,
            self.uncertainties,
        )

    def certainties(self):
        """1 - mean of the four uncertainties (n,), in [0, 1] (paper, section 2.2.7)."""
        return 1 - self.uncertainties.mean(axis=1)
