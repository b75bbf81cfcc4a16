"""A folder of one's own images and label images, without a catalogue.

In the folder or in a sub folder of it, one level deep, lie

    NAME.tif     an image (or any other ending of app.names.EXTENSIONS), and beside it
    NAME_label.tif    its label image: _label (as prediction writes it), _masks or _cp_masks (as
                      Cellpose does), _mask or -lbl (as ImageJ does); .tif, .tiff or .png. Without
                      one, NAME_seg.npy (as Cellpose keeps it)

or the images in images/ and the label images in labels/ next to it, there also as plain NAME.tif.
NAME may be the image's name up to its first dot. A sub folder is a source of that name; what lies
in the folder itself is one of the folder's name. With a sub folder val/, validation uses what is in
there and training what is in train/ beside it.
"""

import warnings
from collections import defaultdict

import numpy as np
from scipy import ndimage
from skimage import measure

from app import images
from app.names import (
    CELLPOSE_ENDING,
    EXTENSIONS,
    LABEL_ENDINGS,
    LABEL_EXTENSIONS,
    PREVIEW_ENDINGS,
    stem,
    without_ending,
)
from app.windows import spread_over
from evaluate.folders import paired
from evaluate.matching import frame_labels

EXPECTED = (
    "expected are images (as NAME.tif) each with its label image beside it (NAME_label.tif or "
    ".png, or NAME_masks.*), or both in folders images/ and labels/ (there also as plain NAME.tif)"
)
NO_LABEL, NO_IMAGE = "no label image for", "no image for"  # why files are left out
VALIDATION = 5  # one image in so many is for validation
FEW = 3  # images for validation whose mean says little
NAMED = 10  # files that a warning names
HOLLOW = 0.5  # an object that covers less than this share of its outline's inside is a ring
NEARLY_ALL = 0.95  # of the image


def find(folder):
    """The labelled images of a folder (Path): {"train" or "val": [(source, image, label)]}.

    Without val/, validation gets a fifth of the images, spread over the sorted names; where that
    would be fewer than FEW, all images serve for both. Warns of files without partner. ValueError:
    there is no labelled image.
    """
    name = folder.resolve().name
    if not (folder / "val").is_dir():
        return share(labelled(folder, name))
    return {split: labelled(folder / split, name) for split in ("train", "val")}


def share(listing):
    """Deal out a list: {"train": most of it, "val": evenly spread ones}; a short one to both.

    One or two images held out would say less than chance about which weights are the better ones,
    and training would miss them.
    """
    count = len(listing) // VALIDATION
    if count < FEW:
        return {"train": listing, "val": listing}
    chosen = set(spread_over(range(len(listing)), count))
    return {
        "train": [item for index, item in enumerate(listing) if index not in chosen],
        "val": [listing[index] for index in sorted(chosen)],
    }


def labelled(folder, name):
    """The (source, image, label) of a folder, sorted; `name` is its own source.

    ValueError: there are none.
    """
    found = [(source, *paths) for source, place in places(folder, name) for paths in pairs(place)]
    if not found:
        raise ValueError(f"{folder} has no catalog.csv and no labelled images; {EXPECTED}")
    return found


def unlabelled(folder):
    """The (source, image) of a folder (Path) and its sub folders, with labels or not."""
    return [
        (source, path)
        for source, place in places(folder, folder.resolve().name)
        for path in images_in(place)
    ]


def places(folder, name):
    """The (source, folder) in which images lie: the folder itself and its sub folders."""
    inner = (path for path in visible(folder) if path.is_dir())
    return [(name, folder)] + [
        (path.name, path) for path in inner if path.name not in ("images", "labels")
    ]


