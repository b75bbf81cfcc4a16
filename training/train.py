"""python -m training: train a network on labelled images, or go on with it.

DATA is a folder with a catalog.csv, or your own images with their label images side by side
(training/README.md). Training starts from the weights that we ship unless told otherwise.
Started again with the same --out it goes on from the last checkpoint. In the end OUT holds the
weights of the best validation: sh predict.sh INPUTS OUTPUTS --weights OUT/best.safetensors
"""

import argparse
import json
import math
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from shlex import quote

import torch
from tqdm import tqdm

from app.arguments import WEIGHTS, weights_file
from app.images import ImageError
from app.network import weights
from app.network.config import PRESETS
from app.network.cpn import CPN
from app.network.device import set_up_cpu
from app.network.weights import WeightsError
from app.options import Extend, Help
from app.segmenter import Segmenter
from app.windows import spread_over
from evaluate.folders import LabelError
from evaluate.score import aggregates, write_json
from training import (
    catalog,
    checkpoints,
    diagnosis,
    distributed,
    engine,
    mixing,
    outcome,
    own_data,
    synthetic,
    validation,
)
from training.packing import load_pack
from training.recipe import SCHEDULES, Recipe, make_recipe, with_teacher, without_losses
from training.sampler import Sampler
from training.stopping import ending
from training.teacher import Teacher

# What can be wrong with what the user gave; the message says it.
EXPECTED = (ValueError, OSError, FloatingPointError, WeightsError, ImageError, LabelError)
TOLD_SECONDS = 30  # between lines on how far training is, where no terminal shows a bar
TRIED_ON = 12  # images, at most, on which means with the start are tried
UNLABELLED_SHARE = 0.5  # unlabelled crops for each labelled one, with --listen2student


def main(arguments, commands=None):
    """Run the command; returns the exit status. commands: as of `parse`."""
    options = parse(arguments, commands)
    set_up_cpu()
    with distributed.group(options.device) as device:
        start = start_of(options)
        check_unfinished(options.out, recipe_of(options))
        data = Data.find(options)
        options.schedule = schedule_of(options, data, start, device)
        recipe = recipe_of(options)
        state = run(data, options.out, recipe, start, device)
        if distributed.is_first():
            with ending(state.step, options.out):
                print(summary(state, options.out / "best.safetensors"))
                tell_outcome(data, options.out, state, None if recipe.steps else state.step)
    return 0


def tell_outcome(data, out, state, steps):
    """Write the page of a run and say what to do next. steps: as of outcome.Outcome."""
    brought = outcome.gather(out, data.validation, data.training, state.best_step, steps)
    page = outcome.write(brought, out)
    print(*brought.advice, sep="\n")
    if brought.found:
        print(f"sh predict.sh INPUTS OUTPUTS --weights {quote(str(out / 'best.safetensors'))}")
    print(f"Before and after, with pictures: {page}")


def summary(state, path):
    """What a run has brought, as a sentence."""
    done = f"{state.step} steps in {state.seconds / 60:.1f} minutes"
    if state.best_step > 0:
        return f"{done}. The result ({state.best:.4f}) is of step {state.best_step}: {path}"
    return (
        f"{done}. No validation was better than that of the weights it began with "
        f"({state.best:.4f}), which {path} holds"
    )


def parse(arguments, commands=None):
    """The options of the command. commands: what its help says of the others."""
    parser = parser_of("python -m training", __doc__)
    parser.epilog = commands
    add_arguments(parser, several=False)
    options = parser.parse_args(arguments)
    check(options, parser)
    options.out = options.out or Path("runs") / options.data.resolve().name
    return options


def parser_of(command, description):
    """The parser of a command's options."""
    return argparse.ArgumentParser(
        command, description=description, formatter_class=Help, allow_abbrev=False
    )


