"""Folders of images as the peers' methods take them, and their labels as the evaluator does."""

from pathlib import Path

from app import images
from app.intensity import to_rgb8
from app.names import LABEL_ENDING
from evaluate.folders import EvaluationError, LabelError, list_images, list_truth, only, read_labels


def add_folders(parser):
    """The options --images and --out."""
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the labels")


def read(paths):
    """The image in the only file of a list as 8-bit RGB (H, W, 3), converted as for our network.

    EvaluationError: there are several, or it cannot be read.
    """
    try:
        return to_rgb8(images.read(only(paths, "image"))[0])
    except (images.ImageError, LabelError) as error:
        raise EvaluationError(f"{paths[0]}: {error}") from error


def labelled(image_folder, truth_folder):
    """The (name, image, labels) of two folders of images and their true labels, sorted by name.

    image: (H, W, 3) uint8, as of `read`. labels: (H, W), 0 = background. EvaluationError: one has
    no partner, cannot be read or differs from it in height or width; or there are none.
    """
    found, truths = list_images(image_folder), list_truth(truth_folder)
    if not found:
        raise EvaluationError(f"{image_folder} holds no images")
    if set(found) != set(truths):
        raise EvaluationError(f"{image_folder} and {truth_folder} do not hold the same names")
    return [(name, *read_pair(found[name], truths[name])) for name in found]


def read_pair(image_paths, truth_paths):
    """The image and the labels of one name (see `labelled`)."""
    image = read(image_paths)
    try:
        labels = read_labels(only(truth_paths, "truth"))
    except LabelError as error:
        raise EvaluationError(f"{truth_paths[0]}: {error}") from error
    if labels.shape != image.shape[:2]:
        raise EvaluationError(
            f"{truth_paths[0]} has the shape {labels.shape}, its image {image.shape[:2]}"
        )
    return image, labels


def label_all(folder, out, segment):
    """Write segment(image) for each image of a folder as out/NAME_label.tiff.

    segment: function of an image (H, W, 3) uint8 that returns labels (H, W), 0 = background.
    """
    out.mkdir(parents=True, exist_ok=True)
    for stem, paths in list_images(folder).items():
        images.write_labels(out / (stem + LABEL_ENDING), segment(read(paths)))
