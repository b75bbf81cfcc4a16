"""python -m training corrected IMAGES LABELS --out DIR: what you corrected, to train on.

IMAGES and LABELS are INPUTS and OUTPUTS of sh predict.sh. Of each image that you corrected (its
label image, in napari, say; its NAME.geojson in QuPath; its NAME_rois.zip in ImageJ), the image and
the labels come to DIR, as python -m training --data DIR takes them. What is as prediction wrote it
is left out: nobody has looked at it; so are OME-Zarr, which training does not take. (Prediction
knows its own files by what the label image keeps. Where that was changed, so that nobody can tell
whether exports were too, those count that are younger; --from says of which kind the corrections
are, if they are of several.)
"""

import shutil
from pathlib import Path

from app import images, outputs
from app.atomic import new_folder
from app.exports import beside
from app.exports.reading import read_outlines
from app.extras import Unusable
from app.images import ImageError, LabelError, write_labels
from app.jobs import find_jobs
from app.names import LABEL_ENDING, earlier_names
from training.own_data import read_truth
from training.train import parser_of

# What tells labels: endings of files, NAME + ending.
KINDS = {
    "labels": (LABEL_ENDING,),
    "geojson": (".geojson", ".geojson.gz"),
    "roi": ("_rois.zip",),
}


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
    options = parser.parse_args(arguments)
    kinds = [options.kind] if options.kind else list(KINDS)
    endings = [ending for kind in kinds for ending in KINDS[kind]]
    jobs = find_jobs([options.images], options.labels, options.recursive).jobs
    count = gather(jobs, options.labels, options.out, endings)
    print(f"{count} of {len(jobs)} images were corrected. To train on them:")
    print(f".venv/bin/python -m training --data {options.out}")
    return 0


def gather(jobs, labels, out, endings):
    """Write the images and labels of Jobs that were corrected to a folder; returns how many.

    labels: folder of the jobs' label images; those in folders of it come to folders of `out`.
    endings: of the files that may be corrections. ValueError: there is none, the folder is there,
    or it is unclear which labels are meant.
    """
    if out.exists():
        raise ValueError(f"{out} is there already: choose another --out")
    found = [(job, path) for job in jobs for path in only(corrections(job, endings))]
    if not found:
        raise ValueError(
            f"no labels in {labels} were corrected: all are as prediction wrote them, or missing"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(out) as folder:
        for job, correction in found:
            inside = job.target.parent.relative_to(labels).parts
            place = folder / "_".join(inside)  # training looks into folders, not into theirs
            place.mkdir(exist_ok=True)
            write_labels(place / job.target.name, labels_of(job, correction))
            name = job.target.name[: -len(LABEL_ENDING)]
            shutil.copyfile(job.image, place / (name + job.image.suffix))
    return len(found)


def corrections(job, endings):
    """The files with these endings that tell labels of a Job's image, under whatever name, and are
    not as prediction wrote them."""
    if job.image.is_dir():
        return []  # an OME-Zarr, which training does not take
    names = [job.target.name, *earlier_names(job.image)]
    targets = dict.fromkeys(job.target.with_name(name) for name in names)
    paths = [(beside(target, ending), target) for target in targets for ending in endings]
    found = [(path, target) for path, target in paths if path.is_file()]
    changed = [path for path, target in found if not is_ours(path, target)]
    labels = [path for path in changed if path in targets]
    return labels + [path for path in changed if path not in targets and is_last(path, labels)]


def is_ours(path, target):
    """Whether the label image `target`, or an export beside it, is as prediction wrote it."""
    if path == target:
        return outputs.existing(target).is_ours
    return outputs.is_our_export(target, path)


def is_last(path, others):
    """Whether a file is younger than all of the others."""
    return all(path.stat().st_mtime_ns > other.stat().st_mtime_ns for other in others)


def only(paths):
    """The paths, if they are at most one. ValueError."""
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise ValueError(
            f"{paths[0].parent}: {names} may all be corrections: say which by --from, or keep one"
        )
    return paths


def labels_of(job, correction):
    """The label image (H, W) that a correction of a Job's image tells; says which that is.

    ValueError names a file that cannot be used.
    """
    shape, without = images.read(job.image)[0].shape[:2], 0
    try:
        if correction.name.endswith(LABEL_ENDING):
            labels = read_truth(correction)
        else:
            labels, without = read_outlines(correction, shape)
    except (ImageError, LabelError, Unusable) as error:
        raise ValueError(f"{correction}: {error}") from error
    if labels.shape != shape:
        raise ValueError(f"{correction}: its shape is {labels.shape}, that of the image {shape}")
    covered = f", {without} outlines without a pixel of their own left out" if without else ""
    print(f"{job.name}: {correction.name}{covered}")
    return labels
