"""The preview in which the colour of a cell says how uncertain its outline is."""

from pathlib import Path
from typing import List

import cv2
import numpy as np

from app.exports import Result, preview

LOOKS = True
MOST = 0.5  # from this mean uncertainty on the colour is the same
DARKEST = 64  # of the 256 colours of viridis, so that certain cells are seen on black


def write(path: Path, result: Result) -> List[str]:
    """As preview.write, in colours from blue (certain) to yellow (uncertain)."""
    share = np.clip(result.cells.uncertainties.mean(axis=1) / MOST, 0, 1)
    levels = np.rint(DARKEST + share * (255 - DARKEST)).astype(np.uint8)
    viridis = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_VIRIDIS)
    preview.save(path, result, viridis[levels, 0, ::-1], "uncertainty")  # OpenCV has blue first
    return []
