"""Which images a data folder has, with what its catalogue tells of them."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from app import images
from app.intensity import GAMMA_FLOOR
from app.names import EXTENSIONS
from training import licences, own_data

TABLE = "catalog.csv"
# Columns of it that may be there or be empty: above which and up to which number (see Entry).
NUMBERS = {"percentile": (50, 100), "gamma_floor": (0, 1), "largest": (0, images.MAX_PIXELS)}


@dataclass
class Entry:
    """One image of a data folder; None is what the folder's catalogue does not tell.

    label: None for an unlabelled image. percentile, gamma_floor: of its 8-bit conversion
    (Curve.fit). largest: objects with a longer side of the box, in pixels, are ignored.
    """

    source: str
    image: Path
    label: Optional[Path] = None
    modality: Optional[str] = None
    licence: Optional[str] = None
    percentile: Optional[float] = None
    gamma_floor: float = GAMMA_FLOOR
    largest: Optional[float] = None

    @property
    def flat_name(self):
        """The name of its files where all sources share a folder: of `split` and `validate`."""
        return f"{self.source}__{self.image.stem}".replace(".", "_")


def entries(data, split, commercial=False, without=()):
    """The images of a split of a data folder, as a list of Entry.

    They come from the folder's catalog.csv; without one, as own_data describes. commercial: only
    those whose licence allows commercial use of what is trained on them (licences.py). without:
    names of sources to leave out. Raises ValueError when there is no folder or no image left, and
    for what the catalogue does not tell.
    """
    data = existing(data)
    listing = list_catalogue(data) if (data / TABLE).is_file() else list_own(data)
    known = sorted({entry.source for part in listing.values() for entry in part})
    for source in without:
        if source not in known:
            raise ValueError(f"{data} has no source '{source}'; there is {', '.join(known)}")
    chosen = [entry for entry in listing.get(split, []) if entry.source not in without]
    if commercial:
        chosen = [entry for entry in chosen if is_commercial(entry, data)]
    if not chosen:
        left = " that may be used" if commercial or without else ""
        raise ValueError(f"{data} has no image of the split '{split}'{left}")
    return chosen


def unlabelled(folder):
    """The images of a folder and its sub folders, as Entries without labels.

    Raises ValueError when there are none, or no folder.
    """
    found = own_data.unlabelled(existing(folder))
    if not found:
        endings = ", ".join(EXTENSIONS)
        raise ValueError(f"{folder} is no folder with images ({endings})")
    return [Entry(source, image) for source, image in found]


def existing(folder):
    """A folder as a Path; ValueError where there is none, as of a misspelt name."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    return folder


def is_commercial(entry, data):
    """Whether an Entry's licence allows commercial use; ValueError where there is no licence."""
    if entry.licence is None:
        raise ValueError(
            f"{data} does not tell the licences of its images: a {TABLE} with the column licence "
            "would, by which those for commercial use can be chosen"
        )
    return licences.commercial(entry.licence)


def list_own(data):
    """{split: [Entry]} of a folder without catalogue."""
    found = own_data.find(data)
    return {split: [Entry(*paths) for paths in part] for split, part in found.items()}


def list_catalogue(data):
    """{split: [Entry]} of a folder with a catalogue."""
    table, listing = data / TABLE, {}
    with table.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines, restval="")
        missing = {"source", "image", "label", "split"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{table} has no column {', '.join(sorted(missing))}")
        for row in reader:
            where = f"{table}, line {reader.line_num}"
            listing.setdefault(row["split"], []).append(entry_of(row, data, where))
    return listing


def entry_of(row, data, where):
    """The Entry of a row of the catalogue; `where` that is, for people."""
    folder = data / row["source"]
    given = {name: number_of(row, name, where) for name in NUMBERS if row.get(name)}
    return Entry(
        row["source"],
        folder / row["image"],
        folder / row["label"],
        row.get("modality"),
        row.get("licence"),
        **given,
    )


def number_of(row, name, where):
    """The number in a column of NUMBERS. ValueError: it is none, or beyond its limits."""
    least, most = NUMBERS[name]
    try:
        number = float(row[name])
    except ValueError:
        number = math.nan
    if not least < number <= most:
        raise ValueError(
            f"{where}: the {name} '{row[name]}' is no number above {least}, at most {most}"
        )
    return number


def read_image(path):
    """The image in a file, as app.images.read gives it. ValueError names the file."""
    try:
        return images.read(path)[0]
    except images.ImageError as error:
        raise ValueError(f"{path}: {error}") from error
