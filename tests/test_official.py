"""The organisers' scoring (reference.md, section 5), rule by rule, its weak spots included."""

from dataclasses import astuple

import numpy as np
import pytest
from drawn import disturbed, drawn, random_labels, with_counts
from scipy.optimize import linear_sum_assignment

from evaluate.folders import LabelError, list_labels, read_labels
from evaluate.official import missing, score_pair, scores


def counts(score):
    """true, predicted, correct, missed, wrong."""
    return astuple(score)[1:6]


def ratios(score):
    return score.precision, score.recall, score.dice, score.f1


# An independent, slow statement of the rules: every cell a mask, every pair in one dense matrix.


def slow_cells(labels):
    """The masks of the cells that keep 2 pixels off every edge (images of sides above 4)."""
    masks = [labels == label for label in np.unique(labels) if label]
    return [mask for mask in masks if mask.sum() == mask[2:-2, 2:-2].sum()]


def slow_iou(truth, prediction):
    pairs = [[((a & b).sum(), (a | b).sum()) for b in prediction] for a in truth]
    return np.array([[i / u for i, u in row] for row in pairs]).reshape(len(truth), len(prediction))


def slow_matched(iou, tau):
    """IoU of the correct pairs by the organisers' assignment over all pairs."""
    if not iou.size:
        return np.zeros(0)
    found = linear_sum_assignment(-(iou >= tau).astype(float) - iou / (2 * min(iou.shape)))
    return iou[found][iou[found] >= tau]


def slow_score(truth, prediction, tau):
    a, b = slow_cells(truth), slow_cells(prediction)
    matched = slow_matched(slow_iou(a, b), tau)
    tp = len(matched)
    precision, recall = (tp / len(b), tp / len(a)) if tp else (0, 0)
    f1 = 2 * precision * recall / (precision + recall) if tp else 0
    both = (truth > 0).sum() + (prediction > 0).sum()
    dice = 2 * ((truth > 0) & (prediction > 0)).sum() / both if both else 1
    missed = len(a) - tp if b else 0
    return (len(a), len(b), tp, missed, len(b) - tp), (precision, recall, dice, f1), matched


@pytest.mark.parametrize("tau", [0.5, 0.3, 0.1, 1 / 3, 0.75])
def test_random_images_agree_with_the_dense_statement_of_the_rules(tau):
    rng = np.random.default_rng(int(tau * 100))
    correct = contested = 0
    for _ in range(60):
        truth = random_labels(rng, *rng.integers(5, 40, 2))
        prediction = disturbed(rng, truth)
        score = score_pair(truth, prediction, tau)
        expected_counts, expected_ratios, matched = slow_score(truth, prediction, tau)
        assert counts(score) == expected_counts
        assert ratios(score) == tuple(np.round(expected_ratios, 4))
        if len(matched):
            assert score.mean_matched_iou == pytest.approx(matched.mean())
            n, m = expected_counts[:2]
            assert score.panoptic_quality == pytest.approx(matched.sum() / (n + m) * 2)
            assert score.average_precision == pytest.approx(len(matched) / (n + m - len(matched)))
        correct += score.correct_num
        hits = slow_iou(slow_cells(truth), slow_cells(prediction)) >= tau
        contested += int(hits.sum()) > score.correct_num
    assert correct > 50
    assert contested > 5 or tau > 0.5, "above one half, no two cells compete"


def test_several_tau_score_as_each_alone():
    truth, prediction = with_counts(np.random.default_rng(2), 20, 3, 4)
    taus = [0.3, 0.5, 0.9, 1.0]
    together = scores(truth, prediction, taus)
    assert [score.tau for score in together] == taus
    assert [str(s) for s in together] == [str(score_pair(truth, prediction, tau)) for tau in taus]
    assert together[0].correct_num == 20 > together[2].correct_num > 0


