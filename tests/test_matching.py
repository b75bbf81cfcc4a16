"""Two label images → the table of their overlaps → the pairs that are correct."""

import numpy as np
import pytest
from drawn import disturbed, drawn, random_labels
from scipy.optimize import linear_sum_assignment

from evaluate import matching
from evaluate.matching import frame_labels, matched, overlaps


def dense_iou(truth, prediction):
    """IoU of all pairs of labels (n, m), each cell a mask."""
    masks = [[labels == k for k in np.unique(labels) if k] for labels in (truth, prediction)]
    pairs = [[(a & b).sum() / (a | b).sum() for b in masks[1]] for a in masks[0]]
    return np.reshape(pairs, [len(part) for part in masks])


def pairs_of(rng, count):
    for _ in range(count):
        truth = random_labels(rng, *rng.integers(5, 40, 2))
        yield truth, disturbed(rng, truth)


@pytest.mark.parametrize("band", [1, 100, matching.BAND])
def test_the_table_holds_every_pixel_of_every_cell_once(band, monkeypatch):
    monkeypatch.setattr(matching, "BAND", band)  # images are cut into bands of rows, or are one
    for truth, prediction in pairs_of(np.random.default_rng(6), 10):
        table = overlaps(truth, prediction)
        assert table.truth_labels.tolist() == [k for k in np.unique(truth) if k]
        assert table.prediction_labels.tolist() == [k for k in np.unique(prediction) if k]
        areas = [(truth == k).sum() for k in table.truth_labels]
        assert table.truth_pixels.tolist() == areas
        assert table.prediction_pixels.sum() == (prediction > 0).sum()
        assert table.pixels.sum() == ((truth > 0) & (prediction > 0)).sum()
        iou = np.zeros((len(table.truth_labels), len(table.prediction_labels)))
        iou[table.rows, table.columns] = table.iou()
        assert np.allclose(iou, dense_iou(truth, prediction))
        both = 2 * ((truth > 0) & (prediction > 0)).sum()
        assert table.dice() == pytest.approx(both / ((truth > 0).sum() + (prediction > 0).sum()))


def test_labels_of_any_integer_type_keep_their_values():
    cells = drawn((9, 9), (1, 1, 4, 4), (5, 5, 8, 8), dtype=np.uint64)
    for dtype in (np.uint8, np.int16, np.uint32, np.int64, np.uint64, ">u2"):
        most = np.iinfo(dtype).max
        labels = np.where(cells == 2, most, cells.astype(dtype)).astype(dtype)
        table = overlaps(labels, cells)
        assert table.truth_labels.tolist() == [1, most]
        assert table.iou().tolist() == [1, 1]


def test_a_table_without_some_cells_is_that_of_images_without_them():
    rng = np.random.default_rng(3)
    for truth, prediction in pairs_of(rng, 20):
        gone = [rng.choice(np.unique(labels), 5) for labels in (truth, prediction)]
        left = overlaps(truth, prediction).without(*gone)
        kept = (np.where(np.isin(x, g), 0, x) for x, g in zip((truth, prediction), gone))
        expected = overlaps(*kept)
        for name, values in vars(expected).items():
            assert np.array_equal(getattr(left, name), values), name


def test_matched_pairs_are_one_to_one_as_many_as_can_be_and_of_largest_iou():
    tau = 0.2
    for truth, prediction in pairs_of(np.random.default_rng(5), 60):
        table = overlaps(truth, prediction)
        pairs = matched(table, tau)
        for cells in (table.rows[pairs], table.columns[pairs]):
            assert len(np.unique(cells)) == len(cells)
        assert (table.iou()[pairs] >= tau).all()
        iou = dense_iou(truth, prediction)
        iou[iou < tau] = 0
        best = linear_sum_assignment(-np.sign(iou) - iou / (2 * max(min(iou.shape), 1)))
        assert len(pairs) == np.count_nonzero(iou[best])
        assert table.iou()[pairs].sum() == pytest.approx(iou[best].sum())


def test_many_cells_that_all_compete_are_matched_without_a_dense_matrix():
    """A grid moved by half a cell: each cell overlaps two others alike, in chains of 200."""
    side = 200
    ids = np.arange(1, side * side + 1).reshape(side, side)
    truth = np.repeat(ids, 2, axis=1)
    table = overlaps(truth, np.roll(truth, 1, axis=1))
    assert len(matched(table, 1 / 3)) == side * side
    assert len(matched(table, 0.34)) == 0


def test_without_pairs_nothing_matches():
    empty, cell = drawn((8, 8)), drawn((8, 8), (2, 2, 5, 5))
    for pair in ((empty, empty), (empty, cell), (cell, empty), (cell, np.roll(cell, 3))):
        assert matched(overlaps(*pair), 0.5).tolist() == []


def test_the_frame_is_two_pixels_wide():
    inside, at_edges = (2, 2, 18, 3), ((1, 5, 6, 8), (5, 0, 8, 4), (8, 15, 11, 19), (14, 8, 19, 9))
    labels = drawn((20, 20), inside, *at_edges)
    assert frame_labels(labels).tolist() == [2, 3, 4, 5]
    assert frame_labels(drawn((20, 20), inside)).tolist() == []


@pytest.mark.parametrize("band", [1, 60, matching.BAND])
def test_boxes_hold_all_pixels_of_a_label_whatever_its_shape(band, monkeypatch):
    monkeypatch.setattr(matching, "BAND", band)
    rng = np.random.default_rng(11)
    for _ in range(20):
        labels = rng.integers(0, 6, (9, 14)) * rng.integers(0, 2, (9, 14)) * 70000
        found, boxes = matching.boxes(labels)
        assert found.tolist() == np.unique(labels[labels > 0]).tolist()
        for label, box in zip(found, boxes.tolist()):
            y, x = np.nonzero(labels == label)
            assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert matching.boxes(np.zeros((4, 5), int))[1].shape == (0, 4)
