"""summary.csv of the outputs: what became of each image."""

import csv
import fcntl
import io
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Dict, Iterable, Iterator, NamedTuple, Optional, Tuple, Union

from app.atomic import replacing

NAME = "summary.csv"


class Row(NamedTuple):
    """What became of an image.

    image: its path within the inputs. status: "done"; "corrected", by the user, and kept by
    --resume; "part", of a large image, whose labels another run will end; "kept", since its label
    image or table is the user's; "failed". score: the mean of
    its cells. scale: at which the image was segmented. warnings: sentences. reason: why not done.
    """

    image: str
    status: str
    cells: Union[int, str] = ""
    score: Union[float, str] = ""
    scale: Union[float, str] = ""
    seconds: Union[float, str] = ""
    warnings: str = ""
    reason: str = ""

    @property
    def is_done(self) -> bool:
        """Whether there are labels of this image, by this program or the user, or its part of the
        work is done."""
        return self.status in ("done", "corrected", "part")


HEADER = ["mean score" if field == "score" else field for field in Row._fields]


def write(folder: Path, rows: Iterable[Row], before: Iterable[Row] = ()) -> Optional[str]:
    """Put the rows of a run into the summary of a folder; others that are there stay.

    before: rows of images that earlier runs did, whose own rows say more. Returns why nothing was
    written, if so. Raises OSError.
    """
    with _locked(folder):
        found = _read(folder / NAME)
        if found is None:
            return f"{folder / NAME} is not of this program and was left as it is"
        for row in before:
            if row.image not in found or found[row.image][1] != row.status:
                found[row.image] = tuple(map(str, row))
        found.update((row.image, tuple(map(str, row))) for row in rows)
        with replacing(folder / NAME, text=True) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(found[image] for image in sorted(found))
    return None


def _read(path: Path) -> Optional[Dict[str, Tuple[str, ...]]]:
    """The rows of a summary by their images; None where the file is none of ours."""
    try:
        text = io.StringIO(path.read_bytes().decode(), newline="")
        header, *rows = list(csv.reader(text)) or [[]]
    except FileNotFoundError:
        return {}
    except (ValueError, csv.Error):
        return None
    if header != HEADER or any(len(row) != len(HEADER) for row in rows):
        return None
    return {row[0]: tuple(row) for row in rows}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be the only run that writes the summary of this folder."""
    number = os.open(str(folder), os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
