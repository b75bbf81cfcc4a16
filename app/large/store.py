"""The folder of a large image's stages: its plan, a file for each window, what the merge found."""

import json
import os
import zipfile
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from app.atomic import new_file, replacing
from app.cells import Cells
from app.images import ImageError
from app.large.plan import Plan
from app.names import LABEL_ENDING
from app.outlines import on_grid, star_shaped
from app.outputs import differing

PLAN, MERGED, WINDOW = "plan.json", "merged", "window"
KINDS = ("whole", "fragments")  # of the cells of a window: see windows.settle_within
HELD = 64  # windows whose cells are held since more of them will be asked for


class Merged(NamedTuple):
    """The cells of an image, in reading order: where each is found, and what draws it.

    window, kind, row (n,): row `row` of the KINDS[kind] of a window. rows (n, 2): in which it is
    drawn (large.strips). boxes (n, 4), scores (n,), uncertainties (n, 4): as of Cells, in pixels of
    the image. recovered, background (): how many cells no window shows whole, and how many windows
    show background alone.
    """

    window: np.ndarray
    kind: np.ndarray
    row: np.ndarray
    rows: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    uncertainties: np.ndarray
    recovered: np.ndarray
    background: np.ndarray

    def cells(self, kept: np.ndarray) -> Cells:
        """Some of the cells without their contours."""
        cells = Cells.without_contours(self.boxes, self.scores, self.uncertainties)
        return cells.filter(kept)


def folder_of(target: Path) -> Path:
    """Where the stages of the label image `target` leave their files."""
    return target.with_name(target.name[: -len(LABEL_ENDING)] + "_windows")


def differences(folder: Path, record: dict) -> str:
    """The names of what the plan in a folder has otherwise than this record."""
    try:
        other = dict(json.loads((folder / PLAN).read_text())["record"])
    except (OSError, ValueError, KeyError, TypeError):
        other = {}
    return differing(record, other) or "a plan that cannot be read"


class Store:
    """The files of one plan in a folder; those of other plans are passed over."""

    def __init__(self, folder: Path, plan: Plan):
        self.folder, self.plan = folder, plan
        self._ending = f"-{plan.digest}.npz"
        self._cells = lru_cache(maxsize=HELD)(self._read_cells)
        self._outlines = lru_cache(maxsize=HELD)(self._read_outlines)

    @classmethod
    def find(cls, folder: Path, record: dict) -> Optional["Store"]:
        """The one that is there for the same image, weights and settings, if any."""
        try:
            plan = Plan.from_json((folder / PLAN).read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None
        return cls(folder, plan) if plan.record == record else None

    @classmethod
    def new(cls, folder: Path, plan: Plan, alone: bool = True) -> "Store":
        """One for a plan; if somebody was faster, theirs for the same image and settings.

        alone: what is left of other plans goes; else others may be at work on these, and that is
        an ImageError. So it is where the folder holds anything else, or cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(not _is_ours(name) for name in os.listdir(folder)):
                raise ImageError(
                    f"the folder {folder.name}, where its windows would be kept, holds files of "
                    "others: rename it"
                )
            found = cls.find(folder, plan.record)
            if found:
                return found
            if alone:
                with suppress(FileNotFoundError):
                    (folder / PLAN).unlink()
            with new_file(folder / PLAN) as file:
                file.write(plan.to_json().encode())
            store = cls.find(folder, plan.record)
            if store is None:
                raise ImageError(
                    f"{folder.name} is of another run, which differs in: "
                    f"{differences(folder, plan.record)}. If no other part is at work there, "
                    "remove it. (--no-amp makes all processors alike)"
                )
            if alone:
                store._tidy_up()
            return store
        except OSError as error:
            raise ImageError(f"{folder.name} cannot be written ({error.strerror})") from error

    def _tidy_up(self):
        """Remove what is of other plans."""
        for name in os.listdir(self.folder):
            if name.endswith(".npz") and not name.endswith(self._ending):
                with suppress(FileNotFoundError):
                    (self.folder / name).unlink()

    def remove(self) -> None:
        """Remove all files, and the folder if nothing else is in it. Raises OSError."""
        with suppress(FileNotFoundError):  # another run may do the same
            for name in filter(_is_ours, os.listdir(self.folder)):
                with suppress(FileNotFoundError):
                    (self.folder / name).unlink()
            if not os.listdir(self.folder):
                self.folder.rmdir()

    def missing(self, numbers: range) -> List[int]:
        """Which of the windows of these numbers have no file."""
        there = set(os.listdir(self.folder))
        return [number for number in numbers if self._window(number).name not in there]

    def write_window(
        self, number: int, whole: Cells, fragments: Cells, background: bool = False
    ) -> None:
        """Keep the cells of a window, settled within it; background: it shows nothing else.

        Raises OSError.
        """
        arrays = {"background": np.array(background)}
        for kind, cells in zip(KINDS, (whole, fragments)):
            for field in fields(Cells):
                arrays[f"{kind}_{field.name}"] = getattr(cells, field.name)
            arrays[f"{kind}_areas"] = cells.areas()
        with replacing(self._window(number)) as file:
            np.savez(file, **arrays)

    def arrays(self, number: int, kind: int, names: List[str]) -> Dict[str, np.ndarray]:
        """Some of what is kept of a window's cells: fields of Cells, and their areas."""
        with self._opened(self._window(number)) as arrays:
            return {name: arrays[f"{KINDS[kind]}_{name}"] for name in names}

    def is_background(self, number: int) -> bool:
        """Whether a window shows background alone."""
        with self._opened(self._window(number)) as arrays:
            return bool(arrays["background"])

    def cells(self, number: int, kind: int) -> Cells:
        """The cells of one kind of a window."""
        return self._cells(number, kind)

    def outline(self, number: int, row: int) -> Tuple[np.ndarray, bool]:
        """What suppression.Outlined has of a whole cell of a window."""
        points, crosses = self._outlines(number)
        return points[row], crosses[row]

    def _read_cells(self, number, kind):
        return Cells(**self.arrays(number, kind, [field.name for field in fields(Cells)]))

    def _read_outlines(self, number):
        """What `outline` gives, of all whole cells of a window."""
        contours = self.arrays(number, 0, ["contours"])["contours"]
        return on_grid(contours, (0, 0)), ~star_shaped(contours)

    def write_merged(self, merged: Merged) -> None:
        """Keep what the merge found. Raises OSError."""
        with replacing(self._merged()) as file:
            np.savez(file, **merged._asdict())

    def merged(self) -> Optional[Merged]:
        """What the merge found, if there is it."""
        if not self._merged().is_file():
            return None
        with self._opened(self._merged()) as arrays:
            return Merged(**{name: arrays[name] for name in Merged._fields})

    def _opened(self, path):
        try:
            return _Arrays(path)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise _damaged(path) from error

    def _window(self, number):
        return self.folder / f"{WINDOW}-{number:06d}{self._ending}"

    def _merged(self):
        return self.folder / f"{MERGED}{self._ending}"


class _Arrays:
    """The arrays in a file, read where they are asked for."""

    def __init__(self, path):
        self._path, self._arrays = path, np.load(str(path), allow_pickle=False)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._arrays.close()

    def __getitem__(self, name):
        try:
            return self._arrays[name]
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise _damaged(self._path) from error


def _damaged(path):
    return ImageError(
        f"{path.parent.name}/{path.name} is missing or damaged: remove it and start again"
    )


def _is_ours(name):
    """Whether a file of this name may lie in the folder of a store."""
    return (
        name == PLAN or name.startswith((WINDOW, MERGED, ".")) and name.endswith((".npz", ".tmp"))
    )
