"""One image of any size -> Cells: numpy in, numpy out."""

from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch

from app.cells import Cells, counted
from app.intensity import CONVERSIONS
from app.network import fourier, weights
from app.network.config import Inference
from app.network.cpn import CPN, Maps, Proposals
from app.network.device import computing, is_out_of_memory, pick_device, reduced_precision
from app.suppression import convincing, suppress
from app.windows import Window, merge, windows

CHUNK = 8192  # proposals decoded at a time, so that crowded windows need no more memory
LEAST_SIDE = 1.0  # pixels: proposals with a smaller box are dropped
LEAST_WINDOW = 256  # pixels: windows are not made smaller than this where memory is short
# Contour points of proposals that are compared by their boxes alone: more give the same boxes.
THINNING_SAMPLES = 16
CPU = torch.device("cpu")


class Segmenter:
    """Networks with the whole way from one image to its cells.

    `load` makes one from weights files. Several networks are an ensemble: the proposals of all
    go into one suppression. Of the first network are all settings (network.config.Inference) but
    the score threshold, the thinning and the refinement, which are each network's own. All that
    decides the result is in these settings and in the arguments here:

    networks: a CPN or several. device: "auto", "cpu" or "cuda" (see network.device.pick_device).
    uncertainty_nms: whether certainty counts in the suppression, beside the score. amp: mixed
    precision where the device has it, else float32. refinement: without it contours are left as
    the Fourier coefficients have them, and may reach beyond the image.
    """

    def __init__(
        self,
        networks: Union[CPN, Sequence[CPN]],
        device: str = "auto",
        uncertainty_nms: bool = True,
        amp: bool = True,
        refinement: bool = True,
    ):
        alone = isinstance(networks, torch.nn.Module)
        self.networks = [network.eval() for network in ([networks] if alone else networks)]
        self.uncertainty_nms = uncertainty_nms
        self.amp = amp
        self.refinement = refinement
        self._use(pick_device(device))

    @classmethod
    def load(
        cls,
        paths: Union[str, Path, Sequence[Union[str, Path]]],
        device: str = "auto",
        uncertainty_nms: bool = True,
        amp: bool = True,
        refinement: bool = True,
    ) -> "Segmenter":
        """The segmenter of a weights file, or of several. Raises weights.WeightsError, ValueError.

        Warns of a GPU that cannot be used (network.device.DeviceWarning).
        """
        paths = paths if isinstance(paths, (list, tuple)) else [paths]
        networks = [weights.load(path)[0] for path in paths]
        return cls(networks, device, uncertainty_nms, amp, refinement)

    @property
    def network(self) -> CPN:
        """The first network."""
        return self.networks[0]

    @property
    def inference(self) -> Inference:
        """The settings of the first network."""
        return self.network.config.inference

    @property
    def precision(self) -> str:
        """In what the networks compute: "float32", "bfloat16" or "float16"."""
        reduced = reduced_precision(self.device) if self.amp else None
        return str(reduced or torch.float32).split(".")[1]

    def _use(self, device):
        """Go to a torch.device, with all that it can take."""
        self.device = device
        self.batch = self.inference.batch  # windows at a time
        self.division = 1  # of the windows' side and stride
        for network in self.networks:
            network.to(device).to(memory_format=torch.channels_last)

    def segment(
        self, image: np.ndarray, progress: Optional[Callable[[int, int], None]] = None
    ) -> Tuple[Cells, List[str]]:
        """Find the cells of an image.

        image: (H, W) or (H, W, C) of any real dtype (app.intensity says what becomes of its
        values): an array, or what has its shape, dtype and slices. progress(done, total) is
        called after every batch of windows. Returns Cells in reading order and a list of
        sentences that the user should see. Where the GPU's memory is too small, this and all
        later images are done in smaller pieces.
        """
        retreats = []
        while True:
            try:
                cells, notes = self.postprocess(self.proposals(image, progress), image.shape)
                return cells, retreats + notes
            except RuntimeError as error:
                if self.device == CPU or not is_out_of_memory(error):
                    raise
            retreats.append(self._retreat())

    def _retreat(self):
        """Need less of the GPU's memory from now on; returns the sentence that says how."""
        full = "the GPU's memory is full: from now on"
        side = self.inference.window // (2 * self.division)
        if self.batch > 1:
            self.batch //= 2
            return f"{full} windows are done {self.batch} at a time"
        if side >= LEAST_WINDOW:
            self.division *= 2
            return f"{full} windows are {side} pixels wide, and larger cells may be cut"
        self._use(CPU)
        return f"{full} the CPU is used"

    def proposals(
        self, image: np.ndarray, progress: Optional[Callable[[int, int], None]] = None
    ) -> Iterator[Tuple[Window, Cells]]:
        """Yield (window, its Cells in image coordinates), before the suppression.

        Where the settings have a thinning, proposals of a network that are all but the same are
        left out: what score thresholds above the network's own let through stays complete.
        """
        settings = self.inference
        convert = CONVERSIONS[settings.conversion](image)
        side, stride = (n // self.division for n in (settings.window, settings.window_stride))
        plan = windows(*image.shape[:2], side, stride, settings.window_plan)
        for start in range(0, len(plan), self.batch):
            batch = plan[start : start + self.batch]
            crops = [convert(image[w.y0 : w.y1, w.x0 : w.x1], (w.y0, w.x0)) for w in batch]
            for window, cells in zip(batch, self.detect(np.stack(crops))):
                yield window, cells.shift(window.x0, window.y0)
            if progress:
                progress(start + len(batch), len(plan))

    def postprocess(
        self, parts: Iterable[Tuple[Window, Cells]], shape: Sequence[int]
    ) -> Tuple[Cells, List[str]]:
        """Windows' Cells (see `proposals`) of an image of this shape -> what `segment` returns."""
        settings = self.inference
        cells, recovered = merge(
            parts,
            *shape[:2],
            settings.nms_threshold,
            settings.certainty if self.uncertainty_nms else None,
            settings.nms_by_outlines,
            settings.recovery,
        )
        kept = convincing(cells, settings.score_share)
        cells, recovered = cells.filter(kept), int(recovered[kept].sum())
        if not recovered:
            return cells, []
        note = (
            f"{counted(recovered)} larger than the overlap of the windows, or seen at a window's "
            "edge alone: drawn as far as the window shows that has most of it"
        )
        return cells, [note]

    @torch.no_grad()
    def detect(self, crops: np.ndarray) -> List[Cells]:
        """What the networks find in windows (B, h, w, 3) uint8: B Cells, before the suppression."""
        images = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2).float() / 255
        images = images.contiguous(memory_format=torch.channels_last)
        found = [self._detect(network, images) for network in self.networks]
        return [Cells.cat(parts) for parts in zip(*found)]

    def _detect(self, network, images):
        """What one network finds in images (B, 3, h, w): B Cells."""
        with computing(self.device, self.amp):
            maps = network(images)
        size = images.shape[2:]
        refined = self.refinement and network.config.inference.refinement_iterations
        field = network.displacements(maps, size) if refined else None
        found = []
        for index, score in enumerate(maps.score[:, 0].float().sigmoid()):
            row, column = (score > network.config.inference.score_threshold).nonzero(as_tuple=True)
            at = finite(maps, (torch.full_like(row, index), row, column))
            at = self._thinned(network, maps, at, size)
            cells = self._decode(network, maps, at, size, self.inference.samples, field)
            sides = cells.boxes[:, 2:] - cells.boxes[:, :2]
            found.append(cells.filter(cells.finite() & (sides >= LEAST_SIDE).all(axis=1)))
        return found

    def _thinned(self, network, maps, at, size):
        """Those of the positions `at` (image, row, column) that are worth refining.

        A cell has a hundred proposals. Of two whose boxes agree better than the network's
        `thinning` only the one of the higher score is refined: that is ten times as fast, and the
        mean F1 is the same to 0.001.
        """
        thinning = network.config.inference.thinning
        if thinning is None:
            return at
        rough = self._decode(network, maps, at, size, THINNING_SAMPLES)
        kept = np.sort(suppress(rough, thinning, certainty=None))
        chosen = torch.from_numpy(kept).to(self.device)
        return [index[chosen] for index in at]

    def _decode(self, network, maps, at, size, samples, field=None):
        """All Cells at positions `at`, chunk by chunk, refined where there is a field (see
        CPN.propose)."""
        t = fourier.uniform_locations(samples, self.device)
        iterations = None if field else 0
        parts = [
            to_cells(network.propose(maps, chunk, size, t, iterations, field))
            for chunk in zip(*(index.split(CHUNK) for index in at))
        ]
        return Cells.cat(parts)


def finite(maps: Maps, at: Sequence[torch.Tensor]) -> List[torch.Tensor]:
    """Those of the positions `at` (image, row, column) whose outlines are numbers.

    In half precision a wild prediction overflows; it must not cost the image.
    """
    image, row, column = at
    values = torch.cat([part[image, :, row, column] for part in (maps.location, maps.fourier)], 1)
    return [index[values.isfinite().all(1)] for index in at]


def to_cells(proposals: Proposals) -> Cells:
    """Proposals of the network -> Cells, whose uncertainties are top, right, bottom, left."""
    arrays = (
        proposals.refined,
        proposals.boxes,
        proposals.scores,
        proposals.uncertainties[:, [1, 2, 3, 0]],
    )
    return Cells(*(array.float().cpu().numpy() for array in arrays))
