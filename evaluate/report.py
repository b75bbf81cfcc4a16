"""Write one HTML file to look at: numbers at the top, charts, and every image with its cells.

The file needs nothing else and no network: it opens from disk in any browser of today. Images are
listed by name: those of --images, --labels, --truth and of the files given. With --truth but
without --scores they are scored here, by the strict rules at tau = 0.5. Cells are coloured by
uncertainty where NAME_cells.csv lies beside NAME_label.tiff (app.predict --cells).

Exit status: 0, or 1 when an image has a problem: the report is written and says which; 2 when
nothing could be started.
"""

import argparse
import json
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import numpy as np

from app.atomic import replacing
from app.names import TABLE_ENDING

from .folders import (
    EvaluationError,
    LabelError,
    list_images,
    list_labels,
    list_truth,
    only,
    paired,
    pairs,
    printable,
    read_one,
)
from .report_page import overlay
from .report_page.page import number, page
from .score import aggregates, score_pairs, scores_json
from .uncertainty import read_cells

TAU = 0.5  # of the outlines and of the table of images, where it was scored
THUMBNAIL = 96  # pixels of the longer side
# What scores.json and times.json have, as far as it is shown.
SCORES = {"rules", "taus", "arguments", "versions", "images", "aggregates", "unscorable"}
TIMES = {"command", "repeat", "machine", "runs"}


@dataclass
class Entry:
    """One image of the report. What is not known of it is None."""

    stem: str
    index: int  # of the image's data block in the page
    name: str
    group: Optional[str] = None
    height: Optional[int] = None
    width: Optional[int] = None
    problems: List[str] = field(default_factory=list)
    remarks: List[str] = field(default_factory=list)
    score: Optional[dict] = None  # of scores.json, at the report's tau
    times: Dict[str, dict] = field(default_factory=dict)  # of times.json, by the title of the run
    predicted: Optional[int] = None  # cells
    thumbnail: Optional[str] = None  # WebP in base64
    overlay: Optional[dict] = None  # what the viewer draws: see `report_page.overlay`


@dataclass
class Report:
    """All that the page shows.

    labels_name: what was segmented, for the heading. tau: of the outlines and of each entry's
    score. scores, times: the content of scores.json and times.json. time_plot: SVG.
    origin: (what, text) of how the report was made.
    """

    labels_name: str
    entries: List[Entry]
    tau: float = TAU
    scores: Optional[dict] = None
    times: Optional[dict] = None
    time_plot: Optional[str] = None
    origin: List[tuple] = field(default_factory=list)

    def groups(self) -> List[str]:
        """The names of the groups, sorted."""
        found = self.scores["aggregates"] if self.scores else []
        return sorted({one["group"] for one in found if one["group"] is not None})

    def aggregate(self, group: Optional[str], tau: float) -> dict:
        """The aggregate of scores.json of a group (None: all images) at tau."""
        found = {(one["group"], one["tau"]): one for one in self.scores["aggregates"]}
        return found[group, tau]

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
    folder = {"metavar": "DIR", "type": Path}
    parser.add_argument("--images", required=True, help="microscopy images", **folder)
    parser.add_argument("--labels", required=True, help="predicted label images", **folder)
    parser.add_argument("--truth", help="true label images", **folder)
    parser.add_argument("--scores", metavar="FILE", type=Path, help="scores.json of evaluate score")
    parser.add_argument("--times", metavar="FILE", type=Path, help="times.json of evaluate time")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="report.html")


def run(options: argparse.Namespace) -> int:
    """Gather, write, and say what came out; the exit status."""
    if options.out.is_dir():
        raise EvaluationError(f"{options.out} is a folder; --out names the file to write")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = gather(options)
    with replacing(options.out, text=True) as file:
        file.write(page(report))
    failed = [entry for entry in report.entries if entry.problems]
    for entry in failed:
        said = printable(f"{entry.name}: {'; '.join(entry.problems)}")
        print("evaluate:", said, file=sys.stderr)
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {len(report.entries)} images, {size:.1f} MB")
    return 1 if failed else 0


# What is known of each image


def gather(options: argparse.Namespace) -> Report:
    """The `Report` of the command's options. EvaluationError."""
    scores, times = read_json(options.scores, SCORES), read_json(options.times, TIMES)
    if options.truth and not scores:
        scores = score(options.truth, options.labels)
    report = Report(str(options.labels), [], scores=scores, times=times)
    if scores:
        report.tau = TAU if TAU in scores["taus"] else min(scores["taus"])
    if times:
        from .plots import plot_times, svg_text  # matplotlib, which is slow to import

        report.time_plot = svg_text(plot_times(times["runs"]))
    for index, (stem, found) in enumerate(collect(options, report).items()):
        entry = entry_of(stem, index, found, report)
        look(entry, found, report, options.images)
        report.entries.append(entry)
    if not report.entries:
        raise EvaluationError(f"{options.images} and {options.labels} hold no images to show")
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


