"""python -m training generations: several runs with drawn hyper-parameters, the best of which
the next ones start from, until validation no longer improves (paper, section 3.2.2).

From generation to generation the learning rate falls, the centric fraction of a cell that counts
as foreground grows, and after the second one all images are used instead of a random part. What was
tried stands in OUT/generations.csv, the winner in OUT/best.safetensors. Started again with the same
--out it goes on where it was.
"""

import csv
import json
import random
import shutil
from dataclasses import replace

from app.atomic import replacing
from app.digests import sha256_of
from evaluate.score import write_json
from training import distributed, train
from training.packing import fingerprint
from training.train import Start, check_same, recipe_of, run

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
# Unless told otherwise: over many runs the encoder has to learn as well, and each goes on from all
# that the one before has gained.
WHOLE = {"freeze_encoder": False, "kept_gain": 1.0}
# Of the Recipe, for the table.
SHOWN = ("learning_rate", "policy", "subsample", "foreground_depth")


def main(arguments):
    """Run the command; returns the exit status."""
    options = parse(arguments)
    with distributed.group(options.device) as device:
        start = replace(train.start_of(options), chosen=False)
        rows = evolve(train.Data.find(options), options, start, device)
        if distributed.is_first():
            best = max(row["score"] for row in rows)
            print(f"{options.out / 'best.safetensors'} scores {best:.4f}; {len(rows)} runs tried")
    return 0


def parse(arguments):
    """The options of the command."""
    parser = train.parser_of("python -m training generations", __doc__)
    train.add_arguments(parser)
    parser.add_argument("--runs", type=int, default=3, help="in each generation")
    parser.add_argument("--generations", type=int, default=6, help="at most")
    options = parser.parse_args(arguments)
    train.check(options, parser)
    given = sorted(set(RANDOM) & set(dict(options.set)))
    if given:
        parser.error(f"each run draws its own {', '.join(given)}: leave that out of --set")
    if options.runs < 1 or options.generations < 1:
        parser.error("--runs and --generations are at least 1")
    return options


def evolve(data, options, start, device):
    """All generations, in the folder options.out; returns the rows of the table."""
    rows, best = [], None
    for generation in range(options.generations):
        tried = []
        for number in range(options.runs):
            recipe = random_recipe(options, generation, number)
            folder = options.out / f"generation-{generation}" / f"run-{number}"
            score = result(data, folder, recipe, start, device, options.out)
            begun = f"new {start.preset}" if start.weights is None else str(start.weights)
            row = {"generation": generation, "run": number, "start": begun}
            row.update({name: getattr(recipe, name) for name in SHOWN}, score=score, kept="")
            tried.append((row, folder))
        row, folder = max(tried, key=lambda each: each[0]["score"])  # the first of equals
        better = best is None or row["score"] > best
        row["kept"] = "yes" if better else ""
        rows += [row for row, _ in tried]
        if distributed.is_first():
            write_table(options.out / "generations.csv", rows)
        if not better:
            break
        best, start = row["score"], Start(weights=folder / "best.safetensors", chosen=False)
        if distributed.is_first():
            shutil.copyfile(str(start.weights), str(options.out / "best.safetensors"))
        distributed.wait()
    return rows


def random_recipe(options, generation, number):
    """The Recipe of a run, drawn by the seed, its generation and its number (from 0)."""
    generator = random.Random(f"{options.seed} {generation} {number}")
    stage = min(generation, len(DEPTHS) - 1)
    given = dict(options.set)
    base = replace(recipe_of(options), **{k: given.get(k, v) for k, v in WHOLE.items()})
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
    keep_start(folder / "start.json", start, data)
    if done.is_file():
        train.check_recipe(folder, recipe, may_change=())
    else:
        score = run(data, folder, recipe, start, device, packs).best
        if distributed.is_first():
            write_json(done, {"score": score})
        distributed.wait()
    return json.loads(done.read_text())["score"]


def keep_start(path, start, data):
    """Write what a run begins with, by content, beside it; ValueError if it began with other."""
    begins = {"weights": start.weights and sha256_of(start.weights), "preset": start.preset}
    for part in ("training", "validation", "unlabelled"):
        begins[f"{part} images"] = fingerprint(getattr(data, part))
    begun = path.is_file()
    distributed.wait()  # before the first process writes it
    if begun:
        check_same(path, begins)
    elif distributed.is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, begins)
    distributed.wait()


def write_table(path, rows):
    """What was tried, as CSV."""
    with replacing(path, text=True) as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
