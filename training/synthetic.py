"""Drawn images of cells with their labels: kinds of cells that no labelled image shows.

Shapes, contrasts and light are drawn at random, far more widely than microscopes vary, so that what
is learned from them is what cells have in common (domain randomisation: Tobin et al. 2017,
arXiv:1703.06907). Round and elongated cells, rods, amoeboid ones, some with arms, and tissue;
filled, dark or bright at their rim alone, with a halo as in phase contrast, with a nucleus; grey or
stained.
"""

import math
from pathlib import Path
from typing import Callable, List, Tuple

import cv2
import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from app.atomic import new_folder
from app.images import write_labels
from app.names import LABEL_ENDING
from training.catalog import Entry
from training.negatives import blobs, dust, fibres, grained, uneven

SOURCE = "/synthetic"  # in a run's record; no folder of a user's can be called so
SIDE = 512  # pixels of an image
SMALLEST, LARGEST = 8, 200  # pixels: the typical extent of cells in an image
LEFT = 0.8  # share of its pixels that a cell needs beside those drawn before it
LEAST = 12  # pixels of a cell
TRIES = 4  # places tried for each cell that the image has room for


def write_images(count: int, seed: int, folder: Path, progress: Callable = iter) -> None:
    """Draw `count` images and their label images into a folder, if it is not there yet; `progress`
    wraps the iteration. Raises OSError."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as new:
        for number, entry in enumerate(progress(entries(count, new))):
            image, labels = draw(np.random.default_rng((seed, number)))
            _, png = cv2.imencode(".png", image[..., ::-1])
            entry.image.write_bytes(png.tobytes())  # not by OpenCV: any path, errors that say why
            write_labels(entry.label, labels)


def entries(count: int, folder: Path) -> List[Entry]:
    """The catalog.Entries of `count` images in a folder."""
    names = [f"{number:05d}" for number in range(count)]
    return [Entry(SOURCE, folder / f"{n}.png", folder / (n + LABEL_ENDING)) for n in names]


def draw(rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
    """An image (SIDE, SIDE, 3) uint8, RGB, of one kind of cells, and its labels (SIDE, SIDE) int32,
    0 = background."""
    size = math.exp(rng.uniform(math.log(SMALLEST), math.log(LARGEST)))
    labels = tissue(size, rng) if rng.random() < 0.12 else scattered(size, rng)
    strength = math.exp(rng.uniform(math.log(0.06), math.log(0.6)))  # of cells in their ground
    light = lit(labels, size, strength, rng)
    if rng.random() < 0.35:
        image = stained(light, rng)
    else:
        image = np.repeat(light.mean(0)[..., None], 3, 2)
    blur = rng.uniform(0, min(2.0, size / 12))
    image = cv2.GaussianBlur(image, (0, 0), blur) if blur > 0.3 else image
    amount = strength * math.exp(rng.uniform(math.log(0.01), math.log(0.4)))
    grain = [grained(SIDE, rng) for _ in range(3)] if rng.random() < 0.3 else [grained(SIDE, rng)]
    image = np.clip(image + amount * np.dstack(grain), 0, 1)
    return np.rint(255 * image).astype(np.uint8), labels


# Where cells are: label images.


def scattered(size, rng):
    """Labels of cells of one shape, about `size` pixels in extent: few, many, or in clumps."""
    labels = np.zeros((SIDE, SIDE), np.int32)
    shape = SHAPES[rng.integers(len(SHAPES))]
    spread, turn = rng.uniform(0.02, 0.35), rng.uniform(0, math.pi)
    aligned = rng.random() < 0.3
    room = int(min((SIDE / size) ** 2, 400))
    wanted = max(int(room * rng.uniform(0.03, 1.0)), 1)
    clumps = rng.uniform(0, SIDE, (rng.integers(1, 6), 2)) if rng.random() < 0.4 else None
    for _ in range(TRIES * wanted):
        if clumps is None:
            centre = rng.uniform(0, SIDE, 2)
        else:
            centre = rng.normal(clumps[rng.integers(len(clumps))], SIDE / 10)
        angle = turn + rng.normal(0, 0.15) if aligned else rng.uniform(0, 2 * math.pi)
        extent = size * math.exp(rng.normal(0, spread))
        place(labels, outline_mask(shape, extent, angle, rng), centre)
        if labels.max() >= wanted:
            break
    return labels


def place(labels, mask, centre):
    """Put a cell (h, w) at a centre (row, column) into labels, in place, where it has room."""
    corner = np.rint(centre - np.array(mask.shape) / 2).astype(int)
    start, end = np.maximum(corner, 0), np.minimum(corner + mask.shape, SIDE)
    if (end <= start).any():
        return
    there = labels[start[0] : end[0], start[1] : end[1]]
    inside = mask[tuple(slice(a - c, b - c) for a, b, c in zip(start, end, corner))]
    piece = largest_piece(inside & (there == 0))
    if piece.sum() >= max(LEFT * inside.sum(), LEAST):
        there[piece] = labels.max() + 1


def tissue(size, rng):
    """Labels of cells that fill the image, but for gaps between them."""
    count = max(int((SIDE / size) ** 2), 4)
    seeds = rng.uniform(-size, SIDE + size, (int(count * (1 + 2 * size / SIDE) ** 2), 2))
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    bend = [cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)), (0, 0), size / 4) for _ in "yx"]
    rows, columns = (at + size * b * 0.15 / b.std() for at, b in zip((rows, columns), bend))
    from_grid = cKDTree(seeds).query(np.stack([rows.ravel(), columns.ravel()], 1), k=2)
    distances, nearest = (part.reshape(SIDE, SIDE, 2) for part in from_grid)
    gap = rng.uniform(1, max(0.25 * size, 1.5))
    inside = distances[..., 1] - distances[..., 0] > gap
    inside &= (rng.random(len(seeds)) > rng.uniform(0, 0.3))[nearest[..., 0]]
    return tidy(np.where(inside, nearest[..., 0] + 1, 0))


def tidy(labels):
    """Labels anew from 1 on, of each the largest piece alone; those of under LEAST pixels go."""
    kept = np.zeros_like(labels, np.int32)
    for number, window in enumerate(ndimage.find_objects(labels), 1):
        if window is None:
            continue
        piece = largest_piece(labels[window] == number)
        if piece.sum() >= LEAST:
            kept[window][piece] = kept.max() + 1
    return kept


def largest_piece(mask):
    """The largest connected piece of a mask (h, w), as a mask."""
    pieces, count = ndimage.label(mask)
    return pieces == np.bincount(pieces[mask]).argmax() if count else mask


# What shape they have: masks.


def outline_mask(shape, extent, angle, rng):
    """The mask (h, w) of a cell: shape(rng) are the points (n, 2) of its outline, about 1 across,
    or the spine and the widths of one that is drawn along lines."""
    points, widths = shape(rng)
    cos, sin = math.cos(angle), math.sin(angle)
    points = points @ np.array([[cos, -sin], [sin, cos]]) * extent
    widths = widths * extent
    margin = int(widths.max() if len(widths) else 0) + 2
    low = np.floor(points.min(0)).astype(int) - margin
    width, height = (np.ceil(points.max(0)).astype(int) + margin - low + 1).tolist()
    mask = np.zeros((height, width), np.uint8)
    points = points - low
    if not len(widths):
        cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1)
        return mask > 0
    for (start, end), thick in zip(zip(points[:-1], points[1:]), widths):
        ends = (tuple(np.rint(point).astype(int).tolist()) for point in (start, end))
        cv2.line(mask, *ends, 1, max(int(round(thick)), 1), cv2.LINE_8)
    return mask > 0


def radial(rng, stretch, roughness):
    """An outline around a centre: an ellipse, `stretch` times as long as wide, and waves on it."""
    angles = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    radius = np.ones_like(angles)
    for order in range(2, 8):
        wave = rng.normal(0, roughness / order)
        radius += wave * np.cos(order * angles + rng.uniform(0, 2 * math.pi))
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * np.clip(radius, 0.3, 2)[:, None]
    return points * np.array((stretch, 1)) / (2 * stretch**0.5), np.zeros(0)


def round_cell(rng):
    """A round cell."""
    return radial(rng, rng.uniform(1, 1.3), rng.uniform(0, 0.08))


def elongated(rng):
    """An elongated cell."""
    return radial(rng, rng.uniform(1.5, 4), rng.uniform(0, 0.12))


def amoeboid(rng):
    """A cell of irregular outline."""
    return radial(rng, rng.uniform(1, 2), rng.uniform(0.2, 0.5))


def rod(rng):
    """A rod, straight or bent."""
    turns = np.cumsum(np.full(12, rng.normal(0, 0.08)) + rng.normal(0, 0.02, 12))
    spine = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) / 12, 0)
    return spine - spine.mean(0), np.full(11, rng.uniform(0.12, 0.4))


def with_arms(rng):
    """A body with arms that taper, drawn in one line there and back."""
    spine, widths = [np.zeros(2)], []
    for _ in range(rng.integers(2, 6)):
        turns = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.25, 8))
        arm = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * rng.uniform(0.03, 0.09), 0)
        taper = np.linspace(0.3, 0.06, 8) * rng.uniform(0.6, 1.2)
        spine += [*arm, *arm[::-1], np.zeros(2)]
        widths += [*taper, 0.05, *taper[::-1]]
    return np.array(spine), np.array(widths)


SHAPES = (round_cell, round_cell, elongated, amoeboid, rod, with_arms)


# What they look like: light.


def lit(labels, size, strength, rng):
    """Three channels (3, SIDE, SIDE) float32, about 0..1, of labels (SIDE, SIDE); strength: how
    much brighter or darker than their ground cells are, about."""
    depth = depths(labels)
    outside = ndimage.distance_transform_edt(labels == 0).astype(np.float32)
    base = uneven(SIDE, rng)
    for share, distractor in ((0.15, blobs), (0.2, dust), (0.1, fibres)):
        if rng.random() < share:
            base = base + distractor(SIDE, rng)
    looks = [look(labels, depth, outside, size, strength, rng)]
    for _ in range(2):
        other = rng.random() < 0.4
        looks.append(look(labels, depth, outside, size, strength, rng) if other else looks[0])
    sign = 1 if base.mean() < 0.5 else -1
    return np.stack([base + sign * each for each in looks]).astype(np.float32)


def depths(labels):
    """How deep each pixel lies in its cell: 0 outside, up to 1 where it is deepest."""
    rim = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        rim |= (labels != np.roll(labels, 1, axis)) | (labels != np.roll(labels, -1, axis))
    distance = ndimage.distance_transform_edt(~rim & (labels > 0)).astype(np.float32) + 0.5
    count = int(labels.max())
    most = ndimage.maximum(distance, labels, np.arange(count + 1)) if count else np.ones(1)
    return np.where(labels > 0, distance / np.maximum(most, 1)[labels], 0).astype(np.float32)


def look(labels, depth, outside, size, strength, rng):
    """The light (SIDE, SIDE) that cells add to what is around them, mostly above 0."""
    inside = labels > 0
    count = int(labels.max()) + 1
    each = strength * np.exp(rng.normal(0, rng.uniform(0, 0.5), count)).astype(np.float32)
    kind = rng.random()
    if kind < 0.45:  # filled, flat or as a dome
        light = each[labels] * inside * depth ** rng.uniform(0, 0.8)
    elif kind < 0.65:  # the rim
        light = each[labels] * inside * (1 - depth) ** rng.uniform(1, 6)
        light += rng.uniform(-0.4, 0.4) * strength * inside
    elif kind < 0.85:  # a halo around, and a body darker or brighter than the ground
        halo = np.exp(-outside / rng.uniform(1, 0.15 * size + 1.5)) * ~inside
        light = strength * halo + rng.uniform(-1, 0.6) * each[labels] * inside
    else:  # hardly more than a dark line at the border
        near = np.where(inside, depth * size / 2, outside)
        light = strength * np.exp(-near / rng.uniform(0.8, 2.5))
    if rng.random() < 0.4:  # a nucleus, or a vacuole
        light += rng.uniform(-0.5, 0.8) * each[labels] * (depth > rng.uniform(0.3, 0.7))
    if rng.random() < 0.6:
        grain = cv2.GaussianBlur(
            rng.standard_normal(labels.shape, dtype=np.float32), (0, 0), rng.uniform(0.5, size / 8)
        )
        light += strength * rng.uniform(0.1, 0.6) * inside * grain / grain.std()
    return light


def stained(light, rng):
    """An image (SIDE, SIDE, 3) of channels of light (3, SIDE, SIDE), each in its own colour."""
    dyes = rng.uniform(0, 1, (3, 3)).astype(np.float32)
    dyes /= dyes.sum(0).clip(min=0.3)
    return np.tensordot(light, dyes, axes=(0, 0))
