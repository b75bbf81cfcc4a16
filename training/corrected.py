"""python -m training corrected IMAGES LABELS --out DIR: what you corrected, to train on.

IMAGES and LABELS are INPUTS and OUTPUTS of sh predict.sh. Of each image that you corrected (its
label image, in napari, say; its NAME.geojson in QuPath; its NAME_rois.zip in ImageJ), the image and
the labels come to DIR, as python -m training --data DIR takes them. What is as prediction wrote it
is left out: nobody has looked at it; so are OME-Zarr, which training does not take. (Prediction
knows its own files by what the label image keeps. Where that was changed, so that nobody can tell
whether exports were too, those count that are younger; --from says of which kind the corrections
are, if they are of several.) Of stacks and channels what prediction took is taken, as far as label
images tell that are as it wrote them: where all were changed, say --plane and --channels again.
"""

import shutil
import sys
from pathlib import Path
from shlex import quote

import numpy as np
import tifffile

from app import exports, images, outputs
from app.arguments import parsed
from app.atomic import new_folder
from app.cells import counted
from app.exports import beside
from app.exports.reading import read_outlines
from app.extras import Unusable
from app.images import ImageError, LabelError, write_labels
from app.jobs import find_jobs
from app.names import LABEL_ENDING, LABEL_ENDINGS, LABEL_EXTENSIONS, PREVIEW_ENDINGS, earlier_names
from app.selection import parse_channels, parse_plane
from training.own_data import has_ending, labels_in, read_truth, visible
from training.train import parser_of

# What tells labels: endings of files, NAME + ending.
KINDS = {
    "labels": LABEL_ENDINGS,
    "geojson": (".geojson", ".geojson.gz"),
    "roi": ("_rois.zip",),
}
# What may be meant as a correction, under whatever name.
LIKELY = (*LABEL_EXTENSIONS, ".geojson", ".geojson.gz", ".zip", ".roi")


