"""Checkpoints: the whole state of a run as one safetensors file, and the weights it exports."""

import json
from dataclasses import asdict

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from app.atomic import replaced
from app.network import weights
from app.network.config import from_json
from training import distributed

# What a State has beside tensors.
NUMBERS = ("step", "seconds", "origin", "best", "best_step", "stale")


def save_checkpoint(path, state):
    """Write the whole State as safetensors, atomically."""
    tensors = {"generator": state.generator.get_state(), "random": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random_cuda"] = torch.cuda.get_rng_state()
    tensors.update({f"network.{k}": v for k, v in state.network.state_dict().items()})
    tensors.update({f"average.{k}": v for k, v in state.average.state_dict().items()})
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors.update({f"optimiser.{index}.{k}": v for k, v in moments.items()})
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    run = {name: getattr(state, name) for name in NUMBERS}
    run["config"] = asdict(state.network.config)
    with replaced(path) as temporary:
        save_file(tensors, str(temporary), {"run": json.dumps(run)})


def load_checkpoint(path, state):
    """Bring a new State to where a checkpoint left off."""
    tensors = load_file(str(path))
    state.network.load_state_dict(_under(tensors, "network."))
    state.average.load_state_dict(_under(tensors, "average."))
    moments = {}
    for name, value in _under(tensors, "optimiser.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    state.generator.set_state(tensors["generator"])
    if distributed.is_first():  # the file holds its own; the others need another
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random_cuda"])
    run = checkpoint_run(path)
    for name in NUMBERS:
        setattr(state, name, run[name])


def checkpoint_run(path):
    """What a checkpoint says of its run: NUMBERS and config (a Config).

    Raises ValueError when the file is not a checkpoint of ours.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            run = json.loads(file.metadata()["run"])
        return {**{name: run[name] for name in NUMBERS}, "config": from_json(run["config"])}
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no checkpoint to go on from ({error}); remove it or choose another --out."
        ) from error


def _under(tensors, prefix):
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def export(state, recipe, path):
    """The averaged weights with a record of how they came about."""
    record = {
        "recipe": asdict(recipe),
        "data": state.data,
        "steps": state.step,
        "minutes": round(state.seconds / 60, 1),
        "origin": state.origin,
    }
    weights.save(path, state.average.state_dict(), state.network.config, record)
