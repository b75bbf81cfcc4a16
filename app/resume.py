"""What earlier runs have done, or the user has corrected, and a run with --resume passes over."""

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from app import exports, images, outputs
from app.exports import tables
from app.jobs import Job
from app.names import earlier_names, shown
from app.summary import Row


def done_before(
    jobs: List[Job],
    settings: dict,
    options: argparse.Namespace,
    wanted: Sequence[exports.Export],
) -> Dict[Job, Tuple[Path, Row]]:
    """What earlier runs have done, with these settings, or the user has corrected.

    The label image of each job, and what became of it.
    """
    found = {job: found_before(job, settings, options, wanted) for job in jobs}
    found = {job: before for job, before in found.items() if before}
    if found:
        print(f"{len(found)} of {len(jobs)} images were done before and are skipped")
    unmade = "; no table, preview or export is made of it" if options.cells or wanted else ""
    asked = {export.name for export in wanted} | ({outputs.MEASURE} if options.measure else set())
    for target, row in found.values():
        name = shown(target.name)
        if row.status == "corrected":
            kept = f"{name} is not as this program wrote it: kept as the user's"
            print(f"{kept}{unmade}", file=sys.stderr)
        elif asked.intersection(outputs.left_out(target)):
            print(f"{name}: too large for exports, previews and measures", file=sys.stderr)
    return found


def found_before(
    job: Job, settings: dict, options: argparse.Namespace, wanted: Sequence[exports.Export]
) -> Optional[Tuple[Path, Row]]:
    """What became of an image in an earlier run, under whatever name; None: it is not done."""
    try:
        record = outputs.record_for(job.image, settings)
    except OSError:
        return None
    names = [job.target.name, *earlier_names(job.image)]
    for target in dict.fromkeys(job.target.with_name(name) for name in names):
        found = outputs.existing(target)
        if found is None:
            continue
        if found.is_of(record) and has_all(target, options, wanted):
            remove_leftovers(target, record)
            return target, Row(shown(job.name), "done", found.cells)
        if not (found.is_ours or options.overwrite) and is_for(found, job, target, record):
            return target, Row(shown(job.name), "corrected", found.cells)
    return None


def remove_leftovers(target: Path, record: dict) -> None:
    """Remove what a run that was killed at its very end has left of a large image."""
    from app.large.store import Store, folder_of  # late, as in predict.load_segmenter

    store = Store.find(folder_of(target), record)
    if store:
        with suppress(OSError):
            store.remove()


def has_all(target: Path, options: argparse.Namespace, wanted: Sequence[exports.Export]) -> bool:
    """Whether all that is asked for is beside a label image."""
    if options.cells and not outputs.has_table(target):
        return False
    left_out = outputs.left_out(target)
    if options.measure and not (tables.is_measured(target) or outputs.MEASURE in left_out):
        return False
    return all(export.is_done(target) or export.name in left_out for export in wanted)


def is_for(found: outputs.Existing, job: Job, target: Path, record: dict) -> bool:
    """Whether a label image of the user's is one for the image of this job.

    It was ours and made from the same bytes; or it has the name, and the shape of the image.
    """
    if "input" in found.record:
        return found.record["input"] == record["input"]
    try:
        return target == job.target and images.read(job.image)[0].shape[:2] == found.shape
    except images.ImageError:
        return False
