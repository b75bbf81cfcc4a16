"""python -m app.training: train a network; `validate` and `calibrate` judge one; `split` copies a
split of the data into plain folders.

Training: python -m app.training --data DATA --out DIR --minutes N [--preset compact]
  [--init WEIGHTS] [--device auto]. Started again with the same DIR (and without --init) it goes on
  from the last checkpoint; --init begins a new schedule from given weights, in a new DIR.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tqdm import tqdm

from app.images import ImageError
from app.network import weights
from app.network.config import PRESETS
from app.network.cpn import CPN
from app.network.device import pick_device
from app.network.weights import WeightsError
from app.segmenter import Segmenter
from app.training import catalog, engine, split, validation
from app.training.recipe import Recipe
from evaluate.folders import LabelError
from evaluate.score import aggregates, group_table, write_csv

# What can be wrong with what the user gave; the message says it.
EXPECTED = (ValueError, OSError, FloatingPointError, WeightsError, ImageError, LabelError)


def main(arguments):
    """Run the command; returns the exit status."""
    commands = {"validate": validate, "calibrate": calibrate, "split": split.main}
    command = commands.get(arguments[0] if arguments else None, train)
    try:
        return command(arguments if command is train else arguments[1:])
    except EXPECTED as error:
        print(error, file=sys.stderr)
        return 2


def train(arguments):
    """Train a network, or go on with it."""
    parser = argparse.ArgumentParser(
        prog="python -m app.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with catalog.csv")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="compact")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--minutes", type=float, required=True, help="of training, in all")
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    recipe = Recipe(minutes=options.minutes, seed=options.seed)
    torch.manual_seed(recipe.seed)
    state = begin(options, recipe, device)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2))
    pack = load_pack(options.data, options.out / "pack").to(device)
    sampler = engine.Sampler(pack, state.network.config, recipe, state.draw)
    judge = Judge(catalog.entries(options.data, "val"), options.out)
    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {postfix}") as bar:

        def show(fraction, text):
            bar.n = round(100 * min(fraction, 1), 1)
            bar.set_postfix_str(text)

        engine.train(state, sampler, recipe, options.out, judge, show)
    return 0


def begin(options, recipe, device):
    """The engine.State to train: of the checkpoint, of given weights, or of a new network."""
    checkpoint = options.out / "checkpoint.safetensors"
    if not checkpoint.is_file():
        if not options.init:
            return engine.new_state(CPN(PRESETS[options.preset]), recipe, device)
        network, record = weights.load(options.init)
        state = engine.new_state(network, recipe, device)
        state.origin = record
        return state
    if options.init:
        raise ValueError(
            f"{options.out} holds a run already: go on without --init, or choose another --out."
        )
    run = engine.checkpoint_run(checkpoint)
    state = engine.new_state(CPN(run["config"]), recipe, device)
    engine.load_checkpoint(checkpoint, state)
    print(f"Going on from step {state.step}, {state.seconds / 60:.1f} minutes")
    return state


def load_pack(data, folder):
    """The packed `train` split: made once per run folder and data, memory-mapped from then on."""
    done = folder / "complete"
    wanted = str(data.resolve())
    if not done.is_file() or done.read_text() != wanted:
        listing = catalog.entries(data, "train")
        catalog.pack(listing, lambda items: tqdm(items, desc="packing")).save(folder)
        done.write_text(wanted)
    return catalog.Pack.load(folder)


class Judge:
    """Validation during training: F1@0.5 of the averaged network, per source, to a log."""

    def __init__(self, listing, out):
        self.listing, self.out = listing, out
        self.log = engine.Log(out / "validation.csv")

    def __call__(self, network, minutes):
        segmenter = Segmenter(network, next(network.parameters()).device.type)
        images = validation.validate(segmenter, self.listing, self.out / "labels")
        whole, *sources = aggregates(images, [0.5])
        by_source = {source.group: round(source.mean_f1, 4) for source in sources}
        macro = validation.macro(sources)
        averages = {"mean": whole.mean_f1, "median": whole.median_f1, "macro": macro}
        averages = {name: round(value, 4) for name, value in averages.items()}
        self.log({"minutes": round(minutes, 1), **averages, **by_source})
        tqdm.write(f"validation at {minutes:.0f} minutes: {averages}")


def validate(arguments):
    """Predict a split with given weights and print its scores per source."""
    parser = argparse.ArgumentParser(prog="python -m app.training validate")
    parser.add_argument("--data", type=Path, required=True, help="folder with catalog.csv")
    parser.add_argument("--split", default="val")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="labels and scores.csv go here")
    options = parser.parse_args(arguments)
    listing = catalog.entries(options.data, options.split)
    segmenter = Segmenter.load(options.weights)
    images = validation.validate(segmenter, listing, options.out, tqdm)
    write_csv(options.out / "scores.csv", images, rules="official")
    whole, *sources = aggregates(images, [0.5])
    print(group_table([whole, *sources]))
    print(f"macro over sources: mean F1 {validation.macro(sources):.4f}")
    return 0


def calibrate(arguments):
    """Choose windows and score threshold on a split and store them in the weights file."""
    parser = argparse.ArgumentParser(prog="python -m app.training calibrate")
    parser.add_argument("--data", type=Path, required=True, help="folder with catalog.csv")
    parser.add_argument("--split", default="val")
    parser.add_argument("--weights", type=Path, required=True, help="changed in place")
    options = parser.parse_args(arguments)
    network, record = weights.load(options.weights)
    listing = catalog.entries(options.data, options.split)
    found = {}
    for window, stride in validation.WINDOWS:
        network.config = replace(network.config, window=window, window_stride=stride)
        for threshold, scores in validation.try_thresholds(network, listing, tqdm).items():
            found[window, stride, threshold] = scores
            print(
                f"{window}/{stride}  {threshold:.2f}  mean {scores.mean_f1:.4f}  "
                f"median {scores.median_f1:.4f}"
            )
    best = max(found, key=lambda choice: found[choice].mean_f1)
    print("stored: windows {}/{}, threshold {}".format(*best))
    fields = dict(zip(("window", "window_stride", "score_threshold"), best))
    weights.save(options.weights, network.state_dict(), replace(network.config, **fields), record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
