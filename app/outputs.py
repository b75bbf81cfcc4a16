"""The outputs folder: label images and tables of cells, complete or absent, and whose they are."""

import hashlib
import io
import json
import os
import re
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from app import __version__, atomic, exports, images
from app.ahead import ahead
from app.atomic import replacing
from app.cells import COLUMNS, Cells, Pixels, measure, table
from app.digests import sha256_of, size_and_digest
from app.names import LABEL_ENDING, table_path
from app.selection import Channels, Plane

if TYPE_CHECKING:
    from app.segmenter import Segmenter

# Of COLUMNS: pixels to 0.001, scores and uncertainties to 0.00001.
_FORMAT = ["%d"] + ["%.3f"] * 4 + ["%d"] + ["%.3f"] * 2 + ["%.5f"] * 5 + ["%.0f"] * 4
_MEASURED = "%.9g"
_HEADER = ",".join(COLUMNS)
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp([._].*)?")
ABANDONED = 3600  # seconds: a file that is still being written changes more often
MEASURE = "measure"  # what is left out with --measure
STRIP = 512  # rows of a label image looked at at a time


class Existing(NamedTuple):
    """A label image that is there before a run.

    record: what it says of how it was made; {} where it says nothing. is_ours: whether it is as
    this program wrote it; else it is the user's. shape: None where it cannot be read. cells: how
    many it shows.
    """

    record: dict
    is_ours: bool
    shape: Optional[Tuple[int, int]]
    cells: int

    def is_of(self, record: dict) -> bool:
        """Whether this program made it as `record` says (see `record_for`)."""
        return self.is_ours and all(self.record.get(key) == record[key] for key in record)


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
                    atomic.remove(path)


def save(
    path: Path,
    labels: np.ndarray,
    record: Optional[dict] = None,
    cells: Optional[Cells] = None,
    measured: Optional[Dict[str, np.ndarray]] = None,
    pixel_size: Optional[float] = None,
    wanted: Sequence[exports.Export] = (),
    result: Optional[exports.Result] = None,
) -> List[str]:
    """Write a label image (H, W), the table of its cells if they are given, and exports.

    record: how the labels were made (see `record_for`); the file keeps it, with hashes of the
    labels, the table and the exports by which `existing` knows them again. cells: row k is label
    k + 1. measured: further columns (n,) of the table. pixel_size: in µm, which the label image
    keeps. wanted: exports of `result`. Returns what they say, and what is gone.
    A table or export of ours is always that of the label image beside it, whenever the program is
    killed: all are written aside first, those of earlier runs go, then the label image takes its
    place and after it the others. Raises images.ImageError.
    """
    pixels = None if cells is None else measure(labels, len(cells))
    rows = pixels and _csv(table(cells, pixels), measured or {})
    with _aside(path) as aside:
        _write_table(aside, rows)
        with _or_image_error("an export cannot be written"):
            said = exports.write(wanted, aside, result)
        description = None
        if record is not None:
            digest = _Hash(labels.shape, [labels])
            description = json.dumps(_of_outputs(record, digest, rows, aside, path))
        gone = _make_way(path, wanted)
        images.write_labels(path, labels, description, pixel_size)
        _put_in_place(aside, path)
    return said + _removed(gone)


def save_strips(
    path: Path,
    strips: Iterable[np.ndarray],
    shape: Tuple[int, int],
    record: dict,
    cells: Callable[[], Cells],
    with_table: bool = False,
    pixel_size: Optional[float] = None,
    left_out: Sequence[str] = (),
) -> List[str]:
    """As `save`, strip by strip (see images.write_label_strips), without exports.

    cells: called when all strips are there; of each label its cell. left_out: exports (and
    MEASURE) that are never made of so large an image, wanted or not, which the label image keeps.
    """
    digest, pixels, gone = _Hash(shape), Pixels(), []

    def seen():
        for strip in ahead(strips):
            digest.add(strip)
            if with_table:
                pixels.add(strip)
            yield strip

    with _aside(path) as aside:

        def describe():
            rows = _csv(table(cells(), pixels), {}) if with_table else None
            _write_table(aside, rows)
            gone.extend(_make_way(path, ()))
            found = _of_outputs(record, digest, rows, aside, path)
            return json.dumps({**found, "left_out": list(left_out)})

        images.write_label_strips(path, seen(), shape, describe, pixel_size)
        _put_in_place(aside, path)
    return _removed(gone)


