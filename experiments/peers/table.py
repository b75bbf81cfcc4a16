"""Folders of `python -m evaluate score --groups … --out FOLDER` side by side, as Markdown.

The first folder's is the method that the others are compared with.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np


def main(arguments):
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.peers.table", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        print(table({folder.name: read_f1(folder / "scores.json") for folder in options.folders}))
    except (OSError, ValueError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    return 0


def read_f1(path):
    """{source: [F1 of its images]} of a scores.json with groups. ValueError: it is none."""
    try:
        found = json.loads(path.read_text())["images"]
        by_source = {}
        for image in found:
            by_source.setdefault(image["group"], []).append(image["scores"][0]["f1"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no scores.json of `python -m evaluate score`") from error
    return by_source


def table(methods):
    """Markdown of {method: {source: [F1]}}: the mean F1 of every source, and of all images.

    ValueError: the methods were not scored on the same images.
    """
    names = list(methods)
    counts = [{source: len(f1) for source, f1 in found.items()} for found in methods.values()]
    if any(count != counts[0] for count in counts):
        raise ValueError(f"{', '.join(names)} were not scored on the same images")
    lines = [["", "images", *names], ["---"] * (len(names) + 2)]
    for source, count in sorted(counts[0].items()):
        means = [np.mean(found[source]) for found in methods.values()]
        lines.append([source, str(count), *bold_best(means)])
    total = str(sum(counts[0].values()))
    every = [np.concatenate(list(found.values())) for found in methods.values()]
    lines.append(["mean", total, *bold_best([f1.mean() for f1 in every])])
    lines.append(["median", total, *bold_best([np.median(f1) for f1 in every])])
    macro = [np.mean([np.mean(f1) for f1 in found.values()]) for found in methods.values()]
    lines.append(["mean over sources", total, *bold_best(macro)])
    first = methods[names[0]]
    ahead = [
        sum(np.mean(first[source]) > np.mean(found[source]) for source in first)
        for found in methods.values()
    ]
    beaten = [f"{number} of {len(first)}" for number in ahead[1:]]
    lines.append([f"sources where {names[0]} is ahead", "", "", *beaten])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bold_best(values):
    """Each value with three digits, the largest in bold."""
    texts = [f"{value:.3f}" for value in values]
    return [f"**{text}**" if text == max(texts) else text for text in texts]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
