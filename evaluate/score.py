"""Compare label images with the truth: a table, scores.csv and scores.json.

Files belong together by name: NAME_label.(tiff|tif|png) with the truth NAME_label.(tiff|tif|png).
A folder of truth without any such file holds NAME.(tiff|tif|png); --truth-suffix and --label-suffix
say other endings. NAME counts up to its first dot where that is needed to find the other.

--rules strict (default):
  - A missing, unreadable or wrong-shaped prediction scores 0, all its true cells missed.
  - An empty prediction misses all true cells; nothing where nothing is true scores 1.
  - Large images are scored whole. Labels may be of any integer type, and floats without fractions.
  - Cells that touch the outer 2 pixels of an image do not count (the organisers' rule), unless a
    side of the image is 4 pixels or less: there all count. Dice is of all foreground pixels.
--rules official: the organisers' script to the last digit, with its weak spots: missing predictions
  are left out; an empty one misses nothing; empty truth scores 0; from 25,000,000 pixels on, tiles
  of 2000 pixels are scored apart and labels may wrap; ratios are rounded to 4 decimals.

Precision, recall and F1 are of cells matched one to one at IoU >= tau; IoU is the mean of the
matched (none: no value), PQ the panoptic quality = F1 x IoU, AP = TP / (TP + FP + FN). Means and
medians are over images; the other columns of a group are of its images pooled. A truth that cannot
be read, or a prediction without truth, is listed and not in the means.

scores.csv: official, the organisers' columns (several tau: one more, tau); strict, name, group,
tau, counts and ratios by their full names, problem. scores.json holds all, and what was asked for.
The exit status is 1 when something could not be scored.
"""

import argparse
import csv
import hashlib
import json
import platform
import sys
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import List, Optional, Sequence, Set

import cv2
import numpy as np
import scipy
import tifffile

from app import __version__
from app.atomic import replacing
from app.names import shown
from app.options import Extend

from . import official, strict
from .folders import (
    Groups,
    LabelError,
    Pair,
    group_of,
    only,
    pairs,
    read_groups,
    read_labels,
)
from .matching import Score, rate
from .pieces import listed, remarks
from .tables import text_table

RULES = {"strict": strict, "official": official}
SCORE_FIELDS = tuple(f.name for f in fields(Score))

# Heads of the columns of a table on the screen, and the fields of `Score` that they show.
SHOWN = {
    "true": "true_num",
    "pred": "pred_num",
    "TP": "correct_num",
    "FP": "wrong_num",
    "FN": "missed_num",
    "precision": "precision",
    "recall": "recall",
    "F1": "f1",
    "IoU": "mean_matched_iou",
    "PQ": "panoptic_quality",
    "AP": "average_precision",
    "Dice": "dice",
}


@dataclass(frozen=True)
class ImageScores:
    """One image: its `Score` per tau, and what there is to say of its files.

    name: file name of the prediction, or that it should have; stem: without its suffix.
    truth: file name. problem: why it could not be scored as it should, in a sentence.
    """

    name: str
    stem: str
    group: Optional[str] = None
    truth: Optional[str] = None
    height: Optional[int] = None
    width: Optional[int] = None
    problem: Optional[str] = None
    remarks: List[str] = field(default_factory=list)
    scores: List[Score] = field(default_factory=list)


