"""python -m experiments marked FOLDER: drawn images in which not all cells count, to try with.

All cells are green, but only those with a red spot (of a marker, say) are labelled. No weights can
know that, so they outline all, until they have learned from a few such images. FOLDER gets
images, FOLDER-truth their true label images, named as prediction names its own.
"""

from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from app.images import write_labels
from app.names import LABEL_ENDING
from evaluate.folders import EvaluationError

SIDE = 512  # pixels of an image
CELLS, TRIES = 40, 800
AXES = (16, 30)  # pixels: half axes of cells
MARKED = 0.4  # share of the cells
SPOT = 5  # pixels: radius of a marker


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="which is not there yet")
    parser.add_argument("--count", type=int, default=12, help="of images (default: %(default)s)")


def run(options):
    """Write the images; returns the exit status. EvaluationError."""
    truth = options.folder.with_name(f"{options.folder.name}-truth")
    for folder in (options.folder, truth):
        if folder.exists():
            raise EvaluationError(f"{folder} is there already: name another")
        folder.mkdir(parents=True)
    for number in range(options.count):
        image, labels = drawn(np.random.default_rng(number))
        tifffile.imwrite(str(options.folder / f"marked_{number:02}.tif"), image)
        write_labels(truth / f"marked_{number:02}{LABEL_ENDING}", labels)
    print(f"{options.count} images are in {options.folder}, their true labels in {truth}")
    return 0


def drawn(rng):
    """An image (SIDE, SIDE, 3) uint8 of such cells, and the labels (SIDE, SIDE), int32, of those
    that count."""
    cells, spots = np.zeros((2, SIDE, SIDE), np.int32)
    y, x = np.mgrid[:SIDE, :SIDE]
    for _ in range(TRIES):
        (top, left), axes, turn = rng.uniform(0, SIDE, 2), rng.uniform(*AXES, 2), rng.uniform(0, 3)
        dx, dy = x - left, y - top
        u = (dx * np.cos(turn) + dy * np.sin(turn)) / axes[0]
        v = (dy * np.cos(turn) - dx * np.sin(turn)) / axes[1]
        cell = u**2 + v**2 < 1
        if cells[cell].any():
            continue
        cells[cell] = cells.max() + 1
        if rng.random() < MARKED:
            away = rng.uniform(-SPOT, SPOT, 2)
            spots[cell & (np.hypot(dx - away[0], dy - away[1]) < SPOT)] = cells.max()
        if cells.max() == CELLS:
            break
    labels = np.where(np.isin(cells, np.unique(spots)), cells, 0)
    light = rng.uniform(90, 160, cells.max() + 1) * (np.arange(cells.max() + 1) > 0)
    image = np.stack([200.0 * (spots > 0), light[cells], np.zeros_like(light[cells])], axis=2)
    image = ndimage.gaussian_filter(image, (1.2, 1.2, 0)) + rng.normal(15, 5, image.shape)
    return image.clip(0, 255).astype(np.uint8), labels
