"""One image file: read, segmented, rasterised, and its labels saved.

What the command, the validation of a network and all other runs over many files share.
"""

from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from app import exports, images, outputs
from app.cells import Cells, counted
from app.rasterize import rasterize
from app.segmenter import Segmenter
from app.selection import Channels, Plane


class Segmented(NamedTuple):
    """What came of a file: (height, width) of its image, the Cells that have a label, remarks, and
    by how much the image was scaled to find them.

    The remarks are sentences, on what was left out.
    """

    shape: Tuple[int, int]
    cells: Cells
    remarks: List[str]
    scale: float


def segment_file(
    segmenter: Segmenter,
    path: Path,
    target: Path,
    record: Optional[dict] = None,
    with_table: bool = False,
    progress: Optional[Callable[[int, int], None]] = None,
    channels: Optional[Channels] = None,
    plane: Optional[Plane] = None,
    wanted: Sequence[exports.Export] = (),
    measure: bool = False,
) -> Segmented:
    """Write the label image of the image file `path` to `target`, a path as app.names makes it.

    record: how the labels are made (outputs.record_for), which the label image keeps. with_table:
    its table of cells is written beside it. progress: see Segmenter.find. channels, plane: what is
    taken of the image (images.load). wanted: what else is written beside it (exports.load).
    measure: the table has the columns of exports.measures, too. Raises images.ImageError for what
    cannot be read or written, and whatever the Segmenter does.
    """
    image = images.load(path, channels, plane)
    shape, remarks = image.pixels.shape[:2], image.warnings
    cells, notes, scale = segmenter.find(image.pixels, progress, image.pixel_size, image.nodata)
    if not len(cells) and images.is_void(image.pixels):
        remarks.append("the image is empty: all of its pixels are NaN or infinite")
    if not measure and not any(export.looks for export in wanted):
        image = image._replace(pixels=None)  # its memory is free before the labels need theirs
    labels, cells, lost = rasterize(cells, shape)
    result = exports.Result(path, image, labels, cells)
    measured = None
    if measure:
        from app.exports.measures import measures  # late: it takes a while, and few want it

        measured = measures(result)
    rows = cells if with_table else None
    said = outputs.save(target, labels, record, rows, measured, image.pixel_size, wanted, result)
    hidden = [f"{counted(lost)} left out, being covered by others"] if lost else []
    return Segmented(shape, cells, remarks + notes + hidden + said, scale)
