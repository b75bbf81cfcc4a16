"""The evaluator's command: python -m evaluate COMMAND (COMMAND --help says more of each)"""

import argparse
import sys
from importlib import import_module

try:
    from .folders import EvaluationError
except ModuleNotFoundError as error:
    sys.exit(
        f"evaluate: this Python has no {error.name}. Use .venv/bin/python, which the first "
        "`sh predict.sh` makes."
    )

# Name of each command: the module that holds it, and what it does. Imported when asked for: most
# need libraries that the others do without.
COMMANDS = {
    "score": ("score", "compare label images with the truth"),
    "time": ("timing", "time a container or a command on each image, by the organisers' protocol"),
    "report": ("report", "write one HTML file to look at: scores, times, and every image"),
    "tables": ("tables", "the paper's tables 3 and 4 for given networks on labelled images"),
    "uncertainty": ("uncertainty", "how well predicted uncertainties tell the true errors"),
    "bench": ("bench", "time the whole prediction command, or the scorer, beside something simple"),
}


def main(arguments):
    """Run a command; its exit status.

    0: all good. 1: something failed. 2: nothing was started. 130: stopped by Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):  # file names may hold what the terminal cannot show
        stream.reconfigure(errors="backslashreplace")
    options = parse(arguments)
    try:
        return options.run(options)
    except EvaluationError as error:
        print(f"evaluate: {error}", file=sys.stderr)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"evaluate: {place}{error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print("evaluate: stopped", file=sys.stderr)
        return 130
    return 2


def parse(arguments):
    """The options of the chosen command, with its `run`."""
    parser = argparse.ArgumentParser(prog="python -m evaluate", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name in arguments[:1]:
            module = import_module("evaluate." + COMMANDS[name][0])
            command.description = module.__doc__
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
