"""Folders of `python -m evaluate score --groups … --out FOLDER` side by side, as Markdown.

The first folder's is the method that the others are compared with.
"""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from tabulate import tabulate

from evaluate.folders import EvaluationError


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")


def run(options):
    """Print the table."""
    print(table({folder.name: read_f1(folder / "scores.json") for folder in options.folders}))
    return 0


def read_f1(path):
    """{source: [F1 of its images]} of a scores.json with groups. EvaluationError: it is none."""
    by_source = defaultdict(list)
    try:
        for image in json.loads(path.read_text())["images"]:
            by_source[image["group"]].append(image["scores"][0]["f1"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EvaluationError(f"{path} is no scores.json of `python -m evaluate score`") from error
    return by_source


def table(methods):
    """Markdown of {method: {source: [F1]}}: the mean F1 of every source, and of all images.

    EvaluationError: the methods were not scored on the same images.
    """
    names, found = list(methods), list(methods.values())
    counts = [{source: len(f1) for source, f1 in part.items()} for part in found]
    if any(count != counts[0] for count in counts):
        raise EvaluationError(f"{', '.join(names)} were not scored on the same images")
    sources, total = sorted(counts[0]), sum(counts[0].values())
    means = np.array([[np.mean(part[source]) for part in found] for source in sources])
    images = np.array([np.concatenate([part[source] for source in sources]) for part in found])
    rows = [
        *([source, counts[0][source], *bold_best(row)] for source, row in zip(sources, means)),
        ["mean", total, *bold_best(images.mean(1))],
        ["median", total, *bold_best(np.median(images, axis=1))],
        ["mean over sources", total, *bold_best(means.mean(0))],
    ]
    ahead = [f"{number} of {len(sources)}" for number in (means[:, :1] > means).sum(0)[1:]]
    rows.append([f"sources where {names[0]} is ahead", "", "", *ahead])
    return tabulate(rows, ["", "images", *names], tablefmt="github", disable_numparse=True)


def bold_best(values):
    """Each value with three digits, the largest in bold."""
    texts = [f"{value:.3f}" for value in values]
    return [f"**{text}**" if text == max(texts) else text for text in texts]
