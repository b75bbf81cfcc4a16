"""python -m training split: one split of the catalogue as plain folders of labelled images.

DIR/images/SOURCE__NAME.* and DIR/truth/SOURCE__NAME_label.tiff, with DIR/groups.csv beside them
(name, group, source): what the commands of python -m evaluate take.
"""

import csv
import shutil
from collections import Counter
from pathlib import Path

from app.atomic import new_folder
from app.images import write_labels
from app.names import LABEL_ENDING
from training import catalog
from training.own_data import read_truth
from training.train import parser_of


def main(arguments):
    """Run the command; returns the exit status. Raises ValueError, OSError."""
    parser = parser_of("python -m training split", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with catalog.csv")
    parser.add_argument("--split", default="val", help="train or val")
    parser.add_argument("--out", type=Path, required=True, help="a folder without such folders")
    parser.add_argument(
        "--group",
        choices=("modality", "source"),
        default="modality",
        help="what groups.csv calls the group of an image",
    )
    options = parser.parse_args(arguments)
    count = write_split(options.data, options.split, options.out, options.group)
    print(f"{count} images, their true labels and groups.csv are in {options.out}")
    return 0


def write_split(data, split, out, group="modality"):
    """Copy the images of a split, their true labels and the table of groups to `out` (Path).

    data: folder with catalog.csv. group: the column of the catalogue that is an image's group.
    Returns how many images there are. ValueError: the catalogue does not tell, two images would
    have the same name, or `out` holds a split already.
    """
    listing = catalog.entries(data, split)
    groups = [getattr(entry, group) for entry in listing]
    if None in groups:
        raise ValueError(f"{data} does not tell the {group} of its images: choose another --group")
    names = [entry.flat_name for entry in listing]
    twice = repeated(names)
    if twice:
        raise ValueError(f"{data / catalog.TABLE}: two images would be named {twice[0]}")
    for folder in (out / "images", out / "truth"):
        if folder.exists():
            raise ValueError(f"{folder} is there already: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    with new_folder(out / "images") as images, new_folder(out / "truth") as truth:
        for name, entry in zip(names, listing):
            shutil.copyfile(entry.image, images / (name + entry.image.suffix))
            write_labels(truth / (name + LABEL_ENDING), read_truth(entry.label))
    with (out / "groups.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "group", "source"))
        writer.writerows(zip(names, groups, (entry.source for entry in listing)))
    return len(listing)


def repeated(names):
    """Those of the names that come more than once, each one time."""
    return [name for name, count in Counter(names).items() if count > 1]
