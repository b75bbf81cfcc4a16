"""The outputs folder: label images and tables of cells, complete or absent, and how made."""

import hashlib
import json
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional

import numpy as np

from app import __version__, images
from app.atomic import replacing
from app.cells import COLUMNS, Cells, table
from app.names import table_path

if TYPE_CHECKING:
    from app.segmenter import Segmenter

# Pixels to 0.001, scores and uncertainties to 0.00001.
_FORMAT = ["%d"] + ["%.3f"] * 4 + ["%d"] + ["%.3f"] * 2 + ["%.5f"] * 5
_MEASURED = "%.9g"
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")
ABANDONED = 3600  # seconds: a file that is still being written changes more often


def prepare(folder: Path) -> None:
    """Make a folder if it is missing, see that it can be written to, and tidy up. Raises OSError.

    What killed runs left behind goes after an hour: another run may be writing here now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=str(folder), buffering=0) as file:
        file.write(bytes(4096))
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError):  # another run may be faster, or the file somebody else's
                if time.time() - path.lstat().st_mtime > ABANDONED:
                    path.unlink()


def save(
    path: Path,
    labels: np.ndarray,
    record: Optional[str] = None,
    cells: Optional[Cells] = None,
    measured: Optional[Dict[str, np.ndarray]] = None,
    pixel_size: Optional[float] = None,
) -> None:
    """Write a label image (H, W), and the table of its cells if they are given.

    record: how the labels were made (see `record_of`), kept in the file. cells: row k is label
    k + 1. measured: further columns (n,) of the table. pixel_size: in µm, which the label image
    keeps. A table is always that of the label image beside it: tables of earlier runs go, and
    while a new one is written there is no label image. Raises images.ImageError.
    """
    try:
        with suppress(FileNotFoundError):
            (table_path(path) if cells is None else path).unlink()
        if cells is not None:
            write_table(table_path(path), table(cells, labels), measured or {})
    except OSError as error:
        reason = f"the table of cells cannot be written ({error.strerror})"
        raise images.ImageError(reason) from error
    images.write_labels(path, labels, record, pixel_size)


def write_table(path: Path, rows: np.ndarray, measured: Dict[str, np.ndarray]) -> None:
    """Write rows (n, 13) of app.cells.table as CSV; the file is complete or absent.

    measured: columns (n,) that follow, by their names.
    """
    header, how = ",".join((*COLUMNS, *measured)), _FORMAT + [_MEASURED] * len(measured)
    with replacing(path, text=True) as file:
        rows = np.column_stack([rows, *measured.values()])
        np.savetxt(file, rows, how, ",", header=header, comments="")


def record_of(
    weights: List[Path],
    segmenter: "Segmenter",
    channels: Optional[images.Channels] = None,
    plane: Optional[images.Plane] = None,
) -> str:
    """What decides the labels of an image: a line of JSON.

    Program version, SHA-256 of the weights files, the Segmenter's settings, and which channels and
    plane are taken of an image (images.load). It says nothing of the machine but the precision:
    labels of a GPU and a CPU are alike.
    """
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights]
    record = {
        "program": f"cpn {__version__}",
        "weights": digests,
        "precision": segmenter.precision,
        "uncertainty_nms": segmenter.uncertainty_nms,
        "refinement": segmenter.refinement,
        "threshold": segmenter.threshold,
        "sizes": segmenter.sizes,
        "scale": segmenter.scale,
        "thorough": segmenter.thorough,
        "channels": channels,
        "plane": plane,
    }
    return json.dumps(record)


def is_done(image: Path, path: Path, record: str, with_table: bool) -> bool:
    """Whether an earlier run left the labels of an image file at `path`, as `record` says.

    They have to be newer than the image, and with_table their table has to be there.
    """
    try:
        newer = path.stat().st_mtime_ns > image.stat().st_mtime_ns
    except OSError:
        return False
    if with_table and not table_path(path).is_file():
        return False
    return newer and images.read_description(path) == record