def score(truth: Path, labels: Path) -> dict:
    """What scores.json would hold of two folders by the strict rules at TAU."""
    images = score_pairs(pairs(truth, labels), [TAU])
    arguments = {"truth": str(truth), "labels": str(labels)}
    return scores_json(images, aggregates(images, [TAU]), [TAU], "strict", arguments)


def collect(options: argparse.Namespace, report: Report) -> Dict[str, dict]:
    """{stem: {images, labels, truth, scores, times: what there is of it}}, sorted by stem."""
    scores = report.scores
    asked = scores["arguments"] if scores else {}
    found = {
        "labels": list_labels(options.labels, asked.get("label_suffix")),
        "scores": {image["stem"]: image for image in scores["images"]} if scores else {},
        "images": list_images(options.images),
        "truth": list_truth(options.truth, asked.get("truth_suffix")) if options.truth else {},
        "times": times_by_stem(report.runs()),
    }
    merged = {}
    for kind, values in found.items():
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
    entry = Entry(stem, index, paths[0].name if paths else scored.get("name", stem))
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


def look(entry: Entry, found: dict, report: Report, folder: Path) -> None:
    """Fill in the size, the picture and the outlines of an entry; what fails is its problem.

    folder: of the images.
    """
    image = attempt(entry, read_image, entry, found.get("images", []), folder)
    given = {"prediction": attempt(entry, read_one, found.get("labels", []), "prediction")}
    if "truth" in found:
        given["truth"] = attempt(entry, read_one, found["truth"], "truth")
    shapes = [
        array.shape[:2]
        for array in (image, given.get("truth"), given["prediction"])
        if array is not None
    ]
    if not shapes:
        return
    entry.height, entry.width = map(int, shapes[0])
    entry.overlay = {"name": entry.name, "height": entry.height, "width": entry.width}
    if image is not None:
        entry.thumbnail = overlay.picture(image, THUMBNAIL)
        entry.overlay["picture"] = overlay.picture(image)
    given = {n: labels for n, labels in given.items() if attempt(entry, fits, labels, shapes[0], n)}
    draw(entry, given, report.tau)
    if "prediction" in given:
        entry.predicted = len(entry.overlay["prediction"]["labels"])
        attempt(entry, add_uncertainties, entry, found["labels"][0])
    entry.overlay["problem"] = "; ".join(entry.problems) or None
    entry.overlay["numbers"] = numbers(entry, report)


def attempt(entry: Entry, function: Callable, *arguments) -> Any:
    """What the function returns, or None and one more problem of the entry."""
    try:
        return function(*arguments)
    except LabelError as error:
        if str(error) not in entry.problems:
            entry.problems.append(str(error))
        return None


def read_image(entry: Entry, paths: List[Path], folder: Path) -> np.ndarray:
    """The only image of the paths as (H, W, 3) uint8; what was left out of it becomes a remark.

    LabelError: there is none to read.
    """
    from app.images import ImageError, read
    from app.intensity import to_rgb8

    path = only(paths, f"image of this name in {folder}")
    try:
        image, warnings = read(path)
        entry.remarks += warnings
        return to_rgb8(image)
    except (ImageError, ValueError, MemoryError) as error:
        raise LabelError(f"the image cannot be read: {error}") from error


def fits(labels: Optional[np.ndarray], shape: Tuple[int, int], what: str) -> bool:
    """Whether there is a label image. LabelError: its shape is not (H, W) as of the others."""
    if labels is not None and labels.shape != shape:
        sizes = " × ".join(map(str, labels.shape)), " × ".join(map(str, shape))
        raise LabelError("the {} is {} pixels, not {}, and is not drawn".format(what, *sizes))
    return labels is not None


def draw(entry: Entry, given: Dict[str, np.ndarray], tau: float) -> None:
    """Add the outlines of the truth and of the prediction, compared where there is a truth."""
    entry.overlay.update({name: overlay.cells(labels) for name, labels in given.items()})
    if "truth" in given:
        prediction = given.get("prediction", np.zeros_like(given["truth"]))
        statuses = overlay.compare(given["truth"], prediction, tau)
        for name, found in zip(("truth", "prediction"), statuses):
            if name in given:
                overlay.add_match_status(entry.overlay[name], found)


def add_uncertainties(entry: Entry, path: Path) -> None:
    """Add the scores and uncertainties that the prediction kept, if it did. LabelError."""
    if path.with_name(entry.stem + TABLE_ENDING).exists():
        kept = read_cells(path, entry.stem)
        overlay.add_uncertainties(entry.overlay["prediction"], kept)


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
    for name in ("images", "labels", "truth", "scores", "times"):
        if getattr(options, name):
            facts.append((name.capitalize(), str(getattr(options, name))))
    if report.scores:
        facts.append(("Rules", report.scores["rules"]))
        facts.append(("τ", ", ".join(f"{tau:g}" for tau in report.scores["taus"])))
        facts += [(name, text) for name, text in report.scores["versions"].items()]
    return facts