def _write_table(path, rows):
    """Write the table of the label image `path`, if there is one, as bytes."""
    if rows is not None:
        what = "the table of cells cannot be written"
        with _or_image_error(what), replacing(table_path(path)) as file:
            file.write(rows)


def _of_outputs(record, digest, rows, aside, path):
    """The record that a label image keeps: with hashes of itself and of what will be beside it."""
    written = ((new, place) for new, place in _others(aside, path) if new.exists())
    return {
        **record,
        "labels": digest.hexdigest(),
        "table": rows and _hash(rows),
        "exports": {
            place.name: _hash_of(new) for new, place in written if place != table_path(path)
        },
    }


def _put_in_place(aside, path):
    """Give what was written beside `aside` its place beside `path`."""
    with _or_image_error("the table of cells or an export cannot be written"):
        for new, place in _others(aside, path):
            if new.exists():
                os.replace(new, place)


@contextmanager
def _aside(path):
    """A hidden name like that of the label image `path`; what is beside that in the end goes."""
    aside = path.with_name(f".{os.urandom(8).hex()}.tmp{LABEL_ENDING}")
    try:
        yield aside
    finally:
        for new, _ in _others(aside, path):
            with suppress(OSError):
                atomic.remove(new)


def _others(*paths):
    """What may be beside each of these label images: tuples of a file for each of them."""
    return zip(*([table_path(path), *exports.all_paths(path)] for path in paths))


@contextmanager
def _or_image_error(what):
    """Raise images.ImageError for an OSError: what cannot be done, and why."""
    try:
        yield
    except OSError as error:
        raise images.ImageError(f"{what} ({error.strerror})") from error


def _make_way(path, wanted):
    """Remove what is not of the label image that is about to be written to `path`.

    That is ours, or in the place of the exports that are wanted. Returns all that was ours. Raises
    images.ImageError.
    """
    places = [place for export in wanted for place in export.paths(path)]
    ours = _ours(path)
    for place in places:
        if place.is_dir() and place not in ours:
            raise images.ImageError(f"{place.name} is a folder of yours, which is never replaced")
    with _or_image_error("a table or export of before cannot be removed"):
        for place in dict.fromkeys([*ours, *places]):
            with suppress(FileNotFoundError):
                atomic.remove(place)
    return ours


def _removed(gone):
    """The sentence on what was of the labels before and is not made anew."""
    names = sorted(place.name for place in gone if not place.exists())
    return [f"{', '.join(names)} of the labels before went with them"] if names else []


def _csv(rows, measured):
    """Rows (n, 17) of app.cells.table, and further columns (n,) by their names, as bytes of CSV."""
    text, header = io.StringIO(newline=""), ",".join((_HEADER, *measured))
    rows, how = np.column_stack([rows, *measured.values()]), _FORMAT + [_MEASURED] * len(measured)
    np.savetxt(text, rows, how, ",", header=header, comments="")
    return text.getvalue().encode()


def differing(record: dict, other: dict) -> str:
    """In what two records of how labels are made differ, as words."""
    return ", ".join(sorted(k for k in {*record, *other} if record.get(k) != other.get(k)))


def record_of(
    weights: List[Path],
    segmenter: "Segmenter",
    channels: Optional[Channels] = None,
    plane: Optional[Plane] = None,
) -> dict:
    """What decides the labels of any image: a dict for JSON.

    Program version, SHA-256 of the weights files, the Segmenter's settings, and which channels and
    plane are taken of an image (images.load). It says nothing of the machine but the precision:
    labels of a GPU and a CPU are alike.
    """
    digests = [sha256_of(path) for path in weights]
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
    return json.loads(json.dumps(record))  # as it will be read


def record_for(image: Path, settings: dict) -> dict:
    """What decides the labels of this image: `record_of`, and the file. Raises OSError."""
    size, digest = size_and_digest(image)
    source = {"name": image.name, "size": size, "blake2b": digest}
    return {**settings, "input": source}


def existing(path: Path) -> Optional[Existing]:
    """What is known of the label image at `path`; None where there is nothing."""
    if not os.path.lexists(path):
        return None
    record = _record_in(path)
    found = _by_strips(path, record)
    if found:
        return found
    try:
        labels = images.read_labels(path)
    except images.LabelError:
        return Existing({}, False, None, 0)
    return Existing(record, False, labels.shape, np.count_nonzero(np.unique(labels)))


