"""What a run has brought, as a page to look at: F1 before and after, its curve, three images.

Before is the validation of the weights that a run began with, where nothing is found if it began
with none; after is the best one.
"""

import base64
import csv
import math
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Dict, List, Optional, Tuple

import cv2
import numpy as np

from app import images
from app.atomic import replacing
from app.exports.preview import as_seen, borders
from app.names import LABEL_ENDING
from app.network import weights
from evaluate.folders import read_labels
from evaluate.official import score_pair
from evaluate.report_page import overlay
from evaluate.report_page.page import templates
from training.catalog import Entry
from training.own_data import numbered, read_truth

PAGE = "outcome.html"
SHOWN = 3  # images with a picture
NEEDED = 100  # steps: with fewer, five images have hardly changed anything so far
SIDE = 640  # pixels of an image that a picture shows, at most
# Of outlines, by their match: found, wrong, missed, at the frame. Okabe and Ito's, and white.
COLOURS = ((0, 158, 115), (213, 94, 0), (240, 228, 66), (255, 255, 255))


@dataclass
class Scored:
    """F1 of a validation image before and after, and cells: true ones, and found ones after."""

    entry: Entry
    before: float
    after: float
    true: int
    found: int


@dataclass
class Outcome:
    """What a run has brought, and where its label images before and after are."""

    folders: Tuple[Optional[Path], Path]  # no first one: the run began with no weights
    curve: List[Tuple[float, float]]  # minutes of training, mean F1 of the validation images
    images: List[Scored]
    unseen: bool  # the images had no part in training
    is_silent: bool  # what was learned last finds no cell in them
    start_share: float  # of the weights that it began with, in those that came out
    steps: Optional[int]  # of training that its minutes were enough for; None: so many were wanted

    @property
    def means(self):
        """Mean F1 (before, after)."""
        pairs = [(image.before, image.after) for image in self.images]
        return tuple(float(mean) for mean in np.mean(pairs, axis=0))

    @property
    def found(self):
        """How many cells are found in the images, after."""
        return sum(image.found for image in self.images)

    @property
    def advice(self):
        """What to do next: sentences."""
        if self.steps is None or self.steps >= NEEDED:
            return self._next
        minutes = math.ceil(self.curve[-1][0] * 2 * NEEDED / max(self.steps, 1))
        return [
            f"Only {self.steps} steps were done, and it takes {NEEDED} and more to learn new "
            "cells: the machine is slow, or busy (then OMP_NUM_THREADS=1 may help). Go on by the "
            f"same command, less --init, with --minutes {max(minutes, 8)}.",
            *self._next,
        ]

    @property
    def _next(self):
        """What else to do next."""
        before, after = self.means
        if not self.found:
            return [
                "No cell is found in the images that it was judged by, so do not predict with "
                "these weights. Look whether the labels lie over the cells; if the cells are very "
                "small or large, resize images and labels until they are about 40 pixels across; "
                "then label more cells."
            ]
        if after <= before and self.is_silent:
            return [
                "What was learned finds no cell in the images that it was judged by, so the "
                "weights that it began with were kept. Look whether the labels lie over the cells, "
                "and label more of them."
            ]
        if after <= before:
            return [
                "Training brought nothing on the images that it was judged by, so the weights that "
                "it began with were kept. Label more images, of all kinds that you have, or train "
                "longer (--minutes)."
            ]
        return [
            "Predict other images with the new weights, correct a few of those that look worst, "
            "add them to the folder, and train again (with another --out): that is the quickest "
            "way on."
        ]


def labels_folder(out: Path, step: int) -> Path:
    """Where a run keeps the label images of its validation after so many steps."""
    return out / "labels" / f"step_{step}"


