"""python -m experiments pack-memory: what packed training images take of the disk and of memory.

Labelled images are drawn and packed by a process of its own, whose peak of memory beyond what it
has with all libraries loaded is told for each pixel; so are the bytes on the disk, and whether the
paper's 3 Gpx would lie on a GPU of 40 GB.
"""

import tempfile
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from evaluate.folders import EvaluationError
from training import catalog, packing

SIDE = 2048  # pixels of a drawn image
SPACING = 113  # between its objects: 18 x 18 of them
PAPER_PIXELS, GPU_BYTES = 3e9, 40e9


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("--megapixels", type=int, default=300, help="to draw")
    parser.add_argument(
        "--data",
        type=Path,
        help="where they are drawn or lie from before; else nothing is kept",
    )


def run(options):
    """Measure and print; returns the exit status. EvaluationError."""
    with tempfile.TemporaryDirectory(prefix="pack-memory-") as folder:
        data, packed = options.data or Path(folder) / "data", Path(folder) / "pack"
        if not (data / catalog.TABLE).is_file():
            draw(data, max(round(options.megapixels * 1e6 / SIDE**2), 1))
        try:
            listing = catalog.entries(data, "train")
            with get_context("spawn").Pool(1) as pool:
                peak = pool.apply(packing_memory, (listing, packed))
        except ValueError as error:
            raise EvaluationError(error) from error
        print(report(packed, peak))
    return 0


def draw(folder, count):
    """A data folder of so many grey images of SIDE x SIDE pixels with ellipses."""
    rng = np.random.default_rng(0)
    (folder / "drawn").mkdir(parents=True)
    rows = ["source,image,label,split"]
    middles = np.arange(SPACING // 2, SIDE - SPACING // 2, SPACING).tolist()
    for number in range(count):
        image = rng.integers(0, 40, (SIDE, SIDE), np.uint8)
        label = np.zeros((SIDE, SIDE), np.uint16)
        for value, (x, y) in enumerate(((x, y) for y in middles for x in middles), 1):
            axes = rng.integers(12, SPACING // 2 - 8, 2).tolist()
            cv2.ellipse(label, (x, y), tuple(axes), int(rng.integers(180)), 0, 360, value, -1)
        image[label > 0] += 150
        cv2.imwrite(str(folder / "drawn" / f"{number}.tif"), image)
        cv2.imwrite(str(folder / "drawn" / f"{number}_label.png"), label)
        rows.append(f"drawn,{number}.tif,{number}_label.png,train")
    (folder / catalog.TABLE).write_text("\n".join(rows))


def packing_memory(listing, folder):
    """Bytes by which packing Entries into a folder raises this process's peak of memory."""
    before = peak_memory()
    packing.pack(listing, folder)
    return peak_memory() - before


def peak_memory():
    """Bytes of memory that this process had at most (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024


def report(folder, peak):
    """The figures of the pack in a folder, whose packing had a peak of so many bytes, as text."""
    sizes = {name: packing.file_of(folder, name).stat().st_size for name in packing.STORED}
    count = packing.Pack.load(folder).red.numel()
    pixels = sum(sizes[name] for name in packing.PIXELS) / count
    index = sum(sizes[name] for name in packing.INDEX) / count
    share = packing.GPU_SHARE * (GPU_BYTES - index * PAPER_PIXELS)
    place = "on the GPU" if pixels * PAPER_PIXELS <= share else "on the host"
    return (
        f"{count / 1e6:.1f} Mpx, packed: {pixels:.2f} bytes a pixel, and {index:.2f} that always "
        f"lie on the GPU\npeak of packing: {peak / 2**20:.0f} MiB, {peak / count:.2f} bytes a pixel"
        f"\n{PAPER_PIXELS / 1e9:g} Gpx like these, {GPU_BYTES / 1e9:g} GB free on the GPU: pixels "
        f"take {pixels * PAPER_PIXELS / 1e9:.1f} of {share / 1e9:.1f} GB that they may, so they "
        f"lie {place}"
    )
