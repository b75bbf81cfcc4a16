"""Unlabelled images: slides are cut into patches (reference.md, section 4)."""

import shutil

import tifffile
from tqdm import tqdm

from app import images
from app.atomic import replacing
from app.names import EXTENSIONS
from training import own_data
from training.convert.sample import below, unique

SIZE, STRIDE = 1024, 896


def write_unlabelled(source, folder, warn):
    """Write the images below folders with "unlabel" in their names, in any case of letters.

    source: where those folders are. folder: where the images go. warn: a function that is told, in
    a sentence, of each image that is damaged and left out.
    """
    taken = set()
    inside = [p for p in below(source) if "unlabel" in str(p.relative_to(source).parent).lower()]
    listed = [path for path in inside if own_data.has_ending(path, EXTENSIONS)]
    for path in tqdm(listed, disable=None):
        try:
            write_patches(path, folder, taken)
        except images.ImageError as error:
            warn(f"{path} is left out: {error}")


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
                place = folder / (unique(f"{name}_{top}_{left}", taken) + ".tif")
                write_patch(place, patch)
                written.append(place)
    except images.ImageError:
        for place in written:
            place.unlink()
        raise


def starts(length):
    """Where the patches along a side begin; the last one ends where the side does."""
    last = max(length - SIZE, 0)
    return [*range(0, last, STRIDE), last]


def write_patch(path, patch):
    """Write pixels (h, w) or (h, w, C) as TIFF, complete or not at all."""
    options = {"photometric": "rgb" if patch.shape[2:] == (3,) else "minisblack"}
    options["planarconfig"] = None if patch.ndim == 2 else "contig"
    with replacing(path) as file:
        tifffile.imwrite(file, patch, compression="zlib", metadata=None, **options)
