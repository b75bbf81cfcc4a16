"""Folders of images as the peers' methods take them, and their labels as the evaluator does."""

from pathlib import Path

from app import images
from app.intensity import to_rgb8
from evaluate.folders import EvaluationError, list_images, list_truth, only, read_labels


def add_folders(parser):
    """The options --images and --out."""
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the labels")


def read(path):
    """The image in a file as 8-bit RGB (H, W, 3), converted as for our own network.

    EvaluationError names a file that cannot be read.
    """
    try:
        image, _ = images.read(path)
    except images.ImageError as error:
        raise EvaluationError(f"{path}: {error}") from error
    return to_rgb8(image)


def read_pair(image, truth):
    """An image as of `read` and its true labels (H, W), of two Paths.

    EvaluationError, LabelError: one cannot be read, or they differ in height or width.
    """
    pixels, labels = read(image), read_labels(truth)
    if labels.shape != pixels.shape[:2]:
        raise EvaluationError(f"{truth} has the shape {labels.shape}, its image {pixels.shape[:2]}")
    return pixels, labels


def labelled(image_folder, truth_folder):
    """The (name, image, truth) of two folders of images and their true labels, sorted by name.

    image and truth are Paths. EvaluationError: one has no partner, or there are none.
    """
    found, truths = list_images(image_folder), list_truth(truth_folder)
    if not found:
        raise EvaluationError(f"{image_folder} holds no images")
    if set(found) != set(truths):
        raise EvaluationError(f"{image_folder} and {truth_folder} do not hold the same names")
    return [(name, only(found[name], "image"), only(truths[name], "truth")) for name in found]


def label_all(folder, out, segment):
    """Write segment(image) for each image of a folder as out/NAME_label.tiff.

    segment: function of an image (H, W, 3) uint8 that returns labels (H, W), 0 = background.
    """
    out.mkdir(parents=True, exist_ok=True)
    for paths in list_images(folder).values():
        path = only(paths, "image")
        images.write_labels(out / images.output_name(path), segment(read(path)))
