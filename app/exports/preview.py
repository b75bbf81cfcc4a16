"""A picture to look at: the image as people see it, with the outlines of its cells."""

from pathlib import Path
from typing import List

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.atomic import replacing
from app.exports import PNG_PIXELS, Result, kind
from app.intensity import Curves, to_rgb8

LOOKS = True
# Okabe and Ito's colours, which colour-blind people tell apart, without the black.
OKABE_ITO = (
    ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66))
    + ((0, 114, 178), (213, 94, 0), (204, 121, 167))
)  # fmt: skip
MOST_SIDE = 65500  # pixels: larger pictures are no JPEG
QUALITY = 90


def write(path: Path, result: Result) -> List[str]:
    """Write the picture of a Result, in which neighbours differ in colour; nothing is to be said.

    path: of a PNG; of an image of more than PNG_PIXELS it becomes a JPEG.
    """
    labels = np.arange(len(result.cells))
    save(path, result, np.array(OKABE_ITO, np.uint8)[labels % len(OKABE_ITO)], "preview")
    return []


def picture(result: Result, colours: np.ndarray) -> np.ndarray:
    """The image with outlines in the colours (n, 3) of its cells: (H, W, 3) uint8.

    Each channel has the contrast that shows it; what JPEG cannot hold has fewer pixels.
    """
    image = result.image
    rgb = to_rgb8(image.pixels, Curves.fit(image.pixels, nodata=image.nodata))
    step = -(-max(rgb.shape) // MOST_SIDE)
    rgb, labels = rgb[::step, ::step], result.labels[::step, ::step]
    at = borders(labels)
    rgb[at] = colours[labels[at] - 1]
    return rgb


def borders(labels: np.ndarray) -> np.ndarray:
    """Which pixels (H, W), bool, of a label image belong to a cell and touch another or none."""
    found = np.zeros(labels.shape, bool)
    below, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    found[1:] |= below
    found[:-1] |= below
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found & (labels > 0)


def save(path: Path, result: Result, colours: np.ndarray, name: str) -> None:
    """Write the picture in the colours (n, 3) of the cells; it says that it is a preview `name`."""
    image = Image.fromarray(np.ascontiguousarray(picture(result, colours)))
    if result.labels.size > PNG_PIXELS:
        how = {"format": "JPEG", "quality": QUALITY, "comment": kind(name)}
        path = path.with_suffix(".jpg")
    else:
        note = PngInfo()
        note.add_text("Comment", kind(name).decode())
        how = {"format": "PNG", "pnginfo": note}
    with replacing(path) as file:
        image.save(file, **how)
