"""How long the whole command takes, from its start to its end, on two folders of real images."""

import csv
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Folder, side of its square images, how many, and the seconds that the product promises on 2 cores.
FOLDERS = (("one", 1000, 1, 10.0), ("twenty", 512, 20, 30.0))


def bench(data, command):
    """Yield (folder, images, seconds, promised seconds, ratio) for each of FOLDERS.

    data: a folder with catalog.csv; command: list of str to which inputs and outputs are appended.
    The ratio is to a Python process beside it that only imports torch, the least that any such
    program takes on this machine. Raises RuntimeError when the command fails.
    """
    with (Path(data) / "catalog.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for name, side, count, promised in FOLDERS:
        chosen = [row for row in rows if row["height"] == row["width"] == str(side)][:count]
        with tempfile.TemporaryDirectory() as work:
            inputs = Path(work) / "inputs"
            inputs.mkdir()
            for number, row in enumerate(chosen):
                source = Path(data) / row["source"] / row["image"]
                shutil.copyfile(source, inputs / f"{number}{source.suffix}")
            seconds = timed([*command, str(inputs), str(Path(work) / "outputs")])
        least = timed([sys.executable, "-c", "import torch"])
        yield name, len(chosen), seconds, promised, seconds / least


def timed(command):
    """Wall time of a command in seconds. RuntimeError when it fails."""
    start = time.perf_counter()
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    seconds = time.perf_counter() - start
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr}")
    return seconds
