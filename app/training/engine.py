"""The training loop: batches, steps, averaged weights, checkpoints, validation."""

import copy
import csv
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Optional

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from app.network import weights
from app.network.config import Config
from app.network.device import autocast
from app.training import augment
from app.training.losses import total_loss
from app.training.schedule import learning_rate
from app.training.targets import make_targets


class Sampler:
    """Draws batches of crops from a Pack."""

    def __init__(self, pack, config, recipe, draw):
        """pack: Pack on the training device; draw: CPU generator that decides everything."""
        self.pack, self.config, self.recipe, self.draw = pack, config, recipe, draw
        # What decides the views is small and stays on the CPU with the generator.
        self.index = copy.copy(pack)
        for name in ("starts", "heights", "widths", "sources", "polygons", "first", "counts"):
            setattr(self.index, name, getattr(pack, name).cpu())
        self.typical = typical_sizes(pack)
        self.chances = image_chances(pack, recipe)

    def __call__(self):
        """One batch: images (B, 3, side, side) float32 in 0..1, and its Targets."""
        recipe, draw = self.recipe, self.draw
        kind = int(torch.randint(len(recipe.crops), (), generator=draw))
        side, count = recipe.crops[kind]
        ratio = recipe.turning_size / self.typical
        larger = kind == len(recipe.crops) - 1 and kind > 0
        fitting = (1 / ratio if larger else ratio).clamp(max=1)
        image = torch.multinomial(self.chances * fitting, count, True, generator=draw)
        views = augment.draw_views(self.index, image, self.typical[image], side, draw)
        images, objects, depths = augment.gather_crops(self.pack, views)
        views = views.to(images.device)
        targets = make_targets(self.pack, views, objects, depths, self.config, recipe, draw)
        images = augment.change_intensities(images, draw)
        return images.contiguous(memory_format=torch.channels_last), targets


def typical_sizes(pack):
    """Median object size (I,) of every image in pixels; 32 where there is no object."""
    sizes = pack.sizes.cpu().split(pack.counts.tolist())
    return torch.stack([s.median() if len(s) else torch.tensor(32.0) for s in sizes])


def image_chances(pack, recipe):
    """Relative chance (I,) of every image: its source's size to a power, shared evenly."""
    sources = pack.sources.cpu()
    number = torch.bincount(sources).float()
    return (number**recipe.source_power / number)[sources]


@dataclass
class State:
    """Everything that a run needs to go on."""

    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    draw: torch.Generator
    step: int = 0
    seconds: float = 0.0  # of training, without validation and pauses
    origin: Optional[dict] = None  # training record of the weights that it began with


def new_state(network, recipe, device):
    """A run at its start. network: CPN with its initial weights."""
    network = network.to(device).to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    decayed = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    draw = torch.Generator().manual_seed(recipe.seed)
    return State(network, average, optimiser, draw)


def train_step(state, batch, recipe):
    """One step of the optimiser. Returns the loss terms and the gradient's norm as floats.

    Raises FloatingPointError when the loss is not finite.
    """
    images, targets = batch
    progress = state.seconds / (recipe.minutes * 60)
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(progress, recipe)
    state.network.train()
    if progress > recipe.freeze_norms:
        freeze_norms(state.network)
    with autocast(images.device, training=True):
        maps = state.network(images)
    terms = total_loss(state.network, maps, targets, images.shape[-2:], recipe, state.draw)
    if not torch.isfinite(terms["loss"]):
        raise FloatingPointError(f"step {state.step}: the loss is {terms['loss'].item()}")
    state.optimiser.zero_grad(set_to_none=True)
    terms["loss"].backward()
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip)
    state.optimiser.step()
    state.step += 1
    update_average(state, recipe)
    return {**{name: value.item() for name, value in terms.items()}, "gradient": norm.item()}


