"""Windows that show nothing but background: glass of a slide, black around what was scanned."""

import cv2
import numpy as np

# A window shows something if means over squares of so many pixels, which noise hardly reaches,
# differ by more than so much of 255: an eighth of what nuclei at 3 standard deviations of the noise
# differ by in the image of their channel (app.intensity.NOISE_RANGE).
SIDE, CONTRAST = 4, 5


def is_background(rgb: np.ndarray, none: np.ndarray) -> bool:
    """Whether pixels (h, w, 3) uint8, as the networks see them, cannot show a cell.

    none (h, w) bool: which of them are no image; these show nothing.
    """
    return bool(none.all()) or int(np.ptp(means(rgb, none), axis=(0, 1)).max()) <= CONTRAST


def means(rgb: np.ndarray, none: np.ndarray) -> np.ndarray:
    """Means (h, w, 3) uint8 over squares of SIDE pixels of what `is_background` takes; where some
    of it is no image, the other pixels themselves (1, n, 3)."""
    if none.any():
        return rgb[~none][None]
    size = tuple(max(side // SIDE, 1) for side in rgb.shape[1::-1])
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
