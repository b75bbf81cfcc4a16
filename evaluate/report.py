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
from datetime import datetime
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

from app.arguments import add_images
from app.atomic import replacing
from app.names import shown
from app.options import Extend

from .folders import (
    EvaluationError,
    Groups,
    group_of,
    list_images,
    list_labels,
    list_truth,
    paired,
    pairs,
    read_groups,
    read_pairs,
    stems_of,
)
from .report_page.contents import TAU, Entry, Report
from .report_page.folder import files_of
from .report_page.image import look
from .report_page.page import page
from .score import aggregates, iou_threshold, score_pairs, scores_json

# What scores.json and times.json have, as far as it is shown.
SCORES = {"rules", "taus", "arguments", "versions", "images", "aggregates", "unscorable"}
TIMES = {"command", "repeat", "machine", "runs"}


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
        said = shown(f"{entry.name}: {'; '.join(entry.problems)}")
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
            entry.name = shown(stem)
        if groups and not report.scores:
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
        stems = stems_of([Path(image["name"]) for image in run["images"]])
        for image in run["images"]:
            found.setdefault(stems[Path(image["name"])], {})[title] = image
    return found


def entry_of(stem: str, index: int, found: dict, report: Report) -> Entry:
    """The `Entry` of one image of `collect`."""
    scored = found.get("scores") or {}
    paths = found.get("images") or found.get("labels") or found.get("truth")
    name = paths[0].name if paths else scored.get("name", stem)
    entry = Entry(stem, index, shown(name))
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
