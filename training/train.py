"""python -m training: train a network on labelled images, or go on with it.

DATA is a folder with a catalog.csv, or your own images with their label images side by side
(training/README.md). Training starts from the weights that we ship unless told otherwise.
Started again with the same --out it goes on from the last checkpoint. In the end OUT holds the
weights of the best validation: sh predict.sh INPUTS OUTPUTS --weights OUT/best.safetensors
"""

import argparse
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from tqdm import tqdm

from app.images import ImageError
from app.network import weights
from app.network.config import PRESETS
from app.network.cpn import CPN
from app.network.weights import WeightsError
from app.segmenter import Segmenter
from evaluate.folders import LabelError
from evaluate.score import aggregates
from training import catalog, checkpoints, distributed, engine, own_data, validation
from training.packing import load_pack
from training.recipe import SCHEDULES, Recipe, make_recipe, with_teacher, without_losses
from training.sampler import Sampler
from training.teacher import Teacher

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "weights" / "compact.safetensors"
# What can be wrong with what the user gave; the message says it.
EXPECTED = (ValueError, OSError, FloatingPointError, WeightsError, ImageError, LabelError)
FEW = 3  # images for validation whose mean says little
UNLABELLED_SHARE = 0.5  # unlabelled crops for each labelled one, with --listen2student


def main(arguments):
    """Run the command; returns the exit status."""
    options = parse(arguments)
    device = distributed.start(options.device)
    try:
        recipe, start = recipe_of(options), start_of(options)
        check_unfinished(options.out, recipe)
        state = run(Data.find(options), options.out, recipe, start, device)
        if distributed.is_first():
            print(summary(state, options.out / "best.safetensors"))
    finally:
        distributed.stop()
    return 0


def summary(state, path):
    """What a run has brought, as a sentence."""
    done = f"{state.step} steps in {state.seconds / 60:.1f} minutes"
    if state.best_step == 0:
        return (
            f"{done}. No validation was better than that of the weights it began with "
            f"({state.best:.4f}), which {path} holds: train longer, or add images"
        )
    return f"{done}. The best validation ({state.best:.4f}) was at step {state.best_step}: {path}"


def parse(arguments):
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/NAME OF DATA)")
    add_length_arguments(parser)
    add_recipe_arguments(parser)
    options = parser.parse_args(arguments)
    check(options, parser)
    options.out = options.out or Path("runs") / options.data.resolve().name
    return options


def add_length_arguments(parser, required=False):
    """The options that say how long a run is."""
    length = parser.add_mutually_exclusive_group(required=required)
    length.add_argument(
        "--minutes", type=float, help="of training of a run; validation takes its time beside"
    )
    length.add_argument("--steps", type=int, help="instead of minutes")


def add_recipe_arguments(parser):
    """The options that decide how a network is trained, but for the length of the run."""
    parser.add_argument("--init", type=Path, help="weights to start from (default: the shipped)")
    parser.add_argument("--from-scratch", action="store_true", help="start from no weights")
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), default="compact", help="with --from-scratch"
    )
    parser.add_argument(
        "--schedule",
        choices=sorted(SCHEDULES),
        help="tune: from weights on few images (default with weights); fast: hours (default from "
        "scratch); paper: its own, for days on several GPUs",
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--oversample",
        metavar="SOURCE=TIMES",
        nargs="+",
        type=source_factor,
        default=[],
        help="draw the images of these sources more often (the paper: 5 times)",
    )
    parser.add_argument(
        "--no-uncertainty",
        action="store_true",
        help="without that loss; predict with --no-uncertainty-nms then",
    )
    parser.add_argument("--no-giou", action="store_true", help="without that loss")
    parser.add_argument(
        "--listen2student",
        metavar="DIR",
        type=Path,
        help="learn from the unlabelled images of a folder as well",
    )
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        nargs="+",
        type=recipe_field,
        default=[],
        help="other values for fields of training/recipe.py",
    )


