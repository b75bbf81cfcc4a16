"""Data sets with a label image for each image: NeurIPS, Cellpose, Omnipose, BBBC039."""

import re
import warnings
from functools import partial

from skimage import measure

from evaluate.folders import read_labels
from training import catalog, own_data
from training.convert.sample import Sample, folders, image_files, split_of

# The text files in BBBC039's metadata/ and the split of the images that they list.
LISTS = {"training.txt": "train", "validation.txt": "val", "test.txt": "test"}


def find_neurips(source):
    """The Samples of all folders with images/ and labels/ in them, but the challenge's test set."""
    return [
        sample_of(image, label, image.stem, split_of(place.relative_to(source)))
        for place in folders(source)
        if (place / "labels").is_dir() and not is_test(place.relative_to(source))
        for image, label in own_data.pairs(
            own_data.images_in(place), own_data.labels_in(place), place
        )
    ]


def is_test(place):
    """Whether a folder belongs to a test set."""
    return any(part.lower().startswith("test") for part in place.parts)


def find_beside(source):
    """The Samples of all folders in which NAME_masks.* lie beside NAME_img.* or NAME.*"""
    samples = []
    for place in folders(source):
        inner = place.relative_to(source)
        for image, label in own_data.pairs(
            bare_names(own_data.images_in(place)), own_data.labels_in(place), place
        ):
            name = "_".join([*inner.parts, without_img(image.stem)])
            samples.append(sample_of(image, label, name, split_of(inner)))
    return samples


def bare_names(pictures):
    """{NAME: [Path]} of the images NAME_img or NAME of {stem: [Path]}.

    Not among them are the flow fields that Cellpose and Omnipose leave beside their images.
    """
    return own_data.by_name(
        (without_img(stem), path)
        for stem, paths in pictures.items()
        for path in paths
        if not stem.endswith("_flows")
    )


def without_img(stem):
    """NAME of NAME_img and of NAME."""
    return re.sub("_img$", "", stem)


def sample_of(image, label, name, split):
    """The Sample of an image and a label image in files."""
    return Sample(name, image, lambda shape: read_labels(label), split)


def find_bbbc039(source):
    """The Samples of images/NAME.tif with masks/NAME.png, split as metadata/ says."""
    splits = read_lists(source / "metadata")
    pictures = {path.stem: path for path in image_files(source / "images")}
    masks = {path.stem: path for path in image_files(source / "masks")}
    if splits:
        unknown = [[path] for stem, path in pictures.items() if stem not in splits]
        own_data.warn(source, "in no list of metadata/:", unknown)
        pictures = {stem: path for stem, path in pictures.items() if stem in splits}
    listed = [[source / f"{stem}.tif"] for stem in splits if stem not in pictures]
    own_data.warn(source, "listed in metadata/, not there:", listed)
    alone = [[path] for stem, path in pictures.items() if stem not in masks]
    own_data.warn(source, "no file in masks/ for", alone)
    return [
        Sample(stem, path, partial(read_components, masks[stem]), splits.get(stem))
        for stem, path in pictures.items()
        if stem in masks
    ]


def read_lists(folder):
    """{stem: split} of BBBC039's metadata/; empty, with a warning, unless all lists are there."""
    missing = [name for name in LISTS if not (folder / name).is_file()]
    if missing:
        warnings.warn(
            f"{folder}: no {', '.join(missing)}; one image in ten is taken for validation",
            stacklevel=1,
        )
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
