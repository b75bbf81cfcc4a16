"""One image of a run: what is tried, and what is said of it."""

import argparse
import os
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Dict, Sequence

from app import exports, images, outputs
from app.cells import counted
from app.jobs import Job
from app.names import shown
from app.progress import Progress
from app.sizes import UnknownPixelSize
from app.summary import Row

if TYPE_CHECKING:
    from app.files import Segmented
    from app.large.stages import Share
    from app.segmenter import Segmenter

AHEAD = 2**23  # bytes: files of more are not read ahead
ONE_OF_MANY = 2**20  # pixels: up to these images are segmented several at a time


class UsersFile(Exception):
    """A file of the user's would be replaced: one sentence."""


class Attempt:
    """One image on its way: `begin` finds its cells, `end` writes their labels. A line on the
    screen says what came of it, or why it could not be done, and the next image goes on."""

    def __init__(
        self,
        title: str,
        job: Job,
        segmenter: "Segmenter",
        settings: dict,
        options: argparse.Namespace,
        wanted: Sequence[exports.Export],
        progress: Progress,
        share: "Share",
        seconds: float = 0.0,
    ):
        """seconds: that others have worked on the image before."""
        self.job = job
        self.is_small = True  # so that its labels need not wait, nor be waited for
        self.record = None  # outputs.record_for of the image, once it is known
        self._title, self._segmenter, self._settings = title, segmenter, settings
        self._options, self._progress, self._share = options, progress, share
        self._wanted = wanted
        self._ahead = self._begun = self._before = None
        # Not the exception, which would hold all that was in memory when it was raised.
        self._failure, self._is_kept, self._traceback = "", False, ""
        self._seconds = seconds

    def read(self) -> "Attempt":
        """Read the file, unless it is large, before `begin` needs it."""
        path = self.job.image
        with suppress(Exception):  # `begin` tries again, and says what is wrong
            if os.path.isfile(path) and os.path.getsize(path) <= AHEAD:
                # The record first: of a file that changes meanwhile it must not be the later one.
                self._ahead = record_of_job(self.job, self._settings), self._load()
        return self

    @property
    def is_one_of_many(self) -> bool:
        """Whether the image is so small that others may be begun at the same time."""
        if not self._ahead:
            return False
        height, width = self._ahead[1].pixels.shape[:2]
        return height * width * max(self._segmenter.scale or 1, 1) ** 2 <= ONE_OF_MANY

    def begin(self) -> "Attempt":
        """Find the cells."""
        from app import files  # late, as in predict.load_segmenter

        with self._tried(), self._progress as windows:
            if not self._options.overwrite:
                check_for_users_file(self.job, self._options, self._wanted)
            if self._ahead:
                (self.record, image), self._ahead = self._ahead, None
            else:
                self.record = record_of_job(self.job, self._settings)
                image = self._load()
            self._before = outputs.input_of(self.job.target)
            self._begun = files.begin(
                self._segmenter,
                self.job.image,
                image,
                self.job.target,
                self.record,
                files.Beside(self._options.cells, self._wanted, self._options.measure),
                windows,
                self._share,
            )
            self.is_small = files.is_small(self._begun.shape)
        return self

    def end(self) -> Row:
        """Write the labels, and say what came of the image."""
        done = None
        if self._begun:
            with self._tried():
                done = self._begun.end()
            self._begun = None
        with self._progress.hidden():
            return self._tell(done)

    def _load(self):
        return images.load(self.job.image, **selection(self._options))

    @contextmanager
    def _tried(self):
        """Keep what an exception says, whatever it is (no memory, say), and add up the time."""
        start = time.perf_counter()
        try:
            yield
        except UsersFile as error:
            self._failure, self._is_kept = str(error), True
        except Exception as error:
            self._failure, self._traceback = reason_of(error), traceback.format_exc()
        self._seconds += time.perf_counter() - start

    def _tell(self, done):
        from app import files  # late, as in predict.load_segmenter

        job, title, reason = self.job, self._title, self._failure
        if self._is_kept:
            print(f"{title.rstrip()}: not done, {reason}", file=sys.stderr)
            return Row(shown(job.name), "kept", reason=reason)
        if reason:
            if self._options.verbose:
                print(self._traceback, end="", file=sys.stderr)
            print(f"{title.rstrip()}: failed, {reason}", file=sys.stderr)
            stale = see_to_stale(job, self.record or self._settings)
            return Row(shown(job.name), "failed", warnings=stale, reason=reason)
        if isinstance(done, files.InPart):
            return tell_part(title, job, done.remarks, self._seconds)
        if self._before not in (None, job.image.name):
            name, before = shown(job.target.name), shown(self._before)
            done.remarks.append(f"{name} held the labels of {before}, which are replaced")
        return tell_done(title, job, done, self._seconds)


