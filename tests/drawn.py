"""Label images drawn for tests, and files of them."""

import cv2
import numpy as np
import tifffile
import torch

from app.cells import Cells
from app.network import fourier


def drawn(shape, *boxes, dtype=np.uint16):
    """A label image with cell k + 1 as box k: top, left, bottom, right (ends excluded)."""
    labels = np.zeros(shape, dtype)
    for label, (top, left, bottom, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = label
    return labels


def cells_of(labels, samples=128):
    """The cells of a label image (H, W), each in one piece, as Cells of score 1."""
    outlines = [np.zeros((0, samples, 2), np.float32)]
    for label in np.unique(labels[labels > 0]):
        found, _ = cv2.findContours(
            (labels == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        polygon = torch.from_numpy(found[0][:, 0].astype(np.float32))[None]
        outlines.append(fourier.resample(polygon, fourier.uniform_locations(samples)).numpy())
    contours = np.concatenate(outlines)
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    n = len(contours)
    return Cells(contours, boxes, np.ones(n, np.float32), np.zeros((n, 4), np.float32))


def random_labels(rng, height, width, boxes=30):
    """Overlapping boxes of even sides at even places; labels leave gaps and may come twice."""
    labels = np.zeros((height, width), np.uint16)
    for _ in range(boxes):
        top, left = 2 * rng.integers(0, (height + 1) // 2), 2 * rng.integers(0, (width + 1) // 2)
        size = 2 * rng.integers(1, 6, 2)
        labels[top : top + size[0], left : left + size[1]] = rng.integers(1, 3 * boxes)
    return labels


def disturbed(rng, labels):
    """The labels with some cells in two exact halves, perhaps moved by a pixel or with holes."""
    halved = rng.random(100) < 0.3
    labels = labels + 100 * (halved[labels] & (np.arange(labels.shape[1]) % 2 == 1))
    if rng.random() < 0.5:
        labels = np.roll(labels, tuple(rng.integers(-1, 2, 2)), axis=(0, 1))
    labels[rng.random(labels.shape) < rng.choice([0, 0.1, 0.3])] = 0
    return labels


def with_counts(rng, correct, missed, wrong):
    """A true and a predicted label image with just so many cells, none at the frame.

    One cell in each square of a grid, in random order: a correct one is 6 x 6 pixels in both, 6 x 4
    of them at least in common (IoU 2/3 or more); ids are random.
    """
    kinds = rng.permutation(np.repeat([0, 1, 2], [correct, missed, wrong]))
    columns = int(np.ceil(np.sqrt(len(kinds)))) or 1
    pair = np.zeros((2, 10 * columns + 4, 10 * columns + 4), np.uint32)
    ids = rng.choice(2**31, (2, max(len(kinds), 1)), replace=False) + 1
    for place, kind in enumerate(kinds):
        top, left = 3 + 10 * np.array(divmod(place, columns))
        for image, absent, moved in ((0, 2, 0), (1, 1, rng.integers(0, 2))):
            if kind != absent:
                cell = (slice(top, top + 6), slice(left + moved, left + moved + 6))
                pair[image][cell] = ids[image, place]
    return pair


def save(path, labels):
    """A PNG or TIFF file, by its name."""
    if path.suffix.lower() == ".png":
        assert cv2.imwrite(str(path), labels)
    else:
        tifffile.imwrite(str(path), labels)
