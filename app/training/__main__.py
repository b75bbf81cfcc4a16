"""python -m app.training: train a network; `validate` and `calibrate` judge one.

Training: python -m app.training --data DATA --out DIR --minutes N [--preset compact]
  [--init WEIGHTS] [--device auto]. Started again with the same DIR it goes on from the last
  checkpoint; --init begins a new schedule from given weights.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tqdm import tqdm

from app.network import weights
from app.network.config import PRESETS
from app.network.cpn import CPN
from app.segmenter import Segmenter
from app.training import catalog, engine, validation
from app.training.recipe import Recipe
from evaluate.score import group_table, grouped, summary, write_csv


def main(arguments):
    """Run the command; returns the exit status."""
    commands = {"validate": validate, "calibrate": calibrate}
    command = commands.get(arguments[0] if arguments else None, train)
    try:
        return command(arguments if command is train else arguments[1:])
    except (ValueError, weights.WeightsError, FloatingPointError) as error:
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
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = Recipe(minutes=options.minutes, seed=options.seed)
    torch.manual_seed(recipe.seed)
    network = weights.load(options.init)[0] if options.init else CPN(PRESETS[options.preset])
    state = engine.new_state(network, recipe, device)
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "checkpoint.safetensors"
    if checkpoint.is_file():
        engine.load_checkpoint(checkpoint, state)
        print(f"Going on from step {state.step}, {state.seconds / 60:.1f} minutes")
    (options.out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2))
    pack = load_pack(options.data, options.out / "pack").to(device)
    sampler = engine.Sampler(pack, network.config, recipe, state.draw)
    judge = Judge(catalog.entries(options.data, "val"), options.out)
    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {postfix}") as bar:

        def show(fraction, text):
            bar.n = round(100 * min(fraction, 1), 1)
            bar.set_postfix_str(text)

        engine.train(state, sampler, recipe, options.out, judge, show)
    return 0


def load_pack(data, folder):
    """The packed `train` split: made once per run folder, memory-mapped from then on."""
    done = folder / "complete"
    if not done.is_file():
        listing = catalog.entries(data, "train")
        catalog.pack(listing, lambda items: tqdm(items, desc="packing")).save(folder)
        done.touch()
    return catalog.Pack.load(folder)


class Judge:
    """Validation during training: F1@0.5 of the averaged network, per source, to a log."""

    def __init__(self, listing, out):
        self.listing, self.out = listing, out
        self.log = engine.Log(out / "validation.csv")

    def __call__(self, network, minutes):
        segmenter = Segmenter(network, device=next(network.parameters()).device)
        rows, groups = validation.validate(segmenter, self.listing, self.out / "labels")
        summaries, macro = grouped(rows, groups)
        whole = summary(rows)
        by_source = {source: round(found.mean, 4) for source, found in summaries.items()}
        averages = {"mean": whole.mean, "median": whole.median, "macro": macro}
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
    rows, groups = validation.validate(segmenter, listing, options.out, tqdm)
    write_csv(options.out / "scores.csv", rows)
    print(group_table(rows, groups))
    return 0


def calibrate(arguments):
    """Choose the score threshold on a split and store it in the weights file."""
    parser = argparse.ArgumentParser(prog="python -m app.training calibrate")
    parser.add_argument("--data", type=Path, required=True, help="folder with catalog.csv")
    parser.add_argument("--split", default="val")
    parser.add_argument("--weights", type=Path, required=True, help="changed in place")
    options = parser.parse_args(arguments)
    network, record = weights.load(options.weights)
    listing = catalog.entries(options.data, options.split)
    best, summaries = validation.choose_threshold(network, listing, tqdm)
    for threshold, found in summaries.items():
        mark = "  <- stored" if threshold == best else ""
        print(f"{threshold:.2f}  mean {found.mean:.4f}  median {found.median:.4f}{mark}")
    config = replace(network.config, score_threshold=best)
    weights.save(options.weights, network.state_dict(), config, record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
