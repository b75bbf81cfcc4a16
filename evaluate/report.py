"""Write a page to look at: numbers at the top, charts, and every image with its cells.

The page opens from disk in any browser of today, without network. Pictures and outlines lie in the
folder NAME_files beside NAME.html, so both are moved together. Images are shown as they are, up to
10,000 x 10,000 pixels; larger ones are reduced, which the page says.

Images are listed by name: those of --images, --labels, --truth and of the files given; or those of
--pairs. With --truth but without --scores they are scored here, by the strict rules at --tau, per
group of --groups. Cells have scores and uncertainties where NAME_cells.csv lies beside
NAME_label.tiff (predict.sh --cells).

Exit status: 0, or 1 when an image has a problem: the report is written and says which; 2 when
nothing could be started.
"""

import argparse
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np

from app import images
from app.arguments import add_images
from app.atomic import replacing
from app.names import LABEL_ENDINGS, TABLE_ENDING, without_ending
from app.options import Extend

from .folders import (
    EvaluationError,
    Groups,
    LabelError,
    group_of,
    list_images,
    list_labels,
    list_truth,
    only,
    paired,
    pairs,
    printable,
    read_groups,
    read_one,
    read_pairs,
)
from .report_page import overlay, pictures
from .report_page.charts import Distribution, distributions
from .report_page.folder import files_of
from .report_page.page import number, page
from .score import aggregates, iou_threshold, score_pairs, scores_json
from .uncertainty import read_cells

TAU = 0.5  # of the outlines and of the table of images, where it was scored
# What scores.json and times.json have, as far as it is shown.
SCORES = {"rules", "taus", "arguments", "versions", "images", "aggregates", "unscorable"}
TIMES = {"command", "repeat", "machine", "runs"}
SHADES = 20  # steps of uncertainty from 0 to 1, to one of which the scale of colours goes,
COLOURED = 0.99  # so that this share of the sides lies on it
# The colours of cells in thumbnails, as in outlines.js.
PLAIN = (86, 180, 233)
COLOURS = {
    overlay.MATCHED: PLAIN,
    overlay.FALSE_POSITIVE: (213, 94, 0),
    overlay.MISSED: (240, 228, 66),
    overlay.UNSCORED: (180, 180, 180),
}


@dataclass
class Entry:
    """One image of the report. What is not known of it is None.

    name: for the screen. index: of its folder of files. size: (width, height) in pixels, where
    there is something to look at. score: of scores.json, at the report's tau. times: of
    times.json, by the title of the run. predicted: cells. mean_score, mean_uncertainty: of these.
    """

    stem: str
    index: int
    name: str
    group: Optional[str] = None
    size: Optional[Tuple[int, int]] = None
    problems: List[str] = field(default_factory=list)
    remarks: List[str] = field(default_factory=list)
    score: Optional[dict] = None
    times: Dict[str, dict] = field(default_factory=dict)
    predicted: Optional[int] = None
    mean_score: Optional[float] = None
    mean_uncertainty: Optional[float] = None


