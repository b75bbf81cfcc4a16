"""The organisers' protocol on one image: alone, one start, the time limit, and what has failed."""

import os
import shutil
import statistics
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Tuple

from .folders import LabelError, list_labels, name_of, only, read_labels
from .processes import Program, Run, run_once

LEAST_LIMIT = 10.0  # seconds
PIXELS_PER_SECOND = 100_000
PATIENCE = 10.0  # limits after which a run is ended


@dataclass(frozen=True)
class ImageTime:
    """How one image went, as times.json has it. What an unreadable image lacks is None."""

    name: str
    height: Optional[int] = None
    width: Optional[int] = None
    pixels: Optional[int] = None
    seconds: List[float] = ()  # one per repetition
    median_seconds: Optional[float] = None
    limit_seconds: Optional[float] = None
    share: Optional[float] = None  # median / limit
    rank_seconds: Optional[float] = None  # what the organisers rank by: the time above the limit
    passed: bool = False
    reason: Optional[str] = None  # why not
    exit_status: Optional[int] = None  # the first that is not 0, else 0
    peak_memory_bytes: Optional[int] = None
    peak_gpu_memory_bytes: Optional[int] = None


def limit_seconds(pixels: float) -> float:
    """The organisers' time limit of an image with so many pixels (height times width)."""
    return max(LEAST_LIMIT, pixels / PIXELS_PER_SECOND)


def time_image(program: Program, path: Path, amp: bool, repeat: int) -> ImageTime:
    """The ImageTime of one image, started `repeat` times."""
    from app import images

    try:
        height, width = images.read(path)[0].shape[:2]
    except images.ImageError as error:
        return ImageTime(path.name, reason=f"the image cannot be read: {error}")
    limit = limit_seconds(height * width)
    tries = [attempt(program, path, (height, width), amp, limit) for _ in range(repeat)]
    runs, problems = zip(*tries)
    median = statistics.median(run.seconds for run in runs)
    late = f"{median - limit:.2f} s over the limit" if median > limit else None
    reason = next(filter(None, problems), late)
    return ImageTime(
        name=path.name,
        height=height,
        width=width,
        pixels=height * width,
        seconds=[run.seconds for run in runs],
        median_seconds=median,
        limit_seconds=limit,
        share=median / limit,
        rank_seconds=max(0.0, median - limit),
        passed=reason is None,
        reason=reason,
        exit_status=next(filter(None, (run.exit_status for run in runs)), 0),
        peak_memory_bytes=largest(run.peak_memory_bytes for run in runs),
        peak_gpu_memory_bytes=largest(run.peak_gpu_memory_bytes for run in runs),
    )


def attempt(
    program: Program, path: Path, shape: Tuple[int, int], amp: bool, limit: float
) -> Tuple[Run, Optional[str]]:
    """One start for one image of this shape (height, width): its Run, and what is wrong or None."""
    with alone(path) as (inputs, outputs):
        run = run_once(program, inputs, outputs, amp, PATIENCE * limit)
        return run, failure(run, outputs, path, shape)


@contextmanager
def alone(path: Path) -> Iterator[Tuple[Path, Path]]:
    """New folders (inputs, outputs), a copy of the image in the first; removed at the end."""
    work = Path(tempfile.mkdtemp(prefix="evaluate-time-"))
    try:
        inputs, outputs = work / "inputs", work / "outputs"
        inputs.mkdir()
        outputs.mkdir()
        outputs.chmod(0o777)  # a container may work as another user
        shutil.copyfile(str(path), str(inputs / path.name))
        yield inputs, outputs
    finally:
        shutil.rmtree(str(work), ignore_errors=True)  # folders of a container's root may stay


def failure(run: Run, outputs: Path, path: Path, shape: Tuple[int, int]) -> Optional[str]:
    """Why a run has failed, whatever time it took; None if it has not."""
    if run.hung:
        return f"ended after {run.seconds:.0f} s, {PATIENCE:g} times its limit"
    if run.exit_status:
        return ": ".join(filter(None, (ending(run.exit_status), run.message)))
    name = name_of(path.name)
    found = list_labels(outputs)
    mine = [file for stem in found if name_of(stem) == name for file in found[stem]]
    try:
        labels = read_labels(only(mine, f"label image {name}_label.tiff"))
    except LabelError as error:
        return str(error).replace(f"{outputs}{os.sep}", "")
    if labels.shape != shape:
        return f"the labels are {size(*labels.shape)}, the image is {size(*shape)}"
    return None


def ending(status: int) -> str:
    """An exit status in words."""
    return f"ended by signal {-status}" if status < 0 else f"exit status {status}"


def size(height: int, width: int) -> str:
    """The size of an image in words, width first: 30×20."""
    return f"{width}×{height}"


def largest(values: Iterable[Optional[int]]) -> Optional[int]:
    """The largest value that is not None; None without any."""
    return max((value for value in values if value is not None), default=None)
