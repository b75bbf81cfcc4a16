"""The command line of predict.sh: any Python 3.6 or newer can say what is wrong with it.

python -m app.arguments ARGUMENTS does just that, before there is an environment: exit status 0
after --help, 2 where the arguments are wrong, else GO_ON.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import List, Optional, Tuple, Union

from app import __version__
from app.formats import PREVIEWS, parse_formats
from app.large import STAGES
from app.options import Extend, parsed
from app.screen import screen
from app.selection import parse_channels, parse_plane
from app.sizes import LEAST, MOST, NATIVE_DIAMETER, Size, factor_of

INPUTS = Path("/workspace/inputs")
OUTPUTS = Path("/workspace/outputs")
WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "compact.safetensors"
# The weights that we ship, by what they may be used for.
SHIPPED = {
    "research": WEIGHTS,
    "commercial": WEIGHTS.with_name("compact-commercial.safetensors"),
}
GO_ON = 3
MOST_THREADS = 1024  # torch starts as many as it is told


class CannotStart(Exception):
    """Why no image can be done at all: one sentence."""


def parse(arguments: List[str]) -> argparse.Namespace:
    """The options: inputs (a list of Path), outputs (Path), weights (a list of Path), device ...

    channels and plane say what is taken of an image; challenge (bool): whether labels are named as
    the organisers of the challenge name them.
    """
    parser = argparse.ArgumentParser(
        prog="sh predict.sh",
        usage="%(prog)s [INPUTS [OUTPUTS]] [options]\n       %(prog)s FILE ... --out DIR [options]",
        description="Finds the cells in images (TIFF, PNG, JPEG, BMP, WebP): of a folder, or in "
        "the files given. The labels of NAME.* are written to NAME_label.tiff: 0 is background, "
        "k is cell k.",
        allow_abbrev=False,
    )
    for add_some in (add_files, add_network, add_images, add_cells, add_exports, add_running):
        add_some(parser)
    options = parser.parse_args(arguments)
    if "" in arguments:  # of a variable that is not set, say: a Path would be the current folder
        parser.error("an argument is empty")
    check_together(options, parser)
    options.cells |= options.measure or options.report or options.table is not None
    find_places(options, parser)
    names = options.names or ("challenge" if are_of_the_challenge(options.inputs) else "full")
    options.challenge = names == "challenge"
    return options


def check_together(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Say what does not go together, and end."""
    for path in filter(os.path.isdir, options.weights):
        parser.error(f"{path} is a folder, no weights: INPUTS and OUTPUTS come before --weights")
    shared = options.stage or options.part != (1, 1)
    if options.dask and shared:
        parser.error("--dask shares the work itself, without --part and --stage")
    if shared and (options.table or options.report):
        parser.error("--table and --report are for the last run, without --part and --stage")


