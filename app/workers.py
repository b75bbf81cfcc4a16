"""--dask: images, and windows of large ones, by the workers of dask.distributed.

Each worker is a process that has this checkout, its environment and the same folders; it makes the
networks ready once. What a worker that died was doing is done again by another. Outputs are
complete or absent, and a window's file is the same whichever processor of one kind writes it (on
GPUs, all but the same), so nothing comes twice.
"""

import io
import logging
import math
import pickle
import sys
from argparse import Namespace
from collections import Counter
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from typing import TYPE_CHECKING, Iterator, List, Tuple

from app import extras, predict
from app.arguments import CannotStart
from app.attempts import Attempt
from app.files import is_large_file
from app.jobs import Job
from app.large.stages import EVERYTHING, Share
from app.large.store import Store, folder_of
from app.names import shown
from app.outputs import differing
from app.progress import Progress
from app.summary import Row

if TYPE_CHECKING:
    from distributed import Client

LOCAL = "local:"
WINDOWS = 8  # of a large image that are one task
RETRIES = 2
WAIT = 60  # seconds for a scheduler to answer


@contextmanager
def connected(address: str) -> Iterator["Client"]:
    """A client of the scheduler at an address; "local:N": of N workers of its own, of one thread.

    Raises CannotStart.
    """
    try:
        with extras.imported("--dask", "dask"):
            from distributed import Client, LocalCluster
    except extras.Unusable as error:
        raise CannotStart(error) from error
    if not address.startswith(LOCAL):
        try:
            client = Client(address, timeout=WAIT)
        except (OSError, ValueError) as error:
            raise CannotStart(f"No scheduler of dask answers at {address}.") from error
        with client:
            yield client
        return
    how = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    logging.getLogger("distributed.nanny").setLevel(logging.ERROR)  # not: a worker ends slowly
    count = int(address[len(LOCAL) :])
    with LocalCluster(n_workers=count, **how) as cluster, Client(cluster) as client:
        yield client


def attempt_all(
    client: "Client", jobs: List[Job], settings: dict, options: Namespace
) -> Iterator[Tuple[Job, Row]]:
    """Do all jobs on the workers; yields what became of each, in the order in which they end.

    settings: as of predict.load_segmenter, which the workers' have to equal.
    """
    from distributed import as_completed

    given = pickle.dumps((options, settings))
    running, tasks, left, ended = as_completed(), {}, Counter(), set()
    seconds = Counter()  # that the tasks of an image took, whoever did them
    title = dict(zip(jobs, predict.titles(jobs)))

    def submit(job, share):
        before = seconds[job] if share == EVERYTHING else 0.0
        task = attempt, given, title[job], job, share, before
        future = client.submit(*task, pure=False, retries=RETRIES)
        tasks[future.key] = job, share
        running.add(future)

    for job in jobs:
        submit(job, Share("plan") if is_large_file(job.image) else EVERYTHING)
    for future in running:
        job, share = tasks.pop(future.key)
        if job in ended:
            continue
        row, windows = _result(future, job)
        seconds[job] += float(row.seconds or 0)
        if row.status != "part":
            ended.add(job)
            yield job, row
        elif share.stage == "plan":
            left[job] = math.ceil(windows / WINDOWS)
            for part in range(1, left[job] + 1):
                submit(job, Share("work", part, left[job]))
        else:
            left[job] -= 1
            if not left[job]:
                submit(job, EVERYTHING)


def _result(future, job):
    """(what became of a task, how many windows the image has, if it is planned now); says on the
    screen what the worker did on its own."""
    try:
        row, windows, said, complaints = future.result()
    except Exception as error:  # whatever becomes of workers: the other images are still done
        reason = f"its workers failed ({type(error).__name__}: {error})".splitlines()[0]
        print(f"{shown(job.name)}: failed, {reason}", file=sys.stderr)
        return Row(shown(job.name), "failed", reason=reason), 0
    if row.status != "part":
        print(said, end="")
    print(complaints, end="", file=sys.stderr)
    return row, windows


class OtherProgram(Exception):
    """A worker would make other labels than this run's: one sentence."""


def attempt(
    given: bytes, title: str, job: Job, share: Share, seconds: float
) -> Tuple[Row, int, str, str]:
    """attempts.Attempt on a worker; with how many windows the plan has, if that was the task, and
    what it said on both streams. seconds: that others have worked on the image before."""
    options, settings, segmenter, wanted = _ready(given)
    said, complaints = io.StringIO(), io.StringIO()
    progress = Progress(1, shown=False)
    with redirect_stdout(said), redirect_stderr(complaints):
        one = Attempt(title, job, segmenter, settings, options, wanted, progress, share, seconds)
        one.begin()
        row = one.end()
    windows = 0
    if share.stage == "plan" and row.is_done:
        store = Store.find(folder_of(job.target), one.record)
        windows = len(store.plan.windows)
    return row, windows, said.getvalue(), complaints.getvalue()


@lru_cache(maxsize=1)
def _ready(given):
    """What a worker needs for all tasks of a run."""
    options, settings = pickle.loads(given)  # what attempt_all has sent, nobody else
    predict.images.silence_libraries()
    segmenter, own = predict.load_segmenter(options)
    if own != settings:
        different = differing(settings, own)
        raise OtherProgram(f"a worker differs in: {different} (--no-amp makes precisions alike)")
    return options, settings, segmenter, predict.wanted_exports(options)
