"""The paper's tables 3 and 4, for given networks on a folder of labelled images.

Table 3 compares networks, and an ensemble of several if asked for. Table 4 takes the first network
and says what the parts of the prediction contribute: uncertainty-aware suppression (UA-NMS), mixed
precision (AMP) and local refinement. F1 is scored by the organisers' rules at an IoU threshold of
0.5: its mean over images, and beside it the median. Epochs are the steps of the training record;
UA and GIoU say whether the uncertainty and the GIoU loss had a weight in training.

Each row is a run of the prediction command, python -m app.predict, on all images; networks trained
without the uncertainty loss run without UA-NMS. Two things there are not the paper's: UA-NMS weighs
by certainty relative to the cell's size (app.cells), and proposals whose boxes all but agree are
thinned before, by the score alone, with UA-NMS on or off.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np

from app.arguments import WEIGHTS
from app.names import LABEL_ENDING
from app.network.weights import WeightsError, describe
from app.options import Extend
from evaluate import official
from evaluate.folders import (
    EvaluationError,
    LabelError,
    list_images,
    list_truth,
    only,
    paired,
    read_labels,
)
from evaluate.score import write_json
from evaluate.tables import text_table

ROOT = Path(__file__).resolve().parents[1]
TAU = 0.5

# One run of the prediction command: weights files (several: an ensemble), and what is switched on.
Setting = namedtuple("Setting", "files ua_nms amp refine")
SWITCHES = {"ua_nms": "--no-uncertainty-nms", "amp": "--no-amp", "refine": "--no-refinement"}
ALL_ON = (True, True, True)
ABLATION = ((False, True, True), (True, True, False), ALL_ON, (True, False, True))

TITLES = {"table_3": "Table 3: networks", "table_4": "Table 4: what the parts contribute"}
COLUMNS = {
    "table_3": ("Model", "Backbone", "Epochs", "UA", "GIoU", "F1", "Median F1"),
    "table_4": ("Model", "Backbone", "Epochs", "UA-NMS", "AMP", "Refine", "F1", "Median F1"),
}

RESNEXT = "ResNeXt-101 U-Net"
PAPER = {  # as printed, without a median
    "table_3": (
        ("CPN", RESNEXT, "345", True, False, 0.8815),
        ("CPN", RESNEXT, "315", False, True, 0.8848),
        ("CPN L2S", RESNEXT, "300", True, True, 0.8961),
        ("CPN", RESNEXT, "225", True, True, 0.8981),
        ("2 CPNs", RESNEXT, "225, 195", True, True, 0.9004),
    ),
    "table_4": (
        ("CPN", RESNEXT, "160", False, True, True, 0.8447),
        ("CPN", RESNEXT, "160", True, True, True, 0.8457),
        ("CPN", RESNEXT, "225", True, True, False, 0.8809),
        ("CPN", RESNEXT, "225", True, True, True, 0.8981),
        ("CPN", RESNEXT, "225", True, False, True, 0.8983),
        ("CPN", RESNEXT, "225", False, True, True, 0.8986),
    ),
}


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("--images", metavar="DIR", type=Path, required=True)
    parser.add_argument("--truth", metavar="DIR", type=Path, required=True)
    several = {"nargs": "+", "action": Extend}
    parser.add_argument(
        "--weights",
        **several,
        metavar="ROW=FILE",
        type=named_file,
        default=[("compact", WEIGHTS)],
        help="networks of table 3 and the names of their rows; table 4 is of the first "
        "(default: the weights we ship, as 'compact')",
    )
    parser.add_argument(
        "--ensemble",
        **several,
        metavar="FILE",
        type=Path,
        help="one more row: these as one",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="tables.md and tables.json go here")


def named_file(text):
    """ROW=FILE -> (row, Path)."""
    row, equals, path = text.partition("=")
    if not (row and equals and path):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form ROW=FILE")
    return row, Path(path)


def run(options):
    """Predict, score, print and write the tables; returns the exit status. EvaluationError."""
    rows = plan(options.weights, options.ensemble)
    truths = find_truths(options.images, options.truth)
    settings = list(dict.fromkeys(setting for lines in rows.values() for _, setting in lines))
    f1 = {}
    for number, setting in enumerate(settings, 1):
        words = " ".join(arguments_of(setting))
        print(f"run {number} of {len(settings)}: {words}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as labels:
            predict(setting, options.images.resolve(), labels)
            f1[setting] = mean_and_median(Path(labels), truths)
    tables = {
        name: [(*cells, *f1[setting]) for cells, setting in lines] for name, lines in rows.items()
    }
    text = render(tables, len(truths))
    if options.out:
        write(tables, text, list(truths), options.out)
    print(text)
    return 0


def find_truths(images, truth):
    """{name: true label image (Path)} of all images in a folder. EvaluationError: one lacks."""
    stems, truths = list_images(images), list_truth(truth)
    try:
        found = {
            stem: only(truths.get(own, []), f"truth of {stem} in {truth}")
            for stem, own in paired(stems, truths)
            if stem
        }
    except LabelError as error:
        raise EvaluationError(error) from error
    if not found:
        raise EvaluationError(f"there is no image in {images}")
    return found


# What is run


def plan(networks, ensemble):
    """The rows of both tables: {table: [(the cells before F1, Setting)]}.

    networks: [(row, Path)]; ensemble: Paths or None.
    """
    files = [(row, [path]) for row, path in networks]
    if ensemble:
        files.append((f"{len(ensemble)} CPNs", ensemble))
    resolved = [tuple(path.resolve() for path in paths) for _, paths in files]
    compared = []
    for (row, _), paths in zip(files, resolved):
        cells = described(row, paths)
        # Uncertainties that were never trained say nothing: these networks do without.
        trained = cells[3] is not False
        compared.append((cells, Setting(paths, ua_nms=trained, amp=True, refine=True)))
    first, ablated = compared[0][0][:3], resolved[0]
    parts = [((*first, *switched_on), Setting(ablated, *switched_on)) for switched_on in ABLATION]
    return {"table_3": compared, "table_4": parts}


def described(row, paths):
    """The cells of table 3 before F1: model, backbone, epochs, UA, GIoU (None: not known).

    Of several networks, what they all are.
    """
    backbones, steps, ua, giou = zip(*map(facts, paths))
    steps = ", ".join("?" if n is None else str(n) for n in steps) + " steps"
    return row, ", ".join(dict.fromkeys(backbones)), steps, common(ua), common(giou)


def common(values):
    """The value that all are, None if they differ."""
    return values[0] if len(set(values)) == 1 else None


def facts(path):
    """Of a weights file: backbone, training steps, whether UA, whether GIoU; None if not told."""
    try:
        config, record = describe(path)
    except WeightsError as error:
        raise EvaluationError(error) from error
    losses = record.get("recipe", {}).get("weights", {})
    ua, giou = (
        losses[name] > 0 if name in losses else None for name in ("uncertainty", "boundary")
    )
    return backbone(config.architecture), total_steps(record), ua, giou


def backbone(architecture):
    """The encoder as the field calls it, by its layers with weights (and a classifier's)."""
    layers = 2 + sum(architecture.depths) * (3 if architecture.block == "bottleneck" else 2)
    return f"{'ResNet' if architecture.groups == 1 else 'ResNeXt'}-{layers} U-Net"


def total_steps(record):
    """Steps of training, with those of the weights that it began with; None if not told."""
    if "steps" not in record:
        return None
    return record["steps"] + (total_steps(record.get("origin") or {}) or 0)


def arguments_of(setting):
    """What `Setting` adds to the prediction command."""
    off = [switch for part, switch in SWITCHES.items() if not getattr(setting, part)]
    return ["--weights", *map(str, setting.files), *off]


def predict(setting, images, labels):
    """Run the prediction command on a folder of images. EvaluationError: an image failed."""
    command = [sys.executable, "-m", "app.predict", str(images), str(labels)]
    command += arguments_of(setting)
    status = subprocess.run(command, cwd=str(ROOT), stdout=2).returncode  # its lines are progress
    if status:
        raise EvaluationError(
            f"the prediction command failed (status {status}; its lines are above)"
        )


def mean_and_median(labels, truths):
    """F1 of the label images in a folder: mean and median over {name: truth}. EvaluationError."""
    f1 = []
    for name, truth in truths.items():
        try:
            both = read_labels(truth), read_labels(labels / (name + LABEL_ENDING))
            f1.append(official.score_pair(*both, TAU).f1)
        except LabelError as error:
            raise EvaluationError(f"{name} cannot be scored: {error}") from error
    return float(np.mean(f1)), float(np.median(f1))


# Tables -> screen and files


def render(tables, images):
    """All tables as Markdown that reads well as it is."""
    parts = []
    for name, rows in tables.items():
        parts.append(f"{TITLES[name]}; F1 at an IoU of {TAU} on {images} images")
        parts.append(text_table(COLUMNS[name], map(told, rows), "github"))
    for name, rows in PAPER.items():
        title = f"{TITLES[name]}; for comparison the paper's own, on its validation set"
        parts += [title, text_table(COLUMNS[name][:-1], rows, "github")]
    return "\n\n".join(parts)


def told(row):
    """A row with a question mark for what is not known."""
    return ["?" if value is None else value for value in row]


def write(tables, text, names, folder):
    """tables.md as printed, and tables.json: images, tau, and the rows of each table as objects."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables.md").write_text(text + "\n", encoding="utf-8")
    content = {"tau": TAU, "images": names}
    for name, rows in tables.items():
        keys = [column.lower().replace(" ", "_").replace("-", "_") for column in COLUMNS[name]]
        content[name] = [dict(zip(keys, row)) for row in rows]
    write_json(folder / "tables.json", content)
