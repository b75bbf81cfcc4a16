"""The training loop: batches, steps, averaged weights, checkpoints, validation, early stopping."""

import copy
import csv
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Optional

import torch
from torch import nn
from torch.profiler import record_function
from tqdm import tqdm

from app.atomic import replacing
from app.network.device import autocast
from training import distributed, stopping
from training.checkpoints import export, save_checkpoint
from training.losses import total_loss
from training.schedule import make_optimiser, peak_rate, rate_factor
from training.stopping import Stopped

LOGGED_STEPS = 20  # of which a row of log.csv gives the means


@dataclass
class State:
    """Everything that a run needs to go on."""

    network: nn.Module
    parallel: Callable  # the network, or what averages its gradients over several processes
    average: nn.Module
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    seconds: float = 0.0  # of training before the last step, without validation and pauses
    origin: Optional[dict] = None  # training record of the weights that it began with
    best: Optional[float] = None  # validation score so far
    data: Optional[dict] = None  # what it is trained on, for the record of the weights
    best_step: int = 0  # at which that was
    stale: int = 0  # validations since then

    @property
    def device(self):
        """The torch.device of the network."""
        return next(self.network.parameters()).device


def new_state(network, recipe, device):
    """A run at its start. network: CPN with its initial weights."""
    network = network.to(device).to(memory_format=torch.channels_last)
    network.encoder.requires_grad_(not recipe.freeze_encoder)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    parallel = distributed.parallel(network)
    generator = torch.Generator().manual_seed(recipe.seed)
    return State(network, parallel, average, make_optimiser(network, recipe), generator)


def train_step(state, batch, recipe, seconds=0.0):
    """One step of the optimiser. Returns the loss terms and the gradient's norm as floats.

    seconds: that the step before took, which are told to the other processes in this one.
    Raises FloatingPointError when the loss is not finite. Its parts have names for torch.profiler.
    """
    images, targets = batch
    progress = recipe.progress(state.step, state.seconds)
    rate = peak_rate(recipe, distributed.processes()) * rate_factor(progress, state.step, recipe)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.network.train()
    if recipe.freeze_encoder:
        state.network.encoder.eval()
    if progress >= recipe.freeze_norms:
        freeze_norms(state.network)
    with record_function("forward"), autocast(images.device, training=True):
        maps = state.parallel(images)
    size, generator = images.shape[-2:], state.generator
    with record_function("losses"):
        terms = total_loss(state.network, maps, targets, size, recipe, generator, seconds)
        means = dict(zip(terms, torch.stack(list(terms.values())).tolist()))
    if not math.isfinite(means["loss"]):
        raise FloatingPointError(f"step {state.step}: the loss is {means['loss']}")
    state.optimiser.zero_grad(set_to_none=True)
    with record_function("backward"):
        terms["loss"].backward()
    limit = float("inf") if recipe.clip is None else recipe.clip
    with record_function("clipping"):
        means["gradient"] = nn.utils.clip_grad_norm_(state.network.parameters(), limit).item()
    with record_function("optimiser"):
        state.optimiser.step()
    state.step += 1
    state.seconds += means.pop("seconds")
    with record_function("average"):
        update_average(state, recipe)
    return means


