"""python -m training generations: several runs with drawn hyper-parameters, the best of which
the next ones start from, until validation no longer improves (paper, section 3.2.2).

From generation to generation the learning rate falls, the centric fraction of a cell that counts
as foreground grows, and after the second one all images are used instead of a random part. What was
tried stands in OUT/generations.csv, the winner in OUT/best.safetensors. Started again with the same
--out it goes on where it was.
"""

import argparse
import csv
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

from training import distributed
from training.packing import digest, fingerprint
from training.train import (
    Data,
    Start,
    add_data_arguments,
    add_length_arguments,
    add_recipe_arguments,
    check,
    check_recipe,
    check_same,
    recipe_of,
    run,
    start_of,
)

# By generation, the last for all that follow: between which shares of the images, and between which
# relative depths from which a cell is foreground, a run draws its own (reference.md, section 2:
# 0.75, 0.75, 0.5). Schedules with an ignore zone have one of IGNORED below.
SUBSAMPLES = ((0.5, 1.0), (0.5, 1.0), (1.0, 1.0))
DEPTHS = ((0.65, 0.75), (0.6, 0.75), (0.5, 0.6))
IGNORED = 0.2
FALL = 0.5  # of the learning rate from one generation to the next
SPREAD = 1 / 8  # standard deviation of the rate, relative to its mean (paper: N(8e-4, 1e-4))
POLICIES = ("mild", "strong")
# Fields of the Recipe that are drawn outright; the learning rate is drawn around the one given.
RANDOM = ("policy", "subsample", "foreground_depth", "background_depth", "learning_rate_std")
COLUMNS = ("generation", "run", "start", "learning_rate", "policy", "subsample")
COLUMNS += ("foreground_depth", "score", "kept")


def main(arguments):
    """Run the command; returns the exit status."""
    options = parse(arguments)
    device = distributed.start(options.device)
    try:
        start = replace(start_of(options), chosen=False)
        rows = evolve(Data.find(options), options, start, device)
    finally:
        distributed.stop()
    if distributed.is_first():
        best = max(row["score"] for row in rows)
        print(f"{options.out / 'best.safetensors'} scores {best:.4f}; {len(rows)} runs were tried")
    return 0


def parse(arguments):
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training generations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--runs", type=int, default=3, help="in each generation")
    parser.add_argument("--generations", type=int, default=6, help="at most")
    add_length_arguments(parser, required=True)
    add_recipe_arguments(parser)
    options = parser.parse_args(arguments)
    check(options, parser)
    given = sorted(set(RANDOM) & set(dict(options.set)))
    if given:
        parser.error(f"each run draws its own {', '.join(given)}: leave that out of --set")
    if options.runs < 1 or options.generations < 1:
        parser.error("--runs and --generations are at least 1")
    return options


def evolve(data, options, start, device):
    """All generations, in the folder options.out; returns the rows of the table."""
    rows, champion = [], None
    for generation in range(options.generations):
        tried = []
        for number in range(options.runs):
            recipe = random_recipe(options, generation, number)
            folder = options.out / f"generation-{generation}" / f"run-{number}"
            score = result(data, folder, recipe, start, device, options.out)
            tried.append((score, number, folder))
            rows.append(row_of(generation, number, start, recipe, score))
        score, number, folder = max(tried, key=lambda each: (each[0], -each[1]))
        better = champion is None or score > champion
        rows[number - options.runs]["kept"] = "yes" if better else ""
        if distributed.is_first():
            write_table(options.out / "generations.csv", rows)
        if not better:
            break
        champion, start = score, Start(weights=folder / "best.safetensors", chosen=False)
        if distributed.is_first():
            shutil.copyfile(str(start.weights), str(options.out / "best.safetensors"))
        distributed.wait()
    return rows


def random_recipe(options, generation, number):
    """The Recipe of a run, drawn by the seed, its generation and its number (from 0)."""
    generator = random.Random(f"{options.seed} {generation} {number}")
    stage = min(generation, len(DEPTHS) - 1)
    base = recipe_of(options)
    ignores = base.background_depth < base.foreground_depth
    depth = round(generator.uniform(*DEPTHS[stage]), 3)
    rate = base.learning_rate * FALL**generation * (1 + SPREAD * generator.gauss(0, 1))
    return replace(
        base,
        seed=generator.randrange(2**31),
        learning_rate=rate,
        learning_rate_std=0.0,
        policy=generator.choice(POLICIES),
        subsample=round(generator.uniform(*SUBSAMPLES[stage]), 3),
        foreground_depth=depth,
        background_depth=round(depth - IGNORED, 3) if ignores else depth,
    )


def result(data, folder, recipe, start, device, packs):
    """The best score of a run, trained now unless its folder has it from before.

    ValueError: its folder holds a run with other settings, from other weights or on other images,
    or a finished one of another length.
    """
    done = folder / "result.json"
    hold_start(folder / "start.json", start, data)
    if done.is_file():
        check_recipe(folder, recipe, may_change=())
    else:
        score = run(data, folder, recipe, start, device, packs).best
        if distributed.is_first():
            done.write_text(json.dumps({"score": score}))
        distributed.wait()
    return json.loads(done.read_text())["score"]


def hold_start(path, start, data):
    """Write what a run begins with, by content, beside it; ValueError if it began with other."""
    begins = {
        "weights": start.weights and digest(start.weights),
        "preset": start.preset,
        "training images": fingerprint(data.training),
        "validation images": fingerprint(data.validation),
        "unlabelled images": fingerprint(data.unlabelled),
    }
    begun = path.is_file()
    distributed.wait()  # before the first process writes it
    if begun:
        check_same(path, begins)
    elif distributed.is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(begins, indent=2))
    distributed.wait()


def row_of(generation, number, start, recipe, score):
    """A row of the table."""
    begun = f"new {start.preset}" if start.weights is None else str(start.weights)
    drawn = {name: getattr(recipe, name) for name in COLUMNS if hasattr(recipe, name)}
    return {"generation": generation, "run": number, "start": begun, **drawn, "score": score}


def write_table(path, rows):
    """What was tried, as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
