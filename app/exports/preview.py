"""A picture to look at: the image as people see it, with the outlines of its cells."""

import math
from pathlib import Path
from typing import List, Tuple

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.atomic import replacing
from app.exports import PNG_PIXELS, Result, kind
from app.images import Loaded
from app.intensity import Curves, bands

LOOKS = True
# Okabe and Ito's colours, which colour-blind people tell apart, without the black.
OKABE_ITO = (
    ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66))
    + ((0, 114, 178), (213, 94, 0), (204, 121, 167))
)  # fmt: skip
MOST_PIXELS = 10**8  # of an image that is shown at full resolution
MOST_SIDE = 65000  # pixels: larger pictures are no JPEG
QUALITY = 90


def write(path: Path, result: Result) -> List[str]:
    """Write the picture of a Result, in which neighbours differ in colour; says if it is reduced.

    path: of a PNG; of an image of more than PNG_PIXELS it becomes a JPEG.
    """
    labels = np.arange(len(result.cells))
    rgb, remarks = picture(result, np.array(OKABE_ITO, np.uint8)[labels % len(OKABE_ITO)])
    save(path, result, rgb, "preview")
    return remarks


def picture(result: Result, colours: np.ndarray) -> Tuple[np.ndarray, List[str]]:
    """The image with outlines in the colours (n, 3) of its cells: (h, w, 3) uint8; and what is to
    be said of it."""
    rgb, step = as_seen(result.image, MOST_SIDE)
    labels = result.labels[::step, ::step]
    at = borders(labels)
    rgb[at] = colours[labels[at] - 1]
    return rgb, [f"the preview is reduced to 1 : {step}"] if step > 1 else []


def as_seen(image: Loaded, most_side: float = math.inf) -> Tuple[np.ndarray, int]:
    """An image as people see it, with contrast per channel: (h, w, 3) uint8 RGB, and its `step`.

    Where it has more than MOST_PIXELS or a longer side, step × step pixels of the file become one
    (else step is 1).
    """
    pixels = image.pixels
    height, width = pixels.shape[:2]
    step = math.ceil(max(math.sqrt(height * width / MOST_PIXELS), max(height, width) / most_side))
    curves = Curves.fit(pixels, nodata=image.nodata, quantization=image.quantization).with_drawn()
    rgb = np.empty((-(-height // step), -(-width // step), 3), np.uint8)
    for rows in bands(pixels.shape, step):
        part = reduced(curves(pixels[rows, :], (rows.start, 0)), step)
        rgb[rows.start // step :][: len(part)] = part
    return rgb, step


def reduced(rgb: np.ndarray, step: int) -> np.ndarray:
    """The means of step × step pixels of (h, w, 3), whose last row and column are repeated."""
    if step == 1:
        return rgb
    height, width = (-(-side // step) for side in rgb.shape[:2])
    beyond = [(0, height * step - rgb.shape[0]), (0, width * step - rgb.shape[1]), (0, 0)]
    rgb = np.pad(rgb, beyond, mode="edge")
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def borders(labels: np.ndarray) -> np.ndarray:
    """Which pixels (H, W), bool, of a label image belong to a cell and touch another or none."""
    found = np.zeros(labels.shape, bool)
    below, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    found[1:] |= below
    found[:-1] |= below
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found & (labels > 0)


def save(path: Path, result: Result, rgb: np.ndarray, name: str) -> None:
    """Write the picture (h, w, 3) of a Result, which says that it is a preview `name`."""
    image = Image.fromarray(rgb)
    if result.labels.size > PNG_PIXELS:
        how = {"format": "JPEG", "quality": QUALITY, "comment": kind(name)}
        path = path.with_suffix(".jpg")
    else:
        note = PngInfo()
        note.add_text("Comment", kind(name).decode())
        how = {"format": "PNG", "pnginfo": note}
    with replacing(path) as file:
        image.save(file, **how)
