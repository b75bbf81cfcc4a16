"""python -m experiments stages: which stages of the prediction take how much of its time.

Images (by default one that is drawn, full of nuclei) are read, segmented at the scale 1 and
written, by one core: several would do stages of several windows at a time. The network's rate is
told beside that of a product of matrices, about the most that the core can do. With --beside, the
prediction commands of this and of another checkout do the images in turns by all cores, and the
other's time is told as a multiple of this one's, after what each takes for an image of next to
nothing.
"""

import os
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from unittest import mock

import numpy as np
import tifffile
import torch
from fvcore.nn import FlopCountAnalysis

from app import files, images, outputs
from app.arguments import WEIGHTS
from app.jobs import find_jobs
from app.network import weights
from app.network.cpn import CPN, DisplacementField
from app.network.device import set_up_cpu
from app.scale import View
from app.segmenter import Segmenter
from evaluate.folders import EvaluationError
from evaluate.tables import text_table

ROOT = Path(__file__).resolve().parents[1]
SPACING = 28  # pixels between the nuclei: 5,329 of them in an image of 2048 x 2048 pixels
NOTHING = 16  # side in pixels of the image of next to nothing
# The functions that a stage consists of; other stages within them are no part of it. The last one
# is what remains.
STAGES = {
    "read": [(images, "load")],
    "convert": [(Segmenter, "view"), (View, "window")],
    "network": [(CPN, "forward")],
    "decode": [(Segmenter, "_detect")],
    "refine": [(DisplacementField, "refine")],
    "suppress": [(Segmenter, "postprocess")],
    "draw": [(files, "rasterize")],
    "write": [(outputs, "save")],
    "rest": [(files, "segment_file")],
}
COUNTED = 256  # side in pixels of the image at which the network's operations are counted
MATRIX, PRODUCTS = 2048, 4


def add_arguments(parser):
    """What the command takes."""
    add = parser.add_argument
    add("--side", type=int, default=2048, help="of the drawn image (default: %(default)s pixels)")
    add("--images", metavar="DIR", type=Path, help="these images instead")
    add("--choose-scale", action="store_true", help="for each image, instead of the scale 1")
    add("--runs", type=int, default=3, help="the median is told (default: %(default)s)")
    add("--beside", metavar="CHECKOUT", type=Path, help="another checkout of this program")


def run(options):
    """Measure and print; returns the exit status. EvaluationError."""
    scale = None if options.choose_scale else 1
    with tempfile.TemporaryDirectory(prefix="stages-") as temporary:
        folder = Path(temporary)
        inputs = options.images or drawn(folder / "nuclei", options.side)
        if options.beside:
            nothing = drawn(folder / "nothing", NOTHING)
            tell_beside(inputs, nothing, folder, options.beside, options.runs, scale)
        else:
            tell_stages(inputs, folder, options.runs, scale)
    return 0


def drawn(folder, side):
    """A new folder with one image of drawn nuclei."""
    folder.mkdir()
    tifffile.imwrite(str(folder / "nuclei.tif"), drawn_nuclei(side))
    return folder


def drawn_nuclei(side):
    """Pixels (side, side), uint8, of bright ellipses that all but touch on dark noise."""
    rng = np.random.default_rng(0)
    pixels = np.full((side, side), 20.0)
    y, x = np.mgrid[:SPACING, :SPACING] - (SPACING - 1) / 2
    corners = range(0, side - SPACING + 1, SPACING)
    for top, left in ((top, left) for top in corners for left in corners):
        a, b = rng.uniform(9, 13, 2)
        turn, (dx, dy) = rng.uniform(0, np.pi), rng.uniform(-1.5, 1.5, 2)
        u = (x - dx) * np.cos(turn) + (y - dy) * np.sin(turn)
        v = (y - dy) * np.cos(turn) - (x - dx) * np.sin(turn)
        inside = np.clip(4 * (1.1 - np.hypot(u / a, v / b)), 0, 1)
        pixels[top : top + SPACING, left : left + SPACING] += inside * rng.uniform(90, 200)
    return (pixels + rng.normal(0, 5, pixels.shape)).clip(0, 255).astype(np.uint8)