def freeze_norms(network):
    """BatchNorm uses its running statistics, as in prediction: the last part of a run trains
    the weights for them, which small batches of mixed modalities otherwise never see."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            module.eval()


@torch.no_grad()
def update_average(state, recipe):
    """Exponential moving average of weights and running statistics, short at the start."""
    decay = min(recipe.ema, (1 + state.step) / (10 + state.step))
    values = state.network.state_dict()
    for name, mean in state.average.state_dict().items():
        if mean.is_floating_point():
            mean.lerp_(values[name], 1 - decay)
        else:
            mean.copy_(values[name])


class Log:
    """A CSV file with one row per call; all rows have the same keys, "step" the first."""

    def __init__(self, path, step):
        """step: after which a run goes on; what the file says of later ones is dropped. At 0 a run
        begins, and so does the file."""
        self.path = path
        if not (distributed.is_first() and path.exists()):
            return
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        if step == 0 or not rows:  # an empty file is what a full disk leaves
            path.unlink()
            return
        header, *rows = rows
        kept = [row for row in rows if len(row) == len(header) and int(row[0]) <= step]
        with replacing(path, text=True) as file:
            csv.writer(file).writerows([header, *kept])

    def __call__(self, row):
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


def row_of(sums):
    """A row of the log: means of the loss terms and speeds over the steps that a Counter sums up.

    It counts steps, crops of all processes, seconds, and those of the sampler (data_seconds).
    """
    steps, crops = sums.pop("steps"), sums.pop("crops")
    seconds, data_seconds = sums.pop("seconds"), sums.pop("data_seconds")
    row = {name: round(value / steps, 5) for name, value in sums.items()}
    row["crops_per_second"] = round(crops / max(seconds, 1e-9), 2)
    row["data_crops_per_second"] = round(crops / max(data_seconds, 1e-9), 2)
    return row


class Run:
    """A run in its folder: log.csv, checkpoint.safetensors, weights.safetensors (the averaged
    weights of the last checkpoint) and best.safetensors (those of the best validation)."""

    def __init__(self, state, recipe, out, validate, progress=lambda fraction, text: None):
        """out: Path of the folder. validate(state) -> score of the averaged network, the higher the
        better; it is called every `validation_minutes` and at the end, by the first process alone.
        progress(fraction, text) shows how far it is."""
        self.state, self.recipe, self.out = state, recipe, out
        self.validate, self.progress = validate, progress
        self.log = Log(out / "log.csv", state.step)
        self.saved = self.validated = state.seconds

    def finished(self):
        """Whether its time or its steps are over, or validation has not improved for long."""
        state = self.state
        return self.recipe.is_over(state.step, state.seconds, state.stale)

    def go(self, sampler, clock=time.monotonic):
        """Train until it is finished. sampler(): a batch; clock(): seconds.

        Raises Stopped, with a checkpoint written, after the step in which the process was asked to
        stop.
        """
        with stopping.signals_noted() as asked:
            self._go(sampler, clock, asked)
            if asked:
                self._save()
                raise Stopped(asked[0], self.state.step, self.out)

    def _go(self, sampler, clock, asked):
        """Train until it is finished, or a signal is in the list `asked` of the first process."""
        state, sums, taken = self.state, Counter(), 0.0
        if state.step == 0 and state.origin is not None:
            # What is there already is the score to beat. A run that was stopped here begins anew.
            state.best, state.stale = None, 0
            self._validate()
        while not (self.finished() or self._is_asked(asked)):
            started = clock()
            batch = sampler()
            if batch[0].is_cuda:
                torch.cuda.synchronize()  # or the clock would see the launches alone
            drawn = clock()
            sums.update(train_step(state, batch, self.recipe, taken))
            taken = clock() - started
            crops = len(batch[0]) * distributed.processes()
            sums.update(steps=1, crops=crops, seconds=taken, data_seconds=drawn - started)
            if state.step % LOGGED_STEPS == 0:
                self._log(row_of(sums))
                sums = Counter()
            self._keep()
        if sums:
            self._log(row_of(sums))

    def _is_asked(self, asked):
        """Whether a signal is in the list `asked` of the first process.

        Several processes tell one another at times only: an exchange a step is enough.
        """
        if distributed.processes() > 1 and self.state.step % LOGGED_STEPS:
            return False
        return distributed.from_first(len(asked), self.state.device) > 0

    def _log(self, row):
        minutes = round(self.state.seconds / 60, 3)
        if distributed.is_first():
            self.log({"step": self.state.step, "minutes": minutes, **row})
            state, fraction = self.state, self.recipe.progress(self.state.step, self.state.seconds)
            text = f"step {state.step}, loss {row['loss']:.2f}, {row['crops_per_second']} crops/s"
            if fraction > 0:
                left = state.seconds * max(1 / fraction - 1, 0)
                text += f", {tqdm.format_interval(left)} left"
            self.progress(fraction, text)

    def _keep(self):
        """Validation and checkpoint, when they are due."""
        seconds, recipe = self.state.seconds, self.recipe
        due = self.finished() or seconds - self.validated > recipe.validation_minutes * 60
        if due:
            self._validate()
        if due or seconds - self.saved > recipe.checkpoint_minutes * 60:
            self._save()

    def _validate(self):
        state = self.state
        self.validated = state.seconds
        score = self.validate(state) if distributed.is_first() else 0.0
        score = distributed.from_first(score, state.device)
        better = state.best is None or score > state.best
        state.stale = 0 if better else state.stale + 1
        if better:
            state.best, state.best_step = score, state.step
            if distributed.is_first():
                export(state, self.recipe, self.out / "best.safetensors")

    def _save(self):
        self.saved = self.state.seconds
        if distributed.is_first():
            save_checkpoint(self.out / "checkpoint.safetensors", self.state)
            export(self.state, self.recipe, self.out / "weights.safetensors")
        distributed.wait()
