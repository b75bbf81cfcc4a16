"""What files are called: images that are tried, label images, tables of cells."""

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Sequence

# Of images; the second row is TIFF by other names: slides of Aperio, Hamamatsu, Leica, and BigTIFF.
EXTENSIONS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".webp") + (
    (".svs", ".ndpi", ".scn", ".btf", ".tf2", ".tf8")
)
OME = (".ome.tiff", ".ome.tif")
DOUBLE_EXTENSIONS = (*OME, ".ome.btf", ".ome.tf2", ".ome.tf8", ".ome.zarr")
LONGEST = 240  # bytes of a stem: a file's name may have 255, of which our endings take up to 12
LABEL_EXTENSIONS = (".tiff", ".tif", ".png", *OME)
LABEL_ENDING, TABLE_ENDING = "_label.tiff", "_cells.csv"  # of what prediction writes
PREVIEW_ENDINGS = ("_preview.png", "_preview.jpg")  # pictures that are no inputs either
# Of label images: ours first, then those of Cellpose and others, and of MorphoLibJ in ImageJ.
LABEL_MARKS = ("_label", "_cp_masks", "_masks", "_mask", "-lbl")
LABEL_ENDINGS = tuple(mark + ending for mark in LABEL_MARKS for ending in LABEL_EXTENSIONS)
CELLPOSE_ENDING = "_seg.npy"  # what Cellpose keeps of an image; counts where nothing else does


def stem(name: str) -> str:
    """A file's name without its extension; `.ome.tif` is one extension."""
    for ending in DOUBLE_EXTENSIONS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return os.path.splitext(name)[0]


def short_stem(name: str) -> str:
    """A file's name up to its first dot, by which the challenge's organisers name labels."""
    return name.split(".")[0]


def fitting(stem: str) -> str:
    """A stem that leaves room for our endings in what a file may be called.

    A longer one is cut, and gets digits that tell it from others of that beginning.
    """
    encoded = os.fsencode(stem)
    if len(encoded) <= LONGEST:
        return stem
    digits = hashlib.blake2b(encoded, digest_size=4).hexdigest()
    kept = os.fsencode(stem)[: LONGEST - len(digits) - 1].decode(errors="ignore")
    return f"{kept}_{digits}"


def output_names(paths: Sequence[Path], challenge: bool = False) -> Dict[Path, str]:
    """The names of the label images of different inputs that share a folder of outputs.

    NAME.tif gives NAME_label.tiff. challenge: NAME is the file's name up to the first dot, else
    without its extension. Those that would share a name get a longer one each: x.tif beside x.jpg
    gives x_tif_label.tiff and x_jpg_label.tiff.
    """
    longer = {
        path: map(fitting, (*own_stems(path)[not challenge :], *with_folders(path)))
        for path in paths
    }
    chosen = {path: next(longer[path]) for path in paths}
    shared = True
    while shared:
        count = Counter(chosen.values())
        shared = [path for path in paths if count[chosen[path]] > 1]
        chosen.update((path, next(longer[path])) for path in shared)
    return {path: chosen[path] + LABEL_ENDING for path in paths}


def own_stems(path: Path) -> List[str]:
    """What the label image of an input may be named by, from short to long."""
    name = path.name
    extension = name[len(stem(name)) :].replace(".", "_")
    return [short_stem(name), stem(name), stem(name) + extension, name]


def with_folders(path: Path) -> Iterator[str]:
    """Still longer names, of inputs of one name in several folders; the last is like no other's."""
    parts = Path(os.path.abspath(str(path))).parts[1:]
    for depth in range(2, len(parts) + 1):
        yield "_".join(parts[-depth:])
    yield "_".join(f"{len(part)}_{part}" for part in parts)


def shown(text: str) -> str:
    """A text on one line, as names of files are shown: a line break becomes \\n, and so on."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def without_ending(name: str, endings: Iterable[str]) -> Optional[str]:
    """`name` without the first of the endings that it has, in any case of letters; else None."""
    for ending in endings:
        if name.lower().endswith(ending.lower()) and len(name) > len(ending):
            return name[: -len(ending)]
    return None


def earlier_names(path: Path) -> List[str]:
    """The names that label images of an input may have, alone or beside others."""
    return [fitting(name) + LABEL_ENDING for name in dict.fromkeys(own_stems(path))]


def table_path(path: Path) -> Path:
    """Where the table of cells of a label image is: NAME_label.tiff -> NAME_cells.csv."""
    return path.with_name(path.name[: -len(LABEL_ENDING)] + TABLE_ENDING)
