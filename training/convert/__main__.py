"""python -m training.convert NAME SRC DST: a published data set as a folder for training.

DST gets the images as they are, a label image for each, and catalog.csv: then
python -m training --data DST. Published splits are kept, with test images for validation
where there is no split for that; without any, one image in ten is for validation. Where objects
overlap, the smaller lies on top. For several sets together, put their folders NAME/ into one and
the lines of their catalogues under one header.

Exit status: 0; 1 if something was missing or damaged (named, left out); 2 without result.
"""

import argparse
import sys
import textwrap
import warnings
from functools import partial
from pathlib import Path

from tqdm import tqdm

from app.images import ImageError
from training.catalog import TABLE
from training.convert import patches
from training.convert.datasets import DATASETS
from training.convert.sample import share
from training.convert.writing import write_catalogue, write_samples


def main(arguments):
    """Run the command; returns the exit status."""
    options = parse(arguments)
    try:
        check_folders(options.source, options.target)
        return convert(options.name, options.source, options.target)
    except ImportError as error:
        print(
            f"{error}; .venv/bin/python -m pip install -r training/requirements.txt installs it",
            file=sys.stderr,
        )
    except (ValueError, OSError, ImageError) as error:  # with SRC or DST as a whole
        print(error, file=sys.stderr)
    return 2


def parse(arguments):
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.convert",
        description=__doc__,
        epilog=layouts(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", choices=sorted(DATASETS), help=", ".join(DATASETS))
    parser.add_argument("source", metavar="SRC", type=Path, help="folder of the unpacked data set")
    parser.add_argument("target", metavar="DST", type=Path, help="folder without a catalog.csv")
    return parser.parse_args(arguments)


def layouts():
    """The epilog of the help: which files are expected of each data set."""
    fill = partial(textwrap.fill, width=100, subsequent_indent=" " * 13, break_on_hyphens=False)
    lines = [fill(f"  {name:10} {dataset.layout}") for name, dataset in DATASETS.items()]
    return "\n".join(["expected in SRC:", *lines])


def check_folders(source, target):
    """ValueError unless there is a source, and a target beside it that holds no catalogue."""
    if not source.is_dir():
        raise ValueError(f"{source} is no folder")
    if (target / TABLE).exists():
        raise ValueError(f"{target} holds a {TABLE} already: choose another DST")
    if source.resolve() in (target.resolve(), *target.resolve().parents):
        raise ValueError(f"{target} is within {source}: choose a DST outside")


def convert(name, source, target):
    """Convert a data set from a folder (Path) to another; returns the exit status.

    The catalogue is written last: without it, the folder is not taken for complete.
    """
    dataset, problems = DATASETS[name], []

    def warn(text):
        problems.append(text)
        tqdm.write(text, file=sys.stderr)

    samples = share(find(dataset, source, warn))
    if problems or not samples:
        print(f"expected in {source}: {dataset.layout}", file=sys.stderr)
    rows = write_samples(tqdm(samples, disable=None), target / name, warn)
    if not rows:
        print(f"{source} has no usable image of {name}", file=sys.stderr)
        return 2
    if name == "neurips":
        patches.write_unlabelled(source, target / "unlabelled", warn)
    write_catalogue(target, [{"source": name, **row, **dataset.facts()} for row in rows])
    count = sum(row["split"] == "train" for row in rows)
    print(f"{count} images for training and {len(rows) - count} for validation are in {target}")
    return 1 if problems else 0


def find(dataset, source, warn):
    """The Samples of a data set; what it warns of goes to `warn`."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *where: warn(str(message))
        return dataset.find(source)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