def validations(out: Path) -> List[Dict[str, str]]:
    """The rows of a run's validation.csv, that of the weights that it began with (step 0) first, if
    there were any."""
    with (out / "validation.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def gather(out, listing, training, best_step, steps):
    """The Outcome of the run in a folder.

    listing: catalog.Entry of the validation images. training: of those that it learned from.
    steps: as of Outcome.
    """
    rows = validations(out)
    begun = labels_folder(out, 0) if int(rows[0]["step"]) == 0 else None
    folders = (begun, labels_folder(out, best_step))
    curve = [(float(row["minutes"]), float(row["mean"])) for row in rows]
    seen = {entry.image for entry in training}
    unseen = not any(entry.image in seen for entry in listing)
    last = labels_folder(out, int(rows[-1]["step"]))
    is_silent = not any(read_labels(labels_file(last, entry)).any() for entry in listing)
    images = [scored(entry, folders) for entry in listing]
    _, record = weights.load(out / "best.safetensors")
    # That of weights which were kept as they were is of the run that they came from.
    share = record.get("start_share", 0.0) if best_step else 0.0
    return Outcome(folders, curve, images, unseen, is_silent, share, steps)


def scored(entry, folders):
    """The Scored image of a catalog.Entry, whose label images before and after are in folders."""
    truth = read_truth(entry.label)
    before, after = (labels_in(folder, entry, truth.shape) for folder in folders)
    f1 = (score_pair(truth, labels).f1 for labels in (before, after))
    return Scored(entry, *f1, *(np.count_nonzero(np.unique(each)) for each in (truth, after)))


def labels_in(folder, entry, shape):
    """The label image (H, W) of a catalog.Entry in a folder of labels; without one it is empty."""
    if folder is None:
        return np.zeros(shape, np.int32)
    return read_labels(labels_file(folder, entry))


def labels_file(folder, entry):
    """Where the label image of a catalog.Entry is in a folder of labels."""
    return folder / (entry.flat_name + LABEL_ENDING)


def write(outcome, out):
    """Write the page of an Outcome into the folder of its run; returns its path."""
    from training.curve import as_svg  # late: matplotlib is slow to import

    text = (
        templates(Path(__file__).parent)
        .get_template("outcome.template.html")
        .render(
            outcome=outcome,
            weights=quote(str(out / "best.safetensors")),
            curve=as_svg(outcome.curve),
            shown=[(one, pictures(one.entry, outcome.folders)) for one in chosen(outcome.images)],
        )
    )
    with replacing(out / PAGE, text=True) as file:
        file.write(text)
    return out / PAGE


def remove(out):
    """Remove the page of the run in a folder, if it has one."""
    if (out / PAGE).exists():
        (out / PAGE).unlink()


def chosen(scored_images):
    """At most SHOWN of the Scored images: evenly from the worst to the best after training."""
    ranked = sorted(scored_images, key=lambda image: image.after)
    picks = np.linspace(0, len(ranked) - 1, min(SHOWN, len(ranked)))
    return [ranked[round(pick)] for pick in picks]


def pictures(entry, folders):
    """Pictures of the image of a catalog.Entry with outlines of its cells, one for each folder of
    labels, as data: URIs of JPEG."""
    loaded = images.load(entry.image)
    truth = numbered(read_truth(entry.label))
    rgb, step = as_seen(loaded)
    rows, columns = (middle(where, side) for where, side in zip(truth.nonzero(), truth.shape))
    place = tuple(slice(part.start // step, part.stop // step) for part in (rows, columns))
    drawn = []
    for folder in folders:
        labels = labels_in(folder, entry, truth.shape)
        missed, found = overlay.compare(truth, labels, tau=0.5)
        picture = rgb.copy()
        layers = (truth[::step, ::step], missed, True), (labels[::step, ::step], found, False)
        outline(picture, layers)
        drawn.append(as_uri(picture[place]))
    return drawn


def middle(where, side):
    """The slice of at most SIDE of `side` pixels around the median of the numbers `where`."""
    centre = int(np.median(where)) if len(where) else side // 2
    start = min(max(centre - SIDE // 2, 0), max(side - SIDE, 0))
    return slice(start, min(start + SIDE, side))


def outline(picture, layers):
    """Draw cells on a picture (h, w, 3) in the colour of their match, and the pixels beside their
    outlines darker, so that these stand out from cells of their own colour.

    layers: (label image (h, w), matches of overlay.compare, whether it is the truth), the upper
    ones last. Of the truth those cells are drawn alone that are missed.
    """
    colours = np.full(picture.shape[:2], -1)  # by their number in COLOURS
    for labels, matches, is_truth in layers:
        status = np.full(int(labels.max()) + 1, overlay.UNSCORED)
        for label, (found, _) in matches.items():
            status[label] = found
        at = borders(labels)
        if is_truth:
            at &= status[labels] == overlay.MISSED
        colours[at] = status[labels[at]]
    drawn = colours >= 0
    beside = cv2.dilate(drawn.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    picture[beside] //= 2
    picture[drawn] = np.array(COLOURS, np.uint8)[colours[drawn]]


def as_uri(rgb):
    """A picture (h, w, 3), small ones at twice their size, as a data: URI of a JPEG."""
    if max(rgb.shape[:2]) <= SIDE // 2:
        rgb = rgb.repeat(2, axis=0).repeat(2, axis=1)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[:, :, ::-1]))
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