@dataclass(frozen=True)
class Aggregate:
    """The images of a group (None: all) at one tau: F1 over images, and all cells pooled.

    Without any image, the values are NaN.
    """

    group: Optional[str]
    tau: float
    images: int
    mean_f1: float
    median_f1: float
    pooled: Score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m evaluate score`."""
    parser.add_argument("--truth", required=True, metavar="DIR", help="true label images")
    parser.add_argument("--labels", required=True, metavar="DIR", help="predicted label images")
    parser.add_argument(
        "--tau",
        type=iou_threshold,
        nargs="+",
        action=Extend,
        default=[0.5],
        metavar="IOU",
        help="IoU from which a cell is found, above 0 and up to 1 (default: 0.5)",
    )
    parser.add_argument("--rules", choices=tuple(RULES), default="strict", help="to score by")
    parser.add_argument(
        "--groups",
        metavar="CSV",
        help="the group (as modality) of each image: columns name and group, or image and modality",
    )
    parser.add_argument("--out", metavar="DIR", help="write scores.csv and scores.json here")
    parser.add_argument("--truth-suffix", metavar="TEXT", help="as _mask.png")
    parser.add_argument("--label-suffix", metavar="TEXT", help="as _cp_masks.tif")


def iou_threshold(text: str) -> float:
    """An IoU of a command line. ArgumentTypeError, ValueError: it is not above 0 and up to 1."""
    tau = float(text)
    if not 0 < tau <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to 1")
    return tau


def run(options: argparse.Namespace) -> int:
    """Score, show, and write; the exit status."""
    taus, suffixes = sorted(set(options.tau)), (options.truth_suffix, options.label_suffix)
    found = pairs(options.truth, options.labels, *suffixes)
    given = [suffix for suffix in suffixes if suffix]
    table = read_groups(options.groups, given) if options.groups else None
    images = score_pairs(found, taus, options.rules, table)
    groups = aggregates(images, taus)
    print(screen(images, groups, taus))
    tell(images, {pair.name for pair in found} - {image.name for image in images})
    if options.out:
        out = Path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        write_csv(out / "scores.csv", images, taus, options.rules)
        arguments = {name: value for name, value in vars(options).items() if name != "run"}
        write_json(out / "scores.json", scores_json(images, groups, taus, options.rules, arguments))
    return int(any(image.problem for image in images))


def score_pairs(
    found: List[Pair], taus: Sequence[float], rules: str = "strict", groups: Optional[Groups] = None
) -> List[ImageScores]:
    """The `ImageScores` of a list of `folders.Pair`s at each tau, in their order.

    groups: see `folders.read_groups`; a prediction without truth needs none. By the official rules,
    images without a prediction are left out. EvaluationError, before anything is scored: an image's
    group is not known.
    """
    groups_found = (group_of(groups, p.stem) if groups and p.truth else None for p in found)
    images = [ImageScores(p.name, p.stem, group) for p, group in zip(found, groups_found)]
    kept = [both for both in zip(found, images) if both[0].labels or rules == "strict"]
    return [_scored(pair, image, taus, RULES[rules]) for pair, image in kept]


def _scored(pair, image, taus, book):
    """The `ImageScores` filled in, by the rule book `official` or `strict`."""
    try:
        path = only(pair.truth, "truth")
        image = replace(image, truth=path.name)
        truth = read_labels(path)
    except LabelError as error:
        return replace(image, problem=str(error))
    image = replace(image, height=truth.shape[0], width=truth.shape[1])
    said = remarks("truth", truth)
    try:
        labels = read_labels(only(pair.labels, "prediction"))
        scores = book.scores(truth, labels, taus)
        said += remarks("prediction", labels)
    except LabelError as error:
        missed = book.missing(truth, taus)
        return replace(image, problem=str(error), remarks=said, scores=missed)
    return replace(image, remarks=said, scores=scores)


def aggregates(images: List[ImageScores], taus: Sequence[float]) -> List[Aggregate]:
    """The `Aggregate` of all scored images and of each group, per tau: all first, then by name."""
    scored = [image for image in images if image.scores]
    groups = sorted({image.group for image in scored if image.group is not None})
    found = []
    for number, tau in enumerate(taus):
        for group in (None, *groups):
            members = [i.scores[number] for i in scored if group in (None, i.group)]
            found.append(aggregate(group, tau, members))
    return found


def aggregate(group: Optional[str], tau: float, scores: List[Score]) -> Aggregate:
    """The `Aggregate` of a list of `Score`s at `tau`; without any, its values are NaN.

    Images without any cell, true or predicted, have nothing to pool: the ratios are their mean F1.
    """
    nan = float("nan")
    f1 = [score.f1 for score in scores]
    mean, median = (float(np.mean(f1)), float(np.median(f1))) if f1 else (nan, nan)
    sums = (sum(getattr(s, n) for s in scores) for n in ("true_num", "pred_num", "correct_num"))
    iou_sum = sum(s.mean_matched_iou * s.correct_num for s in scores if s.correct_num)
    pooled = rate(tau, list(sums), iou_sum, dice=nan, empty=mean)
    pooled = replace(pooled, missed_num=sum(score.missed_num for score in scores))
    return Aggregate(group, tau, len(scores), mean, median, pooled)


# What is shown


def tell(images: List[ImageScores], left_out: Set[str]) -> None:
    """Problems and remarks, on the standard error."""
    for image in images:
        how = "scored 0" if image.scores else "not scored"
        said = [f"{how}, {image.problem}"] if image.problem else []
        for sentence in said + image.remarks:
            print("evaluate:", shown(f"{image.name}: {sentence}"), file=sys.stderr)
    if left_out:
        names = listed(sorted(map(shown, left_out)))
        print(f"evaluate: left out, not predicted: {names}", file=sys.stderr)


def screen(images: List[ImageScores], groups: List[Aggregate], taus: Sequence[float]) -> str:
    """All tables for the screen: per image, then per tau the paper's table and the groups."""
    parts = [image_table(images, taus)]
    for tau in taus:
        chosen = [group for group in groups if group.tau == tau]
        parts += [f"IoU {tau:g}", paper_table(chosen), group_table(chosen)]
    return "\n\n".join(parts)


def image_table(images: List[ImageScores], taus: Sequence[float]) -> str:
    """A line per scored image: all values at one tau, or F1 at each of several."""
    if len(taus) > 1:
        header = ("name", *(f"F1@{tau:g}" for tau in taus))
        lines = [(i.name, *(s.f1 for s in i.scores)) for i in images if i.scores]
    else:
        header = ("name", *SHOWN)
        lines = [(i.name, *_values(s, SHOWN.values())) for i in images for s in i.scores]
    return text_table(header, lines)


def paper_table(groups: List[Aggregate]) -> str:
    """The `Aggregate`s of one tau as the paper's table 5: median and mean F1 by group."""
    header = ("Reduction", *(f"F1-{group.group or 'All'}" for group in groups))
    lines = (
        ("Median", *(group.median_f1 for group in groups)),
        ("Mean", *(group.mean_f1 for group in groups)),
    )
    return text_table(header, lines)


def group_table(groups: List[Aggregate]) -> str:
    """The `Aggregate`s of one tau, a line each: images, F1 over them, and all cells pooled."""
    columns = {head: name for head, name in SHOWN.items() if name != "dice"}
    header = ("group", "images", "mean F1", "median F1", *columns)
    lines = [
        (g.group or "All", g.images, g.mean_f1, g.median_f1, *_values(g.pooled, columns.values()))
        for g in groups
    ]
    return text_table(header, lines)


def _values(score, names):
    return [getattr(score, name) for name in names]


# What is written


def write_csv(
    path: Path, images: List[ImageScores], taus: Sequence[float] = (0.5,), rules: str = "strict"
) -> None:
    """scores.csv: a row per image and tau; official, the organisers' columns, numbers and rows."""
    header, rows = (_official_rows if rules == "official" else _strict_rows)(images, taus)
    with replacing(path, text=True) as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _official_rows(images, taus):
    several = len(taus) > 1
    rows = [
        [image.name, *_values(score, official.COLUMNS.values()), *[score.tau] * several]
        for image in images
        for score in image.scores
    ]
    return ["names", *official.COLUMNS, *["tau"] * several], rows


def _strict_rows(images, taus):
    rows = []
    for image in images:
        blank = [[tau] + [""] * (len(SCORE_FIELDS) - 1) for tau in taus]
        scores = [["" if v != v else v for v in _values(s, SCORE_FIELDS)] for s in image.scores]
        for values in scores or blank:
            rows.append([image.name, image.group or "", *values, image.problem or ""])
    return ["name", "group", *SCORE_FIELDS, "problem"], rows


def scores_json(
    images: List[ImageScores],
    groups: List[Aggregate],
    taus: Sequence[float],
    rules: str,
    arguments: dict,
) -> dict:
    """What scores.json holds, as dicts and lists; NaN as None."""
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "tifffile": tifffile.__version__,
        "opencv": cv2.__version__,
        "program": program_version(),
    }
    content = {
        "rules": rules,
        "taus": taus,
        "arguments": arguments,
        "versions": versions,
        "images": [asdict(image) for image in images],
        "aggregates": [asdict(group) for group in groups],
        "unscorable": sum(image.problem is not None for image in images),
    }
    for group in content["aggregates"]:
        del group["pooled"]["tau"], group["pooled"]["dice"]
    return json.loads(json.dumps(content), parse_constant=lambda nan: None)


def program_version() -> str:
    """A text that changes with the version and the evaluator's code: files copied without git have
    no other."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return f"evaluate {__version__}, code {digest.hexdigest()[:12]}"


def write_json(path: Path, content: dict) -> None:
    """Dicts, lists, texts and finite numbers as a JSON file."""
    with replacing(path, text=True) as file:
        json.dump(content, file, indent=1, allow_nan=False)
