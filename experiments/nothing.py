"""python -m experiments nothing: frames without cells, with a few nuclei only, or with faint ones.

- simulated: 100 empty frames of a camera, 8 and 16 bit, 512² to 2048² pixels.
- few nuclei: 25 frames of 2048² with 1 to 5 nuclei of validation images (coelho2009).
- faint nuclei: the validation images of coelho2009, at 3 standard deviations above the noise of
  their channel in the mean, alone, and beside a bright glow and a channel of noise.
- gaps: the parts of validation images, listed in gaps.csv beside this file, that have no labels.

Noise and seeds were fixed before any training with empty frames, and training draws its own
(training/negatives.py). --list writes gaps.csv anew.
"""

import csv
import math
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from evaluate.folders import EvaluationError, read_labels
from evaluate.official import score_pair
from evaluate.tables import text_table
from experiments.sizes import f1_at
from training import catalog, validation
from training.packing import largest_gap

LISTED = Path(__file__).with_name("gaps.csv")
SIDES = (512, 768, 1024, 1536, 2048)
EMPTY, GAPS = 100, 50  # frames and crops of a kind
LEAST_GAP, LARGEST_GAP = 128, 1024  # sides of the crops in pixels
# Gaps of these sources, looked at, show cells that nobody has outlined.
INCOMPLETE = {"monuseg", "monuseg_more", "segpc_crops", "coelho2009"}
MARGIN = 8  # pixels between a crop and the next label
NUCLEI = "coelho2009"
FIRST_SEED = 20000


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("--data", type=Path, required=True, help="folder with a catalog.csv")
    parser.add_argument("--weights", type=Path, help="whose cells are counted")
    parser.add_argument("--list", action="store_true", help="only write gaps.csv anew")


def run(options):
    """Print a row for each kind of frame; returns the exit status. EvaluationError."""
    try:
        listing = catalog.entries(options.data, "val")
        if options.list:
            return write_list(listing)
        if options.weights is None:
            raise EvaluationError("say whose cells are to be counted: --weights FILE")
        segmenter, _ = validation.load(options.weights)
    except ValueError as error:
        raise EvaluationError(error) from error
    empty = [count(segmenter, camera(number)) for number in tqdm(range(EMPTY), disable=None)]
    gaps = [count(segmenter, gap) for gap in tqdm(crops(listing), disable=None)]
    rows = [(name, len(n), np.count_nonzero(n), sum(n)) for name, n in named(empty, gaps)]
    print(text_table(("empty", "frames", "with cells", "cells"), rows), end="\n\n")
    frames = tqdm([(n, seed) for n in range(1, 6) for seed in range(5)], disable=None)
    few = np.array([sparse(segmenter, listing, *frame) for frame in frames])
    true, found, false = few.sum(0)
    print(f"few nuclei: {found} of {true} found, {false / len(few):.2f} false in a frame")
    alone, beside = np.mean(faint(segmenter, listing), axis=0)
    print(f"faint nuclei: mean F1 {alone:.3f} alone, {beside:.3f} beside two other channels")
    return 0


def named(empty, gaps):
    """The kinds of empty frames with the cells of each frame."""
    return (
        ("simulated, 16 bit", empty[::2]),
        ("simulated, 8 bit", empty[1::2]),
        ("gaps of val images", gaps),
    )


def count(segmenter, image):
    """How many cells the label image of an image has."""
    return int(validation.labels_of(segmenter, image).max())


