"""Make images of the challenge's sizes, full of drawn cells:  python make_images.py FOLDER

From 0.25 to 88.3 million pixels; the largest, 9398×9398, as 8 and 16 bit RGB in PNG, striped TIFF
and tiled TIFF (2.2 GB in all). For the table of times and memory:

    python -m evaluate time --images FOLDER --docker IMAGE
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import tifffile

# Height, width: 0.25, 1, 1.2, 1.4, 4.2, 4.9, 9 and 88.3 million pixels.
SIZES = (
    (500, 500),
    (1000, 1000),
    (1000, 1200),
    (1000, 1400),
    (2048, 2048),
    (2200, 2200),
    (3000, 3000),
    (9398, 9398),
)
TILE = 1024  # pixels: the cells repeat after these
PITCH = 32  # pixels: the sites on which cells lie
OCCUPIED = 0.6  # of the sites: about 600 cells in a million pixels
BACKGROUND = np.float32([0.90, 0.80, 0.88])  # colours as in stained tissue
NUCLEUS = np.float32([0.38, 0.24, 0.55])


def draw(height, width, dtype):
    """An image (height, width, 3) of dtype uint8 or uint16 with dark cells on a light ground.

    The cells repeat after TILE pixels, noise and brightness do not; all are the same every time.
    """
    random = np.random.default_rng(0)
    tile = draw_tile(random)
    across = np.take(tile, np.arange(width) % TILE, axis=1)
    image = np.empty((height, width, 3), dtype)
    levels = random.uniform(0.85, 1, (height // TILE + 2, width // TILE + 2)).astype(np.float32)
    for number, top in enumerate(range(0, height, TILE)):
        band = across[: height - top]
        brightness = cv2.resize(levels[number : number + 2], (width, TILE))[: len(band), :, None]
        noise = random.standard_normal(band.shape, np.float32) * np.float32(0.02)
        band = np.clip(band * brightness + noise, 0, 1) * np.iinfo(dtype).max
        image[top : top + len(band)] = np.rint(band)
    return image


def draw_tile(random):
    """(TILE, TILE, 3) float32 in 0..1, whose cells go on at the opposite edge."""
    stain = draw_stain(random)[..., None]
    tissue = cv2.GaussianBlur(random.uniform(0, 1, (TILE, TILE)).astype(np.float32), (0, 0), 3)
    ground = BACKGROUND - 0.6 * np.abs(tissue - tissue.mean())[..., None]
    return (ground * (1 - stain) + NUCLEUS * stain).astype(np.float32)


def draw_stain(random):
    """(TILE, TILE) in 0..1: how much of each pixel's colour is a cell's.

    Cells are wobbly ellipses of 5 to 13 pixels radius around shifted points of a grid.
    """
    sites = (TILE // PITCH, TILE // PITCH)
    centre = random.uniform(0.25, 0.75, (2, *sites)) * PITCH
    radius = random.uniform(8, 13, sites) * (random.uniform(0, 1, sites) < OCCUPIED)
    flatness = random.uniform(0.6, 1, sites)
    angle, phase = random.uniform(0, 2 * np.pi, (2, *sites))
    strength = random.uniform(0.6, 1, sites)
    y, x = np.mgrid[:TILE, :TILE]
    stain = np.zeros((TILE, TILE))
    for dy, dx in np.ndindex(3, 3):  # a cell reaches into the neighbouring squares
        row, column = y // PITCH + dy - 1, x // PITCH + dx - 1
        site = (row % sites[0], column % sites[1])
        v = y - row * PITCH - centre[0][site]
        u = x - column * PITCH - centre[1][site]
        direction = np.arctan2(v, u) - angle[site]
        stretch = np.hypot(np.cos(direction), np.sin(direction) / flatness[site])
        wobble = 1 + 0.1 * np.cos(3 * direction + phase[site])
        distance = np.hypot(u, v) * stretch * wobble - radius[site]
        edge = np.clip(0.5 - distance, 0, 1) * (radius[site] > 0)
        stain = np.maximum(stain, edge * strength[site])
    return stain


def write_all(folder):
    """Every size as PNG of 8 bit, the largest in all kinds."""
    for height, width in SIZES[:-1]:
        write_png(folder / f"rgb8_{height}x{width}.png", draw(height, width, np.uint8))
    height, width = SIZES[-1]
    for name, dtype in (("rgb8", np.uint8), ("rgb16", np.uint16)):
        image = draw(height, width, dtype)
        stem = f"{name}_{height}x{width}"
        write_png(folder / f"{stem}_png.png", image)
        tifffile.imwrite(str(folder / f"{stem}_strips.tif"), image, rowsperstrip=64)
        write_tiles(folder / f"{stem}_tiles.tif", image)


def write_png(path, image):
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise OSError(f"{path} could not be written")


def write_tiles(path, image):
    """A TIFF of zlib-compressed tiles, as slide scanners write."""
    tifffile.imwrite(
        str(path), image, photometric="rgb", tile=(256, 256), compression="zlib", predictor=True
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write_all(target)
