"""Time a container or a command on every image of a folder, by the organisers' protocol.

Each image lies alone in a new inputs folder, with a new outputs folder beside it, and the container
or the command is started once for it. The clock runs from that start to the exit; copying the image
and looking at the result lie outside of it. An image may take 10 s up to 1,000,000 pixels, and 10 s
per million pixels above. It has failed, however fast, when the exit status is not 0 or there is no
label image NAME_label.tiff (.tif, .png) of the image's height and width. A run that takes 10 times
its limit is ended. Of several repetitions the median counts, and each has to leave its labels.
The organisers rank by the seconds above the limit (rank).

  --docker   docker container run [--gpus device=0, where nvidia-smi shows a GPU] -m 28g
             --network none --rm -v ... IMAGE /bin/bash -c "sh predict.sh"
  --command  the words as given, started without a shell; {inputs} and {outputs} are the folders

Peak memory: of a command, the sum over it and all its children of the proportional set size (shared
pages counted once), looked at every 0.2 s; of a container, the kernel's own peak of what counts
against the 28 GB, which includes the files that it read and wrote. Peak GPU memory: what nvidia-smi
reports for these processes, looked at every 0.5 s.

--out DIR writes times.json, times.csv, and the times against the images' sizes as times.png and
times.svg. Exit status: 0 when all images passed, else 1; 2 when nothing could be started.
"""

import argparse
import csv
import os
import platform
import re
import shlex
import signal
import statistics
import sys
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import psutil

from app.atomic import replacing
from app.names import shown
from app.signals import NUMBERS, Stopped, stop

from .folders import EvaluationError, list_images
from .plots import plot_times, save
from .processes import Command, Container, Program, gpu_name
from .protocol import ImageTime, size, time_image
from .score import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m evaluate time`."""
    parser.add_argument("--images", metavar="DIR", type=Path, required=True)
    program = parser.add_mutually_exclusive_group(required=True)
    program.add_argument("--docker", metavar="IMAGE", help="an image of this machine's Docker")
    program.add_argument(
        "--command",
        metavar="TEXT",
        dest="command_line",
        help="for example 'sh predict.sh {inputs} {outputs}'",
    )
    parser.add_argument(
        "--without-amp",
        action="store_true",
        help="time every image a second time, with --no-amp added to the command",
    )
    parser.add_argument("--repeat", metavar="N", type=count, default=1, help="default: 1")
    parser.add_argument("--out", metavar="DIR", type=Path, help="for the files; default: none")


def count(text: str) -> int:
    """A whole number from 1 on, of a command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def run(options: argparse.Namespace) -> int:
    """The command; returns the exit status."""
    handlers = {number: signal.signal(number, stop) for number in NUMBERS}
    try:
        return time_folder(options)
    except Stopped as stopped:
        name = signal.Signals(stopped.args[0]).name
        print(f"Stopped by {name}: nothing is left running, nothing was written.", file=sys.stderr)
        return 128 + stopped.args[0]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def time_folder(options: argparse.Namespace) -> int:
    """Time all images, show them as they are done, write the files; returns the exit status."""
    program = Container(options.docker) if options.docker else Command(options.command_line)
    program.check()
    paths = [path for found in list_images(options.images).values() for path in found]
    if not paths:
        raise EvaluationError(f"{options.images} holds no images")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    amps = (True, False) if options.without_amp else (True,)
    times = {amp: [] for amp in amps}
    table = Table(paths, with_amp=options.without_amp)
    for path in paths:
        for amp in amps:
            result = time_image(program, path, amp, options.repeat)
            times[amp].append(result)
            table.show(result, amp)
    for amp in amps:
        table.summarise(times[amp], amp)
    if options.out:
        write(options.out, document(program, options.repeat, times))
    return 0 if all(result.passed for results in times.values() for result in results) else 1


class Table:
    """The table on the screen: a line per image as soon as it is done, then a summary."""

    HEADER = ("size", "seconds", "limit", "share", "rank", "MiB", "GPU MiB", "exit")
    WIDTHS = (13, 8, 7, 6, 8, 7, 8, 5)

    def __init__(self, paths: List[Path], with_amp: bool):
        self.width = max(len("image"), *(len(shown(path.name)) for path in paths))
        self.with_amp = with_amp
        self.line("image", "AMP", self.HEADER, "")

    def line(self, name: str, amp: str, cells: Sequence[str], verdict: str) -> None:
        """Print a line: name, AMP where both are timed, the cells under HEADER, verdict."""
        amp = f"  {amp:3}" if self.with_amp else ""
        cells = "".join(f"{cell:>{width}}" for cell, width in zip(cells, self.WIDTHS))
        line = f"{shown(name):{self.width}}{amp}{cells}  {shown(verdict)}"
        print(line.rstrip(), flush=True)

    def show(self, result: ImageTime, amp: bool) -> None:
        """A line of one ImageTime."""
        cells = [""] * len(self.HEADER)
        if result.seconds:
            cells = (
                size(result.height, result.width),
                f"{result.median_seconds:.2f}",
                f"{result.limit_seconds:.1f}",
                f"{result.share:.0%}",
                f"{result.rank_seconds:.2f}",
                mebibytes(result.peak_memory_bytes),
                mebibytes(result.peak_gpu_memory_bytes),
                str(result.exit_status),
            )
        verdict = "passed" if result.passed else f"FAILED: {result.reason}"
        self.line(result.name, on_off(amp), cells, verdict)

    def summarise(self, results: List[ImageTime], amp: bool) -> None:
        """A line on all of them."""
        text = f"{sum(result.passed for result in results)} of {len(results)} passed"
        timed = [result for result in results if result.seconds]
        if timed:
            share = statistics.mean(result.share for result in timed)
            largest = max(timed, key=lambda result: result.pixels)
            text += (
                f"; they took {share:.0%} of their limits on average, "
                f"the largest image {largest.share:.0%}"
            )
        print(f"AMP {on_off(amp)}: {text}" if self.with_amp else text)


def on_off(amp: bool) -> str:
    """Mixed precision in a word."""
    return "on" if amp else "off"


def mebibytes(value: Optional[int]) -> str:
    """Bytes as whole MiB; a dash where they are not known."""
    return "-" if value is None else f"{value / 2**20:.0f}"


def document(program: Program, repeat: int, times: Dict[bool, List[ImageTime]]) -> dict:
    """What times.json holds. times: {amp: [ImageTime]}."""
    command = program.arguments("{inputs}", "{outputs}", True)
    return {
        "kind": program.kind,
        "command": " ".join(map(shlex.quote, command)),
        "repeat": repeat,
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "gpu": gpu_name(),
        },
        "runs": [{"amp": amp, "images": list(map(asdict, times[amp]))} for amp in times],
    }


def processor() -> str:
    """The processor's name."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        for name in re.findall(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
            return name
    return platform.processor() or platform.machine()


def write(folder: Path, document: dict) -> None:
    """times.json, times.csv, times.png, times.svg."""
    write_json(folder / "times.json", document)
    write_csv(folder / "times.csv", document["runs"])
    save(plot_times(document["runs"]), folder / "times")


def write_csv(path: Path, runs: List[dict]) -> None:
    """One row per image and run; the repetitions' seconds are parted by spaces."""
    columns = [field.name for field in fields(ImageTime)]
    with replacing(path, text=True) as file:
        writer = csv.DictWriter(file, ["amp", *columns], lineterminator="\n")
        writer.writeheader()
        for amp, row in ((on_off(run["amp"]), row) for run in runs for row in run["images"]):
            writer.writerow({**row, "amp": amp, "seconds": " ".join(map(str, row["seconds"]))})
