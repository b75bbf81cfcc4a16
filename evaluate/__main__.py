"""The evaluator's command: python -m evaluate COMMAND (COMMAND --help says more of each)"""

import sys
from typing import List

try:
    from evaluate import commands
except ModuleNotFoundError as error:
    sys.exit(
        f"evaluate: this Python has no {error.name}. Use .venv/bin/python, which the first "
        "`sh predict.sh` makes."
    )

COMMANDS = {
    "score": ("score", "compare label images with the truth"),
    "time": ("timing", "time a container or a command on each image, by the organisers' protocol"),
    "report": ("report", "write a page to look at: scores, times, and every image"),
    "uncertainty": ("uncertainty", "how well predicted uncertainties tell the true errors"),
    "efficiency": ("efficiency", "parameters, multiply-adds, speed and memory of the network"),
}


def main(arguments: List[str]) -> int:
    """Run a command; its exit status (see evaluate.commands)."""
    return commands.main("evaluate", __doc__, COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
