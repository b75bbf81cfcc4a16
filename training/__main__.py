"""python -m training [COMMAND]: trains a network; --help names the commands."""

import argparse
import sys
import warnings
from pathlib import Path

from app.arguments import weights_file
from app.network import weights
from app.options import Extend
from app.screen import screen
from evaluate.score import aggregates, group_table, write_csv
from training import catalog, corrected, generations, split, train, validation
from training.stopping import Stopped
from training.validation import terminal_bar

SAID = """Commands with a --help of their own: validate (predict a split and score it), calibrate
(choose the score threshold), corrected (labels that you corrected, to train on), split (a split as
plain folders), generations (several runs)."""


def main(arguments):
    """Run the command, whatever becomes of the screen; returns the exit status."""
    with screen():
        return run(arguments)


def run(arguments):
    """Run the command, and say what goes wrong; returns the exit status."""
    commands = {"validate": validate, "calibrate": calibrate}
    commands.update(split=split.main, generations=generations.main, corrected=corrected.main)
    warnings.formatwarning = one_line
    name, *rest = arguments or [""]
    if name and not name.startswith("-") and name not in commands:
        print(f"python -m training has no command '{name}'. {SAID}", file=sys.stderr)
        return 2
    try:
        return commands[name](rest) if name in commands else train.main(arguments, SAID)
    except train.EXPECTED as error:
        print(error, file=sys.stderr)
        return 2
    except Stopped as stop:
        chosen = any(word.split("=")[0] == "--init" for word in arguments)
        without = ", without --init," if chosen and name not in commands else ""
        print(f"{stop}: the same command{without} goes on from there", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print("Stopped", file=sys.stderr)
        return 130


def one_line(message, *where):
    """A warning as a line for the user, without the code that it comes from."""
    return f"{message}\n"


def parser_of(command):
    """The parser of a command that runs weights on a split of the data."""
    parser = train.parser_of(f"python -m training {command.__name__}", command.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="as for training")
    parser.add_argument("--split", default="val", help="train or val")
    licences = "commercial: of the images alone whose licence allows commercial use"
    parser.add_argument("--licence", choices=("any", "commercial"), default="any", help=licences)
    which = "a file, or research or commercial of those that we ship"
    parser.add_argument("--weights", type=weights_file, required=True, help=which)
    return parser


def entries(options):
    """The Entries of the split that the options name."""
    return catalog.entries(options.data, options.split, options.licence == "commercial")


def validate(arguments):
    """Predict a split with given weights and print its scores per source."""
    parser = parser_of(validate)
    parser.add_argument("--out", type=Path, required=True, help="labels and scores.csv go here")
    options = parser.parse_args(arguments)
    listing = entries(options)
    segmenter, _ = validation.load(options.weights)
    images = validation.validate(segmenter, listing, options.out, terminal_bar)
    write_csv(options.out / "scores.csv", images, rules="official")
    whole, *sources = aggregates(images, [0.5])
    print(group_table([whole, *sources]))
    print(f"macro over sources: mean F1 {validation.macro(sources):.4f}")
    return 0


def calibrate(arguments):
    """Choose the score threshold, its share and windows on a split; the weights file keeps them."""
    parser, many = parser_of(calibrate), {"nargs": "+", "action": Extend}
    windows = "windows to choose from, as 1024/768 (default: those of the file alone)"
    parser.add_argument("--windows", metavar="SIDE/STRIDE", type=window_size, help=windows, **many)
    shares = "shares of the best scores to choose from, 0 to 1 (default: that of the file alone)"
    parser.add_argument("--shares", metavar="SHARE", type=share_of_best, help=shares, **many)
    options = parser.parse_args(arguments)
    segmenter, record = validation.load(options.weights)
    network = segmenter.network
    listing = entries(options)
    own = network.config.inference
    shares = options.shares or [own.score_share]
    found = {}
    for window, stride in options.windows or [(own.window, own.window_stride)]:
        network.config = network.config.with_inference(window=window, window_stride=stride)
        tried = validation.try_thresholds(segmenter, listing, shares, terminal_bar)
        for (threshold, share), scores in tried.items():
            found[window, stride, threshold, share] = scores
            f1 = f"mean {scores.mean_f1:.4f}  median {scores.median_f1:.4f}"
            print(f"{window}/{stride}  {threshold:.2f}  {share:g}  {f1}")
    best = max(found, key=lambda choice: found[choice].mean_f1)
    print("stored: windows {}/{}, threshold {}, share {}".format(*best))
    fields = dict(zip(("window", "window_stride", "score_threshold", "score_share"), best))
    config = network.config.with_inference(**fields)
    weights.save(options.weights, network.state_dict(), config, record)
    return 0


def share_of_best(text):
    """A share, 0 to 1, of the best scores of an image. ValueError."""
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no share from 0 to 1")
    return share


def window_size(text):
    """SIDE/STRIDE -> (side, stride) in pixels. ValueError."""
    side, stride = map(int, text.split("/"))
    if not 0 < stride <= side:
        raise argparse.ArgumentTypeError(f"the stride of '{text}' is not in 1..{side}")
    return side, stride


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
