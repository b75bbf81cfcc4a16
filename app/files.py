"""One image file: read, segmented, rasterised, and its labels saved.

What the command, the validation of a network and all other runs over many files share.
"""

from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple

from app import images, outputs
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
) -> Segmented:
    """Write the label image of the image file `path` to `target`, a path as app.names makes it.

    record: how the labels are made (outputs.record_for), which the label image keeps. with_table:
    its table of cells is written beside it. progress: see Segmenter.find. channels, plane: what is
    taken of the image (images.load). Raises images.ImageError for what cannot be read or written,
    and whatever the Segmenter does.
    """
    image, remarks, pixel_size, nodata = images.load(path, channels, plane)
    shape = image.shape[:2]
    cells, notes, scale = segmenter.find(image, progress, pixel_size, nodata)
    if not len(cells) and images.is_void(image):
        remarks.append("the image is empty: all of its pixels are NaN or infinite")
    del image  # its memory is free before that of the labels is needed
    labels, cells, lost = rasterize(cells, shape)
    outputs.save(target, labels, record, cells if with_table else None)
    hidden = [f"{counted(lost)} left out, being covered by others"] if lost else []
    return Segmented(shape, cells, remarks + notes + hidden, scale)