def find_places(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Where the inputs and the outputs are, by the paths that are given."""
    *inputs, second = options.paths[:2] if len(options.paths) > 1 else [*options.paths, None]
    if options.out:
        options.inputs, options.outputs = options.paths or [INPUTS], options.out
    elif len(options.paths) > 2 or all(map(is_image, [*inputs, second or os.curdir])):
        parser.error("several files need --out DIR, the folder where their labels go")
    else:
        options.inputs = inputs or [INPUTS]
        options.outputs = second or default_outputs(options.inputs[0])


def add_files(parser: argparse.ArgumentParser) -> None:
    """The options that say where images are taken from, and where labels go."""
    add, switch = parser.add_argument, partial(parser.add_argument, action="store_true")
    folders = f"a folder or a file (default: {INPUTS}), and where its labels go, a folder that is "
    folders += f"made if missing (default: {OUTPUTS}; where there is no such folder INPUTS-labels, "
    folders += "or beside the file)"
    add("paths", metavar="INPUTS OUTPUTS", nargs="*", type=Path, help=folders)
    add("--out", metavar="DIR", type=Path, help="where labels go; all that is before are inputs")
    switch("--recursive", help="also the images in folders of INPUTS; OUTPUTS gets such folders")


def add_network(parser: argparse.ArgumentParser) -> None:
    """The options that say which networks find the cells, and on what they run."""
    add = parser.add_argument
    add(
        "--weights",
        metavar="FILE",
        action=Extend,
        nargs="+",
        type=weights_file,
        default=[WEIGHTS],
        help="a file, or of those that we ship research (the default) or commercial (which learned "
        "only from images whose licences allow that, and knows fewer kinds of cells); several are "
        "an ensemble, which takes all their times (windows, contour points and the threshold of "
        "the suppression are the first one's)",
    )
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="default: auto, which is a GPU if there is one that works",
    )
    add(
        "--threads",
        metavar="N",
        type=parsed(number_of_threads),
        help="of the CPU; default: as many as it has cores that this process may use",
    )


def add_images(parser: argparse.ArgumentParser) -> None:
    """The options that say what is taken of the images (images.load)."""
    add = parser.add_argument
    add(
        "--channels",
        metavar="3,1",
        type=parsed(parse_channels),
        help="take these channels, up to three, in this order: numbers from 1 on or names that OME "
        "or ImageJ gave them; default: the first three. Costs no time",
    )
    add(
        "--plane",
        metavar="N|max|mean",
        type=parsed(parse_plane),
        help="of stacks (Z, T, pages) take this plane, counted from 1 on, or the maximum or mean "
        "of all, which takes the time to read them; default: the first",
    )


def add_cells(parser: argparse.ArgumentParser) -> None:
    """The options that say which cells are looked for (segmenter.Segmenter)."""
    add = parser.add_argument
    add(
        "--threshold",
        metavar="T",
        type=float,
        help="leave out cells with a score up to T (0 to 1), whatever the others of the image "
        "have; default: by the best scores of each image. A low one takes time: more has to be "
        "compared",
    )
    for name, what in (("min", "smaller"), ("max", "larger")):
        add(
            f"--{name}-size",
            metavar="D",
            type=parsed(Size.of),
            help=f"leave out cells that are {what} than a disc of diameter D: pixels, or µm as in "
            "8.5um, where the file knows how large its pixels are. Costs no time",
        )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--diameter",
        metavar="PIXELS",
        dest="scale",
        type=parsed(lambda text: factor_of(float(text))),
        help="how large the cells are: images are scaled so that they become "
        f"{NATIVE_DIAMETER:g} pixels, which the network knows best. Takes (40 / PIXELS)² times "
        "as long",
    )
    size.add_argument(
        "--scale",
        metavar="FACTOR",
        type=float,
        help=f"scale images by FACTOR ({LEAST:g} to {MOST:g}); within 10 %% of 1 they are left as "
        "they are. Takes FACTOR² times as long; default: 1, a half, a quarter or, where cells are "
        "smaller than 12 pixels, 2, chosen for each image by what is found at each, which takes up "
        "to 1.4 times as long as --scale 1, with small cells, or small images without any, 5 times",
    )
    add(
        "--thorough",
        action="store_true",
        help="look at the image as it is and flipped, four times (above 10 million pixels twice), "
        "and take the best outline of each cell: about three times, or twice, the time",
    )


def add_exports(parser: argparse.ArgumentParser) -> None:
    """The options that say what else is written beside a label image (app.exports)."""
    add = parser.add_argument
    add(
        "--export",
        metavar="FORMAT,...",
        type=parsed(parse_formats),
        default=[],
        help="also write the cells as other programs open them: geojson (QuPath: NAME.geojson.gz), "
        "roi (Fiji, ImageJ: NAME_rois.zip), coco (NAME_coco.json), ome-zarr (napari: the folder "
        "NAME.ome.zarr, in which the image is as well)",
    )
    add(
        "--preview",
        nargs="?",
        const="outlines",
        choices=tuple(PREVIEWS),
        help="also write NAME_preview.png (.jpg above 4 million pixels): the image as people see "
        "it, with the outlines of its cells; with `uncertainty` their colour says how uncertain "
        "they are, from blue (certain) to yellow",
    )
    add(
        "--report",
        action="store_true",
        help="as --cells, and at the end a page to look at in a browser, report.html: every image "
        "with its cells, and how large, sure and uncertain these are",
    )
    add(
        "--measure",
        action="store_true",
        help="as --cells, with more columns: perimeter, eccentricity, solidity, mean and sum of "
        "each channel's stored values; in µm, too, where the file knows its pixel size",
    )
    add(
        "--table",
        metavar="FILE.csv",
        type=Path,
        help="as --cells, and all cells of the run in this one file as well",
    )
    add(
        "--cells",
        action="store_true",
        help="also write NAME_cells.csv: boxes, area, score ... of each cell",
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    """The options that say what is done of all, by whom and how, and what is said."""
    add, switch = parser.add_argument, partial(parser.add_argument, action="store_true")
    switch(
        "--resume",
        help="skip images whose labels are there: made from the same bytes by the same weights, "
        "settings and version, or corrected by hand",
    )
    add(
        "--part",
        metavar="I/N",
        type=part,
        default=(1, 1),
        help="do the I-th of N parts: of the images, and of the windows of large ones, which are "
        "finished by a last run without it (with --resume). For the array jobs of a cluster",
    )
    add(
        "--dask",
        metavar="ADDRESS|local:N",
        type=dask,
        help="let the workers of this scheduler of dask.distributed do the images, and the windows "
        "of large ones; local:N starts N workers here, of one thread each",
    )
    add(
        "--stage",
        choices=STAGES,
        help="of large images (from 67 million pixels on, read by region) do this stage alone; "
        "others are passed over",
    )
    switch("--overwrite", help="replace files that this program did not write, or that changed")
    add(
        "--names",
        choices=("full", "challenge"),
        help="NAME is the file's name without its extension (full), or up to its first dot "
        f"(challenge); default: challenge for images in {INPUTS}, else full",
    )
    switch("--quiet", help="say only what went wrong")
    switch("--verbose", help="of an image that failed also the traceback")
    add("--version", action="version", version=f"cpn {__version__}")
    switch("--no-uncertainty-nms", help="of cells that overlap let the score alone decide")
    switch("--no-amp", help="compute in float32 even where half precision is faster")
    switch("--no-refinement", help="leave contours as the Fourier coefficients have them")


def number_of_threads(text: str) -> int:
    """A number from 1 to MOST_THREADS. ValueError."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST_THREADS:
        raise ValueError(f"'{text}' is no number of threads, from 1 to {MOST_THREADS}")
    return int(text)


def part(text: str) -> Tuple[int, int]:
    """Which part of how many, of a text like "3/16". ArgumentTypeError."""
    numbers = text.split("/")
    if len(numbers) != 2 or not all(map(str.isdigit, numbers)):
        raise argparse.ArgumentTypeError(f"'{text}' is no part like 3/16")
    index, count = map(int, numbers)
    if not 1 <= index <= count:
        raise argparse.ArgumentTypeError(f"there is no part {index} of {count}: they count from 1")
    return index, count


def dask(text: str) -> str:
    """An address, or local:N. ArgumentTypeError."""
    kind, _, number = text.partition(":")
    if not number or (kind == "local" and (not number.isdigit() or int(number) < 1)):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no address as tcp://host:8786, and no local:2"
        )
    return text


