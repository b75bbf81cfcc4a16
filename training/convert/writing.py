"""The folder that training reads: images as they are, label images, and their catalogue."""

import csv
import shutil

import numpy as np

from app import images
from app.atomic import replacing
from app.names import LABEL_ENDING
from evaluate.folders import LabelError
from training import catalog
from training.convert.sample import unique


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
        copy, label_name = name + sample.image.suffix, name + LABEL_ENDING
        shutil.copyfile(str(sample.image), str(folder / copy))
        images.write_labels(folder / label_name, label)
        rows.append(
            {
                "image": copy,
                "label": label_name,
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
    image = catalog.read_image(sample.image)[:, :]
    label = sample.label(image.shape[:2])
    if label.shape != image.shape[:2]:
        raise ValueError(f"its label image is {label.shape}, the image {image.shape[:2]}")
    return image, label


def write_catalogue(target, rows):
    """Write the catalogue of a folder (Path) from dicts of its columns; None is an empty field."""
    with replacing(target / catalog.TABLE, text=True) as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
