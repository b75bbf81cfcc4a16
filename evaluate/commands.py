"""Commands of one package, each a module with `add_arguments(parser)` and `run(options)`."""

import argparse
import sys
from importlib import import_module
from typing import Dict, List, Tuple

from app.screen import screen
from evaluate.folders import EvaluationError

Commands = Dict[str, Tuple[str, str]]  # name: module in the package, what it does


def main(package: str, description: str, commands: Commands, arguments: List[str]) -> int:
    """Run one of a package's commands; its exit status.

    commands: {name: (module in the package, what it does)}. A module is imported when it is asked
    for, since most need libraries that the others do without. arguments: a list of str.
    0: all good. 1: something failed. 2: nothing was started. 130: stopped by Ctrl-C.
    """
    with screen():
        options = parse(package, description, commands, arguments)
        return run(package, options)


def run(package: str, options: argparse.Namespace) -> int:
    """Run the chosen command; its exit status, with what went wrong said."""
    try:
        return options.run(options)
    except EvaluationError as error:
        print(f"{package}: {error}", file=sys.stderr)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"{package}: {place}{error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{package}: stopped", file=sys.stderr)
        return 130
    return 2


def parse(
    package: str, description: str, commands: Commands, arguments: List[str]
) -> argparse.Namespace:
    """The options of the chosen command, with its `run`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}", description=description, allow_abbrev=False
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module_name, summary) in commands.items():
        command = subparsers.add_parser(name, help=summary, allow_abbrev=False)
        if name in arguments[:1]:
            module = import_module(f"{package}.{module_name}")
            command.description = module.__doc__
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser.parse_args(arguments)
