"""What the command lines of all packages share."""

import argparse
from typing import Any, Callable, Optional, Sequence


class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """A help that keeps the lines of the description, and shows the defaults that there are."""

    def _get_help_string(self, action):
        default = action.default
        is_none = default is None or default is False or default == []
        if is_none or "default:" in action.help:
            return action.help
        return super()._get_help_string(action)


class Extend(argparse.Action):
    """An option of several values that may be repeated: `--a 1 2 --a 3` is `--a 1 2 3`.

    argparse alone would keep the last values only (its own "extend" came with Python 3.8, and adds
    to the default instead of replacing it).
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[Any],
        option_string: Optional[str] = None,
    ) -> None:
        """Add the values to those that were given before."""
        given = getattr(namespace, self.dest)
        before = [] if given is self.default else given
        setattr(namespace, self.dest, [*before, *values])


def parsed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """The type of an option: what `parse` makes of its text, or the sentence of its ValueError."""

    def kind(text):
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return kind