def add_arguments(parser, several=True):
    """The options of commands that train one network, or several."""
    add = parser.add_argument
    many = {"nargs": "+", "action": Extend, "default": []}
    data = "folder with catalog.csv, or of images and label images"
    add("--data", type=Path, required=True, help=data)
    licences = "commercial: only sources whose licence allows commercial use"
    add("--licence", choices=("any", "commercial"), default="any", help=licences)
    add("--without", metavar="SOURCE", help="leave these sources out", **many)
    out = "folder of all runs" if several else "folder of the run (default: runs/NAME OF DATA)"
    add("--out", type=Path, required=several, help=out)
    length = parser.add_mutually_exclusive_group(required=several)
    minutes = "of training of a run; validation takes its time beside (default: the schedule's)"
    length.add_argument("--minutes", type=float, help=minutes)
    length.add_argument("--steps", type=int, help="instead of minutes")
    init = (
        "weights to start from: a file, or of those that we ship research (default) or commercial"
    )
    add("--init", type=weights_file, help=init)
    add("--from-scratch", action="store_true", help="start from no weights")
    add("--preset", choices=sorted(PRESETS), default="compact", help="with --from-scratch")
    schedules = (
        "tune: from weights on few images (default with weights); select: the same, where only "
        "some of the cells that the weights find count (default where that is seen); fast: hours "
        "(default from scratch); paper: its own, for days on several GPUs"
    )
    add("--schedule", choices=sorted(SCHEDULES), help=schedules)
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="to train on")
    add("--seed", type=int, default=0, help="of all that is drawn")
    oversample = "draw the images of these sources more often (the paper: 5 times)"
    add("--oversample", metavar="SOURCE=TIMES", type=source_factor, help=oversample, **many)
    no_uncertainty = "without that loss; predict with --no-uncertainty-nms then"
    add("--no-uncertainty", action="store_true", help=no_uncertainty)
    add("--no-giou", action="store_true", help="without that loss")
    unlabelled = "learn from the unlabelled images of a folder as well"
    add("--listen2student", metavar="DIR", type=Path, help=unlabelled)
    fields_help = "other values for fields of training/recipe.py"
    add("--set", metavar="NAME=VALUE", type=recipe_field, help=fields_help, **many)


def check(options, parser):
    """Say what does not go together."""
    if options.init and options.from_scratch:
        parser.error("--init and --from-scratch exclude one another")
    if options.listen2student and options.no_uncertainty:
        parser.error("--listen2student needs the uncertainties that --no-uncertainty leaves out")
    if options.licence == "commercial" and not (options.init or options.from_scratch):
        parser.error(
            "our weights are for research use only, but for one file: --licence commercial needs "
            "--init commercial, or --from-scratch"
        )


def source_factor(text):
    """SOURCE=TIMES -> (source, float)."""
    name, _, value = text.rpartition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form SOURCE=TIMES") from error


def recipe_field(text):
    """NAME=VALUE -> (name, value), VALUE being JSON and NAME a field of Recipe."""
    name, _, value = text.partition("=")
    if name not in {field.name for field in fields(Recipe)}:
        raise argparse.ArgumentTypeError(f"{name} is no field of training/recipe.py")
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"the value of '{text}' is not JSON") from error


def recipe_of(options):
    """The Recipe that the options ask for."""
    schedule = options.schedule or ("fast" if options.from_scratch else "tune")
    given = {"seed": options.seed, "oversample": dict(options.oversample)}
    if options.steps is not None:
        given.update(steps=options.steps, minutes=None)
    elif options.minutes is not None:
        given["minutes"] = options.minutes
    if options.from_scratch:
        given["freeze_encoder"] = False  # it has learned nothing yet
    recipe = make_recipe(schedule, **{**given, **dict(options.set)})
    if options.listen2student:
        recipe = with_teacher(recipe, UNLABELLED_SHARE)
    off = ["uncertainty"] * options.no_uncertainty + ["boundary"] * options.no_giou
    return without_losses(recipe, *off)


def schedule_of(options, data, start, device):
    """The name of the schedule: the options', that of the run that goes on, or the one that suits
    images of the user's own."""
    if options.schedule or options.from_scratch:
        return options.schedule
    if (options.out / "checkpoint.safetensors").is_file():
        return json.loads((options.out / "recipe.json").read_text()).get("schedule")
    if (options.data / catalog.TABLE).is_file():
        return None
    only_some = distributed.is_first() and diagnosis.only_some_count(
        start.weights, data.validation, options.device
    )
    if not distributed.from_first(only_some, device):
        return None
    tell(
        "The weights that it begins with outline nearly all of your cells already, and many others "
        "beside: so it learns which of them count, and no new outlines (--schedule tune does "
        "both). Others that are merely not labelled yet are learned as background: label them"
    )
    return "select"


