"""Sample images for a first try:  python -m app.samples FOLDER

Micrographs that come with scikit-image, and drawn nuclei whose number is known.
"""

import sys
from pathlib import Path
from typing import List

import numpy as np
import tifffile
from PIL import Image
from skimage import data, draw, filters

from app.screen import screen

SIDE = 512  # pixels
PITCH = 64  # one drawn nucleus in each square of this side


def main(arguments: List[str]) -> None:
    """Write the samples to the folder named by the one argument, which is made if missing."""
    folder = Path(arguments[0])
    with screen():
        print(f"No folder given, so sample images are written to {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(str(folder / "drawn_fluorescence.tiff"), fluorescence(seed=1))
    pictures = {
        "drawn_stained": stained(seed=2),
        "cell": data.cell(),
        "immunohistochemistry": data.immunohistochemistry(),
        "microaneurysms": data.microaneurysms(),
    }
    for name, picture in pictures.items():
        Image.fromarray(picture).save(str(folder / (name + ".png")))


def fluorescence(seed: int) -> np.ndarray:
    """Bright nuclei on a dark, noisy ground: (SIDE, SIDE) uint16."""
    rng = np.random.RandomState(seed)
    photons = 200 + 2500 * filters.gaussian(nuclei(rng), 1.5)
    return rng.poisson(photons).astype(np.uint16)


def stained(seed: int) -> np.ndarray:
    """Purple nuclei on a light pink ground: (SIDE, SIDE, 3) uint8."""
    rng = np.random.RandomState(seed)
    depth = filters.gaussian(nuclei(rng), 1)[..., None]
    picture = np.array((236, 208, 228)) - depth * np.array((140, 150, 80))
    return np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


def nuclei(rng: np.random.RandomState) -> np.ndarray:
    """(SIDE / PITCH)² separate ellipses of brightness 0.5..1 on 0: (SIDE, SIDE) float."""
    image = np.zeros((SIDE, SIDE))
    for corner in np.ndindex(SIDE // PITCH, SIDE // PITCH):
        row, column = PITCH * (np.array(corner) + rng.uniform(0.4, 0.6, 2))
        radii = rng.uniform(0.2, 0.38, 2) * PITCH
        inside = draw.ellipse(row, column, *radii, image.shape, rng.uniform(0, np.pi))
        image[inside] = rng.uniform(0.5, 1)
    return image


if __name__ == "__main__":
    main(sys.argv[1:])
