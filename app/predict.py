"""The command: a folder of microscopy images in, a label image for each out.

Exit status 0: all done. 1: some images could not be done (each named with its reason), the others
are. 2: nothing was started, for the one reason given. 130 and 143: stopped by Ctrl-C and SIGTERM.
Label images are complete or absent, whatever happens.
"""

import argparse
import csv
import os
import signal
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Sequence, Tuple

from app import exports, extras, images, outputs, privileges, report, summary
from app.ahead import ahead
from app.arguments import CannotStart, check, parse
from app.attempts import Attempt, permission_hint, selection
from app.exports import tables
from app.formats import PREVIEWS
from app.jobs import Job, find_jobs
from app.names import LABEL_ENDING, fitting, short_stem, shown, stem
from app.progress import Progress
from app.resume import done_before
from app.screen import quiet, screen
from app.signals import Stopped, on_signals, stop
from app.summary import Row

if TYPE_CHECKING:
    from app.large.stages import Share
    from app.segmenter import Segmenter

MOST_WIDTH = 40  # characters: to so many the names of images are filled up on the screen


def main(arguments: List[str]) -> int:
    """Run the command with these arguments (a list of str); returns the exit status."""
    with screen():
        options = parse(arguments)
        images.silence_libraries()
        try:
            with quiet() if options.quiet else nullcontext():
                return run(options)
        except CannotStart as error:
            print(error, file=sys.stderr)
            return 2
        except Stopped as stopped:
            (number,) = stopped.args
            name = signal.Signals(number).name
            said = "no label image was left incomplete, and what is done of large ones is kept"
            print(f"Stopped by {name}: {said}.", file=sys.stderr)
            return 128 + number


def run(options: argparse.Namespace) -> int:
    """Do all images of a folder; returns the exit status. Raises CannotStart."""
    check(options)
    check_run_table(options)
    warn_of_lost_outputs(options.outputs)
    wanted = wanted_exports(options)
    take_owner(options.outputs)
    jobs, closed = jobs_of(options)
    jobs = shared(jobs, options)
    make_ready({options.outputs, *(job.target.parent for job in jobs)})
    segmenter, settings = load_segmenter(options)
    licences = licences_of(options.weights)
    before = done_before(jobs, settings, options, wanted) if options.resume else {}
    waiting = [job for job in jobs if job not in before]
    rows = {}
    try:
        if options.dask:
            for job, row in attempt_on_workers(waiting, settings, options):
                rows[job] = row
        else:
            attempt_all(waiting, segmenter, settings, options, wanted, rows)
    finally:
        write_summary(options.outputs, list(rows.values()), [row for _, row in before.values()])
    found = {**before, **{job: (job.target, row) for job, row in rows.items()}}
    joined = not options.table or write_run_table(options.table, jobs, found)
    reported = options.report and write_report(jobs, found, options)
    done = len(before) + sum(row.is_done for row in rows.values())
    total = len(jobs) + closed  # folders, of which nobody knows how many images they hold
    parts = sum(row.status == "part" for row in rows.values())
    tell_end(total, done - parts, parts, len(before), licences, reported, options)
    return 0 if joined and reported == options.report and done == total else 1


def attempt_all(
    jobs: List[Job],
    segmenter: "Segmenter",
    settings: dict,
    options: argparse.Namespace,
    wanted: Sequence[exports.Export],
    rows: Dict[Job, Row],
) -> None:
    """Do all jobs in their order; what becomes of each comes into `rows`.

    While one is segmented (of small ones several at a time), the next is read, and the labels of
    the one before are drawn and written. More are not held at a time, for the memory's sake.
    """
    from app.lanes import in_lanes  # late, as in load_segmenter

    progress, share = Progress(len(jobs), shown=not options.quiet), share_of(options)
    attempts = (
        Attempt(title, job, segmenter, settings, options, wanted, progress, share)
        for job, title in zip(jobs, titles(jobs))
    )

    def end(one):
        rows[one.job] = one.end()

    with ThreadPoolExecutor(1) as writer:
        ending, read = None, ahead(map(Attempt.read, attempts))
        lanes = segmenter.lanes(len(jobs))
        for one in in_lanes(Attempt.begin, read, lanes, alone=lambda one: not one.is_one_of_many):
            if ending:
                ending.result()
            # What is large is done here, where a signal stops it.
            ending = writer.submit(end, one) if one.is_small else end(one)
        if ending:
            ending.result()


def attempt_on_workers(
    jobs: List[Job], settings: dict, options: argparse.Namespace
) -> Iterator[Tuple[Job, Row]]:
    """The same on the workers of dask.distributed (app.workers), in any order.

    Raises CannotStart.
    """
    from app import workers  # late: few want it

    here = argparse.Namespace(**vars(options))
    here.weights = [path.resolve() for path in options.weights]
    absolute = {Job(job.image.absolute(), job.name, job.target.absolute()): job for job in jobs}
    with workers.connected(options.dask) as client:
        progress = Progress(len(jobs), shown=not options.quiet)
        for job, row in workers.attempt_all(client, list(absolute), settings, here):
            with progress:
                yield absolute[job], row