def start_of(options):
    """The Start that the options ask for."""
    if options.from_scratch:
        return Start(preset=options.preset)
    return Start(weights=options.init or WEIGHTS, chosen=options.init is not None)


@dataclass
class Data:
    """The images of a run, as lists of catalog.Entry."""

    training: list
    validation: list
    unlabelled: list
    licence: str  # "any" or "commercial"

    @classmethod
    def find(cls, options):
        """What the options name. Prints what looks wrong with a folder of the user's own.

        Raises ValueError where there is nothing to train on.
        """
        commercial = options.licence == "commercial"
        training = catalog.entries(options.data, "train", commercial, options.without)
        # What is left out of training is still validated on: that is what it is left out for.
        held_out = catalog.entries(options.data, "val", commercial)
        if not (options.data / catalog.TABLE).is_file():
            training, held_out = usable_parts(training, held_out, options.data)
        own_data.check_names(held_out)
        folder = options.listen2student
        unlabelled = catalog.unlabelled(folder) if folder else []
        if unlabelled and commercial:
            tell(f"{folder}: nothing here knows the licence of these images")
        return cls(training, held_out, unlabelled, options.licence)

    @property
    def sources(self):
        """Names of the training sources, by their number in the pack."""
        return sorted({entry.source for entry in self.training})

    @property
    def record(self):
        """What the record of the weights says of them."""
        unlabelled = sorted({entry.source for entry in self.unlabelled})
        told = {"sources": self.sources, "licence": self.licence}
        return {**told, "unlabelled": unlabelled} if unlabelled else told


def usable_parts(training, held_out, folder):
    """What can be used of images of the user's own, (training, validation), dealt out anew where
    files are left out. ValueError: nothing can be used."""
    everything = list({entry.image: entry for entry in training + held_out}.values())
    kept = own_data.usable(everything, tell)
    if not kept:
        raise ValueError(f"{folder}: none of its labelled images can be used")
    if len(kept) < len(everything) and not (folder / "val").is_dir():
        parts = own_data.share(sorted(kept, key=lambda entry: entry.image))
        training, held_out = parts["train"], parts["val"]
    usable = {entry.image for entry in kept}
    training, held_out = ([e for e in part if e.image in usable] for part in (training, held_out))
    if not training or not held_out:
        raise ValueError(f"{folder}: no usable labelled image in one of train/ and val/")
    if training == held_out:
        fewest = own_data.VALIDATION * own_data.FEW
        tell(
            f"{folder}: with fewer than {fewest} images all are learned from and validated on as "
            "well, so on others expect less"
        )
    elif len(held_out) < own_data.FEW:
        tell(f"{folder}: images for validation: {len(held_out)}, so take its scores with care")
    return training, judges(held_out, folder)


def judges(held_out, folder):
    """Those of a folder's images for validation that can tell one result from another."""
    judging = [entry for entry in held_out if own_data.has_whole_cell(entry)]
    less = len(held_out) - len(judging)
    if not judging:
        raise ValueError(
            f"{folder}: no image for validation has a labelled cell that touches no border of it, "
            "and others do not count: label more cells, or cut larger parts out of the images"
        )
    if less:
        tell(f"{folder}: images without a cell off their border, which judge nothing: {less}")
    return judging


def tell(line):
    """A line for the user, once for all processes."""
    if distributed.is_first():
        tqdm.write(line)


@dataclass
class Start:
    """What a run begins with: a weights file, or a new network of a preset."""

    weights: Path = None
    preset: str = None
    chosen: bool = True  # by the user, who would be surprised if an older run went on


