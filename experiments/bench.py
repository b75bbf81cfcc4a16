"""How long the whole prediction takes, or the scorer, on this machine.

--data: the prediction command from its start to its end, on one image of 1000 x 1000 pixels and
  on twenty of 512 x 512. The ratio is to a Python process that only imports torch, the least that
  any such program takes here.
--scorer: `score` on two drawn pairs of label images, one core, without reading files: 10,000 cells
  on 4000 x 4000 pixels, and 100,000 on 10,000 x 10,000 with the memory of the process at its
  peak, both images included. The ratio is to numpy.unique of the same two images.
"""

import argparse
import csv
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator, List, Tuple

import numpy as np

from evaluate import strict
from evaluate.folders import EvaluationError

# Folder, side of its square images, how many, and the seconds that the product promises on 2 cores.
FOLDERS = (("one", 1000, 1, 10.0), ("twenty", 512, 20, 30.0))

# Side in pixels and cells of the drawn pairs, and what the scorer promises of them: seconds, bytes.
PAIRS = ((4000, 10000, 2.0, np.inf), (10000, 100000, np.inf, 4e9))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments bench`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", metavar="DIR", type=Path, help="a folder with catalog.csv")
    what.add_argument("--scorer", action="store_true", help="the scorer instead")
    parser.add_argument("--command", default="sh predict.sh", help="default: %(default)s")


def run(options: argparse.Namespace) -> int:
    """Time and tell; the exit status is 1 when a promise is broken."""
    command = shlex.split(options.command)
    kept = []
    for told, is_kept in bench_scorer() if options.scorer else bench(options.data, command):
        print(f"{told} ({'passed' if is_kept else 'FAILED'})")
        kept.append(is_kept)
    return int(not all(kept))


def bench(data: Path, command: List[str]) -> Iterator[Tuple[str, bool]]:
    """A sentence on each of FOLDERS, and whether the promise is kept.

    data: a folder with catalog.csv; the folders of inputs and outputs are appended to the command.
    EvaluationError when the command fails.
    """
    with (data / "catalog.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for name, side, count, promised in FOLDERS:
        chosen = [row for row in rows if row["height"] == row["width"] == str(side)][:count]
        with tempfile.TemporaryDirectory() as work:
            inputs = Path(work) / "inputs"
            inputs.mkdir()
            for number, row in enumerate(chosen):
                source = data / row["source"] / row["image"]
                shutil.copyfile(str(source), str(inputs / f"{number}{source.suffix}"))
            seconds = timed([*command, str(inputs), str(Path(work) / "outputs")])
        ratio = seconds / timed([sys.executable, "-c", "import torch"])
        told = f"{name}: {len(chosen)} images in {seconds:.1f} s of {promised:.0f} s"
        yield f"{told}, {ratio:.1f} times a bare import of torch", seconds <= promised


def timed(command: List[str]) -> float:
    """Wall time of a command in seconds. EvaluationError when it fails."""
    start = time.perf_counter()
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    seconds = time.perf_counter() - start
    if result.returncode:
        raise EvaluationError(f"{' '.join(command)} failed:\n{result.stderr}")
    return seconds


def bench_scorer() -> Iterator[Tuple[str, bool]]:
    """A sentence on each of PAIRS, and whether the promise is kept.

    The peak of the memory is that of this process so far: the smallest pair comes first.
    """
    for side, cells, most_seconds, most_bytes in PAIRS:
        pair = drawn_pair(side, cells)
        start = time.perf_counter()
        strict.scores(*pair, [0.5])
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        start = time.perf_counter()
        for labels in pair:
            np.unique(labels)
        ratio = seconds / (time.perf_counter() - start)
        told = f"{cells} cells on {side} x {side} pixels: {seconds:.2f} s, {ratio:.1f} times "
        told += f"numpy.unique, peak memory {memory / 1e9:.2f} GB"
        yield told, seconds <= most_seconds and memory <= most_bytes


def drawn_pair(side: int, cells: int, seed: int = 0) -> List[np.ndarray]:
    """Two label images (side, side) uint32 of discs: `cells` of them, somewhat moved in the second.

    They lie on a grid and keep 2 pixels off the edges; the labels are in random order.
    """
    rng = np.random.default_rng(seed)
    columns = int(np.ceil(np.sqrt(cells)))
    pitch = (side - 4) // columns
    y, x = np.mgrid[:pitch, :pitch]
    most = pitch // 8  # pixels that a disc may lie off its place
    disc = np.hypot(y - (pitch - 1) / 2, x - (pitch - 1) / 2) < pitch / 2 - most
    pair = []
    for _ in range(2):
        labels = np.zeros((side, side), np.uint32)
        moves = rng.integers(-most, most + 1, (cells, 2))
        for place, (label, move) in enumerate(zip(rng.permutation(cells) + 1, moves)):
            top, left = 2 + pitch * np.array(divmod(place, columns))
            moved = np.roll(disc, move, (0, 1))
            labels[top : top + pitch, left : left + pitch][moved] = label
        pair.append(labels)
    return pair
