"""The digests by which a file, or a folder that is an image, is known again."""

import hashlib
import os
from pathlib import Path
from typing import Iterator, Tuple

LARGE = 2**30  # bytes: of larger files and folders only parts are read to tell them apart,
PARTS, PART = 64, 2**20  # so many of so many bytes, the first of which holds the header


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for part in iter(lambda: file.read(2**20), b""):
            found.update(part)
    return found.hexdigest()


def size_and_digest(path: Path) -> Tuple[int, str]:
    """(bytes, BLAKE2b in hexadecimal) of an image: a file, or a folder with the names of all in it.

    Above LARGE bytes of the size and of parts that are evenly spread. Raises OSError.
    """
    digest = hashlib.blake2b(digest_size=32)
    if not os.path.isdir(path):
        size = os.stat(path).st_size
        for part in _parts(path, size):
            digest.update(part)
        return size, digest.hexdigest()
    files = sorted(file for file in Path(path).rglob("*") if file.is_file())
    sizes = [file.stat().st_size for file in files]
    for file, size in zip(files, sizes):
        digest.update(os.fsencode(f"{file.relative_to(path)} {size}\n"))
    every = 1 if sum(sizes) <= LARGE else max(len(files) // PARTS, 1)
    for file, size in list(zip(files, sizes))[::every]:
        for part in _parts(file, size):
            digest.update(part)
    return sum(sizes), digest.hexdigest()


def _parts(path: Path, size: int) -> Iterator[bytes]:
    """Yield all of a file, or parts of a large one."""
    with open(path, "rb") as file:
        if size <= LARGE:
            yield from iter(lambda: file.read(PART), b"")
            return
        for number in range(PARTS):
            file.seek((size - PART) * number // (PARTS - 1))
            yield file.read(PART)
