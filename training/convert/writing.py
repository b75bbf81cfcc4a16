"""The folder that training reads: images as they are, label images, and their catalogue."""

import csv
import shutil

import cv2
import numpy as np

from app import images
from app.atomic import replacing
from evaluate.folders import LabelError
from training.catalog import TABLE
from training.convert.sample import unique

COLUMNS = (
    *("source", "image", "label", "split", "modality", "objects", "height", "width", "channels"),
    *("dtype", "instances", "licence", "origin", "percentile", "gamma_floor", "largest"),
)


def write_samples(samples, folder, warn):
    """Write Samples to a folder (Path); returns what the catalogue says of each, as dicts.

    warn: a function that is told, in a sentence, of each sample that is damaged and left out.
    """
    rows, taken = [], set()
    for sample in samples:
        try:
            image, label = read_sample(sample)
        except (ValueError, LabelError) as error:
            warn(f"{sample.image} is left out: {error}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        name = unique(sample.name, taken)
        copy = folder / (name + sample.image.suffix)
        shutil.copyfile(str(sample.image), str(copy))
        rows.append(
            {
                "image": copy.name,
                "label": write_label(folder / f"{name}_label", label).name,
                "split": sample.split,
                "height": image.shape[0],
                "width": image.shape[1],
                "channels": 1 if image.ndim == 2 else image.shape[2],
                "dtype": image.dtype,
                "instances": np.count_nonzero(np.unique(label)),
            }
        )
    return rows


def read_sample(sample):
    """The image (H, W) or (H, W, C) and the label image (H, W) of a Sample.

    ValueError or LabelError: one of them is damaged.
    """
    try:
        image = images.read(sample.image)[0][:, :]
    except images.ImageError as error:
        raise ValueError(str(error)) from error
    label = sample.label(image.shape[:2])
    if label.shape != image.shape[:2]:
        raise ValueError(f"its label image is {label.shape}, the image {image.shape[:2]}")
    return image, label


def write_label(path, label):
    """Write labels (H, W), integers from 0 on, to `path` with an ending; returns where they are.

    16-bit PNG, or 32-bit TIFF if a label is above 65,535.
    """
    if label.max(initial=0) >= 2**16:
        images.write_labels(path.with_suffix(".tiff"), label)
        return path.with_suffix(".tiff")
    data = cv2.imencode(".png", label.astype(np.uint16))[1]
    with replacing(path.with_suffix(".png")) as file:
        file.write(data.tobytes())
    return path.with_suffix(".png")


def write_catalogue(target, rows):
    """Write the catalogue of a folder (Path) from dicts of COLUMNS; what one lacks is empty."""
    with replacing(target / TABLE, text=True) as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
