"""Tables and comparisons: python -m experiments COMMAND (COMMAND --help says more of each)

Other methods on the same images: sh experiments/peers/run
"""

import sys

from evaluate import commands

COMMANDS = {
    "tables": ("tables", "the paper's tables 3 and 4 for given networks on labelled images"),
    "left-out": ("left_out", "what F1 loses on sources that training never saw"),
    "own-cells": ("own_cells", "what a few labelled images of new cells bring, and cost elsewhere"),
    "bench": ("bench", "time the whole prediction command, or the scorer, beside something simple"),
    "sizes": ("sizes", "F1 of validation images that are resized"),
    "nothing": ("nothing", "cells in frames that have none, or a few only"),
    "afar": (
        "afar",
        "what looks like one cell from afar: tissue on glass, diaphragms, empty wells",
    ),
    "annotated": ("annotated", "scale bars and text drawn into images"),
    "jpeg": ("jpeg", "what JPEG does to empty frames and to images of cells"),
    "cases": ("cases", "F1 of each image of folders that users' cases are in"),
    "stages": ("stages", "which stages of the prediction take how much of its time"),
    "step": ("step", "which parts of a training step take how much of its time"),
    "pack-memory": ("pack_memory", "what packed training images take of the disk and of memory"),
    "export-memory": ("export_memory", "what writing very many cells takes of time and memory"),
    "large": ("large", "what large images take of time and memory"),
    "marked": ("marked", "drawn images in which not all cells count, to try with"),
    "many": ("many", "what many small images take of time and memory"),
    "fuzz": ("fuzz", "damaged files through the reader and through the command"),
    "shared-slides": ("shared_slides", "which validation images are of a slide of training"),
}


def main(arguments):
    """Run a command; its exit status (see evaluate.commands)."""
    return commands.main("experiments", __doc__, COMMANDS, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
