"""python -m experiments many: what many small images in one run take of time and memory.

Drawn images of nuclei go through the whole command at the scale 1, a tenth of them and then all;
beside that, the bare network is given the same arrays, one after another, in this process.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import torch

from app.arguments import WEIGHTS
from app.network.device import computing, set_up_cpu
from app.segmenter import Segmenter
from evaluate.folders import EvaluationError
from evaluate.tables import text_table
from experiments.large import PREDICT, timed
from experiments.stages import drawn_nuclei

BLOCK = 1024  # side in pixels of the drawn nuclei that the images are parts of


def add_arguments(parser):
    """What the command takes."""
    add = parser.add_argument
    add("--count", type=int, default=2000, help="of the images (default: %(default)s)")
    add("--side", type=int, default=256, help="of each (default: %(default)s pixels)")


def run(options):
    """Measure and print; returns the exit status. EvaluationError."""
    if options.count < 2:
        raise EvaluationError("--count is at least 2: the rate is between a few images and all")
    set_up_cpu()
    with tempfile.TemporaryDirectory(prefix="many-") as temporary:
        rows = [command_on(n, options.side, Path(temporary)) for n in counts(options.count)]
    (few, first, _), (all_of_them, seconds, _) = rows
    network = network_seconds(options.count, options.side)
    told = ((count, f"{taken:.1f}", f"{memory:.2f}") for count, taken, memory in rows)
    print(text_table(("images", "seconds", "peak GB"), told))
    # What the command takes to start is in both.
    rate = (all_of_them - few) / (seconds - first)
    bare = options.count / network
    print(f"{rate:.1f} images a second, the bare network {bare:.1f}: {rate / bare:.2f} of it")
    return 0


def counts(count):
    """A tenth of so many images, and all of them."""
    return max(count // 10, 1), count


def command_on(count, side, folder):
    """(count, seconds, peak of memory in GB) of the command on so many images. EvaluationError."""
    inputs = folder / f"{count}"
    inputs.mkdir()
    for number, pixels in enumerate(drawn(count, side)):
        tifffile.imwrite(str(inputs / f"{number}.tif"), pixels)
    command = [*PREDICT, inputs, folder / f"{count}_out", "--scale", "1", "--quiet"]
    return (count, *timed(command))


def drawn(count, side):
    """Yield so many images (side, side), uint8, of drawn nuclei, each another part of them."""
    block, rng = drawn_nuclei(BLOCK), np.random.default_rng(0)
    for _ in range(count):
        top, left = rng.integers(0, BLOCK - side + 1, 2)
        yield np.ascontiguousarray(block[top : top + side, left : left + side])


@torch.no_grad()
def network_seconds(count, side):
    """Seconds that the shipped network alone takes for the images, one after another."""
    segmenter = Segmenter.load(WEIGHTS, "cpu")
    views = (segmenter.view(image) for image in drawn(count, side))
    inputs = [view.window(segmenter.plan(view.shape)[0])[0] for view in views]
    taken = 0.0
    for number, rgb in enumerate([inputs[0], *inputs]):  # the first one allocates
        start = time.perf_counter()
        image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
        with computing(segmenter.device, amp=True):
            segmenter.network(image.contiguous(memory_format=torch.channels_last))
        taken += (time.perf_counter() - start) * (number > 0)
    return taken
