"""The files of one image: pictures of it, and what the viewer draws of its cells."""

import argparse
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from app import images
from app.exports import preview
from app.names import LABEL_ENDINGS, TABLE_ENDING, without_ending

from ..folders import LabelError, only, read_one
from ..uncertainty import read_cells
from . import overlay, pictures
from .contents import SHADES, Entry, Report
from .page import number

# The colours of cells in thumbnails, as in outlines.js.
PLAIN = (86, 180, 233)
COLOURS = {
    overlay.MATCHED: PLAIN,
    overlay.FALSE_POSITIVE: (213, 94, 0),
    overlay.MISSED: (240, 228, 66),
    overlay.UNSCORED: (180, 180, 180),
}


def look(
    entry: Entry, found: dict, report: Report, options: argparse.Namespace, folder: Path
) -> None:
    """Fill in the size of an entry, and write what there is to look at to a new folder.

    What fails is a problem of the entry.
    """
    image = attempt(entry, read_image, entry, found.get("images", []), options)
    labels = {"prediction": attempt(entry, read_one, found.get("labels", []), "prediction")}
    if "truth" in found:
        labels = {"truth": attempt(entry, read_one, found["truth"], "truth"), **labels}
    shapes = [array.shape[:2] for array in labels.values() if array is not None]
    if image is not None:
        shapes.insert(0, image.pixels.shape[:2])
    if not shapes:
        return
    height, width = map(int, shapes[0])
    entry.size = width, height
    labels = {n: one for n, one in labels.items() if attempt(entry, fits, one, shapes[0], n)}
    shown = {"width": width, "height": height, **outlined(labels, report.tau)}
    if "prediction" in labels:
        entry.predicted = len(shown["prediction"]["labels"])
        attempt(entry, add_uncertainties, shown["prediction"], found["labels"][0])
        count(report, entry, shown["prediction"])
    folder.mkdir()
    rgb, shown["step"] = attempt(entry, as_seen, image) or (None, 1)
    shown["hasPicture"] = rgb is not None
    painted = [(array, *colours(shown[name])) for name, array in labels.items()]
    write_pictures(folder, rgb, pictures.thumbnail(shapes[0], rgb, painted))
    shown["problem"] = "; ".join(entry.problems) or None
    shown["numbers"] = numbers(entry)
    write_data(folder / "cells.js", entry.index, shown)


def attempt(entry: Entry, function: Callable, *arguments: Any) -> Any:
    """What the function returns, or None and one more problem of the entry."""
    try:
        return function(*arguments)
    except LabelError as error:
        if str(error) not in entry.problems:
            entry.problems.append(str(error))
        return None


def read_image(entry: Entry, paths: List[Path], options: argparse.Namespace) -> images.Loaded:
    """The only image of the paths; what was left out of it becomes a remark.

    LabelError: there is none to read.
    """
    path = only(paths, f"image of this name in {options.images or options.pairs}")
    with failures_as_label_errors():
        image = images.load(path, options.channels, options.plane)
    entry.remarks += image.warnings
    return image


def as_seen(image: Optional[images.Loaded]) -> Optional[Tuple[np.ndarray, int]]:
    """`preview.as_seen` of an image, if there is one. LabelError: its data are damaged."""
    if image is None:
        return None
    with failures_as_label_errors():
        return preview.as_seen(image)


@contextmanager
def failures_as_label_errors() -> Iterator[None]:
    """Raise what goes wrong with an image as LabelError."""
    try:
        yield
    except (images.ImageError, ValueError, MemoryError) as error:
        raise LabelError(f"the image cannot be read: {error}") from error


def fits(labels: Optional[np.ndarray], shape: Tuple[int, int], what: str) -> bool:
    """Whether there is a label image. LabelError: its shape is not (H, W) as of the others."""
    if labels is not None and labels.shape != shape:
        sizes = " × ".join(map(str, labels.shape)), " × ".join(map(str, shape))
        raise LabelError("the {} is {} pixels, not {}, and is not drawn".format(what, *sizes))
    return labels is not None


def outlined(labels: Dict[str, np.ndarray], tau: float) -> Dict[str, dict]:
    """The columns (see `overlay`) of the truth and of the prediction, compared where both are."""
    columns = {name: overlay.cells(array) for name, array in labels.items()}
    if "truth" in labels:
        prediction = labels.get("prediction", np.zeros_like(labels["truth"]))
        statuses = overlay.compare(labels["truth"], prediction, tau)
        for name, found in zip(("truth", "prediction"), statuses):
            if name in labels:
                overlay.add_match_status(columns[name], found)
    return columns


def colours(columns: dict) -> Tuple[List[int], np.ndarray]:
    """The labels (n,) of the columns of `overlay`, and the colours (n, 3) of their outlines."""
    status = columns.get("match_status")
    known = [COLOURS[one] for one in status] if status else [PLAIN] * len(columns["labels"])
    return columns["labels"], np.array(known, np.uint8).reshape(-1, 3)


def add_uncertainties(columns: dict, path: Path) -> None:
    """Add the scores and uncertainties kept beside the prediction of this path. LabelError."""
    stem = without_ending(path.name, LABEL_ENDINGS) or path.stem
    if path.with_name(stem + TABLE_ENDING).exists():
        overlay.add_uncertainties(columns, read_cells(path, stem))


def count(report: Report, entry: Entry, columns: dict) -> None:
    """Add the predicted cells of an entry to the report's distributions, and their means to it."""
    found = report.distributions
    found["size"].add(2 * np.sqrt(np.array(columns["areas"]) / np.pi))
    if not columns.get("uncertainties"):
        return
    scores, sides = (np.array(columns[name]) for name in ("scores", "uncertainties"))
    entry.mean_score, entry.mean_uncertainty = float(scores.mean()), float(sides.mean())
    found["score"].add(scores)
    found["uncertainty"].add(sides.mean(axis=1))
    steps = np.ceil((sides * SHADES).round(6)).astype(int).ravel()
    report.shades += np.bincount(steps.clip(0, SHADES), minlength=SHADES + 1)


def write_pictures(folder: Path, rgb: Optional[np.ndarray], thumbnail: np.ndarray) -> None:
    """Write the tiles of an image, if there is one, and a thumbnail."""
    for name, tile in pictures.tiles(rgb) if rgb is not None else ():
        pictures.write(folder / f"{name}.webp", tile)
    pictures.write(folder / "thumbnail.webp", thumbnail)


def write_data(path: Path, index: int, shown: dict) -> None:
    """Write what the viewer draws of an image, as a script that gives it to the page.

    (From disk, browsers let a page load no data, but scripts.) ValueError: it holds a NaN.
    """
    data = json.dumps(shown, separators=(",", ":"), allow_nan=False)
    path.write_text(f"receive({index},{data});\n", encoding="ascii")


def numbers(entry: Entry) -> List[List[str]]:
    """[name, text] of what the viewer says of an image."""
    titles = (("F1", "f1"), ("Precision", "precision"), ("Recall", "recall"))
    titles += (("Mean IoU, matched", "mean_matched_iou"), ("Dice", "dice"))
    found = [[title, number(entry.score[name])] for title, name in titles if entry.score]
    for title, timed in entry.times.items():
        if timed["seconds"]:
            found.append([title, number(timed["median_seconds"], 2) + " s"])
    return found
