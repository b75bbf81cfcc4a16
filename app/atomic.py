"""Files and folders that are complete or absent."""

import errno
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Iterator, Union

# What a file system without hard links says (exFAT, some of networks).
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
# A file name that is no text becomes \\udcff and the like.
_TEXT = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}


@contextmanager
def replacing(path: Union[str, Path], text: bool = False) -> Iterator[IO]:
    """A new file, of bytes or of text, that takes the place of `path` when it is complete.

    Until then it has a hidden temporary name beside `path`; whatever interrupts that, it is
    removed. Raises OSError.
    """
    mode, how = ("x", _TEXT) if text else ("xb", {})
    with replaced(path) as temporary, open(temporary, mode, **how) as file:
        yield file


@contextmanager
def replaced(path: Union[str, Path]) -> Iterator[Path]:
    """As `replacing`, for writers that open files themselves: the temporary name to write to."""
    with _temporary(Path(path)) as temporary:
        yield temporary
        _settle(temporary)
        os.replace(temporary, path)


@contextmanager
def new_file(path: Path) -> Iterator[IO]:
    """A new file of bytes that gets the name `path` when it is complete, unless there is one by
    then, which stays. Raises OSError."""
    with _temporary(path) as temporary:
        with open(temporary, "xb") as file:
            yield file
        _settle(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError as error:  # no links: two that write at this very moment are not told apart
            if error.errno not in _NO_LINKS:
                raise
            if not path.exists():
                os.replace(temporary, path)


@contextmanager
def _temporary(path):
    """A hidden name beside `path` for a file that is gone in the end, unless it was moved."""
    temporary = _hidden(path)
    try:
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A new folder to write into that gets the name `path` when it is complete.

    Until then as in `replacing`. A folder with files that is there already is never replaced.
    Raises OSError.
    """
    temporary = _hidden(path)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _settle(file)
        temporary.rename(path)
    finally:
        shutil.rmtree(str(temporary), ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, which is whole until it is gone. Raises OSError.

    What a killed process leaves of a folder has a temporary name.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    temporary = _hidden(path)
    path.rename(temporary)
    shutil.rmtree(str(temporary))


def _hidden(path):
    """A temporary name beside `path`."""
    return path.with_name(f".{os.urandom(8).hex()}.tmp")


def _settle(path):
    """See that the content of a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