def run(data, out, recipe, start, device, packs=None):
    """Train one network, or go on with it, in the folder `out`; returns its engine.State.

    data: Data. start: Start. packs: folder of the packed images (default: in `out`).
    """
    packs = packs or out
    out.mkdir(parents=True, exist_ok=True)
    labelled = len(data.training)
    data = replace(data, training=data.training + drawn_images(recipe, packs))
    state = begin(out, recipe, start, device)
    begins = state.step == 0
    state.data = data.record
    conversion = state.network.config.inference.conversion
    pack = load_pack(data.training, packs / "pack", begins, conversion).to(device)
    if not pack.counts[:labelled].sum():
        raise ValueError("there is no object in the labels to learn (see what was said of them)")
    if distributed.is_first():
        if not begins:
            print(f"Going on from step {state.step}, {state.seconds / 60:.1f} minutes")
        write_json(out / "recipe.json", asdict(recipe))
        outcome.remove(out)  # only a run that is over has a page
    architecture = state.network.architecture
    sampler = Sampler(pack, architecture, recipe, state.generator, data.sources)
    teacher = None
    if data.unlabelled:
        unlabelled = load_pack(data.unlabelled, packs / "unlabelled", begins, conversion)
        teacher = Teacher(unlabelled.to(device), recipe, state.generator)

    def batch():
        labelled = sampler()
        if teacher and recipe.progress(state.step, state.seconds) >= recipe.teacher_from:
            return teacher.extend(labelled, state.average)
        return labelled

    has_uncertainty = recipe.weights["uncertainty"] > 0
    validator = Validator(data.validation, out, state.step, has_uncertainty)
    with shown_progress() as show:
        engine.Run(state, recipe, out, validator, show).go(batch)
    if distributed.is_first() and recipe.kept_gain < 1 and (out / mixing.START).is_file():
        with ending(state.step, out):
            mix(out, state, recipe, validator)
    return state


@contextmanager
def shown_progress():
    """Gives show(fraction, text) of a run: a bar; where no terminal shows it, a line at times."""
    hidden = None if distributed.is_first() else True  # None: shown on a terminal only
    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {postfix}", disable=hidden) as bar:
        told = -math.inf

        def show(fraction, text):
            nonlocal told
            bar.n = round(100 * min(fraction, 1), 1)
            bar.set_postfix_str(text)
            if bar.disable and time.monotonic() - told > TOLD_SECONDS:
                told = time.monotonic()
                tell(text)

        yield show


def drawn_images(recipe, folder):
    """catalog.Entries of the images that a recipe wants drawn, in a folder of this one, into which
    the first process draws them."""
    folder = folder / f"synthetic_{recipe.synthetic}"
    if recipe.synthetic and distributed.is_first():
        bar = partial(tqdm, desc="drawing", disable=None)
        synthetic.write_images(recipe.synthetic, recipe.seed, folder, bar)
    distributed.wait()
    return synthetic.entries(recipe.synthetic, folder)


def mix(out, state, recipe, validator):
    """Make the result of a run of what it has learned and of what it began with."""
    tell("Trying means of what was learned and what it began with")
    share = mixing.mix(out, partial(validator.try_out, state), recipe.kept_gain)
    if share is None:
        return
    best, before = out / "best.safetensors", float(outcome.validations(out)[0]["mean"])
    f1 = validator.mean_f1(state, weights.load(best)[0])
    if f1 > before:
        state.best, state.best_step = f1, state.step
        tell(
            f"Mixed with {share:.0%} of the weights that it began with, for other cells that they "
            f"know: mean F1 {f1:.4f} (--set kept_gain=1 looks at yours alone)"
        )
    else:  # of all images it does not hold what it promised of some
        shutil.copyfile(str(out / mixing.START), str(best))
        state.best, state.best_step = before, 0
    # Should the run be made longer, this is what it has to beat.
    checkpoints.save_checkpoint(out / "checkpoint.safetensors", state)