def weights_file(text: str) -> Path:
    """A path, or that of the weights of SHIPPED that have this name."""
    return SHIPPED.get(text) or Path(text)


def default_outputs(inputs: Path) -> Path:
    """Where the labels of `inputs` go when nobody says: OUTPUTS, else beside the inputs."""
    if inputs == INPUTS or OUTPUTS.is_dir():
        return OUTPUTS
    if is_image(inputs):
        return inputs.parent
    inputs = inputs.resolve()
    return inputs.parent / (inputs.name + "-labels")


def is_image(path: Union[str, Path]) -> bool:
    """Whether a path may be an image, and not a folder of such: a file, or an OME-Zarr."""
    return os.path.isfile(path) or str(path).lower().endswith(".zarr")


def are_of_the_challenge(inputs: List[Path]) -> bool:
    """Whether the inputs lie where the organisers of the challenge have them."""
    folder = inputs[0].resolve()
    return folder == INPUTS or INPUTS in folder.parents


def check(options: argparse.Namespace) -> None:
    """Raise CannotStart where there is nothing at the one place that is given."""
    (first, *others) = options.inputs
    if not others and not os.path.exists(first):
        raise CannotStart(f"There is no folder or file {first} to take images from.")


def main(arguments: List[str]) -> Optional[int]:
    """Say what is wrong with the arguments; returns the exit status."""
    with screen():
        try:
            check(parse(arguments))
        except CannotStart as error:
            print(error, file=sys.stderr)
            return 2
    return GO_ON


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
