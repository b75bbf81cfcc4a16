"""How well predicted uncertainties tell the true errors.

Takes predictions with kept uncertainties (app.predict --cells leaves NAME_cells.csv beside
NAME_label.tiff) and the truth, and asks three things:
- do sides with a larger delta (7 x the predicted uncertainty, in pixels) lie further from the
  true side? Spearman correlation per side of the boxes, and beside it the one that these deltas
  have with errors that are normal and exactly as wide: knowing the spread of an error does not
  tell its size, so that even perfect deltas do not reach 1;
- does delta say how far? Reliability: where the mean delta is d, a normal distribution of that
  width has a mean absolute error of d x sqrt(2 / pi);
- does score x certainty tell cells with IoU >= 0.5 from the others better than the score alone?
  AUROC: the chance that a good cell is ranked before a bad one.

A predicted cell is compared with the true cell with which its IoU is largest; its sides count where
that is 0.3 or more (below, the two boxes hardly bound the same thing; training weights by IoU
too). Cells that touch the outer 2-pixel frame, predicted or true, are left out as in scoring.
The intervals are 95 % bootstrap intervals over images: cells of one image are not independent.
"""

import argparse
import csv
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy.stats import halfnorm, rankdata, spearmanr

from app.cells import UNCERTAINTY_SCALE, Cells
from app.names import TABLE_ENDING, shown

from . import strict
from .bootstrap import auroc, estimate, mean, spearman
from .folders import EvaluationError, LabelError, group_of, pairs, read_groups, read_one
from .matching import Overlaps, boxes
from .score import write_json
from .tables import text_table

SIDES = ("top", "right", "bottom", "left")
BOX_ORDER = [1, 2, 3, 0]  # of the sides in a box x0, y0, x1, y1
COLUMNS = ("label", "x0", "y0", "x1", "y1", "score", *(f"uncertainty_{side}" for side in SIDES))
LEAST_IOU = 0.3  # of a cell whose sides are compared with the truth
CORRECT_IOU = 0.5  # from which a predicted cell is a correct one
QUANTILES = 32  # of a normal distribution's absolute errors, that stand for it
BINS = 10
FIGURES = ("sides", "delta", "|error|", "of a normal")  # number; means in pixels
RANKINGS = {
    "score": "score",
    "certainty": "certainty",
    "score_certainty": "score x certainty",
    "gain": "gain over score",
}


class CellFile(NamedTuple):
    """The rows of a NAME_cells.csv: labels (n,), ascending whole numbers > 0, and their Cells.

    (Outlines are not in the file; boxes run through the centres of pixels.)
    """

    labels: np.ndarray
    cells: Cells

    def check(self, labels: Sequence[int]) -> None:
        """LabelError unless the rows are exactly those of these labels > 0 (n,), ascending."""
        if not np.array_equal(labels, self.labels):
            raise LabelError("its labels are not those of its _cells.csv: they come of other runs")


