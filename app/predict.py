"""The command: a folder of microscopy images in, a label image for each out.

Exit status 0: all done. 1: some images could not be done (each named with its reason), the others
are. 2: nothing was started, for the one reason given. 130 and 143: stopped by Ctrl-C and SIGTERM.
Label images are complete or absent, whatever happens.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

# What OpenCV finds odd in a file is said by us, in one sentence.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

INPUTS = Path("/workspace/inputs")
OUTPUTS = Path("/workspace/outputs")
WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "compact.safetensors"


class CannotStart(Exception):
    """Why no image can be done at all: one sentence."""


class Stopped(BaseException):
    """The process was asked to stop, by the signal of this number."""


def main(arguments):
    """Run the command with these arguments (a list of str); returns the exit status."""
    options = parse(arguments)
    for stream in (sys.stdout, sys.stderr):  # file names may hold what the terminal cannot show
        stream.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        return run(options)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 2
    except Stopped as stop:
        ignore_signals()  # a second Ctrl-C would interrupt these last lines
        name = signal.Signals(stop.args[0]).name
        print(f"Stopped by {name}: no label image was left incomplete.", file=sys.stderr)
        return 128 + stop.args[0]


def parse(arguments):
    """The options: inputs, outputs and weights (Path), device (str)."""
    parser = argparse.ArgumentParser(
        prog="sh predict.sh",
        description="Finds the cells in all images of a folder (TIFF, PNG, JPEG, BMP, WebP). "
        "The labels of NAME.* are written to NAME_label.tiff: 0 is background, k is cell k.",
    )
    parser.add_argument(
        "inputs", metavar="INPUTS", nargs="?", type=Path, default=INPUTS, help=f"default: {INPUTS}"
    )
    parser.add_argument(
        "outputs",
        metavar="OUTPUTS",
        nargs="?",
        type=Path,
        help=f"made if missing; default: {OUTPUTS}, or INPUTS-labels where there is no such folder",
    )
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, default=WEIGHTS, help="default: the ones we ship"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="default: auto, which is a GPU if there is one that works",
    )
    options = parser.parse_args(arguments)
    options.outputs = options.outputs or default_outputs(options.inputs)
    return options


def default_outputs(inputs):
    """Where the labels of `inputs` go when nobody says: OUTPUTS, else beside the inputs."""
    if inputs == INPUTS or OUTPUTS.is_dir():
        return OUTPUTS
    inputs = inputs.resolve()
    return inputs.parent / (inputs.name + "-labels")


def run(options):
    """Do all images of a folder; returns the exit status. Raises CannotStart."""
    inputs, refused = find_inputs(options.inputs)
    prepare(options.outputs)
    segmenter = load_segmenter(options)
    done = 0
    for number, path in enumerate(inputs, 1):
        done += attempt(segmenter, path, options.outputs, f"{number}/{len(inputs)} {path.name}")
    total = len(inputs) + len(refused)
    print(f"{done} of {total} images done; the labels are in {options.outputs}")
    return 0 if done == total else 1


def find_inputs(folder):
    """The images of the folder and those refused; says which are refused or passed over."""
    if not folder.is_dir():
        raise CannotStart(f"There is no folder {folder} to take images from.")
    from app import images

    try:
        inputs, refused, passed_over = images.list_inputs(folder)
    except images.ImageError as error:
        raise CannotStart(f"No images can be taken from {folder}: {error}.") from error
    for path, reason in refused:
        print(f"{path.name}: skipped, {reason}", file=sys.stderr)
    for path, reason in passed_over:
        print(f"{path.name}: passed over, {reason}", file=sys.stderr)
    if not inputs and not refused:
        raise CannotStart(f"There is no image in {folder}.")
    return inputs, refused


def prepare(folder):
    """Make the outputs folder if it is missing, and see that something can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=str(folder), buffering=0) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise CannotStart(f"Labels cannot be written to {folder}: {error.strerror}.") from error


def load_segmenter(options):
    """The network, ready. Imported late: what is wrong with arguments or folders shows at once."""
    from app.network.weights import WeightsError
    from app.segmenter import Segmenter

    try:
        return Segmenter.load(options.weights, device=options.device)
    except (WeightsError, ValueError) as error:
        raise CannotStart(error) from error


def attempt(segmenter, path, outputs, title):
    """Do one image, or say why not; a line on the screen either way. Returns True if done."""
    from app.images import ImageError

    start = time.perf_counter()
    try:
        (height, width), cells, remarks = segment_file(segmenter, path, outputs)
    except ImageError as error:
        print(f"{title}: failed, {error}", file=sys.stderr)
        return False
    except Exception as error:  # whatever it is (no memory, say): the other images are still done
        print(f"{title}: failed, {type(error).__name__}: {error}", file=sys.stderr)
        return False
    seconds = time.perf_counter() - start
    print(f"{title} {width}×{height} {seconds:.2f} s {cells} cells")
    for remark in remarks:
        print(f"{path.name}: {remark}", file=sys.stderr)
    return True


def segment_file(segmenter, path, outputs):
    """Write the label image of one file.

    Returns its shape (height, width), the number of cells, and sentences for the screen.
    """
    from app import images
    from app.rasterize import rasterize

    image, remarks = images.read(path)
    cells, notes = segmenter.segment(image, show_windows if sys.stderr.isatty() else None)
    labels, cells, lost = rasterize(cells, image.shape[:2])
    images.write_labels(outputs / images.output_name(path), labels)
    hidden = [f"{lost} cells that others cover were dropped"] if lost else []
    return labels.shape, len(cells), remarks + notes + hidden


def show_windows(done, total):
    """Progress within one image of several windows, on a terminal's last line."""
    if total > 1:
        end = "\r" if done < total else "\r\033[K"  # the last one clears the line
        print(f"window {done} of {total}", end=end, file=sys.stderr, flush=True)


def stop(number, frame):
    """Handle a signal: leave whatever is being done, cleaning up on the way out."""
    raise Stopped(number)


def ignore_signals():
    """From here on nothing is left to be stopped."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    sys.exit(main(sys.argv[1:]))
