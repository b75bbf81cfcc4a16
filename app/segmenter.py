"""One image of any size -> Cells: numpy in, numpy out."""

import numpy as np
import torch

from app.cells import Cells
from app.intensity import Curve
from app.network import weights
from app.network.device import autocast, pick_device
from app.windows import merge, windows

CHUNK = 8192  # proposals decoded at a time, so that crowded windows need no more memory
GPU_BATCH = 4  # windows at a time on a GPU (reference.md, section 3)
LEAST_SIDE = 1.0  # pixels: proposals with a smaller box are dropped


class Segmenter:
    """A network with the whole way from one image to its cells.

    `load` makes one from a weights file. Attributes network (CPN) and device (torch.device) may
    be read; everything that decides the result is in `network.config`.
    """

    def __init__(self, network, device="auto"):
        """network: CPN; device: "auto", "cpu" or "cuda" (see network.device.pick_device)."""
        self.device = pick_device(device)
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)

    @classmethod
    def load(cls, path, device="auto"):
        """The segmenter of a weights file. Raises weights.WeightsError, ValueError."""
        network, _ = weights.load(path)
        return cls(network, device)

    def segment(self, image, progress=None):
        """Find the cells of an image.

        image: (H, W) or (H, W, C) of any real dtype (app.intensity says what becomes of its
        values). progress(done, total) is called after every batch of windows. Returns Cells in
        reading order and a list of sentences that the user should see.
        """
        return self.settle(self.proposals(image, progress), image.shape)

    def proposals(self, image, progress=None):
        """Yield (window, all its Cells in image coordinates), before any suppression."""
        config = self.network.config
        curve = Curve.fit(image)
        plan = windows(*image.shape[:2], config.window, config.window_stride)
        size = GPU_BATCH if self.device.type == "cuda" else 1
        for start in range(0, len(plan), size):
            batch = plan[start : start + size]
            crops = [curve(image[w.y0 : w.y1, w.x0 : w.x1]) for w in batch]
            for window, cells in zip(batch, self.detect(np.stack(crops))):
                yield window, cells.shift(window.x0, window.y0)
            if progress:
                progress(start + len(batch), len(plan))

    def settle(self, parts, shape):
        """Windows' Cells (see `proposals`) of an image of this shape -> what `segment` returns."""
        cells, recovered = merge(parts, *shape[:2], self.network.config.nms_threshold, True)
        if not recovered:
            return cells, []
        note = (
            f"{recovered} cells are in no window as a whole: larger than the overlap, or found at "
            "a window's edge alone; each is kept as the window that shows most of it has it"
        )
        return cells, [note]

    @torch.no_grad()
    def detect(self, crops):
        """All proposals of windows (B, h, w, 3) uint8, before any suppression: B Cells."""
        images = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2).float() / 255
        with autocast(self.device):
            maps = self.network(images.contiguous(memory_format=torch.channels_last))
        score = maps.score[:, 0].float().sigmoid()
        found = (score > self.network.config.score_threshold).nonzero(as_tuple=True)
        parts = [
            self.network.propose(maps, chunk, crops.shape[1:3])
            for chunk in zip(*(index.split(CHUNK) for index in found))
        ]
        if not parts:
            return [Cells.empty(self.network.config.samples) for _ in crops]
        image = torch.cat([part.image for part in parts]).cpu().numpy()
        cells = Cells.cat([to_cells(part) for part in parts])
        sides = cells.boxes[:, 2:] - cells.boxes[:, :2]
        valid = (sides >= LEAST_SIDE).all(axis=1)
        return [cells.filter(valid & (image == index)) for index in range(len(crops))]


def to_cells(proposals):
    """Proposals of the network -> Cells, whose uncertainties are top, right, bottom, left."""
    arrays = (
        proposals.refined,
        proposals.boxes,
        proposals.scores,
        proposals.uncertainties[:, [1, 2, 3, 0]],
    )
    return Cells(*(array.float().cpu().numpy() for array in arrays))