def reason_of(failure: Exception) -> str:
    """Why an image could not be done, in one sentence."""
    if isinstance(failure, (images.ImageError, UnknownPixelSize)):
        return f"{failure}{permission_hint(failure)}"
    first = (str(failure).strip() or "no reason is given").splitlines()[0]
    return f"{type(failure).__name__}: {first}"


def check_for_users_file(
    job: Job, options: argparse.Namespace, wanted: Sequence[exports.Export]
) -> None:
    """Raise UsersFile where the outputs of an image would replace one."""
    theirs = outputs.users_file(job.target, options.cells, wanted)
    if theirs:
        hint = "move it away" if theirs.is_dir() else "--overwrite replaces it"
        raise UsersFile(f"{shown(theirs.name)} is not as this program wrote it ({hint})")


def tell_done(title: str, job: Job, done: "Segmented", seconds: float) -> Row:
    """Say what came of an image."""
    (height, width), cells, remarks, scale = done
    score = f"{cells.scores.mean():.2f}" if len(cells) else ""
    of_them = f", mean score {score}" if score else ""
    scaled = f" ×{scale:.3g}" if scale != 1 else ""
    size = f"{width}×{height}{scaled}"
    print(f"{title} {size:14} {seconds:7.2f} s {counted(len(cells)):>10}{of_them}")
    said = tell_remarks(job, remarks)
    return Row(shown(job.name), "done", len(cells), score, scale, f"{seconds:.2f}", said)


def tell_part(title: str, job: Job, remarks: Sequence[str], seconds: float) -> Row:
    """Say that what this process has to do of a large image is done."""
    print(f"{title} {seconds:.2f} s its part is done: a run without --part and --stage ends it")
    said = tell_remarks(job, remarks)
    return Row(shown(job.name), "part", seconds=f"{seconds:.2f}", warnings=said)


def tell_remarks(job: Job, remarks: Sequence[str]) -> str:
    """Say what there is to remark on an image; returns it as one text."""
    for remark in remarks:
        print(f"{shown(job.name)}: {remark}", file=sys.stderr)
    return "; ".join(remarks)


def record_of_job(job: Job, settings: dict) -> dict:
    """outputs.record_for the image of a job. Raises images.ImageError."""
    try:
        return outputs.record_for(job.image, settings)
    except OSError as error:
        raise images.ImageError(f"the file cannot be opened ({error.strerror})") from error


def see_to_stale(job: Job, record: dict) -> str:
    """See to what an earlier run left of an image that fails now; says what became of it.

    Labels of ours made from other bytes or settings than `record` says are removed, since they
    would be taken for this run's.
    """
    found, name = outputs.existing(job.target), shown(job.target.name)
    if found is None:
        return ""
    if not found.is_ours or found.is_of(record):
        remark = f"{name}, which was there before, is kept"
    else:
        try:
            outputs.remove(job.target)
            remark = f"{name}, made before from other bytes, weights or settings, is removed"
        except OSError as error:
            remark = f"{name} of an earlier run cannot be removed ({error.strerror})"
    print(f"{shown(job.name)}: {remark}", file=sys.stderr)
    return remark


def selection(options: argparse.Namespace) -> Dict[str, Any]:
    """What is taken of an image: arguments of images.load."""
    return {"channels": options.channels, "plane": options.plane}


def permission_hint(error: Exception) -> str:
    """What to do where a file or folder is closed to this user; a text to follow the error's."""
    if not isinstance(error.__cause__, PermissionError):
        return ""
    return f": user {os.geteuid()} must be allowed to read it (chmod a+rX)"
