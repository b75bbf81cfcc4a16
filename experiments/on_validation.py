"""What experiments on validation images by given weights have in common."""

from pathlib import Path

from evaluate.folders import EvaluationError
from training import catalog, validation


def add_arguments(parser):
    """--data, --weights, --every."""
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with a catalog.csv")
    add("--weights", type=Path, required=True)
    add("--every", type=int, default=1, help="take every so many validation images only")


def read(options):
    """(catalog.Entries of the validation images, the Segmenter of the weights). EvaluationError."""
    try:
        listing = catalog.entries(options.data, "val")[:: options.every]
        return listing, validation.load(options.weights)[0]
    except ValueError as error:
        raise EvaluationError(error) from error
