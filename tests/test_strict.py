"""The evaluator's own rules: the organisers' without their weak spots."""

import math
from dataclasses import asdict, astuple

import numpy as np
import pytest
from drawn import disturbed, drawn, random_labels, with_counts

from evaluate import official
from evaluate.folders import LabelError
from evaluate.strict import missing, scores

RATIOS = ("precision", "recall", "f1", "panoptic_quality", "average_precision")


def score(truth, labels, tau=0.5):
    return scores(truth, labels, [tau])[0]


def counts(score):
    """true, predicted, correct, missed, wrong."""
    return astuple(score)[1:6]


def test_known_counts_give_known_ratios():
    rng = np.random.default_rng(1)
    for _ in range(20):
        tp, fn, fp = rng.integers(1, 30, 3)
        found = score(*with_counts(rng, tp, fn, fp), tau=2 / 3)
        assert counts(found) == (tp + fn, tp + fp, tp, fn, fp)
        assert found.precision == pytest.approx(tp / (tp + fp))
        assert found.recall == pytest.approx(tp / (tp + fn))
        assert found.f1 == pytest.approx(2 * tp / (2 * tp + fp + fn))
        assert found.average_precision == pytest.approx(tp / (tp + fp + fn))
        assert 2 / 3 < found.mean_matched_iou <= 1
        assert found.panoptic_quality == pytest.approx(found.f1 * found.mean_matched_iou)
        assert found.tau == 2 / 3


def test_truth_against_itself_is_1_at_every_tau_whatever_the_ids():
    rng = np.random.default_rng(2)
    for _ in range(20):
        truth = random_labels(rng, 40, 50).astype(np.int64)
        ids = np.concatenate([[0], 1 + rng.permutation(100)]) * 10**15
        for found in scores(truth, ids[truth], [0.1, 0.5, 1.0]):
            assert [getattr(found, name) for name in RATIOS] == [1] * 5
            assert found.dice == 1 and found.missed_num == found.wrong_num == 0


def test_swapping_truth_and_prediction_swaps_precision_and_recall():
    rng = np.random.default_rng(3)
    for tau in (0.1, 0.3, 0.5, 0.7):
        truth = random_labels(rng, 60, 50)
        labels = disturbed(rng, truth)
        one, other = asdict(score(truth, labels, tau)), asdict(score(labels, truth, tau))
        for name, swapped in (
            ("precision", "recall"),
            ("missed_num", "wrong_num"),
            ("true_num", "pred_num"),
            *((name, name) for name in ("correct_num", "f1", "mean_matched_iou", "dice")),
        ):
            assert one[name] == pytest.approx(other[swapped])
        assert one["recall"] > 0


def test_ordinary_images_score_as_with_the_organisers():
    rng = np.random.default_rng(4)
    both = scores, official.scores
    for _ in range(40):
        truth = random_labels(rng, *rng.integers(20, 50, 2))
        labels = disturbed(rng, truth)
        for own, theirs in zip(*(rules(truth, labels, [0.3, 0.5]) for rules in both)):
            assert counts(own) == counts(theirs)
            for name in ("precision", "recall", "f1", "dice"):
                assert getattr(own, name) == pytest.approx(getattr(theirs, name), abs=0.5001e-4)


def test_an_empty_prediction_misses_all_and_nothing_predicted_where_nothing_is_true_is_right():
    empty, cells = np.zeros((20, 20), int), drawn((20, 20), (3, 3, 7, 7), (9, 9, 14, 14))
    at_the_edge = drawn((20, 20), (0, 0, 5, 5))
    for nothing in (empty, at_the_edge):
        assert counts(score(cells, nothing)) == (2, 0, 0, 2, 0)
        assert counts(score(nothing, cells)) == (0, 2, 0, 0, 2)
        for pair in ((cells, nothing), (nothing, cells)):
            found = score(*pair)
            assert [getattr(found, name) for name in RATIOS] == [0] * 5
            assert math.isnan(found.mean_matched_iou)
    for pair in ((empty, empty), (empty, at_the_edge)):
        found = score(*pair)
        assert counts(found) == (0, 0, 0, 0, 0)
        assert [getattr(found, name) for name in RATIOS] == [1] * 5
        assert math.isnan(found.mean_matched_iou)
    assert score(empty, empty).dice == 1 and score(empty, at_the_edge).dice == 0


def test_a_missing_prediction_misses_all_that_counts_and_scores_0_even_where_nothing_is_true():
    cells = drawn((20, 20), (3, 3, 7, 7), (0, 9, 14, 14), (9, 9, 14, 14))
    for truth, n in ((cells, 2), (np.zeros((5, 5), int), 0)):
        first, second = missing(truth, [0.5, 0.9])
        assert (first.tau, second.tau) == (0.5, 0.9)
        for found in (first, second):
            assert counts(found) == (n, 0, 0, n, 0)
            assert [getattr(found, name) for name in (*RATIOS, "dice")] == [0] * 6


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (3, 3), (1, 7)])
def test_in_an_image_that_is_all_frame_all_cells_count(shape):
    labels = np.full(shape, 8, np.uint16)
    labels[:, -1] = 5
    assert counts(score(labels, labels)) == (2, 2, 2, 0, 0)
    assert missing(labels, [0.5])[0].missed_num == 2


def test_cells_at_the_frame_are_no_cells_but_count_for_dice():
    truth = drawn((20, 20), (2, 2, 4, 4), (1, 6, 6, 8))
    found = score(truth, drawn((20, 20), (2, 2, 4, 4)))
    assert counts(found) == (1, 1, 1, 0, 0)
    assert found.dice == 2 * 4 / (4 + 14)


def test_large_images_are_scored_whole_and_no_label_wraps():
    truth = drawn(
        (5000, 5000),
        (1990, 500, 2010, 520),  # crosses a seam of the organisers' tiles
        (500, 1999, 510, 2009),  # within 2 px of one
        (4400, 100, 4410, 110),
    )
    labels = truth.astype(np.uint64)
    labels[labels == 2] = 2**16  # 0 in the type of the truth
    labels[labels == 3] = 2**63 + 1
    assert counts(score(truth, labels)) == (3, 3, 3, 0, 0)
    labels[4000:] = 0
    assert counts(score(truth, labels)) == (3, 2, 2, 1, 0)


def test_shapes_must_agree():
    cells = drawn((20, 20), (3, 3, 7, 7))
    with pytest.raises(LabelError, match=r"\(20, 19\).*\(20, 20\)"):
        score(cells, cells[:, :-1])
