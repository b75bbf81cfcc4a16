"""python -m training adapt: bring weights nearer to images of your own that have no labels.

For a few steps the network learns from what it finds there itself where it is sure (Listen2Student:
teacher.py), and from drawn images of cells of all kinds, whose labels are known (synthetic.py).
OUT/best.safetensors is what comes out; where that no longer finds the cells that were found before
(agreement.py), the weights that it began with. Look at both: nothing can tell which is the better.
"""

from pathlib import Path
from shlex import quote

from app.arguments import WEIGHTS
from app.network.device import set_up_cpu
from training import catalog, distributed, train
from training.recipe import make_recipe, with_teacher

# What differs from `tune`: all labels are of drawn images, and what comes out is not mixed. Twice
# the steps cost more than they bring (experiments/EXPERIMENTS.md).
FIELDS = {"synthetic_share": 1.0, "unlabelled": 0.5, "kept_gain": 1.0}
FIELDS.update(minutes=None, steps=20, validation_minutes=1000.0)


def main(arguments):
    """Run the command; returns the exit status."""
    options = parse(arguments)
    set_up_cpu()
    recipe = recipe_of(options)
    data = train.Data([], [], catalog.unlabelled(options.images), "any")
    check_out(options.out, data.unlabelled)
    start = train.Start(weights=options.init or WEIGHTS, chosen=options.init is not None)
    with distributed.group(options.device) as device:
        train.tell(f"Images in {options.images} to learn from: {len(data.unlabelled)}")
        state = train.run(data, options.out, recipe, start, device)
        if distributed.is_first():
            print(*outcome(options, state), sep="\n")
    return 0


def parse(arguments):
    """The options of the command."""
    parser = train.parser_of("python -m training adapt", __doc__)
    add = parser.add_argument
    images = "folder of images, and folders in it; labels beside them do not count"
    add("--images", type=Path, required=True, help=images)
    add("--out", type=Path, help="folder of the run (default: runs/NAME OF IMAGES_adapted)")
    train.add_common(parser, f"{FIELDS['steps']} steps")
    options = parser.parse_args(arguments)
    options.out = options.out or Path("runs") / f"{options.images.resolve().name}_adapted"
    return options


def recipe_of(options):
    """The Recipe that the options ask for. ValueError: it has nothing to learn from."""
    fields = {**FIELDS, **train.common_fields(options), **dict(options.set)}
    recipe = make_recipe("tune", **fields)
    needed = [recipe.synthetic, recipe.synthetic_share, recipe.unlabelled]
    if not all([*needed, recipe.weights["uncertainty"]]):
        raise ValueError(
            "adapting needs drawn images, unlabelled ones and uncertainties: synthetic, "
            "synthetic_share, unlabelled and the weight of the uncertainty must be above 0 (--set)"
        )
    if recipe.kept_gain < 1:
        raise ValueError("nothing that comes out of adapting is mixed: kept_gain must be 1")
    return with_teacher(recipe, recipe.unlabelled)


def check_out(out, listing):
    """ValueError if a run in this folder would find its own images among these Entries later."""
    out = out.resolve()
    if any(entry.image.resolve().parent in (out, out.parent) for entry in listing):
        raise ValueError(f"{out} lies among the images: choose another --out")


def outcome(options, state):
    """What a run has brought, and what to do next: lines."""
    best = options.out / "best.safetensors"
    done = f"{state.step} steps in {state.seconds / 60:.1f} minutes"
    if not state.best_step:
        yield (
            f"{done}. What came out no longer finds the cells that were found before, so {best} "
            "holds the weights that it began with. Labels of a few images teach more: "
            "docs/own_cells.md"
        )
        return
    yield f"{done}: {best}. Nothing can tell without labels which weights are the better: look."
    images, before = quote(str(options.images)), quote(str(options.init or WEIGHTS))
    yield f"sh predict.sh {images} BEFORE --preview --weights {before}"
    yield f"sh predict.sh {images} AFTER --preview --weights {quote(str(best))}"