def test_a_small_image_counted_by_hand():
    truth = drawn((20, 20), (3, 3, 7, 7), (3, 10, 7, 14), (10, 3, 14, 7))
    prediction = drawn((20, 20), (3, 3, 7, 6), (3, 13, 7, 17))
    # cell 1: 12 of 16 pixels, correct; cell 2: 4 shared of 28, wrong; cell 3: missed
    score = score_pair(truth, prediction)
    assert counts(score) == (3, 2, 1, 2, 1)
    assert ratios(score) == (0.5, 0.3333, 0.4211, 0.4)  # dice = 2 * 16 / (48 + 28)
    # What the organisers do not report is not rounded.
    assert score.mean_matched_iou == 0.75
    assert score.panoptic_quality == 0.75 * 2 / 5 and score.average_precision == 1 / 4


def test_iou_of_exactly_tau_is_correct_and_a_cell_is_correct_once():
    truth = drawn((12, 12), (3, 3, 7, 9))
    halves = drawn((12, 12), (3, 3, 7, 6), (3, 6, 7, 9))
    assert counts(score_pair(truth, halves)) == (1, 2, 1, 0, 1)
    assert counts(score_pair(halves, truth)) == (2, 1, 1, 1, 0)
    assert counts(score_pair(truth, halves, tau=0.51)) == (1, 2, 0, 1, 2)
    tenths = drawn((16, 16), (3, 3, 4, 13)), drawn((16, 16), (3, 3, 4, 6))
    assert score_pair(*tenths, tau=0.3).correct_num == 1


def test_two_correct_pairs_go_before_one_of_larger_iou():
    truth = drawn((8, 24), (3, 3, 4, 15), (3, 15, 4, 18))
    prediction = drawn((8, 24), (3, 3, 4, 6), (3, 6, 4, 18))
    # IoU: 3/12 and 9/15 for the first true cell, 0 and 3/12 for the second
    assert score_pair(truth, prediction, tau=0.25).correct_num == 2
    assert score_pair(truth, prediction, tau=0.5).correct_num == 1


def test_cells_within_two_pixels_of_an_edge_are_no_cells_but_count_for_dice():
    at_the_edge = [(1, 5, 6, 8), (5, 0, 8, 4), (8, 15, 11, 19), (14, 8, 19, 11)]
    truth = drawn((20, 20), (2, 2, 4, 4), (16, 16, 18, 18), *at_the_edge)
    score = score_pair(truth, drawn((20, 20), (2, 2, 4, 4), (16, 16, 18, 18)))
    assert counts(score) == (2, 2, 2, 0, 0) and score.f1 == 1
    assert score.dice == round(2 * 8 / (8 + int((truth > 0).sum())), 4)
    assert truth.max() == 6, "the input is left as it was"


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (3, 3), (1, 7), (1, 1)])
def test_a_side_of_four_pixels_is_all_frame_but_without_background_the_smallest_label_stays(shape):
    full = np.full(shape, 8, np.uint16)
    full[:, -1] = 5
    assert counts(score_pair(full, full)) == (1, 1, 1, 0, 0)
    assert score_pair(full, np.where(full == 5, 5, 9)).correct_num == 1
    assert score_pair(full, np.where(full == 5, 9, 8)).correct_num == (full.size == 1)
    holed = full.copy()
    holed[0, 0] = 0
    assert counts(score_pair(holed, holed)) == (0, 0, 0, 0, 0)


def test_from_five_pixels_on_only_the_frame_is_removed():
    labels = drawn((5, 5), (2, 2, 3, 3))
    assert counts(score_pair(labels, labels)) == (1, 1, 1, 0, 0)
    full = np.ones((5, 5), int)
    assert counts(score_pair(full, full)) == (0, 0, 0, 0, 0)


def test_nothing_predicted_misses_nothing_and_nothing_true_scores_zero():
    empty, cells = np.zeros((20, 20), int), drawn((20, 20), (3, 3, 7, 7), (9, 9, 14, 14))
    at_the_edge = drawn((20, 20), (0, 0, 5, 5))
    for nothing in (empty, at_the_edge):
        score = score_pair(cells, nothing)
        assert counts(score) == (2, 0, 0, 0, 0) and score.recall == score.f1 == 0
    wrong, both = score_pair(empty, cells), score_pair(empty, empty)
    assert counts(wrong) == (0, 2, 0, 0, 2) and ratios(wrong) == (0, 0, 0, 0)
    assert counts(both) == (0, 0, 0, 0, 0) and ratios(both) == (0, 0, 1, 0)
    assert missing(cells, [0.5]) == [], "an image without a prediction is left out"