def _by_strips(path, record):
    """What is known of the label image at `path` that had this record, looked at strip by strip.

    None where it is not as the record has it and small enough to be looked at as a whole.
    """
    try:
        labels = images.load(path).pixels
        digest, known = _Hash(labels.shape), np.zeros(0, np.int64)
        for top in range(0, labels.shape[0], STRIP):
            strip = labels[top : top + STRIP, :]
            digest.add(strip)
            known = np.union1d(known, strip)
    except images.ImageError:
        return None
    same = digest.hexdigest() == record.get("labels")
    if not same and isinstance(labels, np.ndarray):
        return None
    return Existing(record, same, labels.shape[:2], np.count_nonzero(known))


def users_file(
    path: Path, with_table: bool, wanted: Sequence[exports.Export] = ()
) -> Optional[Path]:
    """The file of the user's that the outputs for the label image `path` would replace, if any.

    with_table, wanted: whether a table of cells is written, and which exports.
    """
    found, of_cells = existing(path), table_path(path)
    if found and not found.is_ours:
        return path
    if with_table and os.path.lexists(of_cells) and not _is_our_table(path):
        return of_cells
    ours = _our_exports(path)
    for export in (export for one in wanted for export in one.paths(path)):
        if os.path.lexists(export) and export not in ours:
            return export
    return None


def is_our_export(path: Path, export: Path) -> bool:
    """Whether a file beside the label image `path` is an export as this program wrote it."""
    return export in _our_exports(path)


def input_of(path: Path) -> Optional[str]:
    """The name of the image that the label image `path` is of, where it says so."""
    source = _record_in(path).get("input")
    return source.get("name") if isinstance(source, dict) else None


def left_out(path: Path) -> List[str]:
    """What `save_strips` left out beside the label image `path`."""
    return list(_record_in(path).get("left_out", []))


def has_table(path: Path) -> bool:
    """Whether there is a table of cells beside the label image `path`."""
    return table_path(path).is_file()


def remove(path: Path) -> None:
    """Remove a label image of ours with its table and exports. Raises OSError."""
    for place in _ours(path):
        atomic.remove(place)
    path.unlink()


def _ours(path):
    """The table and the exports beside the label image `path` that are ours."""
    return [*([table_path(path)] if _is_our_table(path) else []), *_our_exports(path)]


def _our_exports(path):
    """The exports beside the label image `path` that are as this program wrote them; it knows."""
    hashes = _record_in(path).get("exports")
    if not isinstance(hashes, dict):
        return []
    there = [export for export in exports.all_paths(path) if export.exists()]
    return [export for export in there if hashes.get(export.name) == _hash_of(export)]


def _is_our_table(path):
    """Whether there is a table for the label image `path` that is as this program wrote it.

    The label image knows.
    """
    try:
        return _record_in(path).get("table") == _hash(table_path(path).read_bytes())
    except OSError:
        return False


def _record_in(path):
    """The record that a label image keeps; {} where it has none."""
    try:
        record = json.loads(images.read_description(path) or "{}")
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


class _Hash:
    """A hash of the shape and the labels of an image, whatever their dtype, by its strips."""

    def __init__(self, shape, strips=()):
        self._digest = hashlib.blake2b(repr(tuple(shape)).encode(), digest_size=32)
        for strip in strips:
            self.add(strip)

    def add(self, strip):
        for top in range(0, len(strip), STRIP):
            part = strip[top : top + STRIP]
            with np.errstate(invalid="ignore"):  # of NaN
                labels = np.ascontiguousarray(part, "<u4")
            self._digest.update(labels)
            if not np.array_equal(labels, part):
                self._digest.update(b"other numbers than labels of ours")

    def hexdigest(self):
        return self._digest.hexdigest()


def _hash_of(path):
    """A hash of a file, or of the names and the content of all files in a folder."""
    if not path.is_dir():
        return _hash(path.read_bytes())
    files = sorted(found for found in path.rglob("*") if found.is_file())
    lines = (f"{_hash(file.read_bytes())} {file.relative_to(path)}\n" for file in files)
    return _hash(os.fsencode("".join(lines)))


def _hash(data):
    """A hash of bytes."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()
