"""python -m experiments step: which parts of a training step take how much of its time.

The run's folder (python -m training --out) holds the packed images and the recipe; steps of each
kind of its crops are done from the shipped weights, and nothing of the run changes.
"""

import json
import time
from dataclasses import replace
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, record_function

from app.arguments import WEIGHTS
from app.network import weights
from app.network.device import pick_device
from evaluate.folders import EvaluationError
from evaluate.tables import text_table
from training import engine
from training.packing import Pack
from training.recipe import Recipe
from training.sampler import Sampler

PARTS = ("sampler", "forward", "losses", "backward", "clipping", "optimiser", "average")


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="folder of a run")
    parser.add_argument("--steps", type=int, default=3, help="of each kind of crops (default: 3)")


def run(options):
    """Print a row for each kind of crops; returns the exit status. EvaluationError."""
    try:
        recipe = Recipe(**json.loads((options.run_folder / "recipe.json").read_text()))
        pack = Pack.load(options.run_folder / "pack")
    except (ValueError, TypeError) as error:
        raise EvaluationError(f"{options.run_folder} is no run of this version: {error}") from error
    device = pick_device("auto")
    network, _ = weights.load(WEIGHTS)
    rows = []
    for crops in recipe.crops:
        of_kind = replace(recipe, crops=(crops,), oversample={})
        state = engine.new_state(network, of_kind, device)
        sampler = Sampler(pack.to(device), network.architecture, of_kind, state.generator)
        rows.append(row_of(state, sampler, of_kind, options.steps))
    head = ("crops", "s a step", *(f"{part} %" for part in PARTS))
    print(text_table(head, rows))
    return 0


def row_of(state, sampler, recipe, steps):
    """Crops, seconds of a step, and the percentage of each of PARTS."""
    engine.train_step(state, sampler(), recipe)  # the first one allocates
    with profile(activities=[ProfilerActivity.CPU]) as found:
        started = time.perf_counter()
        for _ in range(steps):
            with record_function("sampler"):
                batch = sampler()
            engine.train_step(state, batch, recipe)
        seconds = time.perf_counter() - started
    spent = {event.key: event.cpu_time_total / 1e6 for event in found.key_averages()}
    side, count = recipe.crops[0]
    shares = (round(100 * spent[part] / seconds, 1) for part in PARTS)
    return (f"{count} of {side}²", round(seconds / steps, 2), *shares)
