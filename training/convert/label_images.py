"""Data sets with a label image for each image: NeurIPS, Cellpose, Omnipose, BBBC039."""

import re
import warnings
from functools import partial

from skimage import measure

from evaluate.folders import read_labels
from training import catalog, own_data
from training.convert.sample import Sample, by_stem, folders, matched, split_of

# The text files in BBBC039's metadata/ and the split of the images that they list.
LISTS = {"training.txt": "train", "validation.txt": "val", "test.txt": "test"}


def find_neurips(source):
    """The Samples of all folders with images/ and labels/ in them, but the challenge's test set."""
    samples = []
    for place in folders(source):
        inner = place.relative_to(source)
        is_test = any(part.lower().startswith("test") for part in inner.parts)
        if (place / "labels").is_dir() and not is_test:
            for image, label in own_data.pairs(place):
                samples.append(sample_of(image, label, image.stem, split_of(inner)))
    return samples


def find_beside(source):
    """The Samples of all folders in which NAME_masks.* lie beside NAME_img.* or NAME.*"""
    samples = []
    for place in folders(source):
        inner = place.relative_to(source)
        for image, label in own_data.pairs(place, without_img):
            name = "_".join([*inner.parts, without_img(image)])
            samples.append(sample_of(image, label, name, split_of(inner)))
    return samples


def without_img(path):
    """NAME of the path of an image NAME_img.* or NAME.*

    None for the flow fields that Cellpose and Omnipose leave beside their images.
    """
    return None if path.stem.endswith("_flows") else re.sub("_img$", "", path.stem)


def sample_of(image, label, name, split):
    """The Sample of an image and a label image in files."""
    return Sample(name, image, lambda shape: read_labels(label), split)


def find_bbbc039(source):
    """The Samples of images/NAME.tif with masks/NAME.png, split as metadata/ says."""
    pictures, masks = by_stem(source / "images"), by_stem(source / "masks")
    splits = read_lists(source / "metadata") or dict.fromkeys(pictures)
    listed = matched(source, pictures, splits, "in no list of metadata/:")
    alone = [pictures[name] for name in listed if name not in masks]
    own_data.warn(source, "no file in masks/ for", alone)
    return [
        Sample(name, pictures[name], partial(read_components, masks[name]), splits[name])
        for name in listed
        if name in masks
    ]


def read_lists(folder):
    """{stem: split} of BBBC039's metadata/; empty, with a warning, unless all lists are there."""
    missing = [name for name in LISTS if not (folder / name).is_file()]
    if missing:
        lacking = f"{folder}: no {', '.join(missing)}"
        warnings.warn(f"{lacking}; one image in ten is taken for validation", stacklevel=1)
        return {}
    return {
        name.rpartition(".")[0]: split
        for file, split in LISTS.items()
        for name in (folder / file).read_text(encoding="utf-8").split()
    }


def read_components(path, shape):
    """The label image in a mask of BBBC039.

    Touching nuclei have different values in the red channel: an object is a connected component
    (8 neighbours) of equal ones.
    """
    mask = catalog.read_image(path)
    return measure.label(mask if mask.ndim == 2 else mask[..., 0], background=0)
