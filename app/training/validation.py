"""How good a network is: the real prediction on a split, scored by the evaluator."""

from dataclasses import replace

from app import images, predict
from app.rasterize import rasterize
from evaluate.folders import name_of, read_labels
from evaluate.official import score_pair
from evaluate.score import ImageScores, aggregate

# Score thresholds that `calibrate` tries.
THRESHOLDS = tuple(percent / 100 for percent in range(20, 90, 5))


def validate(segmenter, listing, out, progress=iter):
    """Predict every Entry of `listing` into out/SOURCE/NAME_label.tiff and score the files.

    Returns a list of evaluate.score.ImageScores at IoU 0.5, by the official rules; its groups are
    the sources.
    """
    scored = []
    for entry in progress(listing):
        folder = out / entry.source
        folder.mkdir(parents=True, exist_ok=True)
        predict.segment_file(segmenter, entry.image, folder)
        name = f"{entry.source}/{images.output_name(entry.image)}"
        score = score_pair(read_labels(entry.label), read_labels(out / name))
        scored.append(ImageScores(name, name_of(entry.image.name), entry.source, scores=[score]))
    return scored


def macro(sources):
    """The mean over sources (a list of evaluate.score.Aggregate) of their mean F1."""
    return sum(source.mean_f1 for source in sources) / max(len(sources), 1)


def knows_uncertainty(record):
    """Whether a network of this training record learned uncertainties; yes if it does not tell."""
    return record.get("recipe", {}).get("weights", {}).get("uncertainty", 1) > 0


def try_thresholds(segmenter, listing, progress=iter):
    """The scores of all of `listing` for each of THRESHOLDS: {threshold: evaluate.score.Aggregate}.

    Every image goes through the network once, at the least threshold; suppression and drawing
    then run for each.
    """
    network = segmenter.network
    config = network.config
    network.config = replace(config, score_threshold=THRESHOLDS[0])
    scores = {threshold: [] for threshold in THRESHOLDS}
    for entry in progress(listing):
        image, _ = images.read(entry.image)
        truth = read_labels(entry.label)
        parts = list(segmenter.proposals(image))
        for threshold, found in scores.items():
            passed = [(window, cells.filter(cells.scores > threshold)) for window, cells in parts]
            cells, _ = segmenter.settle(passed, image.shape)
            labels, _, _ = rasterize(cells, image.shape[:2])
            found.append(score_pair(truth, labels))
    network.config = config
    return {threshold: aggregate(None, 0.5, found) for threshold, found in scores.items()}
