"""What is measured of each cell beyond app.cells.table: its shape, and the image's intensities."""

import warnings
from typing import Dict

import numpy as np
from skimage.measure import regionprops_table

from app.cells import STRIP
from app.exports import Result

SHAPES = ("perimeter", "eccentricity", "solidity")


def measures(result: Result) -> Dict[str, np.ndarray]:
    """Columns (n,) of a Result's n labels, by their names.

    perimeter, in pixels, eccentricity and solidity as scikit-image has them; mean_1, sum_1, mean_2
    ... of the stored values of each channel of the image; and, where the size of a pixel is known,
    area_um2 and perimeter_um.
    """
    found = shapes(result.labels)
    areas = np.bincount(result.labels.ravel(), minlength=len(result.cells) + 1)[1:]
    for channel, sums in enumerate(intensities(result.image.pixels, result.labels), 1):
        found[f"mean_{channel}"] = sums / areas
        found[f"sum_{channel}"] = sums
    size = result.image.pixel_size
    if size:
        found["area_um2"] = areas * size**2
        found["perimeter_um"] = found["perimeter"] * size
    return found


def shapes(labels: np.ndarray) -> Dict[str, np.ndarray]:
    """SHAPES (n,) of the labels 1..n of an image (H, W)."""
    if not labels.any():
        return {name: np.zeros(0) for name in SHAPES}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cells too small to have a hull
        return regionprops_table(labels, properties=SHAPES)


def intensities(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The sums (C, n) of an image (H, W) or (H, W, C) within the labels 1..n, float64.

    Looks at rectangles of the image, which may be an images.TiffImage.
    """
    count = labels.max(initial=0)
    total = 0.0
    for top in range(0, len(labels), STRIP):
        strip, flat = pixels[top : top + STRIP, :], labels[top : top + STRIP].ravel()
        channels = np.moveaxis(strip if strip.ndim == 3 else strip[..., None], 2, 0)
        total = total + np.stack(
            [np.bincount(flat, channel.ravel(), count + 1)[1:] for channel in channels]
        )
    return total
