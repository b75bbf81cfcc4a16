"""Unlabelled images: slides are cut into patches (reference.md, section 4)."""

import shutil
from contextlib import suppress

import tifffile

from app import images
from app.atomic import replacing
from app.names import EXTENSIONS
from training import own_data
from training.convert.sample import below, unique

SIZE, STRIDE = 1024, 896


def find_unlabelled(source):
    """The images below folders with "unlabel" in their names, in any case of letters."""
    return [
        path
        for path in below(source)
        if own_data.has_ending(path, EXTENSIONS)
        and any("unlabel" in part.lower() for part in path.relative_to(source).parts[:-1])
    ]


def write_patches(path, folder, taken):
    """Write an image of a file to a folder: as it is, or in patches if a side is above SIZE.

    taken: the names in use there (`unique`). ImageError: the file is damaged; nothing is written.
    """
    image = images.read(path)[0]
    name = unique(path.name.split(".")[0], taken)
    folder.mkdir(parents=True, exist_ok=True)
    if max(image.shape[:2]) <= SIZE:
        shutil.copyfile(str(path), str(folder / (name + path.suffix)))
        return
    written = []
    try:
        for top in starts(image.shape[0]):
            for left in starts(image.shape[1]):
                patch = image[top : top + SIZE, left : left + SIZE]
                written.append(folder / (unique(f"{name}_{top}_{left}", taken) + ".tif"))
                write_patch(written[-1], patch)
    except images.ImageError:
        for patch in written:
            with suppress(FileNotFoundError):
                patch.unlink()
        raise


def starts(length):
    """Where the patches along a side begin; the last one is shifted inside."""
    overlap = SIZE - STRIDE
    return [
        max(min(start, length - SIZE), 0) for start in range(0, max(length - overlap, 1), STRIDE)
    ]


def write_patch(path, patch):
    """Write pixels (h, w) or (h, w, C) as TIFF, complete or not at all."""
    options = {"photometric": "rgb" if patch.shape[2:] == (3,) else "minisblack"}
    if patch.ndim == 3:
        options["planarconfig"] = "contig"
    with replacing(path) as file:
        tifffile.imwrite(file, patch, compression="zlib", metadata=None, **options)
