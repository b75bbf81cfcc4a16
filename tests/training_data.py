"""Drawn training data, for the tests of training."""

import csv

import cv2
import numpy as np

COLUMNS = ("source", "image", "label", "split")


def write_catalogue(folder, rows, columns=COLUMNS):
    """A data folder whose catalogue has these rows."""
    folder.mkdir(exist_ok=True)
    with (folder / "catalog.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return folder


def draw_image(rng, height, width, cells=5):
    """Bright ellipses on dark: an image uint8 and its labels uint16, both (height, width)."""
    image = rng.integers(0, 40, (height, width), np.uint8)
    label = np.zeros(image.shape, np.uint16)
    for k in range(cells):
        centre = (15 + 22 * k, int(rng.integers(20, height - 20)))
        axes = (int(rng.integers(6, 9)), int(rng.integers(6, 14)))
        cv2.ellipse(label, centre, axes, int(rng.integers(180)), 0, 360, k + 1, -1)
    image[label > 0] += 150
    return image, label


def make_data(folder, count=3, side=120):
    """A data folder with a catalogue: `count` drawn images each of train and val."""
    rng = np.random.default_rng(0)
    rows = []
    (folder / "drawn").mkdir(parents=True)
    for number in range(2 * count):
        image, label = draw_image(rng, side, side + 7 * number)
        cv2.imwrite(str(folder / "drawn" / f"{number}.png"), image)
        cv2.imwrite(str(folder / "drawn" / f"{number}_label.png"), label)
        split = "train" if number < count else "val"
        rows.append(("drawn", f"{number}.png", f"{number}_label.png", split))
    return write_catalogue(folder, rows)
