"""Other methods than ours: python -m experiments.peers COMMAND (COMMAND --help says more of each)

All of them, ours included, on the same images: sh experiments/peers/run (run_deepsea)
"""

import sys

from evaluate import commands

COMMANDS = {
    "watershed": ("watershed", "label images by Otsu's threshold and a watershed"),
    "stardist": ("stardist_2d", "train StarDist, choose its thresholds, label images"),
    "deepsea": ("deepsea_2d", "label images by DeepSea"),
    "table": ("table", "the scores of several methods side by side"),
}


def main(arguments):
    """Run a command; its exit status (see evaluate.commands)."""
    return commands.main("experiments.peers", __doc__, COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
