"""The stages by which a large image is segmented; each does what is missing of it."""

from functools import partial
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from app.cells import Cells
from app.images import ImageError, Loaded
from app.large.plan import Plan
from app.large.store import KINDS, Merged, Store
from app.large.strips import Strips
from app.rasterize import corners
from app.segmenter import Segmenter, recovered_note
from app.sizes import Sizes
from app.suppression import Outlined, weights
from app.windows import reading_order, settle_across, settle_within


class Share(NamedTuple):
    """What one process does: one of app.large.STAGES alone, or None for all; of the windows and of
    the files the part `part` (1 to `parts`), or all of them."""

    stage: Optional[str] = None
    part: int = 1
    parts: int = 1

    def of(self, count: int) -> range:
        """Which of so many it does: a run of them, so that windows of a part lie together."""
        return range((self.part - 1) * count // self.parts, self.part * count // self.parts)

    def includes(self, stage: str) -> bool:
        """Whether it does this stage of a large image. Of parts the last one is done by no one:
        only who has no part of the work knows when all of it is there."""
        if self.stage is not None:
            return self.stage == stage
        return self.parts == 1 or stage in ("plan", "work")


EVERYTHING = Share()


def plan(segmenter: Segmenter, image: Loaded, record: dict) -> Tuple[Plan, List[str]]:
    """The plan for an image, and sentences (see `Segmenter.with_retreats`).

    Looks at all of the image for its values, and at a sample for its scale.
    """
    view = segmenter.view(image.pixels, image.nodata)
    factor, said = segmenter.with_retreats(lambda: segmenter.scale_of(view))
    made = Plan(
        record,
        tuple(image.pixels.shape[:2]),
        factor,
        view.convert,
        view.no_image,
        segmenter.plan(view.at(factor).shape),
    )
    return made, said


def work(
    store: Store,
    segmenter: Segmenter,
    image: Loaded,
    numbers: range,
    progress: Optional[Callable[[int, int], None]] = None,
) -> List[str]:
    """Find the cells of those windows of these numbers that have no file yet; returns sentences."""
    view, windows = store.plan.view(image.pixels), store.plan.windows
    done = len(numbers) - len(store.missing(numbers))

    def told(here, total):
        if progress:
            progress(done + here, done + total)

    def all_missing():
        missing = store.missing(numbers)
        plan = [windows[number] for number in missing]
        parts = segmenter.proposals(view, told, plan, len(windows))
        numbers_of = {windows[number]: number for number in missing}
        for window, cells in parts:
            settled = settle_within(window, cells, *view.shape, segmenter.rules)
            store.write_window(numbers_of.pop(window), *settled)
        none = Cells.empty(segmenter.inference.samples)
        for number in numbers_of.values():  # those that were passed over
            store.write_window(number, none, none, background=True)

    return segmenter.with_retreats(all_missing, may_halve=False)[1]


def merge(store: Store, segmenter: Segmenter, image: Loaded, sizes: Sizes) -> Merged:
    """The cells of an image from those of all of its windows; sizes: of cells, in pixels.

    Only outlines of cells that overlap those of other windows are looked at. Raises ImageError
    where a window is missing.
    """
    _check_all_there(store)
    view, windows = store.plan.view(image.pixels), store.plan.windows
    order = sorted(range(len(windows)), key=windows.__getitem__)  # as app.windows.merge has them
    whole, cut = (_Found.gathered(store, kind, order) for kind in range(len(KINDS)))
    outlined = Outlined(
        whole.boxes,
        weights(Cells.without_contours(*whole[:3]), segmenter.rules.certainty),
        whole.group,
        lambda index: store.outline(order[whole.group[index]], whole.row[index]),
    )
    kept, recovered = settle_across(
        [windows[number] for number in order],
        outlined,
        cut.boxes,
        cut.group,
        view.shape,
        segmenter.rules,
    )
    found = _Found(*map(np.concatenate, zip(whole.filter(kept), cut.filter(recovered))))
    kind = np.repeat([0, 1], [len(kept), len(recovered)])
    first = reading_order(found.boxes)
    first = first[segmenter.convincing(found.scores[first], found.areas[first])]
    found, kind = found.filter(first), kind[first]
    window = np.array(order, np.int64)[found.group]
    rows, boxes = np.zeros((len(kind), 2), np.int64), np.zeros_like(found.boxes)
    fits = np.zeros(len(kind), bool)
    for at, cells in _in_image(store, view, window, kind, found.row):
        rows[at], boxes[at] = corners(cells.contours)[:, 1::2], cells.boxes
        fits[at] = sizes.fit(cells)
    merged = Merged(
        *(part[fits] for part in (window, kind, found.row, rows, boxes)),
        *(part[fits] for part in (found.scores, found.uncertainties)),
        np.count_nonzero(kind),
        sum(store.is_background(number) for number in order),
    )
    store.write_merged(merged)
    return merged


def _check_all_there(store):
    """Raise ImageError where the file of a window is missing."""
    missing = store.missing(range(len(store.plan.windows)))
    if missing:
        some = ", ".join(f"{number:06d}" for number in missing[:5])  # as their files are named
        more = ", ..." if len(missing) > 5 else ""
        raise ImageError(
            f"{len(missing)} of {len(store.plan.windows)} windows are missing ({some}{more}): "
            "start the work again"
        )


def draw(store: Store, merged: Merged, image: Loaded) -> Strips:
    """The label image of what the merge found, to be iterated over."""
    contours = partial(contours_of, store, merged, image)
    return Strips(merged.rows, contours, store.plan.shape)


def contours_of(store: Store, merged: Merged, image: Loaded, cells: np.ndarray) -> np.ndarray:
    """The contours (m, S, 2) of some of the merged cells, by their indices (m,)."""
    found = np.zeros((0, 0, 2), np.float32)
    places = (part[cells] for part in (merged.window, merged.kind, merged.row))
    for at, some in _in_image(store, store.plan.view(image.pixels), *places):
        if not len(found):
            found = np.zeros((len(cells), *some.contours.shape[1:]), np.float32)
        found[at] = some.contours
    return found


def notes(store: Store, merged: Merged) -> List[str]:
    """Sentences on what became of windows and of cells."""
    said = [recovered_note(int(merged.recovered))] if merged.recovered else []
    if merged.background:
        total = len(store.plan.windows)
        said.append(f"{merged.background} of {total} windows show background alone: passed over")
    return said


class _Found(NamedTuple):
    """Cells of many windows beside their contours; group (n,): of which window, row (n,): there."""

    boxes: np.ndarray
    scores: np.ndarray
    uncertainties: np.ndarray
    areas: np.ndarray
    group: np.ndarray
    row: np.ndarray

    @classmethod
    def gathered(cls, store: Store, kind: int, order: Sequence[int]) -> "_Found":
        """Those of one kind in the windows of these numbers."""
        names = list(cls._fields[:4])
        parts = [store.arrays(number, kind, names) for number in order]
        counts = [len(part["scores"]) for part in parts]
        arrays = (np.concatenate([part[name] for part in parts]) for name in names)
        row = np.concatenate([np.arange(count) for count in counts])
        return cls(*arrays, np.repeat(np.arange(len(order)), counts), row)

    def filter(self, keep: np.ndarray) -> "_Found":
        """As of Cells."""
        return _Found(*(part[keep] for part in self))


def _in_image(store, view, window, kind, row) -> Iterator[Tuple[np.ndarray, Cells]]:
    """Yield (where among these, the Cells in pixels of the image), window by window.

    window, kind, row (n,): as of Merged.
    """
    order = np.lexsort((kind, window))
    changes = np.flatnonzero(np.diff(window[order]) | np.diff(kind[order])) + 1
    for at in np.split(order, changes):
        if len(at):
            cells = store.cells(int(window[at[0]]), int(kind[at[0]]))
            yield at, view.to_image(cells.filter(row[at]))
