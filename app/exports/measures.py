"""What is measured of each cell beyond app.cells.table: its shape, and the image's intensities."""

from typing import Dict, Optional, Tuple

import numpy as np

from app.cells import STRIP, measure
from app.exports import Result
from app.exports.shapes import shapes
from app.no_image import NoImage


def measures(result: Result) -> Dict[str, np.ndarray]:
    """Columns (n,) of a Result's n labels, by their names.

    perimeter, in pixels, eccentricity and solidity as scikit-image has them; mean_1, sum_1, mean_2
    ... of the stored values of each channel of the image, without pixels that are none (NaN, or the
    value that the file declares); and, where the size of a pixel is known, area_um2 and
    perimeter_um.
    """
    image, pixels = result.image, measure(result.labels, len(result.cells))
    found = shapes(result.labels, pixels)
    counts, channels = intensities(image.pixels, result.labels, image.nodata)
    for channel, sums in enumerate(channels, 1):
        with np.errstate(invalid="ignore"):  # of cells that have no other pixels
            found[f"mean_{channel}"] = sums / counts
        found[f"sum_{channel}"] = sums
    size = result.image.pixel_size
    if size:
        found["area_um2"] = pixels.area * size**2
        found["perimeter_um"] = found["perimeter"] * size
    return found


def intensities(
    pixels: np.ndarray, labels: np.ndarray, nodata: Optional[float] = None
) -> Tuple[np.ndarray, np.ndarray]:
    """Of an image (H, W) or (H, W, C), within the labels 1..n: how many of their pixels are image
    (n,), and the sums of these (C, n), float64.

    nodata: the value of pixels that are none. Looks at rectangles of the image, which may be an
    images.TiffImage or images.ZarrImage.
    """
    count, none = labels.max(initial=0), NoImage(nodata)
    total = 0.0
    for top in range(0, len(labels), STRIP):
        strip = pixels[top : top + STRIP, :]
        strip = strip if strip.ndim == 3 else strip[..., None]
        there = ~none(strip)
        flat = labels[top : top + STRIP][there]
        weights = (None, *strip[there].T)
        total = total + np.stack([np.bincount(flat, weight, count + 1)[1:] for weight in weights])
    return total[0], total[1:]
