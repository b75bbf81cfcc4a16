"""python -m experiments own-cells: what a few labelled images of new cells bring.

Of a source that the weights of --init never saw, --count images are drawn by each seed, and the
training command learns from them as a user would start it. Scored by the organisers' rules: all
other images of the source, before and after, beside weights that know the source (--aim); and the
val images of all other sources. Started again with the same arguments it goes on where it was.

With --adapt these images have no labels: the training command learns from drawn images, whose
labels are known, and, by Listen2Student, from them. Scored are the last weights then: validation on
drawn cells cannot choose.
"""

import csv
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from app.arguments import weights_file
from app.atomic import replacing
from app.digests import sha256_of
from app.options import Extend
from evaluate.folders import EvaluationError
from evaluate.score import write_json
from evaluate.tables import text_table
from experiments.left_out import SPLITS, check_unseen
from training import catalog, synthetic, validation
from training.train import check_same
from training.validation import terminal_bar

COLUMNS = ("source", "seed", "minutes", "start", "aim", "after", "share of the way")
COLUMNS += ("macro of the others", "after")
DRAWN = 60  # images with labels, with --adapt


def add_arguments(parser):
    """What the command takes."""
    add, many = parser.add_argument, {"nargs": "+", "action": Extend}
    add("--data", type=Path, required=True, help="folder with a catalog.csv")
    add("--source", required=True, help="whose cells are new")
    add("--init", type=weights_file, required=True, help="weights that have not seen the source")
    add("--aim", type=weights_file, required=True, help="weights that have")
    add("--count", type=int, default=5, help="labelled images (default: %(default)s)")
    seeds = "by which they are drawn (default: 0 1 2)"
    add("--seeds", type=int, default=[0, 1, 2], help=seeds, **many)
    add("--adapt", action="store_true", help="learn from the images without their labels")
    add("--options", metavar="OPTION", default=[], help="more of the training command's", **many)
    add("--out", type=Path, required=True, help="folder of the runs")


def run(options):
    """Train for each seed and print the table; returns the exit status. EvaluationError."""
    try:
        check_unseen(options.init, [options.source])
        keep_arguments(options)
        whole, others = listings(options.data, options.source)
        scores = {
            name: {e.image: f1 for e, f1 in scored(path, whole, options.out / name)}
            for name, path in (("start", options.init), ("aim", options.aim))
        }
        before = macro(options.init, others, options.out / "start_others")
        rows = []
        for seed in options.seeds:
            folder = options.out / f"seed_{seed}"
            few = random.Random(seed).sample(whole, options.count)
            minutes = train(few, folder, seed, options)
            best = folder / "run" / ("weights" if options.adapt else "best")
            best = best.with_suffix(".safetensors")
            rest = [entry for entry in whole if entry not in few]
            after = np.mean([f1 for _, f1 in scored(best, rest, folder / "rest")])
            start, aim = (np.mean([scores[n][e.image] for e in rest]) for n in ("start", "aim"))
            share = (after - start) / (aim - start) if aim > start else np.nan
            elsewhere = macro(best, others, folder / "others")
            rows.append(
                (options.source, seed, minutes, start, aim, after, share, before, elsewhere)
            )
    except ValueError as error:
        raise EvaluationError(error) from error
    means = np.mean([row[2:] for row in rows], axis=0)
    print(text_table(COLUMNS, [*rows, (options.source, "mean", *means)]))
    return 0


def keep_arguments(options):
    """Write what all runs in the folder of the options have in common; ValueError if it is of other
    ones, whose scores would be taken for these."""
    path = options.out / "arguments.json"
    common = {name: getattr(options, name) for name in ("source", "count", "adapt", "options")}
    common.update({name: sha256_of(getattr(options, name)) for name in ("init", "aim")})
    if path.is_file():
        check_same(path, common)
    else:
        options.out.mkdir(parents=True, exist_ok=True)
        write_json(path, common)


def listings(data, source):
    """All Entries of a source, and the val ones of all others. ValueError: there is no such."""
    found = {split: catalog.entries(data, split) for split in SPLITS}
    whole = [entry for split in SPLITS for entry in found[split] if entry.source == source]
    if not whole:
        raise ValueError(f"{data} has no source '{source}'")
    return whole, [entry for entry in found["val"] if entry.source != source]


def train(few, folder, seed, options):
    """Minutes that the training command took on a folder of these Entries; EvaluationError.

    What it took stands in the folder, from which it is read where the run was done before.
    """
    done = folder / "minutes.csv"
    if not done.is_file():
        link(few, folder / "data", labels=not options.adapt)
        command = [sys.executable, "-m", "training", "--seed", seed]
        if not (folder / "run" / "checkpoint.safetensors").is_file():
            command += ["--init", options.init]
        if options.adapt:
            synthetic.write_images(DRAWN, seed, folder / "drawn")
            command += ["--data", folder / "drawn", "--listen2student", folder / "data"]
            command += ["--schedule", "tune", "--set", "synthetic=0", "synthetic_share=0"]
            command += ["kept_gain=1"]
        else:
            command += ["--data", folder / "data"]
        command += ["--out", folder / "run", *options.options]
        begin = time.monotonic()
        status = subprocess.run([str(part) for part in command]).returncode
        if status:
            raise EvaluationError(f"{folder}: training ended with {status}")
        with replacing(done, text=True) as file:
            csv.writer(file).writerow([(time.monotonic() - begin) / 60])
    with done.open(newline="") as file:
        return float(next(csv.reader(file))[0])


def link(few, folder, labels):
    """Make a folder of images and, if wanted, label images, as of a user, of links to those of
    Entries. One that is there is made anew: its making may have been interrupted."""
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir(parents=True)
    for entry in few:
        os.symlink(entry.image.resolve(), folder / f"{entry.flat_name}{entry.image.suffix}")
        if labels:
            label = f"{entry.flat_name}_label{entry.label.suffix}"
            os.symlink(entry.label.resolve(), folder / label)


def scored(weights, listing, out):
    """(Entry, official F1 at IoU 0.5) of each Entry by a weights file. out/scores.csv keeps it."""
    kept = out / "scores.csv"
    if not kept.is_file():
        segmenter, _ = validation.load(weights)
        images = validation.validate(segmenter, listing, out, terminal_bar)
        with replacing(kept, text=True) as file:
            csv.writer(file).writerows([image.scores[0].f1] for image in images)
    with kept.open(newline="") as file:
        return [(entry, float(row[0])) for entry, row in zip(listing, csv.reader(file))]


def macro(weights, listing, out):
    """The mean over sources of the mean F1 of their Entries, as of `validate`."""
    by_source = {}
    for entry, f1 in scored(weights, listing, out):
        by_source.setdefault(entry.source, []).append(f1)
    return np.mean([np.mean(values) for values in by_source.values()])
