"""A labelled image of a published data set, before it is converted."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional

from training import own_data

VALIDATION = 10  # one image in so many, where there is no published split
SPLITS = {"train": "train", "val": "val", "test": "val", "tuning": "val"}


@dataclass
class Sample:
    """One labelled image.

    name: what to call it; several samples may have one name. label: a function of the image's
    shape (H, W) that gives the label image, (H, W) integers with 0 for background; it raises
    ValueError or evaluate.folders.LabelError where the annotation is damaged. split: "train",
    "val" or "test", None where none is published.
    """

    name: str
    image: Path
    label: Callable
    split: Optional[str] = None


def split_of(path):
    """The split that the innermost folder called train/, test_sorted/, Tuning/ names, or None."""
    for part in reversed(path.parts):
        for start, split in SPLITS.items():
            if part.lower().startswith(start):
                return split
    return None


def share(samples):
    """The samples sorted by name, each with a split.

    The published split is kept. Without one, or where all of it would be on one side, the second
    of every VALIDATION is for validation.
    """
    samples = sorted(samples, key=lambda sample: sample.name)
    if not {"train", "val"} <= {sample.split for sample in samples}:
        samples = [replace(sample, split=None) for sample in samples]
    dealt = itertools.cycle(["train", "val"] + ["train"] * (VALIDATION - 2))
    return [replace(sample, split=sample.split or next(dealt)) for sample in samples]


def unique(name, taken):
    """A file name without dots, as `name` or with a number behind it, that nobody has yet.

    taken: the set of names in use, in lower case, to which it is added. So are those of its label
    image, and of names that differ in capitals only, which some file systems do not tell apart.
    """
    base = name.replace(".", "_")
    for candidate in itertools.chain([base], (f"{base}_{n}" for n in itertools.count(2))):
        names = {candidate.lower(), f"{candidate}_label".lower()}
        if not names & taken:
            taken |= names
            return candidate


def by_stem(folder):
    """{stem: Path} of the image files of a folder, sorted."""
    return {path.stem: path for path in own_data.image_files(folder)}


def matched(source, pictures, annotated, missing):
    """The names that `pictures` {name: Path} and `annotated` {name: ...} have both, sorted.

    The others are warned of: a picture that is not annotated in the words `missing`.
    """
    alone = [pictures[name] for name in sorted(pictures.keys() - annotated.keys())]
    own_data.warn(source, missing, alone)
    unseen = [source / name for name in sorted(annotated.keys() - pictures.keys())]
    own_data.warn(source, own_data.NO_IMAGE, unseen)
    return sorted(pictures.keys() & annotated.keys())


def folders(source):
    """A folder and all below it, sorted; hidden ones are left out."""
    return [source, *(path for path in below(source) if path.is_dir())]


def below(folder):
    """All paths below a folder, sorted; what is hidden is left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