def camera(number, signal=0.0, side=None):
    """What a camera sees of a signal, 0 or (side, side) electrons: one of the simulated frames.

    Even numbers are of 16, odd ones of 8 bit. Photons of the background and signal, noise and
    fixed pattern of the reading, gain and offset are drawn by the number.
    """
    rng = np.random.default_rng(FIRST_SEED + number)
    side = side or SIDES[number // 2 % len(SIDES)]
    background = math.exp(rng.uniform(math.log(2), math.log(500)))
    ticks = np.linspace(-1, 1, side)
    light = 1 - rng.uniform(0, 0.2) * (ticks**2 + ticks[:, None] ** 2) / 2
    electrons = rng.poisson((background + signal) * light) + rng.normal(
        0, rng.uniform(1, 6), (side, side)
    )
    electrons += rng.normal(0, rng.uniform(0, 0.5), side)  # columns have amplifiers of their own
    if number % 2:
        top = background + 8 * math.sqrt(background) + np.max(signal)
        gain, offset, dtype = rng.uniform(60, 250) / (top + 30), rng.uniform(2, 30), np.uint8
    else:
        gain, offset, dtype = rng.uniform(0.3, 4), rng.uniform(90, 600), np.uint16
    return np.clip(np.rint(electrons * gain + offset), 0, np.iinfo(dtype).max).astype(dtype)


def sparse(segmenter, listing, nuclei, seed, side=2048):
    """(true, found, false) cells of a frame with so many nuclei at random places."""
    rng = np.random.default_rng(FIRST_SEED + 1000 * nuclei + seed)
    light, truth = np.zeros((side, side)), np.zeros((side, side), np.int32)
    patches = nuclei_of(listing)
    for number in range(nuclei):
        patch, mask = patches[rng.integers(len(patches))]
        height, width = mask.shape
        # Each in a column of its own: none touches another.
        left = 50 + number * (side // nuclei) + rng.integers(max(side // nuclei - width - 100, 1))
        top = rng.integers(50, side - height - 50)
        here = np.s_[top : top + height, left : left + width]
        light[here] += patch
        truth[here][mask] = number + 1
    peak = math.exp(rng.uniform(math.log(150), math.log(3000)))
    image = camera(500 + 10 * nuclei + seed, peak * light, side)
    score = score_pair(truth, validation.labels_of(segmenter, image))
    return nuclei, score.correct_num, score.wrong_num


def faint(segmenter, listing):
    """F1 of faint nuclei, alone and beside other channels: a row for each image of NUCLEI."""
    found = []
    for number, entry in enumerate(entry for entry in listing if entry.source == NUCLEI):
        rng = np.random.default_rng(FIRST_SEED + 5000 + number)
        image, truth = catalog.read_image(entry.image), read_labels(entry.label)
        light = (image if image.ndim == 2 else image[..., 0]).astype(np.float64)
        light -= np.median(light[truth == 0])
        stain = 150 + 10 * (3 * light / light[truth > 0].mean() + rng.normal(size=light.shape))
        glow = cv2.GaussianBlur((truth > 0).astype(np.float32), (0, 0), 25)
        noise = rng.normal(400, 40, light.shape)
        channels = np.dstack([500 + 30000 * glow / glow.max(), noise, stain])
        channels = np.clip(np.rint(channels), 0, 65535).astype(np.uint16)
        found.append([f1_at(1, segmenter, part, truth) for part in (channels[..., 2], channels)])
    return found


def nuclei_of(listing):
    """Light (h, w), 0..1, and mask (h, w) of the nuclei of NUCLEI that are whole."""
    entry = next(entry for entry in listing if entry.source == NUCLEI)
    image, labels = catalog.read_image(entry.image), read_labels(entry.label)
    image = image if image.ndim == 2 else image[..., 0]
    padded, grey = np.pad(labels, 6), np.pad(image / np.iinfo(image.dtype).max, 6)
    found = []
    for value in np.unique(labels)[1:]:
        rows, columns = np.nonzero(padded == value)
        box = np.s_[rows.min() - 5 : rows.max() + 6, columns.min() - 5 : columns.max() + 6]
        whole = rows.min() > 7 and columns.min() > 7
        whole &= rows.max() < labels.shape[0] + 4 and columns.max() < labels.shape[1] + 4
        if whole:
            mask = padded[box] == value
            soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)
            found.append((grey[box] * soft / grey[box][mask].max(), mask))
    return found


def crops(listing):
    """The pixels of the crops that gaps.csv lists."""
    entries = {entry.flat_name: entry for entry in listing}
    with LISTED.open(newline="") as lines:
        rows = [
            (row["image"], *map(int, (row["x"], row["y"], row["side"])))
            for row in csv.DictReader(lines)
        ]
    for name, x, y, side in rows:
        yield catalog.read_image(entries[name].image)[y : y + side, x : x + side]


def write_list(listing):
    """Write gaps.csv: of the images in turns over sources the largest square without labels."""
    by_source = {}
    for entry in listing:
        x, y, side = gap_of(read_labels(entry.label))
        if side >= LEAST_GAP and entry.source not in INCOMPLETE:
            by_source.setdefault(entry.source, []).append((entry.flat_name, x, y, side))
    rows = []
    for turn in range(max(map(len, by_source.values()))):
        rows += [gaps[turn] for gaps in by_source.values() if turn < len(gaps)]
    with LISTED.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("image", "x", "y", "side"), *rows[:GAPS]])
    print(f"{len(rows[:GAPS])} gaps of {len(by_source)} sources: {LISTED}")
    return 0


def gap_of(labels):
    """x, y and side of the largest square without labels, MARGIN away from the next ones."""
    x, y, radius = largest_gap(np.where(labels == 0, -1, 0))
    radius = min(int(radius) - MARGIN, LARGEST_GAP // 2)
    return int(x) - radius, int(y) - radius, 2 * radius
