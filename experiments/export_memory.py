"""python -m experiments export-memory: what writing very many cells takes of time and memory.

Cells are drawn (discs of 64 points on a grid, a hundredth of them with an outline that crosses
itself) and written in one format by a process of its own, whose peak of memory beyond what it had
with the cells and their label image is told.
"""

import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from app import exports, extras, images
from app.cells import Cells
from app.formats import FORMATS
from evaluate.folders import EvaluationError
from experiments.pack_memory import peak_memory

SPACING, SAMPLES = 16, 64  # pixels between the cells; points of a contour


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("--cells", type=int, default=500_000, help="default: %(default)s")
    parser.add_argument("--format", choices=FORMATS, default="geojson")


def run(options):
    """Measure and print; returns the exit status. EvaluationError."""
    try:
        exports.load([options.format])
    except extras.Unusable as error:
        raise EvaluationError(error) from error
    with get_context("spawn").Pool(1) as pool:
        seconds, cpu_seconds, memory, size = pool.apply(measured, (options.cells, options.format))
    print(
        f"{options.format}, {options.cells} cells: {seconds:.0f} s "
        f"({cpu_seconds:.0f} s of one core), {size / 1e6:.0f} MB; peak of memory "
        f"{memory / 2**20:.0f} MiB beyond the cells and their labels"
    )
    return 0


def measured(count, name):
    """What so many cells take: seconds, those of one core, bytes of memory and of the file."""
    (export,) = exports.load([name])
    with tempfile.TemporaryDirectory() as folder:
        image, path = Path(folder) / "a.png", Path(folder) / "a.out"
        image.write_bytes(b"no image is looked at")
        result = drawn(count, image)
        before, start, cpu_start = peak_memory(), time.perf_counter(), time.process_time()
        export.write(path, result)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        return seconds, cpu_seconds, peak_memory() - before, size_of(path)


def size_of(path):
    """Bytes of a file, or of all files in a folder."""
    return sum(part.stat().st_size for part in (path, *path.rglob("*")) if part.is_file())


def drawn(count, path):
    """The exports.Result of an image with so many cells."""
    rng = np.random.default_rng(0)
    columns = int(np.ceil(np.sqrt(count)))
    side = columns * SPACING
    labels = np.zeros((side, side), np.int32)
    t = np.linspace(0, 2 * np.pi, SAMPLES, endpoint=False, dtype=np.float32)
    circle = np.stack([np.cos(t), np.sin(t)], axis=1)
    eight = np.stack([np.cos(t), np.sin(2 * t)], axis=1)
    middles = np.stack(np.divmod(np.arange(count), columns)[::-1], axis=1) * SPACING + SPACING // 2
    contours = np.empty((count, SAMPLES, 2), np.float32)
    y, x = np.mgrid[:SPACING, :SPACING] - SPACING // 2
    disc = np.hypot(x, y) < SPACING / 2 - 1
    for row, (middle_x, middle_y) in enumerate(middles):
        shape = circle if row % 100 else eight
        contours[row] = shape * rng.uniform(4, 7) + (middle_x, middle_y)
        top, left = middle_y - SPACING // 2, middle_x - SPACING // 2
        labels[top : top + SPACING, left : left + SPACING][disc] = row + 1
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    scores = rng.random(count, dtype=np.float32)
    cells = Cells(contours, boxes, scores, rng.random((count, 4), dtype=np.float32))
    return exports.Result(
        path, images.Loaded(np.uint8(100) * (labels > 0), [], None, None), labels, cells
    )
