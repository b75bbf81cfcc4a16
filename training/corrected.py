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
from pathlib import Path

import tifffile

from app import exports, images, outputs
from app.arguments import parsed
from app.atomic import new_folder
from app.exports import beside
from app.exports.reading import read_outlines
from app.extras import Unusable
from app.images import ImageError, LabelError, write_labels
from app.jobs import find_jobs
from app.names import LABEL_ENDING, LABEL_ENDINGS, LABEL_EXTENSIONS, PREVIEW_ENDINGS, earlier_names
from app.selection import parse_channels, parse_plane
from training.own_data import has_ending, image_files, read_truth, visible
from training.train import parser_of

# What tells labels: endings of files, NAME + ending. Of one kind the first changed one counts.
KINDS = {
    "labels": (LABEL_ENDING, *LABEL_ENDINGS),
    "geojson": (".geojson", ".geojson.gz"),
    "roi": ("_rois.zip",),
}
# What may be meant as a correction, under whatever name.
LIKELY = (*LABEL_EXTENSIONS, ".geojson", ".geojson.gz", ".zip", ".roi")


def main(arguments):
    """Run the command; returns the exit status. Raises ValueError, OSError, ImageError."""
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
    kinds = [options.kind] if options.kind else list(KINDS)
    jobs = find_jobs([options.images], options.labels, options.recursive).jobs
    taken = {"channels": options.channels, "plane": options.plane}
    count = gather(jobs, options.labels, options.out, kinds, taken)
    print(f"{count} of {len(jobs)} images were corrected. To train on them:")
    print(f".venv/bin/python -m training --data {options.out}")
    around = options.out.resolve().parent
    if image_files(around):
        print(f"Or on all in the folder around, where {options.out.name} is one of several rounds:")
        print(f".venv/bin/python -m training --data {around} --out runs/{options.out.name}")
    return 0


def gather(jobs, labels, out, kinds, taken):
    """Write the images and labels of Jobs that were corrected to a folder; returns how many.

    labels: folder of the jobs' label images; those in folders of it come to folders of `out`.
    kinds: of the files that may be corrections. taken: {"channels": …, "plane": …} of images; None:
    as predicted, as far as that is known. ValueError: there is no correction, `out` holds
    something, or it is unclear which labels are meant.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is there already: choose another --out")
    found = [(job, path) for job in jobs for path in only(corrections(job, kinds))]
    for path in unclaimed(jobs):
        print(f"{path.relative_to(labels)}: not used, since no image has that name")
    if not found:
        deeper = any(path.is_dir() for path in visible(labels))
        raise ValueError(
            f"no labels in {labels} were corrected: all are as prediction wrote them, or missing"
            + " (those in folders of it count with --recursive)" * deeper
        )
    taken = {**predicted_with(jobs), **{name: one for name, one in taken.items() if one}}
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():  # and empty
        out.rmdir()
    with new_folder(out) as folder:
        for job, correction in found:
            inside = job.target.parent.relative_to(labels).parts
            place = folder / "_".join(inside)  # training looks into folders, not into theirs
            place.mkdir(exist_ok=True)
            pixels = load(job, taken)
            write_labels(place / job.target.name, labels_of(job, correction, pixels.shape[:2]))
            name = job.target.name[: -len(LABEL_ENDING)]
            if any(taken.values()):
                write_image(place / f"{name}.ome.tif", pixels)
            else:
                shutil.copyfile(job.image, place / (name + job.image.suffix))
    return len(found)


def corrections(job, kinds):
    """The files of these KINDS that tell labels of a Job's image, under whatever name, and are not
    as prediction wrote them; what is passed over for being older is told."""
    if job.image.is_dir():
        return []  # an OME-Zarr, which training does not take
    found = {kind: changed(job, KINDS[kind]) for kind in kinds}
    labels = found.pop("labels", None)
    others = [path for path in found.values() if path]
    older = [path for path in others if labels and age(path) <= age(labels)]
    for path in older:
        print(f"{job.name}: {path.name} is older than {labels.name} and not used")
    return [path for path in (labels, *others) if path and path not in older]


def changed(job, endings):
    """The first file of a Job with one of the endings that prediction did not write so, or None."""
    for target in targets_of(job):
        for path in (beside(target, ending) for ending in endings):
            if path.is_file() and not is_ours(path, target):
                return path
    return None


def targets_of(job):
    """The paths that the label image of a Job has or may have had."""
    names = dict.fromkeys([job.target.name, *earlier_names(job.image)])
    return [job.target.with_name(name) for name in names]


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
    known = set()
    for target in (target for job in jobs for target in targets_of(job)):
        known |= {target, *exports.all_paths(target)}
        known |= {beside(target, ending) for ending in (*endings, *PREVIEW_ENDINGS)}
    folders = sorted({job.target.parent for job in jobs})
    files = [path for folder in folders for path in visible(folder) if has_ending(path, LIKELY)]
    return [path for path in files if path not in known]


def predicted_with(jobs):
    """{"channels": …, "plane": …} by which prediction read images, as the first of the Jobs' label
    images tells that is as it wrote it; empty where none is."""
    for job in jobs:
        known = outputs.existing(job.target)
        if known and known.is_ours:
            return {name: known.record.get(name) for name in ("channels", "plane")}
    return {}


def load(job, taken):
    """The pixels (H, W[, C]) of a Job's image, of which so much is taken; what the file holds
    beside is told. ValueError names a file that cannot be used."""
    try:
        loaded = images.load(job.image, **taken)
    except ImageError as error:
        raise ValueError(f"{job.image}: {error}") from error
    for warning in loaded.warnings:
        print(f"{job.name}: {warning}")
    return loaded.pixels[:, :]


def write_image(path, pixels):
    """Write an image (H, W[, C]) as OME-TIFF, which names its axes."""
    planes = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    axes = {"axes": "CYX"[3 - planes.ndim :]}
    tifffile.imwrite(str(path), planes, ome=True, photometric="minisblack", metadata=axes)


def labels_of(job, correction, shape):
    """The label image (H, W) that a correction of a Job's image of this shape tells; says which
    that is, and how many cells it has beside those that were predicted.

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
    known = outputs.existing(job.target)
    before = f" ({known.cells} predicted)" if known and known.is_ours else ""
    cells = len(set(labels.ravel().tolist()) - {0})
    print("; ".join([f"{job.name}: {correction.name}, {cells} cells{before}", *notes]))
    return labels
