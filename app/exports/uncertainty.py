"""The preview in which the colour of a cell says how uncertain its outline is."""

from pathlib import Path
from typing import List

import cv2
import numpy as np

from app.exports import Result, preview

LOOKS = True
# Viridis (which OpenCV has blue first) without its darkest quarter, so that certain cells are seen
# on black: (192, 3).
COLOURS = cv2.applyColorMap(np.arange(64, 256, dtype=np.uint8), cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
# The key, in pixels of pictures up to KEY_EVERY wide; of others as many times as large.
KEY_EVERY, KEY_HEIGHT, KEY_LETTERS, KEY_GAP = 800, 20, 0.4, 6
FONT = cv2.FONT_HERSHEY_SIMPLEX


def write(path: Path, result: Result) -> List[str]:
    """As preview.write, in colours from blue (certain) to yellow (uncertain), and a key below."""
    levels = np.rint(result.cells.uncertainties.mean(axis=1) * (len(COLOURS) - 1)).astype(int)
    rgb, remarks = preview.picture(result, COLOURS[levels])
    legend = key(rgb.shape[1])
    rgb = np.pad(rgb, ((0, 0), (0, legend.shape[1] - rgb.shape[1]), (0, 0)))
    preview.save(path, result, np.concatenate([rgb, legend]), "uncertainty")
    return remarks


def key(width: int) -> np.ndarray:
    """What the colours mean, for a picture of this width: (h, w, 3) uint8, w at least the width."""
    size = max(1, width // KEY_EVERY)
    gap, height = KEY_GAP * size, KEY_HEIGHT * size
    texts = "certain 0", "1 uncertain"
    before, after = (cv2.getTextSize(text, FONT, KEY_LETTERS * size, size)[0][0] for text in texts)
    bar = gap + before + gap
    end = bar + len(COLOURS) // 2 * size + gap
    drawn = np.zeros((height, max(width, end + after + gap), 3), np.uint8)
    drawn[gap : height - gap, bar : end - gap] = COLOURS[::2].repeat(size, axis=0)
    for text, left in zip(texts, (gap, end)):
        place = left, height - gap
        cv2.putText(drawn, text, place, FONT, KEY_LETTERS * size, (255,) * 3, size, cv2.LINE_AA)
    return drawn
