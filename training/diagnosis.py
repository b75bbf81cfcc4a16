"""What a few labelled images have to teach: outlines of new cells, or which of the cells count."""

from pathlib import Path
from typing import List

from app import images
from app.windows import spread_over
from evaluate.official import score_pair
from training import validation
from training.catalog import Entry
from training.own_data import read_truth

LOOKED_AT = 8  # images, at most
LEAST = 5  # labelled cells off the frame, with fewer of which chance would decide
FOUND = 0.75  # share of the labelled cells from which on nearly all count as found
BESIDE = 0.35  # share of the cells found that are not labelled, from which on there are many


def only_some_count(weights: Path, listing: List[Entry], device: str) -> bool:
    """Whether the weights in a file outline nearly all labelled cells of images already, and many
    more: then nothing is to be learned but which count. So it is not where too few are labelled.

    device: "auto", "cpu" or "cuda". Raises what reading files and weights raises.
    """
    segmenter, _ = validation.load(weights, device)
    chosen = spread_over(listing, LOOKED_AT)
    scores = [score_pair(read_truth(e.label), labels_of(segmenter, e)) for e in chosen]
    true, found, right = (
        sum(getattr(score, name) for score in scores)
        for name in ("true_num", "pred_num", "correct_num")
    )
    return true >= LEAST and right >= FOUND * true and found - right >= BESIDE * found


def labels_of(segmenter, entry):
    """The label image (H, W) that a Segmenter makes of an Entry's image."""
    return validation.labels_of(segmenter, images.read(entry.image)[0])