@dataclass
class Compared:
    """n predicted cells held against the truth; row k is the same cell in every array.

    image (n,): number of its image. iou (n,) with the true cell that fits best, 0 without one.
    delta (n, 4): predicted error in pixels, in the order of SIDES. error (n, 4): |predicted -
    true side| in pixels, NaN where iou < LEAST_IOU. score, certainty (n,).
    """

    image: np.ndarray
    iou: np.ndarray
    delta: np.ndarray
    error: np.ndarray
    score: np.ndarray
    certainty: np.ndarray

    def filter(self, keep: np.ndarray) -> "Compared":
        """The cells that `keep` (n,) names."""
        return Compared(*(getattr(self, f.name)[keep] for f in fields(self)))

    @classmethod
    def cat(cls, parts: List["Compared"]) -> "Compared":
        """All cells of a non-empty list of Compared."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--truth", metavar="DIR", type=Path, required=True)
    parser.add_argument(
        "--labels",
        metavar="DIR",
        type=Path,
        required=True,
        help="predictions: NAME_label.tiff and NAME_cells.csv",
    )
    parser.add_argument(
        "--groups", metavar="CSV", type=Path, help="columns name, group: also tell it per group"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="uncertainty.json and reliability.png, .svg go here"
    )


def run(options: argparse.Namespace) -> int:
    """Compare, tell, and write; the exit status is 1 when some prediction was left out."""
    groups = read_groups(options.groups) if options.groups else None
    stems, cells, problems = compare_folder(options.truth, options.labels)
    result = {"images": stems, "problems": problems, "all": analyse(cells), "groups": {}}
    if groups is not None:
        members = np.array([group_of(groups, stem) for stem in stems])
        for group in sorted(set(members)):
            result["groups"][group] = analyse(cells.filter((members == group)[cells.image]))
    for name, reason in problems.items():
        print(shown(f"{name}: left out, {reason}"), file=sys.stderr)
    print(text(result))
    if options.out:
        from .plots import plot_reliability, save  # matplotlib is slow to import

        options.out.mkdir(parents=True, exist_ok=True)
        write_json(options.out / "uncertainty.json", result)
        save(plot_reliability(result["all"]["sides"]), options.out / "reliability")
    return 1 if problems else 0


# Files -> cells


def compare_folder(truth_dir: Path, labels_dir: Path) -> Tuple[List[str], Compared, Dict[str, str]]:
    """Every prediction of a folder against its truth.

    Returns stems (by the number in `Compared.image`), Compared, and problems {file name: reason}.
    EvaluationError when no prediction can be compared.
    """
    stems, parts, problems = [], [], {}
    for pair in pairs(truth_dir, labels_dir):
        if not pair.labels:  # no prediction, so no uncertainty to check
            continue
        try:
            labels, truth = read_one(pair.labels, "prediction"), read_one(pair.truth, "truth")
            found = compare(truth, labels, read_cells(pair.labels[0], pair.stem), len(stems))
        except LabelError as error:
            problems[pair.labels[0].name] = str(error)
        else:
            stems.append(pair.stem)
            parts.append(found)
    if not stems:
        reasons = next(iter(problems.values()), "it holds no NAME_label.tiff")
        raise EvaluationError(f"nothing in {labels_dir} can be compared with the truth: {reasons}")
    return stems, Compared.cat(parts), problems


def read_cells(prediction: Path, stem: str) -> CellFile:
    """The `CellFile` STEM_cells.csv beside a label image. LabelError: there is no such file."""
    path = prediction.with_name(stem + TABLE_ENDING)
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = [[float(row[name]) for name in COLUMNS] for row in csv.DictReader(lines)]
        table = np.array(sorted(rows)).reshape(-1, len(COLUMNS))
        if not np.isfinite(table).all():
            raise ValueError("not finite")
    except FileNotFoundError as error:
        raise LabelError(f"no {path.name} beside it: predict with app.predict --cells") from error
    except (KeyError, TypeError, ValueError) as error:
        raise LabelError(f"{path.name} is not as app.predict --cells writes it: {error}") from error
    outlines = np.zeros((len(table), 0, 2))
    return CellFile(table[:, 0], Cells(outlines, table[:, 1:5], table[:, 5], table[:, 6:]))


def compare(truth: np.ndarray, labels: np.ndarray, kept: CellFile, image: int = 0) -> Compared:
    """The `Compared` cells of one predicted label image (H, W) against the truth (H, W).

    kept: of exactly the labels in it. LabelError: they are not, or the shapes differ.
    """
    table = strict.counted(truth, labels)[0]
    kept.check(np.unique(labels[labels > 0]))
    cells = kept.cells.filter(np.isin(kept.labels, table.prediction_labels))
    iou, partner = best_partners(table)
    known = iou >= LEAST_IOU
    true_labels, sides = boxes(truth)
    sides = sides[np.isin(true_labels, table.truth_labels)] - (0, 0, 1, 1)  # centres of pixels
    error = np.full((len(iou), len(SIDES)), np.nan)
    error[known] = np.abs(cells.boxes[known] - sides[partner[known]])[:, BOX_ORDER]
    return Compared(
        image=np.full(len(iou), image),
        iou=iou,
        delta=UNCERTAINTY_SCALE * cells.uncertainties,
        error=error,
        score=cells.scores,
        certainty=cells.certainties("relative"),
    )


def best_partners(table: Overlaps) -> Tuple[np.ndarray, np.ndarray]:
    """For each of m predicted cells in `Overlaps`: its largest IoU (m,), 0 without any, and the
    index of that true cell (m,), -1 without any."""
    m, iou = len(table.prediction_labels), table.iou()
    best, partner = np.zeros(m), np.full(m, -1)
    order = np.argsort(iou, kind="stable")  # of several assignments to one place the last stays
    best[table.columns[order]] = iou[order]
    partner[table.columns[order]] = table.rows[order]
    return best, partner


# Cells -> figures


def analyse(cells: Compared) -> dict:
    """All figures of `Compared` cells, as a dict for JSON; None where a figure has no value.

    images (with any cell), cells, correct, compared: counts. sides: {side: see `side_summary`},
    with "all" for the four together. auroc: {ranking: estimate}; its "gain" is that of
    score_certainty over score. An estimate is {value, low, high}.
    """
    correct, known = cells.iou >= CORRECT_IOU, cells.iou >= LEAST_IOU
    sides = cells.filter(known)
    image = np.repeat(sides.image, len(SIDES))
    summaries = {
        side: side_summary(sides.delta[:, k], sides.error[:, k], sides.image)
        for k, side in enumerate(SIDES)
    }
    summaries["all"] = side_summary(sides.delta.ravel(), sides.error.ravel(), image)
    return {
        "images": len(np.unique(cells.image)),
        "cells": len(correct),
        "correct": int(correct.sum()),
        "compared": int(known.sum()),
        "sides": summaries,
        "auroc": separation(cells, correct),
    }


def side_summary(delta: np.ndarray, error: np.ndarray, image: np.ndarray) -> dict:
    """The figures of k sides: from their delta and absolute error (k,), in pixels, and image (k,).

    sides: how many. delta: mean. error: estimate of the mean. expected: mean absolute error of
    normal distributions of width delta. spearman: estimate of the correlation of delta with
    error. normal_spearman: see there. reliability: the first four in bins of equal count, least
    delta first.
    """
    bins = quantile_bins(delta)
    return {
        **means(delta, error, image),
        "spearman": estimate(spearman(delta, error), image),
        "normal_spearman": normal_spearman(delta),
        "reliability": [
            means(delta[members], error[members], image[members])
            for members in (bins == k for k in np.unique(bins))
        ],
    }


def normal_spearman(delta: np.ndarray) -> Optional[float]:
    """Spearman correlation of delta (k,) with absolute errors that are normal, of width delta.

    Not of errors drawn, but of QUANTILES of them for each delta. None: delta is constant, or empty.
    """
    if not len(np.unique(delta)) > 1:
        return None
    errors = halfnorm.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES)
    return float(spearmanr(np.repeat(delta, QUANTILES), np.outer(delta, errors).ravel())[0])


def quantile_bins(values: np.ndarray) -> np.ndarray:
    """The bin 0..BINS-1 of each value (n,): of equal count, but that equal values share a bin."""
    ranks = rankdata(values) - 0.5
    return (ranks * BINS / max(len(values), 1)).astype(int)


def means(delta: np.ndarray, error: np.ndarray, image: np.ndarray) -> dict:
    """The mean figures of `side_summary`."""
    return {
        "sides": len(delta),
        "delta": float(delta.mean()) if len(delta) else None,
        "error": estimate(mean(error), image),
        "expected": float(delta.mean() * halfnorm.mean()) if len(delta) else None,
    }


def separation(cells: Compared, correct: np.ndarray) -> dict:
    """Estimates of the AUROC of correct cells (n,) by score, certainty and their product."""
    by = {
        "score": auroc(cells.score, correct),
        "certainty": auroc(cells.certainty, correct),
        "score_certainty": auroc(cells.score * cells.certainty, correct),
    }
    by["gain"] = lambda weights: by["score_certainty"](weights) - by["score"](weights)
    return {name: estimate(statistic, cells.image) for name, statistic in by.items()}


# Figures -> screen and files


def text(result: dict) -> str:
    """What was found, as tables for the screen."""
    whole = result["all"]
    sides = [
        (side, *figures(summary), span(summary["spearman"]), number(summary["normal_spearman"]))
        for side, summary in whole["sides"].items()
    ]
    parts = [
        f"{whole['cells']} cells of {len(result['images'])} images: {whole['correct']} with IoU >= "
        f"{CORRECT_IOU}, {whole['compared']} with IoU >= {LEAST_IOU}, whose sides are compared",
        "Sides: mean delta and mean |error| in pixels, Spearman correlation of the two\n"
        + text_table(("side", *FIGURES, "Spearman", FIGURES[-1]), sides),
        "Reliability: all sides, in bins of equal count by delta\n"
        + text_table(
            ("bin", *FIGURES),
            [(k, *figures(b)) for k, b in enumerate(whole["sides"]["all"]["reliability"], 1)],
        ),
        f"AUROC of the cells with IoU >= {CORRECT_IOU}\n"
        + text_table(
            ("ranked by", "AUROC"),
            [(RANKINGS[name], span(found)) for name, found in whole["auroc"].items()],
        ),
    ]
    return "\n\n".join(parts + [group_text(result["groups"])] * bool(result["groups"]))


def group_text(groups: Dict[str, dict]) -> str:
    """The main figures of each group, a line each."""
    header = ("group", "images", "cells", "correct", "Spearman", *RANKINGS.values())
    lines = [
        (
            group,
            *(summary[count] for count in ("images", "cells", "correct")),
            number(summary["sides"]["all"]["spearman"]["value"]),
            *(number(found["value"]) for found in summary["auroc"].values()),
        )
        for group, summary in groups.items()
    ]
    return "By group (Spearman of all sides, AUROC)\n" + text_table(header, lines)


def figures(means: dict) -> Tuple:
    """The texts under FIGURES of the function `means`' result."""
    delta, expected = number(means["delta"]), number(means["expected"])
    return means["sides"], delta, span(means["error"]), expected


def span(estimated: dict) -> str:
    """An estimate as a text: 0.71 (0.65 to 0.76)."""
    value, low, high = (number(estimated[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def number(value: Optional[float]) -> str:
    """A number or None as a text."""
    return "-" if value is None else f"{value:.3f}"
