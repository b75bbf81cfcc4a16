"""One image file: read, segmented, rasterised, and its labels saved.

What the command, the validation of a network and all other runs over many files share.
"""

from dataclasses import replace
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from app import exports, images, outputs
from app.cells import Cells, counted
from app.large import stages
from app.large.stages import EVERYTHING, Share
from app.large.store import Store, folder_of
from app.rasterize import rasterize
from app.segmenter import Segmenter

SMALL = 2**24  # pixels: up to these an image is worked on beside others
LARGE = 2**26  # pixels: from these on an image that is read by region is segmented by stages
WHOLE = 2**28  # pixels: of larger ones there are no exports, since these need all labels at once


class Segmented(NamedTuple):
    """What came of a file: (height, width) of its image, the Cells that have a label, remarks, and
    by how much the image was scaled to find them.

    The remarks are sentences, on what was left out.
    """

    shape: Tuple[int, int]
    cells: Cells
    remarks: List[str]
    scale: float


class InPart(NamedTuple):
    """That a share of a large image is done, which does not finish it. remarks: sentences."""

    remarks: List[str]


def segment_file(segmenter: Segmenter, path: Path, target: Path) -> Segmented:
    """Write the label image of the image file `path` to `target`, a path as app.names makes it.

    Nothing is written beside it, and it keeps no record. Raises images.ImageError for what cannot
    be read or written, and whatever the Segmenter does.
    """
    return begin(segmenter, path, images.load(path), target, None, Beside()).end()


class Begun(NamedTuple):
    """An image whose cells are found: `end` draws and writes them, for which no network is needed.

    shape: (height, width).
    """

    shape: Tuple[int, int]
    end: Callable[[], Union[Segmented, InPart]]


def begin(
    segmenter: Segmenter,
    path: Path,
    image: images.Loaded,
    target: Path,
    record: Optional[dict],
    beside: "Beside",
    progress: Optional[Callable[[int, int], None]] = None,
    share: Share = EVERYTHING,
) -> Begun:
    """Find the cells of the image file `path`, which is Loaded; a large one is done whole.

    target: where its label image goes. record: how the labels are made (outputs.record_for), which
    the label image keeps. progress: see Segmenter.find. share: which stages and windows of a large
    image are done here. Raises as `segment_file`.
    """
    shape, remarks = image.pixels.shape[:2], image.warnings
    if is_large(image.pixels):
        done = _segment_large(segmenter, path, image, target, record or {}, beside, share, progress)
        return Begun(shape, lambda: done)
    cells, notes, scale = segmenter.find(
        image.pixels, progress, image.pixel_size, image.nodata, image.quantization
    )
    remarks += _void(cells, image)
    if not beside.measure and not any(export.looks for export in beside.wanted):
        image = image._replace(pixels=None)  # its memory is free before the labels need theirs

    def end():
        labels, seen, lost = rasterize(cells, shape)
        said = _save(exports.Result(path, image, labels, seen), target, record, beside)
        return Segmented(shape, seen, remarks + notes + _hidden(lost) + said, scale)

    return Begun(shape, end)


def is_small(shape: Tuple[int, int]) -> bool:
    """Whether an image of (height, width) needs so little memory that others are worked on, too."""
    return shape[0] * shape[1] <= SMALL


def is_large(image: Union[np.ndarray, images.TiffImage, images.ZarrImage, None]) -> bool:
    """Whether an image (see images.load) is segmented by stages (app.large)."""
    by_region = image is not None and not isinstance(image, np.ndarray)
    return by_region and image.shape[0] * image.shape[1] >= LARGE


def is_large_file(path: Path) -> bool:
    """Whether a file holds such an image: without decoding it. What cannot be read does not."""
    try:
        return is_large(images.load_by_region(path))
    except images.ImageError:
        return False


def _segment_large(segmenter, path, image, target, record, beside, share, progress):
    """What came of an image that is Loaded but too large for memory (see app.large): Segmented, or
    InPart."""
    sizes = segmenter.sizes.in_pixels(image.pixel_size)
    said, folder = [], folder_of(target)
    store = Store.find(folder, record) if record else None
    if share.includes("plan") and store is None:
        plan, said = stages.plan(segmenter, image, record)
        store = Store.new(folder, plan, share.parts == 1)
    if store is None:
        raise images.ImageError(f"there is no plan for it in {folder.name}: that stage comes first")
    if share.includes("work"):
        numbers = share.of(len(store.plan.windows))
        said += stages.work(store, segmenter, image, numbers, progress)
    merged = None
    if share.includes("merge"):
        merged = stages.merge(store, segmenter, image, sizes)
    if not share.includes("draw"):
        return InPart(said)
    merged = merged or store.merged()
    if merged is None:
        raise images.ImageError(f"its cells are not merged in {folder.name}: that comes first")
    strips = stages.draw(store, merged, image)
    said += _save_large(strips, store, merged, path, image, target, record, beside)
    cells = merged.cells(strips.labelled)
    lost = len(merged.row) - len(cells)
    said += _void(cells, image) + stages.notes(store, merged) + _hidden(lost)
    try:
        store.remove()
    except OSError as error:
        said.append(f"{folder.name} is of no use any more and cannot be removed ({error.strerror})")
    return Segmented(store.plan.shape, cells, image.warnings + said, store.plan.factor)


def _save_large(strips, store, merged, path, image, target, record, beside):
    """As `_save`, of the label image that is drawn strip by strip."""
    height, width = store.plan.shape
    is_whole = height * width <= WHOLE
    if is_whole and beside.needs_whole:
        labels = np.concatenate(list(strips)).astype(np.int32)
        at = np.flatnonzero(strips.labelled)
        contours = stages.contours_of(store, merged, image, at)
        cells = replace(merged.cells(at), contours=contours)
        return _save(exports.Result(path, image, labels, cells), target, record, beside)
    said = outputs.save_strips(
        target,
        strips,
        store.plan.shape,
        record,
        lambda: merged.cells(strips.labelled),
        beside.with_table,
        image.pixel_size,
        left_out=[] if is_whole else [*exports.ENDINGS, outputs.MEASURE],
    )
    if beside.needs_whole:
        need = f"exports, previews and measures need an image of at most {WHOLE} pixels: left out"
        return [need, *said]
    return said


class Beside(NamedTuple):
    """What is written beside a label image.

    with_table: its table of cells. wanted: exports (exports.load). measure: the table has the
    columns of exports.measures, too.
    """

    with_table: bool = False
    wanted: Sequence[exports.Export] = ()
    measure: bool = False

    @property
    def needs_whole(self) -> bool:
        """Whether anything of it is made of all labels together."""
        return self.measure or bool(self.wanted)


def _save(result, target, record, beside):
    """Write the label image of an exports.Result and what is wanted Beside it; returns remarks."""
    measured = None
    if beside.measure:
        from app.exports.measures import measures  # late: it takes a while, and few want it

        measured = measures(result)
    rows, size = result.cells if beside.with_table else None, result.image.pixel_size
    labels, wanted = result.labels, beside.wanted
    return outputs.save(target, labels, record, rows, measured, size, wanted, result)


def _void(cells, image):
    """The remark on an image of no finite value, which has no cells."""
    if len(cells) or not images.is_void(image.pixels):
        return []
    return ["the image is empty: all of its pixels are NaN or infinite"]


def _hidden(lost):
    """The remark on so many cells without a label."""
    return [f"{counted(lost)} left out, being covered by others"] if lost else []
