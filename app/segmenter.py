"""One image of any size -> Cells: numpy in, numpy out."""

from functools import partial
from pathlib import Path
from typing import (
    Callable,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)

import numpy as np
import torch

from app.background import is_background
from app.cells import Cells, counted
from app.intensity import Curve, Curves, no_image
from app.lanes import in_lanes, lanes
from app.network import fourier, weights
from app.network.config import Inference
from app.network.cpn import CPN, Maps, Proposals
from app.network.device import (
    computing,
    is_out_of_memory,
    pick_device,
    reduced_precision,
    times_in_memory,
)
from app.network.folding import folded
from app.scale import (
    COARSER,
    FINER,
    View,
    are_seen,
    clearest,
    is_better,
    is_finer_better,
    may_be_too_small,
)
from app.sizes import Size, Sizes, check_scale
from app.suppression import Rules, convincing, mostly_on, suppress
from app.windows import Window, merge, spread_over, windows

CHUNK = 8192  # proposals decoded at a time, so that crowded windows need no more memory
LEAST_SIDE = 1.0  # pixels: proposals with a smaller box are dropped
LEAST_WINDOW = 256  # pixels: windows are not made smaller than this where memory is short
# Contour points of proposals that are compared by their boxes alone: more give the same boxes.
THINNING_SAMPLES = 16
# The sides by which a thorough search flips windows, each of which takes the time of another look;
# in images of more pixels, by the first alone.
FLIPS = ((2, 3), (2,), (3,))
ALL_FLIPS_UP_TO = 10000000
# The best outline of several looks has a higher score than that of one: so much more of the best
# scores is asked for then.
MORE_SHARE = 0.05
# Windows of an image too large to be tried at all scales: so many are looked at, and so many of
# those that show anything are segmented.
LOOKED_AT, SAMPLE = 96, 12
MOST_WINDOWS = 16  # at a time, even where memory has room for more: it gets no faster
CPU = torch.device("cpu")
T = TypeVar("T")


class Found(NamedTuple):
    """Cells in reading order, sentences that the user should see, and by how much the image was
    scaled."""

    cells: Cells
    notes: List[str]
    scale: float