def visible(folder):
    """The paths in a folder that are not hidden; none where there is no folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if not path.name.startswith("."))


def image_files(folder):
    """The image files of a folder, sorted; none where there is no folder."""
    return [path for path in visible(folder) if has_ending(path, EXTENSIONS)]


def images_in(place):
    """The images in a folder and in images/ of it, without label images and previews."""
    paths = image_files(place) + image_files(place / "images")
    paths = [path for path in paths if not path.name.lower().endswith(PREVIEW_ENDINGS)]
    return [path for path in paths if not without_ending(path.name, LABEL_ENDINGS)]


def labels_in(place):
    """{NAME: [Path]} of the label images in a folder and in labels/ of it."""
    inner = visible(place / "labels")
    everything = visible(place) + inner
    named = by_name((without_ending(path.name, LABEL_ENDINGS), path) for path in everything)
    kept = by_name((without_ending(path.name, (CELLPOSE_ENDING,)), path) for path in everything)
    # All or none: in labels/ beside NAME_label.tif, what is called otherwise is no label image.
    return {**kept, **named} or by_name(
        (stem(path.name), path) for path in inner if has_ending(path, LABEL_EXTENSIONS)
    )


def has_ending(path, endings):
    """Whether a path is a file with one of the endings, in any case of letters."""
    return path.name.lower().endswith(endings) and path.is_file()


def by_name(items):
    """{name: [path]} of pairs (name, path); without a name a path does not count."""
    found = defaultdict(list)
    for name, path in items:
        if name:
            found[name].append(path)
    return found


def pairs(place, name_of=lambda path: stem(path.name)):
    """The (image, label) in a folder, or in images/ and labels/ of it; all others are warned of.

    name_of: a function that gives the NAME of an image's path, or None for what is no image.
    """
    pictures = by_name((name_of(path), path) for path in images_in(place))
    labels = labels_in(place)
    groups = [
        (pictures.get(name, []), labels.get(label_name, []))
        for name, label_name in paired(pictures, labels)
    ]
    warn(place, NO_LABEL, [path for mine, theirs in groups if not theirs for path in mine])
    warn(place, NO_IMAGE, [path for mine, theirs in groups if not mine for path in theirs])
    several = [mine + theirs for mine, theirs in groups if mine and theirs]
    unclear = [path for paths in several if len(paths) > 2 for path in paths]
    warn(place, "several files of one name:", unclear)
    return [(*mine, *theirs) for mine, theirs in groups if len(mine) == len(theirs) == 1]


def warn(place, why, paths):
    """Name files that are left out of what lies in a place, if there are any."""
    names = [path.name for path in paths]
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        listed = ", ".join(names[:NAMED])
        warnings.warn(f"{place}: left out, {why} {listed}{more}", stacklevel=1)


def usable(listing, write):
    """The Entries of a list that training can use; what looks wrong is told.

    write(line): is called for each problem. Files that cannot be read, and label images that are
    not of their image's size, are left out.
    """
    kept = []
    for entry in listing:
        try:
            wrong = problem(read_pair(entry))
        except ValueError as error:
            write(f"{error} (left out)")
            continue
        if wrong:
            write(f"{entry.label}: {wrong} (used all the same)")
        kept.append(entry)
    return kept


def read_pair(entry):
    """The label image (H, W) of an Entry.

    ValueError: it or the image cannot be read, or they differ in height or width.
    """
    shape, label = read(entry.image).shape[:2], images.read_labels(entry.label)
    if label.shape != shape:
        raise ValueError(f"{entry.label}: its shape is {label.shape}, that of the image {shape}")
    return label


def read(path):
    """The image in a file. ValueError names a file that cannot be read."""
    try:
        return images.read(path)[0]
    except images.ImageError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def problem(label):
    """What looks wrong with a label image (H, W), 0 being background: a sentence, or None."""
    dense = numbered(label)
    pieces = measure.regionprops(measure.label(dense, connectivity=2), dense)
    if not pieces:
        return "there is no object in it"
    if np.mean([is_ring(piece.image) for piece in pieces]) > 0.5:
        return "its objects are outlines; fill each of them with a number of its own"
    values, counts = np.unique([piece.intensity_max for piece in pieces], return_counts=True)
    broken = np.count_nonzero(counts > 1)
    if len(values) == 1 and broken:
        return (
            f"its only label, {label.max()}, comes in {len(pieces)} pieces; is it a binary mask? "
            "Each cell needs a number of its own"
        )
    if len(values) == 1 and pieces[0].area > NEARLY_ALL * label.size:
        return f"its only object, {label.max()}, covers nearly all of the image"
    if broken > len(values) / 2:
        return (
            f"{broken} of its {len(values)} objects come in several pieces, which training "
            "ignores; each cell needs a number of its own"
        )
    return None


def has_whole_cell(entry):
    """Whether an Entry has a labelled cell that counts by the organisers' rules, as it does not
    reach into the frame of its image. LabelError."""
    truth = read_truth(entry.label)
    return len(np.setdiff1d(truth, [0, *frame_labels(truth)])) > 0


def check_names(listing):
    """ValueError where the files of two Entries would have the same name."""
    named = by_name((entry.flat_name, entry.image) for entry in listing)
    for same in named.values():
        if len(same) > 1:
            raise ValueError(f"{same[0]} and {same[1]} differ too little in name: rename one")


def read_truth(path):
    """A label image (H, W) for those who hold labels in 32 bits: larger ones are numbered anew.

    (By the organisers' rules they would wrap.) LabelError.
    """
    label = images.read_labels(path)
    return label if label.max() < 2**31 else numbered(label)


def numbered(label):
    """The same objects of a label image (H, W) as 1, 2, 3 ..., whatever their labels; 0 stays."""
    values, index = np.unique(label, return_inverse=True)
    return index.reshape(label.shape) + int(values[0] > 0)


def is_ring(mask):
    """Whether an object (h, w) is little more than the outline of something."""
    return mask.sum() < HOLLOW * ndimage.binary_fill_holes(mask).sum()
