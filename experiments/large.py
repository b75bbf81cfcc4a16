"""python -m experiments large: what large images take of time and memory.

Slides of drawn nuclei, one after another, through the whole command, or with --workers by so many
workers of dask.distributed of one thread each; and with --merge so many drawn cells through the
merge and the drawing alone.
"""

import itertools
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from app.arguments import WEIGHTS
from app.cells import Cells
from app.images import Loaded
from app.intensity import Curve
from app.large import stages
from app.large.plan import Plan
from app.large.store import Store
from app.no_image import NoImage
from app.options import Extend
from app.outputs import save_strips
from app.segmenter import Segmenter
from app.windows import cut_by_window, settle_within
from evaluate.folders import EvaluationError
from experiments.pack_memory import peak_memory

PREDICT = ["sh", Path(__file__).resolve().parents[1] / "predict.sh"]
SPACING, SAMPLES = 52, 64  # pixels between the nuclei of slides; points of a contour
CROWDED = 28  # pixels between the cells that are merged
BLOCK, TILE = 2 * 32 * SPACING, 512  # pixels: slides repeat after BLOCK
GLASS, TISSUE, NUCLEUS = (244, 242, 245), (225, 190, 215), (110, 70, 140)


def add_arguments(parser):
    """What the command takes."""
    add = parser.add_argument
    add("--sides", type=int, nargs="*", default=[4000, 10000], help="default: %(default)s")
    workers = "of dask, each number in turn (default: none, all cores in one process)"
    add("--workers", metavar="N", type=int, nargs="+", action=Extend, default=[], help=workers)
    add("--merge", metavar="CELLS", type=int, help="merge and draw so many cells, and no slides")
    add("--folder", type=Path, help="where slides and labels go, to be kept; default: nowhere")