@dataclass
class Report:
    """All that the page shows.

    labels_name: what was segmented, for the heading. tau: of the outlines and of each entry's
    score. scores, times: the content of scores.json and times.json. distributions: of the predicted
    cells, see `charts.distributions`. shades (SHADES + 1,): how many sides of cells are how
    uncertain, in SHADES steps. origin: (what, text) of how the report was made.
    """

    labels_name: str
    entries: List[Entry] = field(default_factory=list)
    tau: float = TAU
    scores: Optional[dict] = None
    times: Optional[dict] = None
    distributions: Dict[str, Distribution] = field(default_factory=distributions)
    shades: np.ndarray = field(default_factory=lambda: np.zeros(SHADES + 1, np.int64))
    origin: List[tuple] = field(default_factory=list)

    def groups(self) -> List[str]:
        """The names of the groups that are scored, sorted."""
        found = self.scores["aggregates"] if self.scores else []
        return sorted({one["group"] for one in found if one["group"] is not None})

    def aggregate(self, group: Optional[str], tau: float) -> dict:
        """The aggregate of scores.json of a group (None: all images) at tau."""
        found = {(one["group"], one["tau"]): one for one in self.scores["aggregates"]}
        return found[group, tau]

    @property
    def most_uncertainty(self) -> float:
        """The uncertainty at the end of the colours' scale, the same for all images."""
        total = self.shades.sum()
        if not total:
            return 1.0
        return max(1, int(np.searchsorted(self.shades.cumsum(), COLOURED * total))) / SHADES

    def f1_of(self, group: Optional[str]) -> List[float]:
        """F1 of each image of a group (None: of all)."""
        scored = [entry for entry in self.entries if entry.score]
        return [entry.score["f1"] for entry in scored if group in (None, entry.group)]

    def f1_by_tau(self) -> Dict[str, List[Tuple[float, float]]]:
        """{name of a group: its (tau, mean F1)}, all images first; empty for less than two tau."""
        taus = sorted(self.scores["taus"]) if self.scores else []
        lines = {}
        for group in (None, *self.groups()) if len(taus) > 1 else ():
            points = [(tau, self.aggregate(group, tau)["mean_f1"]) for tau in taus]
            known = [point for point in points if point[1] is not None]
            lines.update({group or "All images": known} if known else {})
        return lines

    def runs(self) -> Dict[str, dict]:
        """{title: run} of times.json."""
        titles = {True: "Time", False: "Time, AMP off"}
        return {titles[run["amp"]]: run for run in self.times["runs"]} if self.times else {}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m evaluate report`."""
    folder, file = {"metavar": "DIR", "type": Path}, {"metavar": "FILE", "type": Path}
    add = parser.add_argument
    add("--images", help="microscopy images", **folder)
    add("--labels", help="predicted label images", **folder)
    add("--truth", help="true label images", **folder)
    add(
        "--pairs",
        metavar="CSV",
        type=Path,
        help="instead of these: a table of images, columns name, image and labels, the latter two "
        "paths; `-` reads it from the standard input",
    )
    add("--scores", help="scores.json of evaluate score", **file)
    add("--times", help="times.json of evaluate time", **file)
    add(
        "--tau",
        type=iou_threshold,
        nargs="+",
        action=Extend,
        metavar="IOU",
        help="with --truth: IoU from which a cell is found, above 0 and up to 1 (default: 0.5); "
        "outlines and the table of images are at 0.5 if that is one of several, else at the least",
    )
    add(
        "--groups",
        metavar="CSV",
        help="the group (as modality) of each image: columns name and group, or image and modality",
    )
    add("--out", required=True, help="report.html", **file)
    add_images(parser)


def run(options: argparse.Namespace) -> int:
    """Gather, write, and say what came out; the exit status."""
    check(options)
    with files_of(options.out) as folder:
        report = gather(options, folder)
        with replacing(options.out, text=True) as file:
            file.write(page(report, folder))
        size = sum(path.stat().st_size for path in (options.out, *folder.rglob("*"))) / 1e6
    failed = [entry for entry in report.entries if entry.problems]
    for entry in failed:
        said = printable(f"{entry.name}: {'; '.join(entry.problems)}")
        print("evaluate:", said, file=sys.stderr)
    count = len(report.entries)
    print(f"{options.out}: {count} image{'' if count == 1 else 's'}, {size:.1f} MB")
    return 1 if failed else 0


def check(options: argparse.Namespace) -> None:
    """EvaluationError where the options do not go together."""
    folders = options.images, options.labels
    if options.pairs and any((*folders, options.truth, options.scores)):
        raise EvaluationError("--pairs replaces --images, --labels, --truth and --scores")
    if not options.pairs and None in folders:
        raise EvaluationError("either --images and --labels are needed, or --pairs")
    if options.scores and (options.tau or options.groups):
        raise EvaluationError(f"{options.scores} was scored with its own --tau and --groups")
    if options.tau and not options.truth:
        raise EvaluationError("--tau needs --truth to score by")


# What is known of each image


def gather(options: argparse.Namespace, folder: Path) -> Report:
    """The `Report` of the command's options, its files written to a folder. EvaluationError."""
    groups = read_groups(options.groups) if options.groups else None
    report = Report(str(options.labels or options.out.parent))
    report.scores = read_json(options.scores, SCORES)
    report.times = read_json(options.times, TIMES)
    if options.truth and not report.scores:
        report.scores = score(options.truth, options.labels, options.tau or [TAU], groups)
    if report.scores:
        taus = report.scores["taus"]
        report.tau = TAU if TAU in taus else min(taus)
    for index, (stem, found) in enumerate(collect(options, report).items()):
        entry = entry_of(stem, index, found, report)
        if options.pairs:
            entry.name = printable(stem)
        if groups and entry.group is None:
            entry.group = group_of(groups, stem)
        look(entry, found, report, options, folder / str(index))
        report.entries.append(entry)
    if not report.entries:
        places = options.pairs or f"{options.images} and {options.labels}"
        raise EvaluationError(f"{places} hold no images to show")
    report.origin = origin(options, report)
    return report


def read_json(path: Optional[Path], parts: Set[str]) -> Optional[dict]:
    """What a JSON file holds that has these parts; None without a path. EvaluationError."""
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EvaluationError(f"{path} is no JSON file: {error}") from error
    if not isinstance(content, dict) or not parts <= content.keys():
        names = ", ".join(sorted(parts))
        raise EvaluationError(f"{path} is not what this evaluator writes: that has {names}")
    return content


def score(truth: Path, labels: Path, taus: Sequence[float], groups: Optional[Groups]) -> dict:
    """What scores.json would hold of two folders by the strict rules. EvaluationError."""
    taus = sorted(set(taus))
    found = score_pairs(pairs(truth, labels), taus, groups=groups)
    arguments = {"truth": str(truth), "labels": str(labels)}
    return scores_json(found, aggregates(found, taus), taus, "strict", arguments)


def collect(options: argparse.Namespace, report: Report) -> Dict[str, dict]:
    """{stem: {images, labels, truth, scores, times: what there is of it}}, sorted by stem."""
    scores = report.scores
    asked = scores["arguments"] if scores else {}
    found = {"times": times_by_stem(report.runs())}
    if options.pairs:
        found["images"], found["labels"] = read_pairs(options.pairs)
    else:
        found["images"] = list_images(options.images)
        found["labels"] = list_labels(options.labels, asked.get("label_suffix"))
    if options.truth:
        found["truth"] = list_truth(options.truth, asked.get("truth_suffix"))
    if scores:
        found["scores"] = {image["stem"]: image for image in scores["images"]}
    merged = {}
    for kind in ("labels", "scores", "images", "truth", "times"):
        values = found.get(kind, {})
        for own, theirs in paired(merged, values):
            if theirs:
                merged.setdefault(own or theirs, {})[kind] = values[theirs]
    return dict(sorted(merged.items()))


def times_by_stem(runs: Dict[str, dict]) -> Dict[str, Dict[str, dict]]:
    """{stem: {title of a run: its image in times.json}}."""
    found = {}
    for title, run in runs.items():
        for image in run["images"]:
            found.setdefault(Path(image["name"]).stem, {})[title] = image
    return found


def entry_of(stem: str, index: int, found: dict, report: Report) -> Entry:
    """The `Entry` of one image of `collect`."""
    scored = found.get("scores") or {}
    paths = found.get("images") or found.get("labels") or found.get("truth")
    name = paths[0].name if paths else scored.get("name", stem)
    entry = Entry(stem, index, printable(name))
    entry.group = scored.get("group")
    entry.remarks = list(scored.get("remarks", []))
    entry.times = found.get("times", {})
    by_tau = {one["tau"]: one for one in scored.get("scores", [])}
    entry.score = by_tau.get(report.tau)
    if scored.get("problem"):
        entry.problems.append(scored["problem"])
    for title, timed in entry.times.items():
        if timed["reason"]:
            entry.problems.append(f"{title}: {timed['reason']}")
    return entry


# What there is to look at


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
    rgb = None
    if image is not None:
        rgb, shown["step"] = attempt(entry, as_seen, image) or (None, 1)
    if rgb is not None:
        for name, tile in pictures.tiles(rgb):
            pictures.write(folder / f"{name}.webp", tile)
    painted = [(array, *colours(shown[name])) for name, array in labels.items()]
    pictures.write(folder / "thumbnail.webp", pictures.thumbnail(shapes[0], rgb, painted))
    shown["hasPicture"] = rgb is not None
    shown["problem"] = "; ".join(entry.problems) or None
    shown["numbers"] = numbers(entry, report)
    write_data(folder / "cells.js", entry.index, shown)


def attempt(entry: Entry, function: Callable, *arguments) -> Any:
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


def as_seen(image: images.Loaded) -> Tuple[np.ndarray, int]:
    """`pictures.as_seen`. LabelError: the image's data are damaged."""
    with failures_as_label_errors():
        return pictures.as_seen(image)


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


def write_data(path: Path, index: int, shown: dict) -> None:
    """Write what the viewer draws of an image, as a script that gives it to the page.

    (From disk, browsers let a page load no data, but scripts.) ValueError: it holds a NaN.
    """
    data = json.dumps(shown, separators=(",", ":"), allow_nan=False)
    path.write_text(f"receive({index},{data});\n", encoding="ascii")


def numbers(entry: Entry, report: Report) -> List[List[str]]:
    """[name, text] of what the viewer says of an image."""
    titles = (("F1", "f1"), ("Precision", "precision"), ("Recall", "recall"))
    titles += (("Mean IoU, matched", "mean_matched_iou"), ("Dice", "dice"))
    found = [[title, number(entry.score[name])] for title, name in titles if entry.score]
    for title, timed in entry.times.items():
        if timed["seconds"]:
            found.append([title, number(timed["median_seconds"], 2) + " s"])
    return found


def origin(options: argparse.Namespace, report: Report) -> List[Tuple[str, str]]:
    """(what, text) of where the report comes from."""
    facts = [("Written", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"))]
    for name in ("images", "labels", "pairs", "truth", "scores", "times", "groups"):
        if getattr(options, name) and str(getattr(options, name)) != "-":
            facts.append((name.capitalize(), str(getattr(options, name))))
    if report.scores:
        facts.append(("Rules", report.scores["rules"]))
        facts.append(("τ", ", ".join(f"{tau:g}" for tau in report.scores["taus"])))
        facts += [(name, text) for name, text in report.scores["versions"].items()]
    return facts
