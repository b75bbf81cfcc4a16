"""python -m experiments left-out: what F1 loses on sources that training never saw.

Two networks are trained, alike but that one never sees the sources of --without, and both are
scored on all images of these, by the organisers' rules. On `val` neither has seen an image; on
`train` the one with the sources is flattered, for it has learned from these very images. Started
again with the same --out it goes on where it was.
"""

import argparse
from dataclasses import replace

from app.network import weights
from evaluate.folders import EvaluationError
from evaluate.score import aggregates, text_table
from training import catalog, distributed, train, validation
from training.generations import result
from training.validation import terminal_bar

SPLITS = ("train", "val")


def add_arguments(parser):
    """What the command takes."""
    train.add_arguments(parser)
    parser.set_defaults(parser=parser)


def run(options):
    """Train both, print the table; returns the exit status. EvaluationError."""
    train.check(options, options.parser)
    if not options.without:
        options.parser.error("name the sources to leave out: --without SOURCE ...")
    if not (options.from_scratch or options.init):
        options.parser.error(
            "our weights have seen all sources: left-out needs --from-scratch, or --init with "
            "weights that have not"
        )
    try:
        with distributed.group(options.device) as device:
            train_and_compare(options, device)
    except train.EXPECTED as error:
        raise EvaluationError(error) from error
    return 0


def train_and_compare(options, device):
    """Both runs, on a torch.device, and their table on the screen."""
    check_unseen(options.init, options.without)
    start, recipe = replace(train.start_of(options), chosen=False), train.recipe_of(options)
    # First the one without: what is wrong with the sources' names is said at once.
    folders = {}
    for name, without in (("without", options.without), ("with", [])):
        folders[name] = options.out / "-".join([name, *without])
        data = train.Data.find(argparse.Namespace(**{**vars(options), "without": without}))
        result(data, folders[name], recipe, start, device, folders[name])
    if distributed.is_first():
        print(compare(folders["with"], folders["without"], left_out(options), options.device))


def check_unseen(path, sources):
    """ValueError if the weights in a file (None: no weights) are known to have seen a source.

    Their record tells, and those of the weights that they began with, and so on.
    """
    record = weights.load(path)[1] if path else None
    while record:
        data = record.get("data") or {}
        seen = sorted(set(sources) & {*data.get("sources", ()), *data.get("unlabelled", ())})
        if seen:
            raise ValueError(
                f"{path} was trained on {', '.join(seen)}: its drop would mean nothing"
            )
        record = record.get("origin")


def left_out(options):
    """{split: list of catalog.Entry}: the images of the sources that are left out."""
    commercial = options.licence == "commercial"
    found = {split: catalog.entries(options.data, split, commercial) for split in SPLITS}
    return {split: [e for e in found[split] if e.source in options.without] for split in SPLITS}


def compare(seen, unseen, images, device):
    """The table of mean F1 of both runs, as text.

    seen, unseen: folders of the runs with the sources and without. images: of `left_out`. device:
    "auto", "cpu" or "cuda".
    """
    rows = []
    for split, listing in images.items():
        scored = [scores_of(folder, split, listing, device) for folder in (seen, unseen)]
        for one, other in zip(*scored):
            drop = one.mean_f1 - other.mean_f1
            rows.append((one.group, split, one.images, one.mean_f1, other.mean_f1, drop))
    return text_table(("source", "split", "images", "with", "without", "drop"), sorted(rows))


def scores_of(folder, split, listing, device):
    """The evaluate.score.Aggregate of each source of a listing, by the best weights of a run."""
    segmenter, _ = validation.load(folder / "best.safetensors", device)
    images = validation.validate(segmenter, listing, folder / "left-out" / split, terminal_bar)
    return aggregates(images, [0.5])[1:]