def test_other_ids_and_other_orientations_give_the_same_score():
    rng = np.random.default_rng(7)
    for _ in range(20):
        truth = random_labels(rng, 40, 30)
        prediction = disturbed(rng, truth)
        score = score_pair(truth, prediction)
        ids = np.concatenate([[0], 1 + rng.permutation(2**31 - 2 - np.arange(200))])
        for changed in (
            (truth, ids[prediction]),
            (ids[truth], prediction),
            (truth.T, prediction.T),
            (truth[::-1], prediction[::-1]),
        ):
            found = score_pair(*changed)
            assert counts(found) == counts(score) and ratios(found) == ratios(score)


def test_from_25_million_pixels_on_tiles_of_2000_count_each_as_an_image():
    truth = drawn(
        (5000, 5000),
        (100, 100, 110, 110),
        (1990, 500, 2010, 520),  # crosses a seam
        (500, 2001, 510, 2011),  # within 2 px of a seam
        (2500, 4990, 2510, 5000),  # at the right edge, where the tile goes on with padding
        (4400, 100, 4410, 110),  # in a tile without any predicted cell
        (4400, 200, 4410, 210),
    )
    prediction = truth.copy()
    prediction[4400:4410] = 0
    # scored are cells 1, 4, 5, 6; 5 and 6 are not found, yet none is missed in an empty tile
    tiled = score_pair(truth, prediction)
    assert counts(tiled) == (4, 2, 2, 0, 0)
    assert (tiled.precision, tiled.recall, tiled.f1) == (1, 0.5, 0.6667)
    whole = score_pair(truth[:-1], prediction[:-1])
    assert counts(whole) == (5, 3, 3, 2, 0), "one row less: all but the cell at the edge count"


def test_a_label_in_two_tiles_is_two_cells():
    labels = drawn((5000, 5000), (100, 100, 120, 120))
    labels[3000:3010, 3000:3010] = 1
    assert counts(score_pair(labels, labels)) == (2, 2, 2, 0, 0)
    assert counts(score_pair(labels[:-1], labels[:-1])) == (1, 1, 1, 0, 0)


def test_large_images_cast_the_predicted_labels_to_the_type_of_the_truth():
    truth = drawn((5000, 5000), (10, 10, 20, 20), (30, 30, 40, 40), (50, 50, 60, 60))
    prediction = truth.astype(np.uint32)
    prediction[prediction == 2] = 65536  # becomes background
    prediction[prediction == 3] = 65537  # becomes one with cell 1
    score = score_pair(truth, prediction)
    assert counts(score) == (3, 1, 1, 2, 0), "200 pixels, half of them cell 1"
    assert score.dice == 1
    assert score_pair(truth[:-1], prediction[:-1]).f1 == 1


def test_what_is_no_pair_of_label_images_is_refused():
    cells = drawn((20, 20), (3, 3, 7, 7))
    with pytest.raises(LabelError, match=r"\(20, 19\).*\(20, 20\)"):
        score_pair(cells, cells[:, :-1])
    with pytest.raises(LabelError, match="two dimensions"):
        score_pair(cells[None], cells[None])
    with pytest.raises(LabelError, match="prediction has a negative label, -1"):
        score_pair(cells, (cells * np.uint64(2**32 - 1)))


@pytest.mark.parametrize("source", ["codex_expert", "bbbc010_worms", "tnbc"])
def test_real_truth_scored_against_itself_is_perfect(data, source):
    files = list(list_labels(data / source).values())[:3]
    assert files, "the data folder has no labels"
    rng = np.random.default_rng(8)
    for (path,) in files:
        truth = read_labels(path)
        ids = np.concatenate([[0], 1 + rng.permutation(int(truth.max()))])
        score = score_pair(truth, ids[truth])
        frame = truth.copy()
        frame[2:-2, 2:-2] = 0
        n = len(set(np.unique(truth)) - set(np.unique(frame)))
        assert n > 0 and counts(score) == (n, n, n, 0, 0) and ratios(score) == (1, 1, 1, 1)
