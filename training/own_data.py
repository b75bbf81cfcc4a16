"""A folder of one's own images and label images, without a catalogue.

In the folder or in a sub folder of it, one level deep, lie

    NAME.tif     an image (or any other ending of app.names.EXTENSIONS), and beside it
    NAME_label.tif    its label image: _label (as prediction writes it), _masks or _cp_masks (as
                      Cellpose does) or _mask; .tif, .tiff or .png

or the images in images/ and the label images in labels/ next to it, there also as plain NAME.tif.
NAME may be the image's name up to its first dot. A sub folder is a source of that name; what lies
in the folder itself is one of the folder's name. With a sub folder val/, validation uses what is in
there and training what is in train/ beside it.
"""

import re
import warnings

import cv2
import numpy as np
from skimage import measure

from app import images
from app.names import EXTENSIONS, LABEL_EXTENSIONS
from evaluate.folders import paired

LABEL_NAME = re.compile(r"(.+?)_(?:label|masks?|cp_masks)(?:\.tif|\.tiff|\.png)", re.IGNORECASE)
EXPECTED = (
    "expected are images (as NAME.tif) each with its label image beside it (NAME_label.tif or "
    ".png, or NAME_masks.*), or both in folders images/ and labels/"
)
VALIDATION = 5  # one image in so many is for validation
NAMED = 10  # files that a warning names
HOLLOW = 0.5  # an object that covers less than this share of its outline's inside is a ring
NEARLY_ALL = 0.95  # of the image


def find(folder):
    """The labelled images of a folder (Path): {"train" or "val": [(source, image, label)]}.

    Without val/, validation gets a fifth of the images, spread over the sorted names; a single
    image serves for both. Warns of files without partner. ValueError: there is no labelled image.
    """
    name = folder.resolve().name
    if not (folder / "val").is_dir():
        return share(labelled(folder, name))
    return {split: labelled(folder / split, name) for split in ("train", "val")}


