"""The classical baseline: Otsu's threshold, and a watershed of the distance to the background.

No training. How far apart the centres of two cells are at least is chosen, one distance for all
images, by the best mean F1 at IoU 0.5.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage import color, feature, filters, measure, morphology, segmentation

from evaluate.official import score_pair
from experiments.peers.inputs import add_folders, label_all, labelled

SMOOTHING = 1.0  # pixels, standard deviation of the Gaussian before the threshold
LEAST_PIXELS = 20  # smaller pieces of the foreground are noise
DISTANCES = (5, 7, 10, 14, 20)  # pixels


def add_arguments(parser):
    """What the command takes."""
    add_folders(parser)
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR", help="true labels")


def run(options):
    """Choose the distance and label all images by it."""
    distance = choose_distance(labelled(options.images, options.truth))
    label_all(options.images, options.out, lambda image: segment(image, distance))
    return 0


def choose_distance(samples):
    """The one of DISTANCES with the best mean F1 on a list of (name, image, true labels)."""
    found = []
    for _, image, truth in samples:
        depth = depths(image)
        found.append([score_pair(truth, part(depth, distance)).f1 for distance in DISTANCES])
    means = dict(zip(DISTANCES, np.mean(found, axis=0)))
    for distance, f1 in means.items():
        print(f"least distance {distance} pixels: mean F1 {f1:.4f}")
    return max(means, key=means.get)


def segment(image, min_distance):
    """Labels (H, W) of an image (H, W, 3) uint8.

    min_distance: least distance in pixels between the centres of two cells.
    """
    return part(depths(image), min_distance)


def depths(image):
    """How deep inside a cell each pixel (H, W) of an image (H, W, 3) uint8 is; 0 is outside."""
    cells = foreground(filters.gaussian(color.rgb2gray(image), SMOOTHING))
    # Smoothed, or the corners of a ragged outline would have centres of their own.
    depth = filters.gaussian(ndimage.distance_transform_edt(cells), SMOOTHING)
    return np.where(cells, depth, 0)


def part(depth, min_distance):
    """Labels (H, W) of the cells whose depths (H, W) are given, one for each centre."""
    cells = depth > 0
    pieces = measure.label(cells, connectivity=1)  # as the watershed sees them
    centres = feature.peak_local_max(
        depth, min_distance=min_distance, labels=pieces, exclude_border=False
    )
    markers = np.zeros(cells.shape, np.int32)
    markers[tuple(centres.T)] = np.arange(1, len(centres) + 1)
    return segmentation.watershed(-depth, markers, mask=cells)


def foreground(grey):
    """Mask (H, W) of the cells in a grey image (H, W): the side of Otsu's threshold that covers
    less, without holes and specks. Nothing in an image of one value.

    Cells are bright in fluorescence and dark in stained sections, and mostly the smaller part.
    """
    if grey.min() == grey.max():
        return np.zeros(grey.shape, bool)
    bright = grey > filters.threshold_otsu(grey)
    cells = ndimage.binary_fill_holes(bright if bright.mean() <= 0.5 else ~bright)
    return morphology.remove_small_objects(cells, LEAST_PIXELS)