def titles(jobs: List[Job]) -> List[str]:
    """What the line of each job begins with: its number and name, as wide as most of the others."""
    names = [shown(job.name) for job in jobs]
    width, digits = min(max(map(len, names), default=0), MOST_WIDTH), len(str(len(jobs)))
    return [f"{k:{digits}}/{len(jobs)} {name:{width}}" for k, name in enumerate(names, 1)]


def check_run_table(options: argparse.Namespace) -> None:
    """Raise CannotStart where the table of the run would replace a file of the user's, or cannot
    be written: before hours of work, not after."""
    if not options.table:
        return
    folder = options.table.parent
    if options.table.is_dir():
        raise CannotStart(f"{options.table} is a folder: --table names the file to write.")
    if not folder.is_dir() and folder.resolve() != options.outputs.resolve():
        raise CannotStart(f"There is no folder {folder} for the file that --table names.")
    if not options.overwrite and not tables.is_ours(options.table):
        raise CannotStart(
            f"{options.table} is no table of this program: name another, or --overwrite it."
        )


def licences_of(files: Sequence[Path]) -> List[str]:
    """Under which licences weights may be used, as sentences: before hours of work, after which
    the files may be gone. Raises CannotStart."""
    from app.network.weights import WeightsError, licence_of  # late, as in load_segmenter

    try:
        return [licence_of(path) for path in files]
    except WeightsError as error:
        raise CannotStart(error) from error


def tell_end(
    total: int,
    done: int,
    parts: int,
    before: int,
    licences: Sequence[str],
    reported: bool,
    options: argparse.Namespace,
) -> None:
    """Say how many images are done, before or in part, where the labels are, and what the weights
    are for."""
    of_them = f" ({before} of them before)" if before else ""
    in_part = f", {parts} in part" if parts else ""
    failed = f", {total - done - parts} failed" if done + parts < total else ""
    of_them += in_part + failed
    where = f"; the labels are in {options.outputs}" if done else ""
    print(f"{done} of {total} images done{of_them}{where}")
    if options.quiet or not done:
        return
    for line in (where_to_look(options, reported), *licences):
        print(line, file=sys.stderr)


def where_to_look(options: argparse.Namespace, reported: bool) -> str:
    """What there is to look at, and how to get the rest of it. reported: the page is there."""
    there = [f"{options.outputs / report.NAME}, in a browser"] if reported else []
    if options.preview and any(options.outputs.rglob("*_preview.*")):
        there.append(f"the pictures *_preview.* in {options.outputs}")
    more = {
        "report": "--report, a page for the browser",
        "preview": "--preview, pictures",
        "export": "--export geojson,roi,coco, what QuPath, Fiji and COCO's tools open",
        "cells": "--cells, tables",
    }
    offers = "; ".join(text for name, text in more.items() if not getattr(options, name))
    looks = (
        f"To look at: {'; '.join(there)}" if there else "Label images look black in most viewers"
    )
    return f"{looks}. There is more: {offers}" if offers else looks


def write_report(
    jobs: List[Job], found: Dict[Job, Tuple[Path, Row]], options: argparse.Namespace
) -> bool:
    """Write the page to look at, or say why not; whether it is there.

    found: the label image of each job, and what became of it.
    """
    rows = ((shown(job.name), job.image, found[job][0]) for job in jobs)
    return report.write(options.outputs, rows, quiet=options.quiet, **selection(options))


def write_run_table(path: Path, jobs: List[Job], found: Dict[Job, Tuple[Path, Row]]) -> bool:
    """Write the table of all cells of the jobs that are done, or say why not; whether it is there.

    found: the label image of each, and what became of it. Labels that the user corrected are no
    more those of the table beside them.
    """
    pairs = []
    for job in jobs:
        target, row = found[job]
        if row.status == "done":
            pairs.append((shown(job.name), target))
        elif row.status == "corrected":
            name = shown(job.name)
            print(f"{name}: not in {path}, since its labels are the user's", file=sys.stderr)
    try:
        tables.join(path, pairs)
        return True
    except OSError as error:
        print(f"{path} cannot be written ({error.strerror})", file=sys.stderr)
    except (ValueError, csv.Error) as error:  # a table that the user changed
        print(f"{path} cannot be written: a table is none of ours ({error})", file=sys.stderr)
    return False


def wanted_exports(options: argparse.Namespace) -> List[exports.Export]:
    """What else is written beside each label image. Raises CannotStart."""
    names = options.export + ([PREVIEWS[options.preview]] if options.preview else [])
    try:
        return exports.load(names)
    except extras.Unusable as error:
        raise CannotStart(error) from error


def warn_of_lost_outputs(folder: Path) -> None:
    """Say so in a container without a mounted folder for the outputs."""
    if not os.environ.get("CPN_CONTAINER"):
        return
    place = os.path.realpath(str(folder))
    while not os.path.exists(place):
        place = os.path.dirname(place)
    if os.stat(place).st_dev == os.stat("/").st_dev:
        print(
            f"{folder} is no mounted folder: the labels will be lost with the container. Start it "
            f'with  -v "$PWD/outputs:{folder}"',
            file=sys.stderr,
        )


