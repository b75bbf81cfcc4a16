"""Files that are complete or absent."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Iterator, Union

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
    path = Path(path)
    temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
