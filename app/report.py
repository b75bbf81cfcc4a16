"""The page to look at of a run. The evaluator writes it, a program of its own: app imports none."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Iterable, Optional, Tuple

from app.selection import Channels, Plane

NAME = "report.html"
ROOT = Path(__file__).resolve().parents[1]
WRITTEN = (0, 1)  # the evaluator's exit status: all is well, or it shows what is not


def write(
    folder: Path,
    found: Iterable[Tuple[str, Path, Path]],
    channels: Optional[Channels] = None,
    plane: Optional[Plane] = None,
    quiet: bool = False,
) -> bool:
    """Write NAME to a folder and say so, or why not; whether it is there.

    found: of each image its name, its file and its label image, which may be missing. channels,
    plane: what was taken of the images (images.load). quiet: only what is wrong is said.
    """
    page = os.path.abspath(str(folder / NAME))
    command = [sys.executable, "-m", "evaluate", "report", "--pairs", "-", "--out", page]
    if channels is not None:
        command += ["--channels", ",".join(map(str, channels))]
    if plane is not None:
        command += ["--plane", str(plane)]
    table = io.StringIO(newline="")
    rows = ((name, *(os.path.abspath(str(path)) for path in paths)) for name, *paths in found)
    csv.writer(table).writerows([("name", "image", "labels"), *rows])
    text = table.getvalue().encode("utf-8", "surrogateescape")  # names may be no text
    screen = subprocess.DEVNULL if quiet else None
    try:
        # In the checkout, which `-m` looks in first, wherever the command was started.
        status = subprocess.run(command, cwd=str(ROOT), input=text, stdout=screen).returncode
    except OSError as error:
        status = error.strerror
    if status not in WRITTEN:
        print(f"{folder / NAME} could not be written ({status})", file=sys.stderr)
    return status in WRITTEN
