"""Cells: the same row is the same cell in every array, whatever is done to them."""

from dataclasses import fields

import numpy as np
import pytest

from app.cells import Cells


def draw(rng, count, samples=5):
    """Random cells of random outlines."""
    contours = rng.uniform(0, 100, (count, samples, 2)).astype(np.float32)
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    scores = rng.random(count, np.float32)
    return Cells(contours, boxes, scores, rng.random((count, 4), np.float32))


def equal(a, b):
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Cells))


def test_filter_takes_masks_and_indices_and_reorders():
    cells = draw(np.random.default_rng(0), 6)
    mask = np.array([True, False, True, True, False, False])
    assert equal(cells.filter(mask), cells.filter(np.array([0, 2, 3])))
    backwards = cells.filter(np.arange(6)[::-1])
    assert np.array_equal(backwards.scores, cells.scores[::-1])
    assert equal(backwards.filter(np.arange(6)[::-1]), cells)


def test_cat_is_the_inverse_of_taking_apart():
    cells = draw(np.random.default_rng(1), 7)
    parts = [cells.filter(rows) for rows in np.split(np.arange(7), [2, 2, 5])]
    assert [len(part) for part in parts] == [2, 0, 3, 2]
    assert equal(Cells.cat(parts), cells)


def test_empty_joins_cells_of_as_many_points():
    cells = draw(np.random.default_rng(2), 3, samples=8)
    assert len(Cells.empty()) == 0
    assert equal(Cells.cat([Cells.empty(8), cells, Cells.empty(8)]), cells)
    assert len(Cells.empty(8).shift(3, 4).certainties()) == 0


def test_shift_moves_contours_with_their_boxes_and_leaves_the_original():
    cells = draw(np.random.default_rng(3), 5)
    before = cells.filter(np.arange(5))
    moved = cells.shift(7, -11)
    assert moved.contours == pytest.approx(cells.contours + np.array((7, -11)), abs=1e-4)
    assert moved.boxes[:, :2] == pytest.approx(moved.contours.min(axis=1))
    assert moved.boxes[:, 2:] == pytest.approx(moved.contours.max(axis=1))
    assert moved.contours.dtype == moved.boxes.dtype == np.float32
    assert equal(cells, before)


def test_certainty_is_one_minus_the_mean_uncertainty():
    cells = draw(np.random.default_rng(4), 3)
    cells.uncertainties[:] = [[0, 0, 0, 0], [1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4]]
    assert cells.certainties() == pytest.approx([1, 0, 0.75])