def check(options, parser):
    """Say what does not go together."""
    if options.init and options.from_scratch:
        parser.error("--init and --from-scratch exclude one another")
    if options.listen2student and options.no_uncertainty:
        parser.error("--listen2student needs the uncertainties that --no-uncertainty leaves out")
    if options.licence == "commercial" and not (options.init or options.from_scratch):
        parser.error(
            "our weights are for research use only: --licence commercial needs --from-scratch, or "
            "--init with weights that may be used commercially"
        )


def add_data_arguments(parser):
    """The options that decide which images are used."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with catalog.csv, or of images and label images",
    )
    parser.add_argument(
        "--licence",
        choices=("any", "commercial"),
        default="any",
        help="commercial: only sources whose licence allows commercial use",
    )
    parser.add_argument(
        "--without", metavar="SOURCE", nargs="+", default=[], help="leave these sources out"
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
    recipe = make_recipe(schedule, **{**given, **dict(options.set)})
    if options.listen2student:
        recipe = with_teacher(recipe, UNLABELLED_SHARE)
    off = {"uncertainty": options.no_uncertainty, "boundary": options.no_giou}
    return without_losses(recipe, *(name for name, switched in off.items() if switched))


def start_of(options):
    """The Start that the options ask for."""
    if options.from_scratch:
        return Start(preset=options.preset)
    return Start(weights=options.init or SHIPPED, chosen=options.init is not None)


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
        chosen = {"commercial": options.licence == "commercial", "without": options.without}
        training = catalog.entries(options.data, "train", **chosen)
        # What is left out of training is still judged: that is what it is left out for.
        judged = catalog.entries(options.data, "val", commercial=chosen["commercial"])
        if not (options.data / catalog.TABLE).is_file():
            training, judged = usable_parts(training, judged, options.data)
        folder = options.listen2student
        unlabelled = catalog.unlabelled(folder) if folder else []
        if unlabelled and options.licence == "commercial":
            tell(f"{folder}: nothing here knows the licence of these images")
        return cls(training, judged, unlabelled, options.licence)

    @property
    def sources(self):
        """Names of the training sources, by their number in the pack."""
        return sorted({entry.source for entry in self.training})


def usable_parts(training, judged, folder):
    """What can be used of images of the user's own, (training, validation), dealt out anew where
    files are left out. ValueError: nothing can be used."""
    everything = list({entry.image: entry for entry in training + judged}.values())
    kept = own_data.usable(everything, tell)
    if not kept:
        raise ValueError(f"{folder}: none of its labelled images can be used")
    if len(kept) < len(everything) and not (folder / "val").is_dir():
        parts = own_data.share(sorted(kept, key=lambda entry: entry.image))
        training, judged = parts["train"], parts["val"]
    training, judged = ([e for e in part if e in kept] for part in (training, judged))
    if not training or not judged:
        raise ValueError(f"{folder}: no usable labelled image in one of train/ and val/")
    if training == judged:
        tell(f"{folder}: its only image is validated on as well; add more to judge by")
    elif len(judged) < FEW:
        tell(f"{folder}: {len(judged)} for validation, so take its scores with care")
    return training, judged


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

    def state(self, recipe, device):
        """A new engine.State."""
        torch.manual_seed(recipe.seed + distributed.rank())
        if self.weights is None:
            return engine.new_state(CPN(PRESETS[self.preset]), recipe, device)
        network, record = weights.load(self.weights)
        state = engine.new_state(network, recipe, device)
        state.origin = record
        return state


def run(data, out, recipe, start, device, packs=None):
    """Train one network, or go on with it, in the folder `out`; returns its engine.State.

    data: Data. start: Start. packs: folder of the packed images (default: in `out`).
    """
    packs = packs or out
    out.mkdir(parents=True, exist_ok=True)
    state = begin(out, recipe, start, device)
    state.data = {"sources": data.sources, "licence": data.licence}
    pack = load_pack(data.training, packs / "pack", begins=state.step == 0).to(device)
    if not len(pack.polygons):
        raise ValueError("there is no object in the labels to learn (see what was said of them)")
    if distributed.is_first():
        (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2))
    sampler = Sampler(pack, state.network.config, recipe, state.generator, data.sources)
    teacher = None
    if data.unlabelled:
        unlabelled = load_pack(data.unlabelled, packs / "unlabelled", begins=state.step == 0)
        teacher = Teacher(unlabelled.to(device), recipe, state.generator)

    def batch():
        labelled = sampler()
        taught = teacher and recipe.progress(state.step, state.seconds) >= recipe.teacher_from
        return teacher.extend(labelled, state.average) if taught else labelled

    # None: on a terminal only.
    shown = {"bar_format": "{l_bar}{bar}| {postfix}"}
    shown["disable"] = None if distributed.is_first() else True
    with tqdm(total=100, unit="%", **shown) as bar:

        def show(fraction, text):
            bar.n = round(100 * min(fraction, 1), 1)
            bar.set_postfix_str(text)

        judge = Judge(data.validation, out, uncertainty_nms=recipe.weights["uncertainty"] > 0)
        engine.Run(state, recipe, out, judge, show).go(batch)
    return state


def begin(out, recipe, start, device):
    """The engine.State to train: of the checkpoint in `out`, else a new one."""
    checkpoint = out / "checkpoint.safetensors"
    if not checkpoint.is_file():
        return start.state(recipe, device)
    if start.weights is not None and start.chosen:
        raise ValueError(
            f"{out} holds a run already: go on without --init, or choose another --out."
        )
    described = checkpoints.checkpoint_run(checkpoint)
    check_recipe(out, recipe)
    torch.manual_seed(recipe.seed + distributed.rank())
    state = engine.new_state(CPN(described["config"]), recipe, device)
    checkpoints.load_checkpoint(checkpoint, state)
    if distributed.is_first():
        print(f"Going on from step {state.step}, {state.seconds / 60:.1f} minutes")
    return state


def check_unfinished(out, recipe):
    """ValueError if `out` holds a run that is over: nothing would be trained."""
    checkpoint = out / "checkpoint.safetensors"
    if not checkpoint.is_file():
        return
    described = checkpoints.checkpoint_run(checkpoint)
    if recipe.is_over(*(described[name] for name in ("step", "seconds", "stale"))):
        raise ValueError(
            f"{out} holds a finished run: choose another --out (with --init "
            f"{out / 'best.safetensors'} to build on it), or give it more --minutes"
        )


def check_recipe(out, recipe, may_change=("minutes", "steps")):
    """ValueError unless a run goes on as it began; only these fields, its length, may change."""
    check_same(out / "recipe.json", asdict(recipe), may_change)


def check_same(path, wanted, may_change=()):
    """ValueError unless a run's JSON file holds these values, but for the names that may change."""
    begun, wanted = json.loads(path.read_text()), json.loads(json.dumps(wanted))
    changed = [name for name in wanted if begun.get(name) != wanted[name]]
    changed = [name for name in changed if name not in may_change]
    if changed:
        raise ValueError(
            f"{path.parent} holds a run with other settings ({', '.join(changed)}): choose another "
            "--out, or go on with those"
        )


class Judge:
    """Validation during training: F1@0.5 of the averaged network, per source, to a log."""

    def __init__(self, listing, out, uncertainty_nms=True):
        self.listing, self.out, self.uncertainty_nms = listing, out, uncertainty_nms
        self.log = engine.Log(out / "validation.csv")

    def __call__(self, network, minutes):
        """The mean F1 of a network (CPN) after so many minutes of training."""
        device = next(network.parameters()).device.type
        segmenter = Segmenter(network, device, self.uncertainty_nms)
        images = validation.validate(segmenter, self.listing, self.out / "labels")
        whole, *sources = aggregates(images, [0.5])
        by_source = {source.group: round(source.mean_f1, 4) for source in sources}
        macro = validation.macro(sources)
        averages = {"mean": whole.mean_f1, "median": whole.median_f1, "macro": macro}
        averages = {name: round(value, 4) for name, value in averages.items()}
        self.log({"minutes": round(minutes, 1), **averages, **by_source})
        told = ", ".join(f"{name} {value:.4f}" for name, value in averages.items())
        tqdm.write(f"F1 on {len(images)} images after {minutes:.1f} minutes: {told}")
        return whole.mean_f1