class Segmenter:
    """Networks with the whole way from one image to its cells.

    `load` makes one from weights files. Several networks are an ensemble: the proposals of all
    go into one suppression. Of the first network are all settings (network.config.Inference) but
    the thinning, the refinement and the least score of a proposal, which are each network's own.
    All that decides the result is in these settings and in the arguments here:

    networks: a CPN or several. device: "auto", "cpu" or "cuda" (see network.device.pick_device).
    uncertainty_nms: whether certainty counts in the suppression, beside the score. amp: mixed
    precision where the device has it, else float32. refinement: without it contours are left as
    the Fourier coefficients have them, and may reach beyond the image. threshold: the score (0 to
    1) that cells have to exceed, whatever the others of their image have; by default the settings
    decide. min_size, max_size: of the cells, as of app.sizes.Size. scale: by how much images are
    scaled before they are segmented (see app.scale); by default it is chosen for each image.
    thorough: at the scale that one look chooses windows are seen four times, as they are and
    flipped, and of all outlines of a cell the best is taken (of images above ALL_FLIPS_UP_TO pixels
    twice). By default the cells then have to reach MORE_SHARE more of the best scores; a threshold
    is taken as it is.

    Raises ValueError for arguments that make no sense.
    """

    def __init__(
        self,
        networks: Union[CPN, Sequence[CPN]],
        device: str = "auto",
        uncertainty_nms: bool = True,
        amp: bool = True,
        refinement: bool = True,
        threshold: Optional[float] = None,
        min_size: Union[Size, float, str, None] = None,
        max_size: Union[Size, float, str, None] = None,
        scale: Optional[float] = None,
        thorough: bool = False,
    ):
        alone = isinstance(networks, torch.nn.Module)
        self.networks = [network.eval() for network in ([networks] if alone else networks)]
        self.uncertainty_nms = uncertainty_nms
        self.amp = amp
        self.refinement = refinement
        self.threshold = threshold
        self.sizes = Sizes.of(min_size, max_size)
        self.scale = scale
        self.thorough = thorough
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"a threshold of scores must be in 0..1, not {threshold:g}")
        check_scale(scale)
        self._use(pick_device(device))

    @classmethod
    def load(
        cls,
        paths: Union[str, Path, Sequence[Union[str, Path]]],
        device: str = "auto",
        **options: Union[bool, float, str, Size, None],
    ) -> "Segmenter":
        """The segmenter of a weights file, or of several. Raises weights.WeightsError, ValueError.

        options: as of Segmenter. Warns of a GPU that cannot be used (network.device.DeviceWarning).
        """
        paths = paths if isinstance(paths, (list, tuple)) else [paths]
        networks = [folded(weights.load(path)[0]) for path in paths]
        return cls(networks, device, **options)

    @property
    def network(self) -> CPN:
        """The first network."""
        return self.networks[0]

    @property
    def inference(self) -> Inference:
        """The settings of the first network."""
        return self.network.config.inference

    @property
    def rules(self) -> Rules:
        """Which of several cells that overlap stays."""
        settings = self.inference
        return Rules(
            settings.nms_threshold,
            settings.certainty if self.uncertainty_nms else None,
            settings.nms_by_outlines,
            settings.recovery,
        )

    def share(self, once: bool = False) -> float:
        """Of the best scores of an image that its cells reach (suppression.convincing).

        once: of cells that one look has found, be the search thorough or not.
        """
        share = self.inference.score_share
        if self.threshold is not None or not share:
            return 0.0
        return min(share + MORE_SHARE, 1.0) if self.thorough and not once else share

    def convincing(self, scores: np.ndarray, areas: np.ndarray, once: bool = False) -> np.ndarray:
        """Which of all cells of an image, (n,) scores and areas, are taken (of `suppression`);
        once: as of `share`."""
        return convincing(scores, areas, self.share(once), self.inference.score_threshold)

    def least_score(self, network: CPN) -> float:
        """Above which a network's proposals may be cells: the least that `convincing` can ask."""
        if self.threshold is not None:
            return self.threshold
        return network.config.inference.score_threshold * (self.share(once=True) or 1)

    @property
    def precision(self) -> str:
        """In what the networks compute: "float32", "bfloat16" or "float16"."""
        reduced = reduced_precision(self.device) if self.amp else None
        return str(reduced or torch.float32).split(".")[1]

    def _use(self, device):
        """Go to a torch.device, with all that it can take."""
        self.device = device
        self.batch = self.inference.batch  # windows at a time
        # Pixels of windows that are done at a time, instead, where the device has a memory of its
        # own: what the first ones take tells how many.
        self._room = None if device.type == "cuda" else 0
        self._at_once = self.batch  # how many were tried last
        self.division = 1  # of the windows' side and stride
        for network in self.networks:
            network.to(device).to(memory_format=torch.channels_last)

    def segment(
        self, image: np.ndarray, progress: Optional[Callable[[int, int], None]] = None
    ) -> Tuple[Cells, List[str]]:
        """(cells, notes) of `find`, for an image of which nothing else is known."""
        return self.find(image, progress)[:2]

    def find(
        self,
        image: np.ndarray,
        progress: Optional[Callable[[int, int], None]] = None,
        pixel_size: Optional[float] = None,
        nodata: Optional[float] = None,
        quantization: float = 0.0,
    ) -> Found:
        """Find the cells of an image.

        image: (H, W) or (H, W, C) of any real dtype (app.intensity says what becomes of its
        values): an array, or what has its shape, dtype and slices. progress(done, total) is
        called after every batch of windows. pixel_size: side of a pixel in µm. nodata: the value
        of pixels that are no image. quantization: of its file, as of images.Loaded. Returns Found,
        whose Cells are in pixels of the image. Where the GPU's memory is too small, this and all
        later images are done in smaller pieces.
        Raises sizes.UnknownPixelSize where sizes are wanted in µm and pixel_size is None.
        """
        sizes = self.sizes.in_pixels(pixel_size)
        view = self.view(image, nodata, quantization)
        found, retreats = self.with_retreats(lambda: self._search(view, progress))
        cells = found.cells.filter(sizes.fit(found.cells))
        return found._replace(cells=cells, notes=retreats + notes_on(view) + found.notes)

    def with_retreats(self, work: Callable[[], T], may_halve: bool = True) -> Tuple[T, List[str]]:
        """(what `work` returns, sentences). It is done again, needing less, where the GPU's memory
        is too small. may_halve: whether it plans its windows anew, so that they may be smaller."""
        retreats = []
        while True:
            try:
                return work(), retreats
            except RuntimeError as error:
                if self.device == CPU or not is_out_of_memory(error):
                    raise
            retreats.append(self._retreat(may_halve))

    def scale_of(self, view: View) -> float:
        """The scale at which an image is segmented whose View at the scale 1 this is, by a sample.

        Of LOOKED_AT windows, evenly spread, up to SAMPLE of those that show anything are segmented
        at the scales of `find`, by whose rule one is chosen; at FINER their middles are.
        """
        if self.scale is not None:
            return view.at(self.scale).factor
        spread = spread_over(self.plan(view.shape), LOOKED_AT)
        sample = [window for window in spread if not is_background(*view.window(window))]
        sample = spread_over(sample, SAMPLE)

        def at(view):
            return self._at_each(view, [window.shown_at(view.factor) for window in sample])

        return self._at_best_scale(view, at, sample).scale

    def _search(self, view, progress):
        """What is Found in an image, given as its View at the scale 1.

        One look at each scale tells which is best: what three flips more find where cells are too
        large for the network are surer pieces of them.
        """
        factor = self.scale
        if factor is None:
            height, width = view.shape
            once = partial(self._at, progress=progress, once=True)
            found = self._at_best_scale(view, once, [Window(0, 0, width, height)])
            if not self.thorough:
                return found
            factor = found.scale
        return self._at(view.at(factor), progress)

    def _at_best_scale(self, view, at, shown):
        """What is Found at the best scale of a View, which has the scale 1.

        at: View -> Found, in all of it or a sample; shown: the windows in which that is.
        """
        half, quarter = map(view.at, COARSER)
        coarsest, best = at(quarter), at(view)
        if are_seen(coarsest.cells, half.factor):
            for coarse in (at(half), coarsest):
                if is_better(coarse.cells, coarse.scale, best.cells):
                    best = coarse
        return self._finer(best, view, at, shown) if best.scale == 1 else best

    def _finer(self, found, view, at, shown):
        """What is Found at FINER if it is better than that at the scale 1, else this.

        view, at, shown: as of `_at_best_scale`.
        """
        if not may_be_too_small(found.cells):
            return found
        finer = view.at(FINER)
        if not len(found.cells):
            probes = [square.scaled(finer.factor) for square in clearest(view, shown)]
            if not is_finer_better(self._at_each(finer, probes).cells, found.cells):
                return found
        fine = at(finer)
        return fine if is_finer_better(fine.cells, found.cells) else found

    def _at_each(self, view, windows):
        """What one look finds in each of some windows of a View by itself: one Found."""
        found = [self._at(view, plan=[window], once=True).cells for window in windows]
        cells = Cells.cat(found) if found else Cells.empty(self.inference.samples)
        return Found(cells, [], view.factor)

    def _at(self, view, progress=None, plan=None, once=False):
        """What is Found in an image at the scale of its View."""
        parts = self.proposals(view, progress, plan, once=once)
        cells, notes = self.postprocess(parts, view.shape, once)
        return Found(view.to_image(cells), notes, view.factor)

    def view(
        self, image: np.ndarray, nodata: Optional[float] = None, quantization: float = 0.0
    ) -> View:
        """An image (see `find`) as the networks see it at the scale 1."""
        if self.inference.conversion == "channels":
            convert = Curves.fit(image, nodata=nodata, quantization=quantization)
            none = convert.no_image
        else:
            convert, none = Curve.fit(image), no_image(image, nodata)
        return View(image, convert, none)

    def _retreat(self, may_halve):
        """Need less of the GPU's memory from now on; returns the sentence that says how."""
        full = "the GPU's memory is full: from now on"
        side = self.inference.window // (2 * self.division)
        self._room = 0
        if self._at_once > self.batch:
            return f"{full} windows are done {self.batch} at a time"
        self.batch = self._at_once
        if self.batch > 1:
            self.batch //= 2
            return f"{full} windows are done {self.batch} at a time"
        if may_halve and side >= LEAST_WINDOW:
            self.division *= 2
            return f"{full} windows are {side} pixels wide, and larger cells may be cut"
        self._use(CPU)
        return f"{full} the CPU is used"

    def plan(self, shape: Sequence[int]) -> List[Window]:
        """The windows in which a View of this shape is segmented."""
        settings = self.inference
        side, stride = (n // self.division for n in (settings.window, settings.window_stride))
        return windows(*shape[:2], side, stride, settings.window_plan)

    def proposals(
        self,
        view: View,
        progress: Optional[Callable[[int, int], None]] = None,
        plan: Optional[Sequence[Window]] = None,
        total: Optional[int] = None,
        once: bool = False,
    ) -> Iterator[Tuple[Window, Cells]]:
        """Yield (window, its Cells in coordinates of the view), before the suppression.

        plan: some of its windows, by default all. total: how many the image has in all, where
        others are done elsewhere or before: all share the cores alike then, and their sums come
        out alike. once: one look, be the search thorough or not. Windows that show background
        alone are passed over. Cells that lie mostly on what is no image are left out. Where the
        settings have a thinning, so are proposals of a network that are all but the same: what
        score thresholds above the network's own let through stays complete.
        """
        plan = self.plan(view.shape) if plan is None else plan
        height, width = view.at(1).shape
        flips = FLIPS if height * width <= ALL_FLIPS_UP_TO else FLIPS[:1]
        flips = flips if self.thorough and not once else ()
        sizes = ((window.x1 - window.x0) * (window.y1 - window.y0) for window in plan)
        largest, done = max(sizes, default=0), 0

        def batches():
            start = 0
            while start < len(plan):
                self._at_once = self._windows_at_once(largest)
                batch = plan[start : start + self._at_once]
                start += len(batch)
                shown = [(window, *view.window(window)) for window in batch]
                yield len(batch), [one for one in shown if not is_background(*one[1:])]

        def found_in(batch):
            count, shown = batch
            found = self._found(np.stack([rgb for _, rgb, _ in shown]), flips) if shown else []
            return count, shown, found

        for count, shown, found in in_lanes(found_in, batches(), self.lanes(total or len(plan))):
            for (window, _, none), cells in zip(shown, found):
                kept = cells.filter(~mostly_on(cells, none))
                yield window, kept.shift(window.x0, window.y0)
            done += count
            if progress:
                progress(done, len(plan))

    def lanes(self, items: int) -> int:
        """How many of so many windows or small images are worked on at a time."""
        return lanes(items) if self.device == CPU else 1

    def _found(self, crops, flips):
        """`detect`; the first time on a GPU with a look at how much of its memory that takes."""
        if self._room is not None:
            return self.detect(crops, flips)
        found, times = times_in_memory(self.device, lambda: self.detect(crops, flips))
        self._room = int(times * crops[..., 0].size)
        return found

    def _windows_at_once(self, pixels):
        """How many windows of so many pixels go through the networks at a time."""
        if not self._room:
            return self.batch
        return min(max(self._room // pixels, 1), MOST_WINDOWS)

    def postprocess(
        self, parts: Iterable[Tuple[Window, Cells]], shape: Sequence[int], once: bool = False
    ) -> Tuple[Cells, List[str]]:
        """Windows' Cells (see `proposals`) of a view of this shape -> its cells and notes.

        once: as of `share`.
        """
        cells, recovered = merge(parts, *shape[:2], self.rules)
        if not len(cells):
            return Cells.empty(self.inference.samples), []
        kept = self.convincing(cells.scores, cells.areas(), once)
        cells, recovered = cells.filter(kept), int(recovered[kept].sum())
        return cells, [recovered_note(recovered)] if recovered else []

    @torch.no_grad()
    def detect(self, crops: np.ndarray, flips: Sequence[Sequence[int]] = ()) -> List[Cells]:
        """What the networks find in windows (B, h, w, 3) uint8: B Cells, before the suppression.

        flips: by which sides (2: rows, 3: columns) the windows are flipped in further looks.
        """
        images = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2).float() / 255
        looks = [(network, sides) for network in self.networks for sides in ((), *flips)]
        found = [self._look(network, images, sides) for network, sides in looks]
        return [Cells.cat(parts) for parts in zip(*found)]

    def _look(self, network, images, sides):
        """What one network finds in images (B, 3, h, w) that it sees flipped: B Cells of them."""
        seen = images.flip(sides).contiguous(memory_format=torch.channels_last)
        return [cells.flipped(sides, images.shape[2:]) for cells in self._detect(network, seen)]

    def _detect(self, network, images):
        """What one network finds in images (B, 3, h, w): B Cells."""
        with computing(self.device, self.amp):
            maps = network(images)
        size = images.shape[2:]
        refined = self.refinement and network.config.inference.refinement_iterations
        field = network.displacements(maps, size) if refined else None
        threshold, found = self.least_score(network), []
        for index, score in enumerate(maps.score[:, 0].float().sigmoid()):
            row, column = (score > threshold).nonzero(as_tuple=True)
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


def notes_on(view: View) -> List[str]:
    """Sentences on what an image itself keeps from being found."""
    said = []
    if len(view.no_image.drawn):
        where = ", ".join(dict.fromkeys(place(box, view.shape) for box in view.no_image.drawn))
        said.append(f"what looks like a scale bar or text ({where}) holds no cells")
    if isinstance(view.convert, Curves) and view.convert.is_coarse:
        said.append("for its contrast it is a JPEG of low quality: dim cells may be missed")
    return said


def place(box: Sequence[float], shape: Sequence[int]) -> str:
    """In which part of an image of (height, width) a box x0, y0, x1, y1 lies: "top left"."""
    (x0, y0, x1, y1), (height, width) = box, shape[:2]
    row = "top" if y0 + y1 < height else "bottom"
    third = int((x0 + x1) / 2 / width * 3)
    return f"{row} {('left', 'middle', 'right')[min(third, 2)]}"


def recovered_note(count: int) -> str:
    """The sentence on so many cells that no window shows whole."""
    return (
        f"{counted(count)} larger than the overlap of the windows, or seen at a window's "
        "edge alone: drawn as far as the window shows that has most of it"
    )


def finite(maps: Maps, at: Sequence[torch.Tensor]) -> List[torch.Tensor]:
    """Those of the positions `at` (image, row, column) whose outlines are numbers.

    In half precision a wild prediction overflows; it must not cost the image.
    """
    image, row, column = at
    sums = (part[image, :, row, column].float().sum(1) for part in (maps.location, maps.fourier))
    kept = sum(sums).isfinite()  # as all that was added up
    return [index[kept] for index in at]


def to_cells(proposals: Proposals) -> Cells:
    """Proposals of the network -> Cells, whose uncertainties are top, right, bottom, left."""
    arrays = (
        proposals.refined,
        proposals.boxes,
        proposals.scores,
        proposals.uncertainties[:, [1, 2, 3, 0]],
    )
    return Cells(*(array.float().cpu().numpy() for array in arrays))
