"""Tables of cells: whether one has the measures, and those of many images as one."""

import csv
import os
from pathlib import Path
from typing import Iterator, List, Tuple

from app.atomic import replacing
from app.cells import COLUMNS
from app.names import table_path

MEASURED = "solidity"  # a column that only tables with measures have
_EMPTY = b"image\n"  # a table of no image


def is_measured(target: Path) -> bool:
    """Whether the table of the label image `target` has the measures."""
    return MEASURED in _header(table_path(target))


def is_ours(path: Path) -> bool:
    """Whether there is nothing at `path`, or what `join` wrote; not what the user has there."""
    if not os.path.lexists(path):
        return True
    try:
        columns = ["image", *COLUMNS]
        return path.read_bytes() == _EMPTY or _header(path)[: len(columns)] == columns
    except (OSError, csv.Error):
        return False


def join(path: Path, pairs: List[Tuple[str, Path]]) -> None:
    """Write the tables of pairs (name of an image, label image) as one, complete or absent.

    Its first column is the name of the image. Images that have no table are left out, and what
    the table of an image has not (channels, say) is empty. Raises OSError.
    """
    pairs = [(image, table_path(target)) for image, target in pairs]
    pairs = [(image, table) for image, table in pairs if table.is_file()]
    columns = dict.fromkeys(["image"])
    for _, table in pairs:
        columns.update(dict.fromkeys(_header(table)))
    with replacing(path, text=True) as file:
        writer = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        for image, table in pairs:
            writer.writerows({"image": image, **row} for row in _rows(table))


def _header(table: Path) -> List[str]:
    """The names of a table's columns."""
    with open(table, newline="", encoding="utf-8", errors="backslashreplace") as file:
        return next(csv.reader(file), [])


def _rows(table: Path) -> Iterator[dict]:
    with open(table, newline="", encoding="utf-8", errors="backslashreplace") as file:
        yield from csv.DictReader(file)