def main(arguments):
    """Run the command; returns the exit status: 1 where some images could not be gathered.

    Raises ValueError, OSError, ImageError.
    """
    parser = parser_of("python -m training corrected", __doc__)
    parser.add_argument("images", metavar="IMAGES", type=Path)
    parser.add_argument("labels", metavar="LABELS", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    what = "which files you corrected (default: those that changed)"
    parser.add_argument("--from", dest="kind", choices=KINDS, help=what)
    inside = "also what is in folders of IMAGES, as predicted with it"
    parser.add_argument("--recursive", action="store_true", help=inside)
    same = "as of sh predict.sh (default: as predicted, where label images still tell)"
    parser.add_argument("--channels", type=parsed(parse_channels), help=same)
    parser.add_argument("--plane", type=parsed(parse_plane), help=same)
    options = parser.parse_args(arguments)
    if not options.labels.is_dir():
        raise ValueError(f"{options.labels} is no folder: LABELS is OUTPUTS of sh predict.sh")
    jobs = find_jobs([options.images], options.labels, options.recursive).jobs
    if options.images.is_dir():
        for path in unclaimed(jobs):
            print(f"{path.relative_to(options.labels)}: not used, since no image has that name")
    taken = {"channels": options.channels, "plane": options.plane}
    found = corrected(jobs, [options.kind] if options.kind else list(KINDS))
    if not found:
        raise ValueError(
            f"no labels in {options.labels} were corrected: all are as prediction wrote them, or "
            "missing" + " (those in folders of it count with --recursive)" * (not options.recursive)
        )
    failed = gather(found, options.labels, options.out, taken)
    told_next(len(found) - len(failed), len(jobs), options.out)
    return 1 if failed else 0


def told_next(count, jobs, out):
    """Say what was gathered, and how to train on it."""
    print(f"{count} of {jobs} images were corrected. To train on them:")
    around = out.parent
    if labels_in(around):
        run = quote(f"runs/{out.name}")
        print(f".venv/bin/python -m training --data {quote(str(around))} --out {run}")
        print(f"That is with all in the folder around. On {out.name} alone:")
    print(f".venv/bin/python -m training --data {quote(str(out))}")


def gather(found, labels, out, taken):
    """Write images and labels of (Job, correction) to a folder; returns the Jobs that failed, each
    of which is told.

    labels: folder of the jobs' label images; those in folders of it come to folders of `out`.
    taken: {"channels": …, "plane": …} of images; None: as predicted, as far as that is known.
    ValueError: `out` holds something, or all failed.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} is there already: choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():  # and empty
        out.rmdir()
    agreed = agreed_by(job for job, _ in found)
    failed = []
    with new_folder(out) as folder:
        for job, correction in found:
            try:
                write(job, correction, folder / place_of(job, labels), taken, agreed)
            except ValueError as error:
                print(f"left out: {error}", file=sys.stderr)
                failed.append(job)
        if len(failed) == len(found):
            raise ValueError(f"none of the corrections in {labels} can be used")
    return failed


def place_of(job, labels):
    """The folder for a Job's image and labels: one for each that there are in the folder `labels`.

    Training looks into folders, not into theirs, and takes some names for its own.
    """
    inside = job.target.parent.relative_to(labels).parts
    name = "__".join(inside)
    return f"{name}_" if name in ("images", "labels", "train", "val") else name


def write(job, correction, place, taken, agreed):
    """Write the image and the corrected labels of a Job into a folder. ValueError names a file that
    cannot be used."""
    known = outputs.existing(job.target)
    before = known if known and known.is_ours else None
    taken = {**(selection_of(before) if before else agreed), **chosen(taken)}
    pixels = load(job, taken)
    labels = labels_of(job, correction, pixels.shape[:2], before)
    name = job.target.name[: -len(LABEL_ENDING)]
    if (place / job.target.name).exists():
        raise ValueError(f"{job.image}: another image comes to {place.name}/{name} as well")
    place.mkdir(exist_ok=True)
    write_labels(place / job.target.name, labels)
    if chosen(taken):
        write_image(place / f"{name}.tif", pixels)
    else:
        shutil.copyfile(job.image, place / (name + job.image.suffix))


def corrected(jobs, kinds):
    """The (Job, file) of those Jobs that have a correction of these kinds, one each.

    ValueError: it is unclear which of several files is meant.
    """
    targets = {job.target for job in jobs}
    return [(job, path) for job in jobs for path in only(corrections(job, kinds, targets))]


def corrections(job, kinds, targets):
    """The files of these KINDS that tell labels of a Job's image, under whatever name, and are not
    as prediction wrote them; what is passed over is told where prediction never writes such.

    targets: the label images of all Jobs, which are no other's.
    """
    if job.image.is_dir():
        return []  # an OME-Zarr, which training does not take
    names = [job.target.name, *earlier_names(job.image)]
    mine = [job.target.with_name(name) for name in dict.fromkeys(names)]
    mine = [target for target in mine if target == job.target or target not in targets]
    found = {kind: changed(mine, endings) for kind, endings in KINDS.items()}
    youngest = max(map(age, found["labels"]), default=0)
    known = {path for target in mine for path in exports.all_paths(target)}
    for kind in found:
        older = [] if kind == "labels" else [one for one in found[kind] if age(one) <= youngest]
        for path in older:
            found[kind].remove(path)
            if path not in known:
                print(f"{job.name}: {path.name} is older than the label image and not used")
    return [path for kind in kinds for path in found[kind]]


def changed(targets, endings):
    """The files of the label images `targets`, with the endings of a kind, that are not as
    prediction wrote them. NAME.geojson, which prediction never writes, goes before NAME.geojson.gz.
    """
    found = []
    for target in targets:
        paths = dict.fromkeys(beside(target, ending) for ending in endings)
        of_target = [path for path in paths if path.is_file() and not is_ours(path, target)]
        found += of_target[:1] if ".geojson" in endings else of_target
    return found


def age(path):
    """When a file was written, in nanoseconds."""
    return path.stat().st_mtime_ns


def is_ours(path, target):
    """Whether the label image `target`, or an export beside it, is as prediction wrote it."""
    if path == target:
        return outputs.existing(target).is_ours
    return outputs.is_our_export(target, path)


def only(paths):
    """The paths, if they are at most one. ValueError."""
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise ValueError(
            f"{paths[0].parent}: {names} may all be corrections: say which by --from, or keep one"
        )
    return paths


def unclaimed(jobs):
    """Files beside the Jobs' label images that look like corrections and have no image's name."""
    endings = [ending for of_kind in KINDS.values() for ending in of_kind]
    known = {job.image for job in jobs}
    for job in jobs:
        for name in (job.target.name, *earlier_names(job.image)):
            target = job.target.with_name(name)
            known |= {target, *exports.all_paths(target)}
            known |= {beside(target, ending) for ending in (*endings, *PREVIEW_ENDINGS)}
    folders = sorted({job.target.parent for job in jobs})
    files = [path for folder in folders for path in visible(folder) if has_ending(path, LIKELY)]
    return [path for path in files if path not in known]


def selection_of(label_image):
    """{"channels": …, "plane": …} by which prediction read the image of an outputs.Existing."""
    return {name: label_image.record.get(name) for name in ("channels", "plane")}


def agreed_by(jobs):
    """The `selection_of` those Jobs' label images, and their neighbours', that are as prediction
    wrote them, if they agree; else empty, and images are taken as training reads them."""
    found = []
    for folder in {job.target.parent for job in jobs}:
        for path in visible(folder):
            known = outputs.existing(path) if path.name.endswith(LABEL_ENDING) else None
            if known and known.is_ours and selection_of(known) not in found:
                found.append(selection_of(known))
    return found[0] if len(found) == 1 else {}


def chosen(taken):
    """Those of {"channels": …, "plane": …} that are not None."""
    return {name: one for name, one in taken.items() if one is not None}


def load(job, taken):
    """The pixels (H, W[, C]) of a Job's image, of which so much is taken; what the file holds
    beside is told. ValueError names a file that cannot be used."""
    try:
        loaded = images.load(job.image, **taken)
    except ImageError as error:
        raise ValueError(f"{job.image}: {error}") from error
    for warning in loaded.warnings:
        print(f"{job.name}: {warning}")
    return loaded.pixels


def write_image(path, pixels):
    """Write an image (H, W[, C]) as a TIFF that names its axes."""
    planes = pixels[:, :]
    planes = planes if planes.ndim == 2 else planes.transpose(2, 0, 1)
    axes = {"axes": "CYX"[3 - planes.ndim :]}
    tifffile.imwrite(str(path), planes, photometric="minisblack", metadata=axes)


def labels_of(job, correction, shape, before):
    """The label image (H, W) that a correction of a Job's image of this shape tells; says which
    that is, and how many cells it has. before: the outputs.Existing of prediction, or None.

    ValueError names a file that cannot be used.
    """
    notes = []
    try:
        if has_ending(correction, LABEL_EXTENSIONS):
            labels = read_truth(correction)
        else:
            labels, notes = read_outlines(correction, shape)
    except (ImageError, LabelError, Unusable) as error:
        raise ValueError(f"{correction}: {error}") from error
    if labels.shape != shape:
        raise ValueError(f"{correction}: its shape is {labels.shape}, that of the image {shape}")
    cells = counted(int(np.count_nonzero(np.unique(labels))))
    predicted = f" ({before.cells} predicted)" if before else ""
    print("; ".join([f"{job.name}: {correction.name}, {cells}{predicted}", *notes]))
    return labels