def begin(out, recipe, start, device):
    """The engine.State to train: of the checkpoint in `out`, else a new one."""
    checkpoint = out / "checkpoint.safetensors"
    torch.manual_seed(recipe.seed + distributed.rank())
    if not checkpoint.is_file():
        new = start.weights is None
        network, origin = (CPN(PRESETS[start.preset]), None) if new else weights.load(start.weights)
        state = engine.new_state(network, recipe, device)
        state.origin = origin
        if distributed.is_first():
            mixing.remember_start(start.weights if recipe.kept_gain < 1 else None, out)
        return state
    if start.weights is not None and start.chosen:
        raise ValueError(
            f"{out} holds a run already: go on without --init, or choose another --out."
        )
    config = checkpoints.checkpoint_run(checkpoint)["config"]
    check_recipe(out, recipe)
    state = engine.new_state(CPN(config), recipe, device)
    checkpoints.load_checkpoint(checkpoint, state)
    return state


def check_unfinished(out, recipe):
    """ValueError if `out` holds a run that is over, to its page: nothing would be done."""
    checkpoint = out / "checkpoint.safetensors"
    if not (checkpoint.is_file() and (out / outcome.PAGE).is_file()):
        return
    described = checkpoints.checkpoint_run(checkpoint)
    if recipe.is_over(*(described[name] for name in ("step", "seconds", "stale"))):
        raise ValueError(
            f"{out} holds a finished run: choose another --out (with --init "
            f"{out / 'best.safetensors'} to build on it), or give it more --minutes or --steps"
        )


def check_recipe(out, recipe, may_change=("minutes", "steps", "schedule")):
    """ValueError unless a run goes on as it began; only its length may change, and the name of its
    schedule, whose fields are compared themselves."""
    check_same(out / "recipe.json", asdict(recipe), may_change)


def check_same(path, wanted, may_change=()):
    """ValueError unless a run's JSON file holds these values, but for the names that may change."""
    begun, wanted = json.loads(path.read_text()), json.loads(json.dumps(wanted))
    differ = [name for name in wanted if begun.get(name) != wanted[name]]
    changed = ", ".join(name for name in differ if name not in may_change)
    if changed:
        raise ValueError(
            f"{path.parent} holds a run with other settings ({changed}): choose another --out, or "
            "go on with those"
        )


class Validator:
    """Validation during training: F1@0.5 of the averaged network, per source, to validation.csv."""

    def __init__(self, listing, out, step=0, uncertainty_nms=True):
        """listing: of catalog.Entry. out: folder of the run, which goes on after `step`."""
        self.listing, self.out, self.uncertainty_nms = listing, out, uncertainty_nms
        self.log = engine.Log(out / "validation.csv", step)

    def __call__(self, state):
        """The mean F1 of the averaged network of an engine.State."""
        try:
            images = self._scored(self.listing, state.average, state)
        finally:
            state.average.to(state.device)  # where the GPU's memory was too small, it is elsewhere
        whole, *sources = aggregates(images, [0.5])
        averages = {"mean": whole.mean_f1, "median": whole.median_f1}
        averages["macro"] = validation.macro(sources)
        by_source = {source.group: source.mean_f1 for source in sources}
        f1 = {name: round(value, 4) for name, value in {**averages, **by_source}.items()}
        minutes = round(state.seconds / 60, 1)
        self.log({"step": state.step, "minutes": minutes, **f1})
        told = ", ".join(f"{name} {f1[name]:.4f}" for name in averages)
        tqdm.write(f"F1 on {len(images)} images after {minutes:.1f} minutes: {told}")
        return whole.mean_f1

    def mean_f1(self, state, network):
        """That of a network, whose label images take the place of those of the last step."""
        return mean_of(self._scored(self.listing, network, state))

    def try_out(self, state, network):
        """That of a network on some of the images, whose label images are not kept."""
        some = spread_over(self.listing, TRIED_ON)
        with tempfile.TemporaryDirectory(dir=str(self.out)) as folder:
            return mean_of(self._scored(some, network, state, Path(folder)))

    def _scored(self, listing, network, state, folder=None):
        """evaluate.score.ImageScores by a network, whose label images go into a folder, by default
        that of the last step."""
        segmenter = Segmenter(network, state.device.type, self.uncertainty_nms)
        folder = folder or outcome.labels_folder(self.out, state.step)
        return validation.validate(segmenter, listing, folder)


def mean_of(images):
    """The mean F1 of evaluate.score.ImageScores, as validation.csv has it."""
    return round(aggregates(images, [0.5])[0].mean_f1, 4)
