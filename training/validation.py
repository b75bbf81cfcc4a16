"""How good a network is: the real prediction on a split, scored by the evaluator."""

from functools import partial

from tqdm import tqdm

from app import files, images
from app.names import LABEL_ENDING
from app.network import weights
from app.rasterize import rasterize
from app.segmenter import Segmenter
from evaluate.folders import read_labels
from evaluate.official import score_pair
from evaluate.score import ImageScores, aggregate
from training.own_data import check_names, read_truth

# Score thresholds that `calibrate` tries.
THRESHOLDS = tuple(percent / 100 for percent in range(20, 90, 5))


# A bar on a terminal only, not in logs.
terminal_bar = partial(tqdm, disable=None)


def load(path, device="auto"):
    """The Segmenter of a weights file, and the file's training record.

    Uncertainties count in the suppression if the network has learned them, as far as the record
    tells.
    """
    network, record = weights.load(path)
    weight = record.get("recipe", {}).get("weights", {}).get("uncertainty", 1)
    return Segmenter(network, device, uncertainty_nms=weight > 0), record


def labels_of(segmenter, image):
    """The label image (H, W) int32 of the cells that a Segmenter finds in an image (H, W[, C])."""
    cells, _ = segmenter.segment(image)
    return rasterize(cells, image.shape[:2])[0]


def validate(segmenter, listing, out, progress=iter):
    """Predict every Entry of `listing` into out/SOURCE__NAME_label.tiff and score the files.

    Returns a list of evaluate.score.ImageScores at IoU 0.5, by the official rules; its groups are
    the sources. ValueError: two Entries have one name.
    """
    check_names(listing)
    scored = []
    out.mkdir(parents=True, exist_ok=True)
    for entry in progress(listing):
        name = entry.flat_name + LABEL_ENDING
        files.segment_file(segmenter, entry.image, out / name)
        score = score_pair(read_truth(entry.label), read_labels(out / name))
        scored.append(ImageScores(name, entry.flat_name, entry.source, scores=[score]))
    return scored


def macro(sources):
    """The mean over sources (a list of evaluate.score.Aggregate) of their mean F1."""
    return sum(source.mean_f1 for source in sources) / max(len(sources), 1)


def try_thresholds(segmenter, listing, shares, progress=iter):
    """The scores of all of `listing` for each of THRESHOLDS and shares of the best scores.

    shares: list of floats (Inference.score_share). Returns {(threshold, share):
    evaluate.score.Aggregate}. Every image is segmented as the file has it, for its scale, and goes
    through the network once more at that, for the least score that any choice asks for;
    suppression then runs for each choice.
    """
    network = segmenter.network
    config = network.config
    scores = {(threshold, share): [] for threshold in THRESHOLDS for share in shares}
    configs = {
        choice: config.with_inference(score_threshold=choice[0], score_share=choice[1])
        for choice in scores
    }
    least = THRESHOLDS[0] * min(share or 1 for share in shares)
    for entry in progress(listing):
        image, _, _, nodata, quantization = images.load(entry.image)
        truth = read_truth(entry.label)
        network.config = config
        found = segmenter.find(image, nodata=nodata, quantization=quantization)
        view = segmenter.view(image, nodata, quantization).at(found.scale)
        network.config = config.with_inference(score_threshold=least, score_share=0.0)
        parts = list(segmenter.proposals(view))
        for choice, chosen in configs.items():
            network.config = chosen
            floor = segmenter.least_score(network)
            passed = [(window, cells.filter(cells.scores > floor)) for window, cells in parts]
            cells, _ = segmenter.postprocess(passed, view.shape)
            labels, _, _ = rasterize(view.to_image(cells), image.shape[:2])
            scores[choice].append(score_pair(truth, labels))
    network.config = config
    return {choice: aggregate(None, 0.5, found) for choice, found in scores.items()}