def run(options):
    """Measure and print; returns the exit status. EvaluationError."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.merge:
            tell_merge(options.merge, folder)
        else:
            tell_slides(options.sides, folder, options.workers)
    return 0


def tell_slides(sides, folder, workers=()):
    """Print a row for each side of a slide, and each number of workers."""
    print("side, workers, cells, seconds, Mpx/s, of the first, peak GB of a process")
    first = None
    for side, number in itertools.product(sides, workers or [0]):
        slide, out = folder / f"{side}.tif", folder / f"{side}_out_{number}"
        if not slide.is_file():
            draw_slide(slide, side)
        command = [*PREDICT, slide, "--out", out, "--scale", "1", "--quiet"]
        seconds, memory = timed(command + ["--dask", f"local:{number}"] * (number > 0))
        with tifffile.TiffFile(str(out / f"{side}_label.tiff")) as tif:
            cells = max(
                int(tile[0].max()) for tile in tif.pages[0].segments() if tile[0] is not None
            )
        rate = side**2 / 1e6 / seconds
        first = first or rate
        row = side, number, cells, f"{seconds:.0f}", f"{rate:.3f}", f"{rate / first:.2f}"
        print(*row, f"{memory:.2f}", sep=", ")


def timed(command):
    """(seconds, the largest memory of any process in GB) of a command. EvaluationError."""
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise EvaluationError(f"{' '.join(map(str, command))} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def draw_slide(path, side):
    """Write a slide of side x side pixels: nuclei SPACING apart in tissue, and a tenth of glass."""
    block = drawn_block()

    def tiles():
        for top in range(0, side, TILE):
            for left in range(0, side, TILE):
                if left >= 0.9 * side:
                    yield np.full((TILE, TILE, 3), GLASS, np.uint8)
                    continue
                rows, columns = (np.arange(start, start + TILE) % BLOCK for start in (top, left))
                yield np.ascontiguousarray(block[np.ix_(rows, columns)])

    with tifffile.TiffWriter(str(path), bigtiff=True) as tif:
        how = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 90}}
        tif.write(tiles(), shape=(side, side, 3), dtype=np.uint8, tile=(TILE, TILE), **how)


def drawn_block():
    """Pixels (BLOCK, BLOCK, 3) of tissue, whose nuclei do not reach its edges."""
    rng = np.random.default_rng(0)
    block = np.empty((BLOCK, BLOCK, 3))
    block[:] = TISSUE
    y, x = np.mgrid[:SPACING, :SPACING] - SPACING / 2
    for top in range(0, BLOCK, SPACING):
        for left in range(0, BLOCK, SPACING):
            a, b = rng.uniform(9, 16, 2)
            turn, (dx, dy) = rng.uniform(0, np.pi), rng.uniform(-8, 8, 2)
            u = (x - dx) * np.cos(turn) + (y - dy) * np.sin(turn)
            v = (y - dy) * np.cos(turn) - (x - dx) * np.sin(turn)
            share = np.clip(4 * (1.15 - np.hypot(u / a, v / b)), 0, 1)[..., None]
            part = block[top : top + SPACING, left : left + SPACING]
            part += share * (np.array(NUCLEUS) + rng.normal(0, 12) - part)
    return (block + rng.normal(0, 6, block.shape)).clip(0, 255).astype(np.uint8)


def tell_merge(count, folder):
    """Print what so many cells take."""
    segmenter = Segmenter.load(WEIGHTS, "cpu")
    side = int(np.ceil(np.sqrt(count))) * CROWDED
    image = Loaded(np.broadcast_to(np.zeros(1, np.uint8), (side, side)), [], None, None)
    windows = segmenter.plan((side, side))
    convert = Curve((0, 1), (0, 1), 1.0, 0.0)
    plan = Plan({}, (side, side), 1.0, convert, NoImage(), windows)
    store = Store.new(folder / "merge_windows", plan)
    cells = drawn_cells(count, side)
    found = sum(see(store, number, cells, side, segmenter.rules) for number in range(len(windows)))
    del cells
    start = clocks()
    merged = stages.merge(store, segmenter, image, segmenter.sizes.in_pixels(None))
    between = clocks()
    strips = stages.draw(store, merged, image)
    path = folder / "merge_label.tiff"
    save_strips(path, strips, (side, side), {}, lambda: merged.cells(strips.labelled))
    end = clocks()
    print(
        f"{found} cells in {len(windows)} windows of {side} x {side} pixels: "
        f"{int(strips.labelled.sum())} of {count} drawn; {told('merged', between - start)}, "
        f"{told('drawn', end - between)}, {told('both', end - start)}; peak of memory "
        f"{peak_memory() / 2**30:.2f} GB, the outlines that were drawn before included"
    )


def clocks():
    """Seconds (2,) of the clock on the wall, and of all threads of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def told(what, seconds):
    """What took so many seconds of the two clocks."""
    wall, processor = seconds
    return f"{what} in {wall:.1f} s ({processor:.1f} s of processor)"


def drawn_cells(count, side):
    """Cells of discs that touch their neighbours, in rows over an image of this side."""
    rng = np.random.default_rng(0)
    t = np.linspace(0, 2 * np.pi, SAMPLES, endpoint=False, dtype=np.float32)
    circle = np.stack([np.cos(t), np.sin(t)], axis=1)
    middles = np.stack(np.divmod(np.arange(count), side // CROWDED)[::-1], axis=1) + 0.5
    radius = rng.uniform(9, 15, (count, 1, 1)).astype(np.float32)
    contours = (middles[:, None] * CROWDED + radius * circle).clip(0, side - 1).astype(np.float32)
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    scores = rng.uniform(0.9, 1, count).astype(np.float32)
    return Cells(contours, boxes, scores, np.zeros((count, 4), np.float32))


def see(store, number, cells, side, rules):
    """Keep what a window shows of the cells, settled within it; returns how many that are."""
    window = store.plan.windows[number]
    x0, y0, x1, y1 = cells.boxes.T
    seen = (x1 >= window.x0) & (y1 >= window.y0) & (x0 < window.x1) & (y0 < window.y1)
    part = cells.filter(seen)
    low, high = np.array(window[:2]), np.array(window[2:]) - 1
    cut = cut_by_window(part, window, side, side)[:, None, None]
    part.contours = np.where(cut, part.contours.clip(low, high), part.contours)
    part.boxes = np.concatenate([part.contours.min(axis=1), part.contours.max(axis=1)], axis=1)
    whole, fragments = settle_within(window, part, side, side, rules)
    store.write_window(number, whole, fragments)
    return len(whole) + len(fragments)