def tell_stages(inputs, folder, runs, scale):
    """Print the time of each stage, and the network's rate beside that of the cores."""
    set_up_cpu(1)
    segmenter = Segmenter.load(WEIGHTS, "cpu", scale=scale)
    count = operations_of_a_pixel()
    jobs = find_jobs([inputs], folder).jobs
    found, rates = [], []
    for _ in range(1 + runs):
        watch = Stopwatch()
        with watch.on(STAGES):
            for job in jobs:
                files.segment_file(segmenter, job.image, job.target)
        found.append(watch.seconds)
        rate = count * watch.pixels / watch.seconds["network"]
        rates.append((rate, products_rate()))
    del found[0], rates[0]  # the first one allocates
    seconds = {stage: statistics.median(one[stage] for one in found) for stage in STAGES}
    whole = sum(seconds.values())
    rows = [(stage, f"{own:.2f}", f"{100 * own / whole:.1f}") for stage, own in seconds.items()]
    print(text_table(("stage", "seconds", "% of all"), [*rows, ("all", f"{whole:.2f}", "100.0")]))
    network, cores = (statistics.median(one) / 1e9 for one in zip(*rates))
    print(
        f"On one core the network did {network:.0f}, products of matrices "
        f"{cores:.0f} billion float32 multiplications and additions a second: {network / cores:.2f}"
    )


class Stopwatch:
    """Seconds of each stage, and how many pixels the network saw."""

    def __init__(self):
        self.seconds, self.pixels = Counter(), 0
        self._within = []  # seconds of the stages within each one that is being done

    def on(self, stages):
        """A context in which the functions of stages (as of STAGES) are timed."""
        stack = ExitStack()
        for stage, functions in stages.items():
            for owner, name in functions:
                timed = self._timed(stage, getattr(owner, name))
                stack.enter_context(mock.patch.object(owner, name, timed))
        return stack

    def _timed(self, stage, function):
        @wraps(function)
        def timed(*arguments, **options):
            start = time.perf_counter()
            self._within.append(0)
            result = function(*arguments, **options)
            passed = time.perf_counter() - start
            self.seconds[stage] += passed - self._within.pop()
            if self._within:
                self._within[-1] += passed
            if stage == "network":
                batch = arguments[1]
                self.pixels += batch.numel() // batch.shape[1]
            return result

        return timed


def operations_of_a_pixel():
    """Multiplications and additions of the shipped network for a pixel."""
    network, _ = weights.load(WEIGHTS)
    counted = FlopCountAnalysis(network, torch.zeros(1, 3, COUNTED, COUNTED))
    counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return 2 * counted.total() / COUNTED**2


def products_rate():
    """Multiplications and additions a second of the cores in products of float32 matrices."""
    matrix = torch.ones(MATRIX, MATRIX)
    start = time.perf_counter()
    for _ in range(PRODUCTS):
        matrix @ matrix
    return 2 * MATRIX**3 * PRODUCTS / (time.perf_counter() - start)


def tell_beside(inputs, nothing, folder, other, runs, scale):
    """Print the times of this and of another checkout, and how many times the other's is ours."""
    checkouts = {"this": ROOT, "other": other.resolve()}
    found = {(name, kind): [] for name in checkouts for kind in (inputs, nothing)}
    for number in range(runs):
        for (name, kind), times in found.items():
            out = folder / f"{name}_{kind.name}_{number}"
            times.append(times_of(checkouts[name], kind, out, scale))
    rows, whole = [], {}
    for name in checkouts:
        taken, start = (np.median(found[name, kind], axis=0) for kind in (inputs, nothing))
        whole[name] = taken - start
        rows.append((name, *(f"{value:.2f}" for value in (*taken, *start))))
    print(text_table(("checkout", "wall s", "cores s", "start, wall s", "start, cores s"), rows))
    wall, cores = whole["other"] / whole["this"]
    print(f"without the start this one is {wall:.2f} times as fast, by its cores {cores:.2f} times")


def times_of(checkout, inputs, out, scale):
    """(seconds by the clock, seconds of all cores) of a checkout's command. EvaluationError."""
    command = ["sh", str(checkout / "predict.sh")]
    knows = subprocess.run([*command, "--help"], capture_output=True, text=True).stdout
    command += [str(inputs), str(out)]
    if scale and "--scale" in knows:  # the others have no other scale
        command += ["--scale", str(scale)]
    start, before = time.perf_counter(), os.times()
    result = subprocess.run(command, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, os.times()
    if result.returncode:
        raise EvaluationError(f"{' '.join(command)} failed:\n{result.stderr}")
    user = after.children_user - before.children_user
    return wall, user + after.children_system - before.children_system
