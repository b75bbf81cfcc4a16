"""Which images a run does, and where the labels of each go."""

import os
from pathlib import Path
from typing import Iterator, List, NamedTuple, Tuple

from app import images
from app.images.folder import PassedOver
from app.names import output_names


class Job(NamedTuple):
    """An image to be segmented: its file, what it is called on the screen, its label image."""

    image: Path
    name: str
    target: Path


class Found(NamedTuple):
    """The jobs; what is passed over, with the reason; folders in the inputs that cannot be listed.

    closed: the name of each on the screen, and the images.ImageError that says why.
    """

    jobs: List[Job]
    passed_over: PassedOver
    closed: List[Tuple[str, images.ImageError]]


def find_jobs(
    inputs: List[Path], outputs: Path, recursive: bool = False, challenge: bool = False
) -> Found:
    """What there is to do in one folder, or of files.

    recursive: with the folders in the folder, which `outputs` then gets as well. challenge: how
    labels are named (names.output_names). Raises images.ImageError: the folder cannot be listed.
    """
    if len(inputs) > 1 or not os.path.isdir(inputs[0]) or images.is_zarr(inputs[0]):
        paths, passed_over = images.inputs_among(_different(inputs))
        return Found(_jobs(paths, Path(), outputs, challenge), passed_over, [])
    found = Found([], [], [])
    for folder in _folders(inputs[0], outputs) if recursive else inputs:
        inside = folder.relative_to(inputs[0])
        try:
            paths, others = images.list_inputs(folder)
        except images.ImageError as error:
            if folder == inputs[0]:
                raise
            found.closed.append((inside.as_posix(), error))
            continue
        found.jobs.extend(_jobs(paths, inside, outputs, challenge))
        found.passed_over.extend(
            other for other in others if not (recursive and _is_entered(other[0]))
        )
    return found


def _jobs(paths, inside, outputs, challenge):
    """The jobs of images that share a folder of outputs; `inside`: its path within all outputs."""
    names = output_names(paths, challenge)
    several = len({path.name for path in paths}) < len(paths)  # of one name, in several folders
    return [
        Job(
            path,
            str(path) if several else (inside / path.name).as_posix(),
            outputs / inside / names[path],
        )
        for path in paths
    ]


def _different(paths):
    """The paths without those that lead to the same file as one before."""
    return list({os.path.realpath(path): path for path in reversed(paths)}.values())[::-1]


def _folders(top: Path, outputs: Path) -> Iterator[Path]:
    """A folder and all in it, sorted, but for hidden ones and the outputs."""
    yield top
    try:
        paths = sorted(filter(_is_entered, top.iterdir()))
    except OSError:  # find_jobs says so
        return
    for path in paths:
        if os.path.realpath(path) != os.path.realpath(outputs):
            yield from _folders(path, outputs)


def _is_entered(path):
    """Whether `--recursive` looks into a path instead of passing it over."""
    is_image = path.name.lower().endswith(".zarr")  # of thousands of files that are its parts
    return (
        os.path.isdir(path)
        and not path.is_symlink()
        and not path.name.startswith(".")
        and not is_image
    )