def freeze_norms(network):
    """BatchNorm uses its running statistics, as in prediction: the last part of a run trains
    the weights for them, which small batches of mixed modalities otherwise never see."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


@torch.no_grad()
def update_average(state, recipe):
    """Exponential moving average of weights and running statistics, short at the start."""
    decay = min(recipe.ema, (1 + state.step) / (10 + state.step))
    for mean, value in zip(
        state.average.state_dict().values(), state.network.state_dict().values()
    ):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def save_checkpoint(path, state):
    """Write the whole State as safetensors, atomically."""
    tensors = {"draw": state.draw.get_state(), "random": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random_cuda"] = torch.cuda.get_rng_state()
    tensors.update({f"network.{k}": v for k, v in state.network.state_dict().items()})
    tensors.update({f"average.{k}": v for k, v in state.average.state_dict().items()})
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors.update({f"optimiser.{index}.{k}": v for k, v in moments.items()})
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    temporary = path.with_name(f".{path.name}")
    run = {"step": state.step, "seconds": state.seconds, "origin": state.origin}
    run["config"] = asdict(state.network.config)
    save_file(tensors, str(temporary), {"run": json.dumps(run)})
    os.replace(str(temporary), str(path))


def load_checkpoint(path, state):
    """Bring a new State to where a checkpoint left off."""
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state.network.load_state_dict(_under(tensors, "network."))
    state.average.load_state_dict(_under(tensors, "average."))
    moments = {}
    for name, value in _under(tensors, "optimiser.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    state.draw.set_state(tensors["draw"])
    torch.set_rng_state(tensors["random"])
    if "random_cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random_cuda"])
    run = checkpoint_run(path)
    state.step, state.seconds, state.origin = run["step"], run["seconds"], run["origin"]


def checkpoint_run(path):
    """What a checkpoint says of its run: step, seconds, origin and config (a Config).

    Raises ValueError when the file is not a checkpoint of ours.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            run = json.loads(file.metadata()["run"])
        return {**run, "config": Config(**run["config"])}
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no checkpoint to go on from ({error}); remove it or choose another --out."
        ) from error


def _under(tensors, prefix):
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


class Log:
    """A CSV file with one row per call; all rows have the same keys."""

    def __init__(self, path):
        self.path = path

    def __call__(self, row):
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


def train(state, sampler, recipe, out, validate, progress, clock=time.monotonic):
    """Run until the recipe's minutes are over, with checkpoints and validation on the way.

    out: folder of checkpoint.safetensors, weights.safetensors (averaged) and log.csv.
    validate(network, minutes) is called every `validation_minutes` and at the end;
    progress(fraction, text) shows how far it is; clock() gives seconds.
    """
    log = Log(out / "log.csv")
    total = recipe.minutes * 60
    saved = validated = state.seconds
    sums, steps, crops, data_seconds, since = {}, 0, 0, 0.0, state.seconds
    while state.seconds < total:
        begin = clock()
        batch = sampler()
        if batch[0].is_cuda:
            torch.cuda.synchronize()  # or the clock would see the launches alone
        drawn = clock()
        terms = train_step(state, batch, recipe)
        state.seconds += clock() - begin
        data_seconds += drawn - begin
        steps += 1
        crops += len(batch[0])
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value
        if state.step % 20 == 0:
            means = {name: round(value / steps, 5) for name, value in sums.items()}
            elapsed = max(state.seconds - since, 1e-9)
            speeds = {
                "crops_per_second": round(crops / elapsed, 2),
                "data_crops_per_second": round(crops / max(data_seconds, 1e-9), 2),
            }
            minutes = round(state.seconds / 60, 3)
            log({"step": state.step, "minutes": minutes, **means, **speeds})
            progress(state.seconds / total, f"loss {means['loss']:.2f} {speeds}")
            sums, steps, crops, data_seconds, since = {}, 0, 0, 0.0, state.seconds
        done = state.seconds >= total
        if done or state.seconds - saved > recipe.checkpoint_minutes * 60:
            save_checkpoint(out / "checkpoint.safetensors", state)
            export(state, recipe, out / "weights.safetensors")
            saved = state.seconds
        if done or state.seconds - validated > recipe.validation_minutes * 60:
            validate(state.average, state.seconds / 60)
            validated = state.seconds


def export(state, recipe, path):
    """The averaged weights with a record of how they came about."""
    record = {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "steps": state.step,
        "minutes": round(state.seconds / 60, 1),
        "origin": state.origin,
    }
    weights.save(path, state.average.state_dict(), state.network.config, record)
