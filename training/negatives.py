"""Frames without cells, drawn: what a network must not find anything in.

A camera's noise at any gain and offset, uneven light, lines of its reading, specks of dust, fibres,
edges of the dish, things far out of focus, scale bars and text.
"""

import math

import cv2
import numpy as np
import torch

WORDS = ("20 um", "50 um", "100 um", "10x", "A01", "B3 t=12h", "control", "DAPI", "2024-01-12")


def random_seeds(count, share, generator):
    """A seed (count,) int64 of the empty frame that each crop becomes; -1 for all others.

    share: of the crops that become one. generator: torch.Generator on the CPU.
    """
    seeds = torch.randint(2**31, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < share, seeds, seeds.new_tensor(-1))


def put(seeds, images, objects, depths):
    """Crops as of augment.gather_crops, those with a seed (B,) from 0 on replaced by empty frames.

    The given tensors are changed and returned.
    """
    for row in (seeds >= 0).nonzero()[:, 0].tolist():
        frame = torch.from_numpy(empty_frame(images.shape[-1], int(seeds[row])))
        images[row] = frame.permute(2, 0, 1).to(images.device)
        objects[row], depths[row] = -1, 0
    return images, objects, depths


def empty_frame(side, seed):
    """A frame (side, side, 3) float32 in 0..1, of a seed: grey, coloured or of some channels."""
    rng = np.random.default_rng(seed)
    grey = rng.random() < 0.6
    planes = [plane(side, rng)] * 3 if grey else [plane(side, rng) for _ in range(3)]
    if not grey:  # most images of several channels have one that is dark
        planes[rng.integers(3)] *= rng.random() < 0.5
    frame = np.dstack(planes).astype(np.float32)
    if rng.random() < 0.2:
        write(frame, rng)
    return np.clip(frame, 0, 1)


def plane(side, rng):
    """One channel (side, side) float32 of an empty frame."""
    light = uneven(side, rng)
    for share, draw in ((0.3, blobs), (0.3, dust), (0.15, fibres), (0.15, edge), (0.1, bands)):
        if rng.random() < share:
            light += draw(side, rng)
    return light + noise(side, rng)


def uneven(side, rng):
    """Light (side, side) float32 on nothing, often brighter at one side or in the middle."""
    level = rng.uniform(0.02, 0.5) if rng.random() < 0.7 else rng.uniform(0.5, 0.95)
    ticks = np.linspace(-1, 1, side, dtype=np.float32)
    light = np.full((side, side), level, np.float32)
    if rng.random() < 0.5:
        slope, fall = rng.uniform(-0.4, 0.4, 2), rng.uniform(0, 0.3)
        light *= 1 + slope[0] * ticks + slope[1] * ticks[:, None]
        light *= 1 - fall * (ticks**2 + ticks[:, None] ** 2) / 2
    return light


def noise(side, rng):
    """A camera's noise (side, side)."""
    return math.exp(rng.uniform(math.log(0.003), math.log(0.2))) * grained(side, rng)


def grained(side, rng):
    """Noise (side, side) of standard deviation 1, sometimes smoothed as a resized image's is."""
    grain = rng.standard_normal((side, side), dtype=np.float32)
    if rng.random() < 0.4:
        grain = cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.4, 2.5))
        grain /= grain.std()
    return grain


def blobs(side, rng):
    """Round things so far out of focus that nobody could outline them."""
    drawn = np.zeros((side, side), np.float32)
    radius = rng.uniform(0.02, 0.2) * side
    for _ in range(rng.integers(1, 9)):
        centre = rng.integers(0, side, 2).tolist()
        strength = float(rng.uniform(-0.15, 0.15))
        cv2.circle(drawn, centre, max(int(radius * rng.uniform(0.5, 1)), 1), strength, -1)
    return cv2.GaussianBlur(drawn, (0, 0), radius * rng.uniform(0.6, 1.2))


def dust(side, rng):
    """Specks of one to four pixels, bright or dark, as hot pixels and dust are."""
    drawn = np.zeros((side, side), np.float32)
    strength = rng.choice((-1, 1)) * rng.uniform(0.1, 0.8)
    for _ in range(rng.integers(1, max(side // 8, 2))):
        centre = rng.integers(0, side, 2).tolist()
        cv2.circle(drawn, centre, int(rng.integers(0, 3)), strength * rng.uniform(0.3, 1), -1)
    return cv2.GaussianBlur(drawn, (0, 0), 0.6) if rng.random() < 0.5 else drawn


def fibres(side, rng):
    """Bent threads, scratches and hairs."""
    drawn = np.zeros((side, side), np.float32)
    for _ in range(rng.integers(1, 5)):
        turns = rng.normal(rng.normal(0, 0.05), 0.15, 60).cumsum() + rng.uniform(0, 2 * math.pi)
        steps = np.stack([np.cos(turns), np.sin(turns)], 1) * side / rng.uniform(30, 120)
        line = np.rint(rng.uniform(0, side, 2) + steps.cumsum(0)).astype(np.int32)
        strength = float(rng.uniform(-0.4, 0.4))
        cv2.polylines(drawn, [line], False, strength, int(rng.integers(1, 4)))
    return cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.5, 2))


def edge(side, rng):
    """The wall of a well or the rim of a dish: an arc at which the light changes, with a line."""
    drawn = np.zeros((side, side), np.float32)
    radius = int(side * rng.uniform(1, 6))
    angle, inside = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 0.6) * side
    middle = side / 2 + (radius + side / 2 - inside) * np.array((math.cos(angle), math.sin(angle)))
    middle = np.rint(middle).astype(int).tolist()
    cv2.circle(drawn, middle, radius, float(rng.uniform(-0.4, 0.4)), -1)
    width = int(rng.integers(1, max(side // 16, 2)))
    cv2.circle(drawn, middle, radius, float(rng.uniform(-0.5, 0.5)), width)
    return cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.5, 4))


def bands(side, rng):
    """Rows or columns of the camera that are read a little brighter or darker."""
    lines = rng.normal(0, rng.uniform(0.005, 0.06), (side, 1)).astype(np.float32)
    lines = np.repeat(lines, side, axis=1)
    return lines if rng.random() < 0.5 else lines.T


def write(frame, rng):
    """Draw a scale bar, a text or both into a frame (side, side, 3), in place."""
    side = len(frame)
    colour = (1.0, 1.0, 1.0) if frame.mean() < 0.5 else (0.0, 0.0, 0.0)
    x, y = rng.uniform(0.05, 0.6, 2) * side
    if rng.random() < 0.7:
        corner = (int(x + rng.uniform(0.1, 0.35) * side), int(y + rng.uniform(2, 8)))
        cv2.rectangle(frame, (int(x), int(y)), corner, colour, -1)
    if rng.random() < 0.7:
        text, size = str(rng.choice(WORDS)), rng.uniform(0.4, 1.2) * max(side / 512, 0.5)
        below = (int(x), int(y + rng.uniform(15, 40)))
        cv2.putText(frame, text, below, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
