"""python -m training adapt: bring weights nearer to images of your own that have no labels.

The network learns from what it finds there itself where it is sure (Listen2Student: teacher.py),
and from drawn images of cells of all kinds, whose labels are known (synthetic.py). It ends by
itself.
In the end OUT holds the weights that agree best with themselves on these images (agreement.py), or
those that it began with: sh predict.sh INPUTS OUTPUTS --weights OUT/best.safetensors
"""

from pathlib import Path
from shlex import quote

from app.arguments import WEIGHTS, weights_file
from app.network.device import set_up_cpu
from training import catalog, distributed, train
from training.outcome import validations
from training.recipe import make_recipe, with_teacher

# What differs from `tune`: all labels are of drawn images, and what comes out is not mixed.
FIELDS = {"synthetic_share": 1.0, "kept_gain": 1.0, "patience": 2}


def main(arguments):
    """Run the command; returns the exit status."""
    options = parse(arguments)
    set_up_cpu()
    recipe = recipe_of(options)
    data = train.Data([], [], catalog.unlabelled(options.images), "any")
    start = train.Start(weights=options.init or WEIGHTS, chosen=options.init is not None)
    with distributed.group(options.device) as device:
        state = train.run(data, options.out, recipe, start, device)
        if distributed.is_first():
            print(*outcome(options.out, state), sep="\n")
    return 0


def parse(arguments):
    """The options of the command."""
    parser = train.parser_of("python -m training adapt", __doc__)
    add = parser.add_argument
    add("--images", type=Path, required=True, help="folder of images; labels in it do not count")
    add("--out", type=Path, help="folder of the run (default: runs/NAME OF IMAGES_adapted)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="of training, at most (default: 8)")
    length.add_argument("--steps", type=int, help="instead of minutes")
    init = "weights to start from: a file, or research (default) or commercial of those we ship"
    add("--init", type=weights_file, help=init)
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="to train on")
    add("--seed", type=int, default=0, help="of all that is drawn")
    fields = "other values for fields of training/recipe.py"
    many = {"nargs": "+", "action": train.Extend, "default": []}
    add("--set", metavar="NAME=VALUE", type=train.recipe_field, help=fields, **many)
    options = parser.parse_args(arguments)
    options.out = options.out or Path("runs") / f"{options.images.resolve().name}_adapted"
    return options


def recipe_of(options):
    """The Recipe that the options ask for."""
    given = {**FIELDS, "seed": options.seed}
    if options.steps is not None:
        given.update(steps=options.steps, minutes=None)
    elif options.minutes is not None:
        given["minutes"] = options.minutes
    recipe = make_recipe("tune", **{**given, **dict(options.set)})
    return with_teacher(recipe, train.UNLABELLED_SHARE)


def outcome(out, state):
    """What a run has brought, and what to do next: sentences."""
    best = out / "best.safetensors"
    before = float(validations(out)[0]["agreement"])
    done = f"{state.step} steps in {state.seconds / 60:.1f} minutes"
    if not state.best_step:
        yield (
            f"{done}. Nothing agreed better with itself than the weights that it began with "
            f"({before:.3f}), which {best} holds. Labels of a few images would teach more "
            "(docs/own_cells.md)"
        )
        return
    yield (
        f"{done}. Agreement {before:.3f} -> {state.best:.3f}: {best}. That tells no more than that "
        "cells are found more steadily: look at both"
    )
    yield f"sh predict.sh INPUTS OUTPUTS --weights {quote(str(best))} --preview"