def share(listing):
    """Deal out a list: {"train": most of it, "val": evenly spread ones}; a single item to both."""
    if len(listing) == 1:
        return {"train": listing, "val": listing}
    count = max(len(listing) // VALIDATION, 1)
    chosen = {(2 * number + 1) * len(listing) // (2 * count) for number in range(count)}
    return {
        "train": [item for index, item in enumerate(listing) if index not in chosen],
        "val": [listing[index] for index in sorted(chosen)],
    }


def labelled(folder, name):
    """The (source, image, label) of a folder, sorted; `name` is its own source.

    ValueError: there are none.
    """
    found = [
        (source, *paths)
        for source, place in places(folder, name)
        for paths in pairs(images_in(place), labels_in(place), place)
    ]
    if not found:
        raise ValueError(f"{folder} has no catalog.csv and no labelled images; {EXPECTED}")
    return found


def unlabelled(folder):
    """The (source, image) of a folder (Path) and its sub folders, with labels or not."""
    return [
        (source, path)
        for source, place in places(folder, folder.resolve().name)
        for paths in images_in(place).values()
        for path in paths
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


def images_in(place):
    """{NAME: [Path]} of the images in a folder and in images/ of it."""
    return by_name(
        (path.stem, path)
        for path in visible(place) + visible(place / "images")
        if has_ending(path, EXTENSIONS) and not LABEL_NAME.fullmatch(path.name)
    )


def labels_in(place):
    """{NAME: [Path]} of the label images in a folder and in labels/ of it."""
    paths = visible(place) + visible(place / "labels")
    matches = [(LABEL_NAME.fullmatch(path.name), path) for path in paths]
    named = [(match.group(1), path) for match, path in matches if match]
    plain = [path for path in visible(place / "labels") if has_ending(path, LABEL_EXTENSIONS)]
    # All or none: in labels/ beside NAME_label.tif, what is called otherwise is no label image.
    return by_name(named or ((path.stem, path) for path in plain))


def has_ending(path, endings):
    """Whether a path is a file with one of the endings, in any case of letters."""
    return path.name.lower().endswith(endings) and path.is_file()


def by_name(items):
    """{name: [path]} of pairs (name, path)."""
    found = {}
    for name, path in items:
        found.setdefault(name, []).append(path)
    return found


def pairs(pictures, labels, place):
    """The (image, label) of what `images_in` and `labels_in` found; warns of all others."""
    found, alone = [], []
    for name, label_name in paired(pictures, labels):
        paths = pictures.get(name, []), labels.get(label_name, [])
        if len(paths[0]) == len(paths[1]) == 1:
            found.append((paths[0][0], paths[1][0]))
        else:
            alone.append(paths)
    warn(place, "no label image for", (paths for paths, others in alone if not others))
    warn(place, "no image for", (others for paths, others in alone if not paths))
    warn(place, "several files of one name:", (a + b for a, b in alone if a and b))
    return found


def warn(place, what, groups):
    """Name the files of some lists of paths, which are left out."""
    names = [path.name for group in groups for path in group]
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        text = f"{place}: left out, {what} {', '.join(names[:NAMED])}{more}"
        warnings.warn(text, stacklevel=1)


def usable(listing, write):
    """The Entries that training can use, of a list; what looks wrong is told.

    write(line): is called for each problem. Files that cannot be read, and label images that are
    not of their image's size, are left out.
    """
    kept = []
    for entry in listing:
        try:
            label = read_pair(entry)
        except ValueError as error:
            write(f"{error} (left out)")
            continue
        for sentence in problems(label):
            write(f"{entry.label}: {sentence} (used all the same)")
        kept.append(entry)
    return kept


def read_pair(entry):
    """The label image (H, W) of an Entry. ValueError: a file of it cannot be read, or the two do
    not fit."""
    arrays = []
    for path in (entry.image, entry.label):
        try:
            arrays.append(images.read(path)[0])
        except images.ImageError as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
    image, label = arrays
    if label.shape != image.shape[:2]:
        raise ValueError(
            f"{entry.label}: its shape is {label.shape}, that of the image {image.shape[:2]}"
        )
    return label[:, :]


def problems(label):
    """What looks wrong with a label image (H, W), 0 being background, as a list of sentences."""
    values, dense = np.unique(np.where(label > 0, label, 0), return_inverse=True)
    dense = dense.reshape(label.shape) + (values[0] > 0)  # 0 is background, if there is any
    pieces = measure.regionprops(measure.label(dense, connectivity=2))
    if not pieces:
        return ["there is no object in it"]
    if np.mean([is_ring(piece.image) for piece in pieces]) > 0.5:
        return ["its objects are outlines; fill each of them with a number of its own"]
    counts = np.bincount([dense[piece.slice][piece.image][0] for piece in pieces])[1:]
    if len(counts) == 1:
        return problems_of_one(label.max(), pieces, label.size)
    return problems_of_pieces(counts)


def is_ring(mask):
    """Whether an object (h, w) is little more than the outline of something."""
    rims, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), rims, -1, 1, cv2.FILLED)
    return mask.sum() < HOLLOW * filled.sum()


def problems_of_one(value, pieces, size):
    """`problems` of a label image of `size` pixels whose pieces all have one value."""
    if len(pieces) > 1:
        return [
            f"its only label, {value}, comes in {len(pieces)} pieces; is it a binary mask? Each "
            "cell needs a number of its own"
        ]
    if pieces[0].area > NEARLY_ALL * size:
        return [f"its only object, {value}, covers nearly all of the image"]
    return []


def problems_of_pieces(counts):
    """`problems` of objects that come in so many pieces each."""
    broken = int((counts > 1).sum())
    if 2 * broken <= len(counts):
        return []
    return [
        f"{broken} of its {len(counts)} objects come in several pieces, which training ignores; "
        "each cell needs a number of its own"
    ]
