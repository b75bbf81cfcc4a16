"""One image file: read, segmented, rasterised, and its labels saved.

What the command, the validation of a network and all other runs over many files share.
"""

from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple

from app import images, outputs
from app.cells import Cells, counted
from app.rasterize import rasterize
from app.segmenter import Segmenter


class Segmented(NamedTuple):
    """What came of a file: (height, width) of its image, the Cells that have a label, remarks.

    The remarks are sentences, on what was left out. scale: the size at which the image was
    segmented, over its own.
    """

    shape: Tuple[int, int]
    cells: Cells
    remarks: List[str]
    scale: float = 1.0


def segment_file(
    segmenter: Segmenter,
    path: Path,
    target: Path,
    record: Optional[dict] = None,
    with_table: bool = False,
    progress: Optional[Callable[[int, int], None]] = None,
) -> Segmented:
    """Write the label image of the image file `path` to `target`, a path as app.names makes it.

    record: how the labels are made (outputs.record_for), which the label image keeps. with_table:
    its table of cells is written beside it. progress: see Segmenter.segment. Raises
    images.ImageError for what cannot be read or written, and whatever the Segmenter does.
    """
    image, remarks = images.read(path)
    shape = image.shape[:2]
    cells, notes = segmenter.segment(image, progress)
    del image  # its memory is free before that of the labels is needed
    labels, cells, lost = rasterize(cells, shape)
    outputs.save(target, labels, record, cells if with_table else None)
    hidden = [f"{counted(lost)} left out, being covered by others"] if lost else []
    return Segmented(shape, cells, remarks + notes + hidden)
