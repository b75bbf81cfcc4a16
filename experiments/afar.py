"""python -m experiments afar: what looks like one cell from afar, with all settings automatic.

- discs: of validation images with cells enough, the middle is shown alone, as a piece of tissue on
  glass or through a diaphragm: sharply, or fading. Around it is white where the image is bright,
  else black. F1 by the organisers' rules, beside that at the scale 1 and how many of the images
  came out as one cell.
- empty frames: a well that is brighter in its middle, and one that is stitched of tiles of
  different brightness. Cells in them are false.
"""

import numpy as np
from tqdm import tqdm

from app.rasterize import rasterize
from evaluate.official import score_pair
from evaluate.tables import text_table
from experiments.on_validation import add_arguments as add_arguments
from experiments.on_validation import read
from training import catalog, validation
from training.own_data import read_truth

SIDE = 500  # pixels of an image, at most
CELLS = 10  # in a disc, at least
RADII = (0.25, 0.38, 0.45)  # parts of the side
EDGES = {"sharp": 1.0, "fading": 4.0}  # pixels over which the image fades
GLASS, BLACK = 242, 3  # what is around a disc in bright and in dark images
WELL = 512  # pixels a side of an empty frame
DROPS, STEPS = (0.2, 0.4, 0.6, 0.8), (3, 10, 30)  # of vignettes; of tiles, in grey levels


def run(options):
    """Print both tables; returns the exit status. EvaluationError."""
    listing, segmenter = read(options)
    scores = {edge: [] for edge in EDGES}
    for entry in tqdm(listing, disable=None):
        for edge, image, truth in discs(catalog.read_image(entry.image), read_truth(entry.label)):
            scores[edge].append(compared(segmenter, image, truth))
    header = ("discs", "images", "mean F1", "at the scale 1", "one cell")
    found = {edge: np.array(rows) for edge, rows in scores.items() if rows}
    rows = [
        (edge, len(part), *part.mean(0)[:2], int(part[:, 2].sum())) for edge, part in found.items()
    ]
    print(text_table(header, rows), end="\n\n")
    cells = {name: [len(segmenter.find(frame).cells) for frame in part] for name, part in empty()}
    rows = [(name, len(n), np.count_nonzero(n), sum(n)) for name, n in cells.items()]
    print(text_table(("empty", "frames", "with cells", "cells"), rows))
    return 0


def discs(image, truth):
    """Yield (edge, image, truth) of the discs of an image of 8 bits that show cells enough."""
    if image.dtype != np.uint8:
        return
    side = min(SIDE, *truth.shape)
    image, truth = image[:side, :side].astype(np.float64), truth[:side, :side]
    around = GLASS if np.median(image) > 127 else BLACK
    away = np.hypot(*(np.indices((side, side)) - side / 2))
    draw = np.random.default_rng(0)
    for radius in RADII:
        seen = np.where(away < radius * side, truth, 0)
        if len(np.unique(seen)) - 1 < CELLS:
            continue
        for edge, width in EDGES.items():
            share = 1 / (1 + np.exp(np.clip((away - radius * side) / width, -30, 30)))
            share = share if image.ndim == 2 else share[..., None]
            shown = share * image + (1 - share) * (around + draw.normal(0, 2, image.shape))
            yield edge, np.clip(shown, 0, 255).astype(np.uint8), seen


def compared(segmenter, image, truth):
    """F1 of an image, that at the scale 1, and whether it came out as one cell."""
    found = segmenter.find(image).cells
    automatic = score_pair(truth, rasterize(found, truth.shape)[0]).f1
    segmenter.scale = 1.0
    plain = score_pair(truth, validation.labels_of(segmenter, image)).f1
    segmenter.scale = None
    return automatic, plain, len(found) == 1


def empty():
    """Yield (name, frames (H, W) uint16) of empty wells."""
    draw = np.random.default_rng(0)
    away = np.hypot(*(np.indices((WELL, WELL)) - WELL / 2)) / WELL * np.sqrt(2)
    shades = [1000 * (1 - drop * away**2) for drop in DROPS]
    tiles = [np.kron(draw.permutation(16).reshape(4, 4), np.ones((WELL // 4,) * 2)) for _ in STEPS]
    shifts = [1000 + step * tile for step, tile in zip(STEPS, tiles)]
    for name, frames, noise in (("brighter in the middle", shades, 8), ("stitched", shifts, 6)):
        yield (
            name,
            [(frame + draw.normal(0, noise, frame.shape)).astype(np.uint16) for frame in frames],
        )
