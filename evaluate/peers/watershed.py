"""The classical baseline: Otsu's threshold, and a watershed of the distance to the background.

No training. How far apart the centres of two cells are at least is chosen, one distance for all
images, by the best mean F1 at IoU 0.5.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage import color, feature, filters, measure, morphology, segmentation

from evaluate.folders import EvaluationError, LabelError, read_labels
from evaluate.official import score_pair
from evaluate.peers.inputs import add_folders, label_all, labelled, read

SMOOTHING = 1.0  # pixels, standard deviation of the Gaussian before the threshold
LEAST_PIXELS = 20  # smaller pieces of the foreground are noise
DISTANCES = (5, 7, 10, 14, 20)  # pixels


def main(arguments):
    """Run the command; its exit status is 2 when it could not start."""
    parser = argparse.ArgumentParser(prog="python -m evaluate.peers.watershed", description=__doc__)
    add_folders(parser)
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR", help="true labels")
    options = parser.parse_args(arguments)
    try:
        samples = [
            (read(image), read_labels(truth))
            for _, image, truth in labelled(options.images, options.truth)
        ]
        distance = choose_distance(samples)
        label_all(options.images, options.out, lambda image: segment(image, distance))
    except (EvaluationError, LabelError, OSError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    return 0


def choose_distance(samples):
    """The one of DISTANCES with the best mean F1 on a list of (image, true labels)."""
    scores = {
        distance: np.mean(
            [score_pair(truth, segment(image, distance)).f1 for image, truth in samples]
        )
        for distance in DISTANCES
    }
    for distance, f1 in scores.items():
        print(f"least distance {distance} pixels: mean F1 {f1:.4f}")
    return max(scores, key=scores.get)


def segment(image, min_distance):
    """Labels (H, W) of an image (H, W, 3) uint8.

    min_distance: least distance in pixels between the centres of two cells.
    """
    cells = foreground(filters.gaussian(color.rgb2gray(image), SMOOTHING))
    distance = ndimage.distance_transform_edt(cells)
    # Smoothed, or the corners of a ragged outline would have centres of their own.
    distance = filters.gaussian(distance, SMOOTHING)
    pieces = measure.label(cells)
    centres = feature.peak_local_max(distance, min_distance=min_distance, labels=pieces)
    markers = np.zeros(cells.shape, np.int32)
    markers[tuple(centres.T)] = np.arange(1, len(centres) + 1)
    return segmentation.watershed(-distance, markers, mask=cells)


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