def take_owner(folder: Path) -> None:
    """When root, become the owner of the outputs: what reads foreign files shall not be root."""
    if not privileges.become_owner(folder):
        return
    part = privileges.closed_part()
    if part:
        raise CannotStart(
            f"The program cannot be used by user {os.geteuid()}, who owns {folder}: "
            f"{part} is closed to that user. Make it readable for all, or let root own the outputs."
        )


def jobs_of(options: argparse.Namespace) -> Tuple[List[Job], int]:
    """The jobs, and how many folders in the inputs cannot be listed.

    Says which these are, what is passed over, and which labels need longer names.
    """
    place = shown(str(options.inputs[0])) if len(options.inputs) == 1 else "these files"
    try:
        jobs, passed_over, closed = find_jobs(
            options.inputs, options.outputs, options.recursive, options.challenge
        )
    except images.ImageError as error:
        reason = f"{error}{permission_hint(error)}"
        raise CannotStart(f"No images can be taken from {place}: {reason}.") from error
    for path, reason in passed_over:
        print(f"{shown(path.name)}: passed over, {reason}", file=sys.stderr)
    for folder, error in closed:
        print(f"{shown(folder)}: failed, {error}{permission_hint(error)}", file=sys.stderr)
    if not jobs:
        folders = any(reason == images.A_FOLDER for _, reason in passed_over)
        more = "; --recursive looks into its folders, too" if folders else ""
        raise CannotStart(f"There is no image in {place}{more}.")
    usual = short_stem if options.challenge else stem
    longer = [
        job for job in jobs if job.target.name != fitting(usual(job.image.name)) + LABEL_ENDING
    ]
    if longer:
        name = shown(longer[0].target.name)
        print(
            f"{len(longer)} images would share names of labels: theirs are longer, as {name}",
            file=sys.stderr,
        )
    return jobs, len(closed)


def shared(jobs: List[Job], options: argparse.Namespace) -> List[Job]:
    """The jobs that this process has a part in: all that are large, and some of the others."""
    if options.stage is None and options.part == (1, 1):
        return jobs
    from app.files import is_large_file  # late, as in load_segmenter

    large = {job for job in jobs if is_large_file(job.image)}
    others = [job for job in jobs if job not in large]
    part = share_of(options).of(len(others)) if options.stage is None else ()
    mine = {others[index] for index in part} | large
    if len(mine) < len(jobs):
        print(f"{len(jobs) - len(mine)} of {len(jobs)} images are no part of this run")
    return [job for job in jobs if job in mine]


def share_of(options: argparse.Namespace) -> "Share":
    """Which stages and windows of large images this process does."""
    from app.large.stages import Share  # late, as in load_segmenter

    return Share(options.stage, *options.part)


def make_ready(folders: Iterable[Path]) -> None:
    """See to the folders of outputs, or say why one cannot be used."""
    for folder in sorted(folders):
        try:
            outputs.prepare(folder)
        except OSError as error:
            reason, hint = error.strerror, "."
            if isinstance(error, (FileExistsError, NotADirectoryError)):
                reason = "there is a file of that name, and no folder"
            if isinstance(error, PermissionError) and folder.is_dir():
                owner = folder.stat()
                hint = (
                    f" for user {os.geteuid()}. Start the program as the folder's owner "
                    f"(docker run --user {owner.st_uid}:{owner.st_gid})."
                )
            sentence = f"Labels cannot be written to {folder}: {reason}{hint}"
            raise CannotStart(sentence) from error


def load_segmenter(options: argparse.Namespace) -> Tuple["Segmenter", dict]:
    """The networks, ready, and the record of how labels are made (outputs.record_of).

    Imported late: what is wrong with arguments or folders shows at once.
    """
    from app.network.device import DeviceWarning, set_up_cpu
    from app.network.weights import WeightsError
    from app.segmenter import Segmenter

    set_up_cpu(options.threads)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", DeviceWarning)
            segmenter = Segmenter.load(
                options.weights,
                options.device,
                uncertainty_nms=not options.no_uncertainty_nms,
                amp=not options.no_amp,
                refinement=not options.no_refinement,
                threshold=options.threshold,
                min_size=options.min_size,
                max_size=options.max_size,
                scale=options.scale,
                thorough=options.thorough,
            )
        record = outputs.record_of(options.weights, segmenter, **selection(options))
    except (WeightsError, ValueError) as error:
        raise CannotStart(error) from error
    except OSError as error:
        raise CannotStart(f"{error.filename}: cannot be read ({error.strerror}).") from error
    for warning in caught:
        print(warning.message, file=sys.stderr)
    return segmenter, record


def write_summary(folder: Path, rows: List[Row], before: Iterable[Row]) -> None:
    """Write summary.csv, or say why not."""
    try:
        reason = summary.write(folder, rows, before)
    except OSError as error:
        reason = f"{folder / summary.NAME} cannot be written ({error.strerror})"
    if reason:
        print(reason, file=sys.stderr)


if __name__ == "__main__":
    on_signals(stop)
    sys.exit(main(sys.argv[1:]))
