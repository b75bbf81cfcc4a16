"""The folder of files beside a page: a page and its files change together, or not at all."""

import os
import re
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

from app.outputs import ABANDONED

from ..folders import EvaluationError

GENERATOR = "cpn evaluate report"  # by which a page of ours is known
HEAD = 4096  # bytes of a page, within which it says so
_NAME = re.compile(r"\.[0-9a-f]{16}")


@contextmanager
def files_of(page: Path) -> Iterator[Path]:
    """A new folder for the files of a page (a path) that is written as long as this lasts.

    It is NAME_files/.HEX beside NAME.html: hidden, so that none of its pictures is ever taken for
    an input. When the page is there, the files of the one before go; where something fails, the
    new ones. EvaluationError: there is a file of the user's in the page's place. Raises OSError.
    """
    check(page)
    shelf = page.with_name(page.stem + "_files")
    shelf.mkdir(parents=True, exist_ok=True)
    folder = shelf / f".{os.urandom(8).hex()}"
    folder.mkdir()
    before = head(page)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # it is not empty
            shelf.rmdir()
        raise
    for other in shelf.iterdir():
        if _NAME.fullmatch(other.name) and other != folder:
            is_old = time.time() - other.stat().st_mtime > ABANDONED  # by a run that was killed
            if is_old or other.name in before:
                shutil.rmtree(other, ignore_errors=True)


def check(page: Path) -> None:
    """EvaluationError unless the page can be written: there is none, or one of ours."""
    if page.is_dir():
        raise EvaluationError(f"{page} is a folder; --out names the file to write")
    if page.suffix != ".html":
        raise EvaluationError(f"{page} does not end in .html, as the page that --out names does")
    if os.path.lexists(page) and GENERATOR not in head(page):
        raise EvaluationError(f"{page} is no report of this program: name another --out")


def head(page: Path) -> str:
    """How a page begins; "" where there is none."""
    try:
        with page.open("rb") as file:
            return file.read(HEAD).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
