"""python -m experiments shared-slides: which validation images are of a slide of training.

Three signs are looked for between images of `train` and of `val`, of the same or of different
sources:

- case: a TCGA case (TCGA-XX-XXXX) that the rows of catalog.csv name in both splits.
- overlap: both images show the same tissue, perhaps moved, turned, up to 5 times as large,
  compressed or in other colours. Counted are the SIFT points that a similarity transform lays on
  one another.
- seam: one image goes on where the other ends, as tiles of one field do. Correlated are the
  differences of colour along the two edges, which must be equally long.

Training images of different sources are compared too, for information. Crops of one slide that
neither overlap nor touch have no sign but their names.
"""

import csv
import re
from collections import defaultdict, namedtuple
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from app.intensity import to_rgb8
from app.options import Extend
from evaluate.folders import EvaluationError
from evaluate.tables import text_table
from training.catalog import TABLE, read_image

SOURCES = ["monuseg", "monuseg_more", "miccai15_cpm", "tcga_glioma", "pannuke_uterus"]
SOURCES += ["tnbc", "gbm40"]  # H&E too, of other places
CASE = re.compile("TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}")
MOST_POINTS = 3000  # SIFT points of an image, the clearest
RATIO = 0.8  # Lowe's: of the distances to the nearest and to the second nearest descriptor
NEAR = 3  # pixels between a point and where the transform lays its partner
LARGEST_SCALE = 5
KD_TREES, CHECKS = {"algorithm": 1, "trees": 4}, {"checks": 32}  # of the approximate search
# On the 151 images of these sources: 2,160 pairs of train and val have at most 5 points in common;
# pieces of half the side at half the size, JPEG 60, in other colours all have 8 or more (median
# 145), of a quarter of the side 86 %. Edges that go on correlate by 0.48 to 0.82, others by at
# most 0.27.
LEAST_POINTS = 8
LEAST_CORRELATION = 0.4

# cases: set of TCGA cases. points (N, 2) float32: x y in pixels. index: a search among the
# descriptors (N, 128) float32. edges: `differences` of the top, right, bottom and left one.
Crop = namedtuple("Crop", "name source split cases points descriptors index edges")


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("--data", type=Path, required=True, help=f"folder with a {TABLE}")
    parser.add_argument(
        "--sources", nargs="+", action=Extend, default=SOURCES, help=f"default: {' '.join(SOURCES)}"
    )


def run(options):
    """Print what was found; returns the exit status. EvaluationError."""
    try:
        crops = read_crops(options.data, options.sources)
    except ValueError as error:
        raise EvaluationError(error) from error
    cases, pairs = shared_cases(crops), find_pairs(crops)
    print(text_table(("case in both splits", "split", "image"), cases), end="\n\n")
    print(text_table(("image", "split", "train image", "points", "seam"), pairs), end="\n\n")
    val = {crop.name for crop in crops if crop.split == "val"}
    affected = val & {row[2] for row in cases} | val & {row[0] for row in pairs}
    print(f"{len(affected)} of {len(val)} val images share a case or a slide with train")
    return 0


def read_crops(data, sources):
    """The Crops of sources of a data folder. ValueError: a source or image cannot be read."""
    with (data / TABLE).open(newline="", encoding="utf-8-sig") as lines:
        rows = [row for row in csv.DictReader(lines) if row["source"] in sources]
    missing = set(sources) - {row["source"] for row in rows}
    if missing:
        raise ValueError(f"{data / TABLE} has no source {', '.join(sorted(missing))}")
    return [
        crop_of(row, read_image(data / row["source"] / row["image"]))
        for row in tqdm(rows, disable=None)
    ]


def crop_of(row, image):
    """The Crop of a row of the catalogue and its image (H, W) or (H, W, C)."""
    rgb = to_rgb8(image)
    sift = cv2.SIFT_create(MOST_POINTS)
    points, descriptors = sift.detectAndCompute(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), None)
    index = cv2.FlannBasedMatcher(KD_TREES, CHECKS)
    if points:
        index.add([descriptors])  # the first search builds the trees
    name = f"{row['source']}/{row['image']}"
    cases = set(CASE.findall(" ".join(map(str, row.values()))))
    points = cv2.KeyPoint_convert(points)
    edges = [differences(edge) for edge in (rgb[0], rgb[:, -1], rgb[-1], rgb[:, 0])]
    return Crop(name, row["source"], row["split"], cases, points, descriptors, index, edges)


def differences(edge):
    """How colours (L, 3) change from pixel to pixel: a vector of length 1, or of zeros."""
    change = np.diff(edge.astype(np.float32), axis=0).ravel()
    return change / max(np.linalg.norm(change), 1)


def shared_cases(crops):
    """(case, split, name) of every Crop of a TCGA case that is in train and in val."""
    named = defaultdict(set)
    for crop in crops:
        named[crop.split] |= crop.cases
    both = named["train"] & named["val"]
    return sorted((case, crop.split, crop.name) for crop in crops for case in crop.cases & both)


def find_pairs(crops):
    """What overlaps or touches: val with train, and train with train of another source.

    A list of (name, split, name of the train image, points in common, correlation of the seam).
    """
    train = [crop for crop in crops if crop.split == "train"]
    pairs = [(one, other) for one in crops if one.split == "val" for other in train]
    pairs += [pair for pair in combinations(train, 2) if pair[0].source != pair[1].source]
    rows = [
        (a.name, a.split, b.name, common_points(a, b), seam_of(a, b))
        for a, b in tqdm(pairs, disable=None)
    ]
    return [row for row in rows if row[3] >= LEAST_POINTS or row[4] >= LEAST_CORRELATION]


def common_points(one, other):
    """How many points of two Crops a similarity transform lays on one another."""
    if min(len(one.points), len(other.points)) < 2:
        return 0
    matches = other.index.knnMatch(one.descriptors, k=2)
    clear = [first for first, second in matches if first.distance < RATIO * second.distance]
    clear.sort(key=lambda match: -match.distance)
    # A point of the other has one partner, the nearest: else many could fall on one place.
    partners = {match.trainIdx: match.queryIdx for match in clear}
    if len(partners) < 2:
        return 0
    here, there = one.points[list(partners.values())], other.points[list(partners)]
    transform, near = cv2.estimateAffinePartial2D(here, there, ransacReprojThreshold=NEAR)
    scale = 0 if transform is None else np.hypot(*transform[:, 0])
    return int(near.sum()) if 1 / LARGEST_SCALE < scale < LARGEST_SCALE else 0


def seam_of(one, other):
    """The largest correlation, up to 1, of an edge of one Crop and the facing one of another.

    0 where no such two are equally long.
    """
    facing = zip(one.edges, other.edges[2:] + other.edges[:2])
    return max((float(a @ b) for a, b in facing if len(a) == len(b)), default=0.0)
