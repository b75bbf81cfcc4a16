"""The command: a folder of microscopy images in, a label image for each out.

Exit status 0: all done. 1: some images could not be done (each named with its reason), the others
are. 2: nothing was started, for the one reason given. 130 and 143: stopped by Ctrl-C and SIGTERM.
Label images are complete or absent, whatever happens.
"""

import argparse
import os
import signal
import sys
import time
import traceback
import warnings
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from types import FrameType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from app import __version__, exports, images, outputs, privileges
from app.cells import counted
from app.exports import tables
from app.names import output_name
from app.options import Extend, parsed
from app.progress import Progress
from app.scale import LEAST, MOST, NATIVE_DIAMETER, factor_of
from app.sizes import Size, UnknownPixelSize

if TYPE_CHECKING:
    from app.segmenter import Segmenter

INPUTS = Path("/workspace/inputs")
OUTPUTS = Path("/workspace/outputs")
PREVIEWS = {None: [], "outlines": ["preview"], "uncertainty": ["uncertainty"]}  # --preview: export
WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "compact.safetensors"


class CannotStart(Exception):
    """Why no image can be done at all: one sentence."""


class Stopped(BaseException):
    """The process was asked to stop, by the signal of this number."""


def main(arguments: List[str]) -> int:
    """Run the command with these arguments (a list of str); returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # file names may hold what the terminal cannot show
        stream.reconfigure(errors="backslashreplace", line_buffering=True)
    options = parse(arguments)
    images.silence_libraries()
    try:
        with ExitStack() as stack:
            if options.quiet:
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(redirect_stdout(nowhere))
            return run(options)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 2
    except Stopped as stop:
        on_signals(signal.SIG_IGN)  # a second Ctrl-C would interrupt these last lines
        name = signal.Signals(stop.args[0]).name
        print(f"Stopped by {name}: no label image was left incomplete.", file=sys.stderr)
        return 128 + stop.args[0]


def parse(arguments: List[str]) -> argparse.Namespace:
    """The options: inputs and outputs (Path), weights (a list of Path), device (str), switches,
    which part of the images is taken (channels, plane), and which cells (the rest)."""
    parser = argparse.ArgumentParser(
        prog="sh predict.sh",
        description="Finds the cells in all images of a folder (TIFF, PNG, JPEG, BMP, WebP). "
        "The labels of NAME.* are written to NAME_label.tiff: 0 is background, k is cell k.",
    )
    add = parser.add_argument
    add("inputs", metavar="INPUTS", nargs="?", type=Path, default=INPUTS, help=f"default: {INPUTS}")
    add(
        "outputs",
        metavar="OUTPUTS",
        nargs="?",
        type=Path,
        help=f"made if missing; default: {OUTPUTS}, or INPUTS-labels where there is no such folder",
    )
    add(
        "--weights",
        metavar="FILE",
        action=Extend,
        nargs="+",
        type=Path,
        default=[WEIGHTS],
        help="default: the ones we ship; several are an ensemble, which takes all their times "
        "(windows, contour points and the threshold of the suppression are the first one's)",
    )
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="default: auto, which is a GPU if there is one that works",
    )
    add_images(parser)
    add_cells(parser)
    add_exports(parser)
    switch = partial(add, action="store_true")
    switch("--cells", help="also write NAME_cells.csv: box, area, score ... of each cell")
    switch(
        "--resume",
        help="skip images whose labels are there: newer than the image, by the same weights, "
        "settings and version",
    )
    switch("--quiet", help="say only what went wrong")
    switch("--verbose", help="of an image that failed also the traceback")
    add("--version", action="version", version=f"cpn {__version__}")
    switch("--no-uncertainty-nms", help="of cells that overlap let the score alone decide")
    switch("--no-amp", help="compute in float32 even where half precision is faster")
    switch("--no-refinement", help="leave contours as the Fourier coefficients have them")
    options = parser.parse_args(arguments)
    for path in filter(os.path.isdir, options.weights):
        parser.error(f"{path} is a folder, no weights: INPUTS and OUTPUTS come before --weights")
    options.cells |= options.measure or options.table is not None
    options.outputs = options.outputs or default_outputs(options.inputs)
    return options


def add_images(parser: argparse.ArgumentParser) -> None:
    """The options that say what is taken of the images (images.load)."""
    add = parser.add_argument
    add(
        "--channels",
        metavar="3,1",
        type=parsed(images.parse_channels),
        help="take these channels, up to three, in this order: numbers from 1 on or names that OME "
        "or ImageJ gave them; default: the first three. Costs no time",
    )
    add(
        "--plane",
        metavar="N|max|mean",
        type=parsed(images.parse_plane),
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
        "they are. Takes FACTOR² times as long; default: 1, a half or a quarter, chosen for each "
        "image by what is found at each, which takes up to 1.4 times as long as --scale 1",
    )
    add(
        "--thorough",
        action="store_true",
        help="scores are the means over four flips of the image: a little better, and four times "
        "the time of the network",
    )


def add_exports(parser: argparse.ArgumentParser) -> None:
    """The options that say what else is written beside a label image."""
    parser.add_argument(
        "--export",
        metavar="FORMAT,...",
        type=parsed(exports.parse_formats),
        default=[],
        help="also write the cells as other programs open them: geojson (QuPath: NAME.geojson.gz), "
        "roi (Fiji, ImageJ: NAME_rois.zip), coco (NAME_coco.json)",
    )
    parser.add_argument(
        "--preview",
        nargs="?",
        const="outlines",
        choices=("outlines", "uncertainty"),
        help="also write NAME_preview.png (.jpg above 4 million pixels): the image as people see "
        "it, with the outlines of its cells; with `uncertainty` their colour says how uncertain "
        "they are, from blue (certain) to yellow",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="as --cells, with more columns: perimeter, eccentricity, solidity, mean and sum of "
        "each channel's stored values; in µm, too, where the file knows its pixel size",
    )
    parser.add_argument(
        "--table",
        metavar="FILE.csv",
        type=Path,
        help="as --cells, and all cells of the run in this one file as well",
    )


def default_outputs(inputs: Path) -> Path:
    """Where the labels of `inputs` go when nobody says: OUTPUTS, else beside the inputs."""
    if inputs == INPUTS or OUTPUTS.is_dir():
        return OUTPUTS
    inputs = inputs.resolve()
    return inputs.parent / (inputs.name + "-labels")


def run(options: argparse.Namespace) -> int:
    """Do all images of a folder; returns the exit status. Raises CannotStart."""
    if not os.path.isdir(options.inputs):
        raise CannotStart(f"There is no folder {options.inputs} to take images from.")
    wanted = wanted_exports(options)
    take_owner(options.outputs)
    inputs, refused = find_inputs(options.inputs)
    make_ready(options.outputs)
    segmenter, record = load_segmenter(options)
    pairs = [(path, options.outputs / output_name(path)) for path in inputs]
    waiting = pairs
    if options.resume:
        waiting = not_done(pairs, record, options.cells, wanted, options.measure)
    finished = sorted(set(pairs) - set(waiting))
    before = len(finished)
    how = {"record": record, "with_table": options.cells, "wanted": wanted}
    how.update(selection(options), measure=options.measure)
    progress = Progress(len(waiting), shown=not options.quiet)
    for number, (path, target) in enumerate(waiting, 1):
        title = f"{number}/{len(waiting)} {shown(path)}"
        if attempt(title, segmenter, path, target, progress, options.verbose, **how):
            finished.append((path, target))
    done, total = len(finished), len(inputs) + len(refused)
    of_them = f" ({before} of them before)" if before else ""
    failed = f", {total - done} failed" if done < total else ""
    print(f"{done} of {total} images done{of_them}{failed}; the labels are in {options.outputs}")
    if options.table:
        write_run_table(options.table, sorted(finished))
    if not options.quiet:
        print(where_to_look(options), file=sys.stderr)
    return 0 if done == total else 1


def write_run_table(path: Path, pairs: List[Tuple[Path, Path]]) -> None:
    """Write the table of all cells of the pairs (image, label image) done, or say why not."""
    try:
        tables.join(path, pairs)
    except OSError as error:
        print(f"{path} cannot be written ({error.strerror})", file=sys.stderr)


def where_to_look(options: argparse.Namespace) -> str:
    """How to look at what came out."""
    if options.preview:
        return f"To look at: the pictures *_preview.* in {options.outputs}"
    return (
        "Label images look black in most viewers. --preview adds pictures to look at, --export "
        "geojson,roi,coco what QuPath, Fiji and COCO's tools open, --cells tables"
    )


def selection(options: argparse.Namespace) -> Dict[str, Any]:
    """What is taken of an image: arguments of images.load."""
    return {"channels": options.channels, "plane": options.plane}


def wanted_exports(options: argparse.Namespace) -> List[exports.Export]:
    """What else is written beside each label image. Raises CannotStart."""
    try:
        return exports.load(options.export + PREVIEWS[options.preview])
    except exports.MissingLibrary as error:
        raise CannotStart(error) from error


def take_owner(folder: Path) -> None:
    """When root, become the owner of the outputs: what reads foreign files shall not be root."""
    if not privileges.become_owner(folder):
        return
    part = privileges.closed_part()
    if part:
        raise CannotStart(
            f"The program cannot be used by user {os.geteuid()}, who owns {folder}: "
            f"{part} is closed to that user. Make it readable for all, or let root own the outputs."
        )


def find_inputs(folder: Path) -> Tuple[List[Path], List[Tuple[Path, str]]]:
    """The images of the folder and those refused; says which are refused or passed over."""
    try:
        inputs, refused, passed_over = images.list_inputs(folder)
    except images.ImageError as error:
        reason = f"{error}{permission_hint(error)}"
        raise CannotStart(f"No images can be taken from {folder}: {reason}.") from error
    for verdict, found in (("skipped", refused), ("passed over", passed_over)):
        for path, reason in found:
            print(f"{shown(path)}: {verdict}, {reason}", file=sys.stderr)
    if not inputs and not refused:
        raise CannotStart(f"There is no image in {folder}.")
    return inputs, refused


def make_ready(folder: Path) -> None:
    """See to the outputs folder, or say why it cannot be used."""
    try:
        outputs.prepare(folder)
    except OSError as error:
        hint = "."
        if isinstance(error, PermissionError) and folder.is_dir():
            owner = folder.stat()
            hint = (
                f" for user {os.geteuid()}. Start the program as the folder's owner "
                f"(docker run --user {owner.st_uid}:{owner.st_gid})."
            )
        reason = f"Labels cannot be written to {folder}: {error.strerror}{hint}"
        raise CannotStart(reason) from error


def load_segmenter(options: argparse.Namespace) -> Tuple["Segmenter", str]:
    """The networks, ready, and the record of how labels are made (outputs.record_of).

    Imported late: what is wrong with arguments or folders shows at once.
    """
    from app.network.device import DeviceWarning
    from app.network.weights import WeightsError
    from app.segmenter import Segmenter

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", DeviceWarning)
            segmenter = Segmenter.load(
                options.weights,
                options.device,
                uncertainty_nms=not options.no_uncertainty_nms,
                amp=not options.no_amp,
                refinement=not options.no_refinement,
                threshold=options.threshold,
                min_size=options.min_size,
                max_size=options.max_size,
                scale=options.scale,
                thorough=options.thorough,
            )
        record = outputs.record_of(options.weights, segmenter, **selection(options))
    except (WeightsError, ValueError) as error:
        raise CannotStart(error) from error
    except OSError as error:
        raise CannotStart(f"{error.filename}: cannot be read ({error.strerror}).") from error
    for warning in caught:
        print(warning.message, file=sys.stderr)
    return segmenter, record


def not_done(
    pairs: List[Tuple[Path, Path]],
    record: str,
    with_table: bool,
    wanted: Sequence[exports.Export] = (),
    measure: bool = False,
) -> List[Tuple[Path, Path]]:
    """Those (image, label image) that no earlier run has done; says how many one has."""
    waiting = [
        (image, target)
        for image, target in pairs
        if not all(export.is_done(target) for export in wanted)
        or not outputs.is_done(image, target, record, with_table)
        or (measure and not tables.is_measured(target))
    ]
    if len(waiting) < len(pairs):
        done = len(pairs) - len(waiting)
        print(f"{done} of {len(pairs)} images were done before and are skipped")
    return waiting


def attempt(
    title: str,
    segmenter: "Segmenter",
    path: Path,
    target: Path,
    progress: Progress,
    verbose: bool,
    **how: Any,
) -> bool:
    """Do one image, or say why not; a line on the screen either way. Returns True if done.

    target, how: see files.segment_file. verbose: with the traceback, where it fails.
    """
    from app import files  # late, as in load_segmenter

    start = time.perf_counter()
    try:
        with progress as windows, traceback_of_failure(verbose):
            (height, width), cells, remarks, scale = files.segment_file(
                segmenter, path, target, progress=windows, **how
            )
    except (images.ImageError, UnknownPixelSize) as error:
        print(f"{title}: failed, {error}{permission_hint(error)}", file=sys.stderr)
        return False
    except Exception as error:  # whatever it is (no memory, say): the other images are still done
        reason = (str(error).strip() or "no reason is given").splitlines()[0]
        print(f"{title}: failed, {type(error).__name__}: {reason}", file=sys.stderr)
        return False
    seconds = time.perf_counter() - start
    score = f", mean score {cells.scores.mean():.2f}" if len(cells) else ""
    scaled = f" ×{scale:.3g}" if scale != 1 else ""
    print(f"{title} {width}×{height}{scaled} {seconds:.2f} s {counted(len(cells))}{score}")
    for remark in remarks:
        print(f"{shown(path)}: {remark}", file=sys.stderr)
    return True


def permission_hint(error: Exception) -> str:
    """What to do where a file or folder is closed to this user; a text to follow the error's."""
    if not isinstance(error.__cause__, PermissionError):
        return ""
    return f": user {os.geteuid()} must be allowed to read it (chmod a+rX)"


def shown(path: Path) -> str:
    """A file's name on one line: a line break in it becomes \\n, and so on."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in path.name)


@contextmanager
def traceback_of_failure(verbose: bool) -> Iterator[None]:
    """Print where an exception comes from, if verbose, and let it go on."""
    try:
        yield
    except Exception:
        if verbose:
            traceback.print_exc()
        raise


def stop(number: int, frame: Optional[FrameType]) -> None:
    """Handle a signal: leave whatever is being done, cleaning up on the way out."""
    raise Stopped(number)


def on_signals(handler: Union[Callable, int]) -> None:
    """What is to be done when Ctrl-C or SIGTERM comes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


if __name__ == "__main__":
    on_signals(stop)
    sys.exit(main(sys.argv[1:]))
