"""Cells: the same row is the same cell in every array, whatever is done to them."""

from dataclasses import fields

import numpy as np
import pytest

from app import cells as cells_module
from app.cells import COLUMNS, Cells, Pixels, measure, table
from app.rasterize import rasterize


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
    assert len(Cells.empty(8).shift(3, 4).certainties("relative")) == 0


def test_shift_moves_contours_with_their_boxes_and_leaves_the_original():
    cells = draw(np.random.default_rng(3), 5)
    before = cells.filter(np.arange(5))
    moved = cells.shift(7, -11)
    assert moved.contours == pytest.approx(cells.contours + np.array((7, -11)), abs=1e-4)
    assert moved.boxes[:, :2] == pytest.approx(moved.contours.min(axis=1))
    assert moved.boxes[:, 2:] == pytest.approx(moved.contours.max(axis=1))
    assert moved.contours.dtype == moved.boxes.dtype == np.float32
    assert equal(cells, before)


@pytest.mark.parametrize("sides", [(), (2,), (3,), (2, 3)])
def test_flipped_cells_are_those_of_the_flipped_image(sides):
    """Pixels, boxes, the direction of contours, and the uncertainties of the sides."""
    size = (130, 101)
    contours = np.array([[(9, 5), (30, 8), (24, 60)], [(60, 70), (99, 72), (70, 120)]], np.float32)
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    uncertainties = np.arange(8, dtype=np.float32).reshape(2, 4)
    cells = Cells(contours, boxes, np.array([0.9, 0.8], np.float32), uncertainties)
    found, axes = cells.flipped(sides, size), [side - 2 for side in sides]
    pixels = rasterize(cells, size)[0] > 0
    assert np.array_equal(rasterize(found, size)[0] > 0, np.flip(pixels, axes))
    assert np.array_equal(found.boxes[:, :2], found.contours.min(axis=1))
    assert np.array_equal(found.boxes[:, 2:], found.contours.max(axis=1))
    assert np.array_equal(np.sign(turns(found)), np.sign(turns(cells)))
    top, right, bottom, left = uncertainties.T
    top, bottom = (bottom, top) if 2 in sides else (top, bottom)
    left, right = (right, left) if 3 in sides else (left, right)
    assert np.array_equal(found.uncertainties, np.stack([top, right, bottom, left], axis=1))
    assert np.array_equal(found.scores, cells.scores)


def turns(cells):
    """Above 0 where a triangle goes round clockwise on the screen, else below."""
    (ax, ay), (bx, by) = np.moveaxis(np.diff(cells.contours, axis=1), 0, -1)
    return ax * by - ay * bx


def test_certainty_falls_with_the_error_that_the_sides_expect_relative_to_the_cells_size():
    cells = draw(np.random.default_rng(4), 4)
    cells.uncertainties[:] = [[0, 0, 0, 0], [1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1]]
    cells.boxes[:] = [[0, 0, 9, 9], [5, 5, 12, 19], [0, 0, 14, 28], [3, 3, 3, 3]]
    # 7 px per unit; top and bottom against the height, right and left against the width.
    relative = np.array(
        [0, (1 + 1 + 0.5 + 0.5) / 4, (0.7 / 28 + 1.4 / 14 + 2.1 / 28 + 2.8 / 14) / 4, 7]
    )
    assert cells.certainties("relative") == pytest.approx(1 / (1 + relative))


def test_areas_are_those_inside_the_contours_either_way_round_and_anywhere():
    square = np.array([[0, 0], [4, 0], [4, 3], [0, 3]], np.float32)
    contours = np.stack([square, square[::-1] + 90000, 0 * square])
    cells = Cells(contours, np.zeros((3, 4)), np.zeros(3), np.zeros((3, 4)))
    assert cells.areas().tolist() == [12, 12, 0]
    assert Cells.empty(4).areas().shape == (0,)


def test_of_two_alike_the_larger_is_the_more_certain():
    cells = draw(np.random.default_rng(5), 2)
    cells.uncertainties[:] = 0.3
    cells.boxes[:] = [[0, 0, 20, 20], [0, 0, 40, 40]]
    smaller, larger = cells.certainties("relative")
    assert larger > smaller


def test_area_and_centroid_are_those_of_the_labels_pixels(monkeypatch):
    rng = np.random.default_rng(5)
    monkeypatch.setattr(cells_module, "STRIP", 7)
    for height, width, count in ((1, 1, 1), (30, 20, 9), (20, 45, 200), (7, 14, 0)):
        labels = rng.integers(0, count + 1, (height, width)).astype(np.int32)
        pixels = measure(labels, count)
        area, centroids = pixels.area, pixels.centroids
        assert len(area) == len(centroids) == count
        for index in range(count):
            y, x = np.nonzero(labels == index + 1)
            assert area[index] == len(x)
            expected = (x.mean(), y.mean()) if len(x) else (np.nan, np.nan)
            assert centroids[index] == pytest.approx(expected, nan_ok=True)


def test_a_row_of_the_table_is_a_label_with_its_cell():
    cells = draw(np.random.default_rng(6), 2)
    labels = np.array([[0, 2, 2], [1, 0, 2]], np.int32)
    rows = table(cells, measure(labels, 2))
    assert rows.shape == (2, len(COLUMNS))
    first, second = (dict(zip(COLUMNS, row)) for row in rows)
    assert (first["label"], first["area"], first["centroid_x"], first["centroid_y"]) == (1, 1, 0, 1)
    assert (second["label"], second["area"]) == (2, 3)
    assert (second["centroid_x"], second["centroid_y"]) == pytest.approx((5 / 3, 1 / 3))
    for row, index in ((first, 0), (second, 1)):
        assert [row[name] for name in ("x0", "y0", "x1", "y1")] == cells.boxes[index].tolist()
        assert row["score"] == cells.scores[index]
        sides = [row[f"uncertainty_{side}"] for side in ("top", "right", "bottom", "left")]
        assert sides == cells.uncertainties[index].tolist()
    assert table(Cells.empty(4), measure(np.zeros((3, 3), np.int32), 0)).shape == (0, len(COLUMNS))


def test_absolute_certainty_is_the_papers():
    """Section 2.2.7: 1 - mean of the four uncertainties, whatever the size."""
    cells = draw(np.random.default_rng(6), 3)
    cells.uncertainties[:] = [[0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1]]
    assert cells.certainties("absolute") == pytest.approx([1, 0.75, 0])


def test_cells_with_boxes_or_uncertainties_that_are_no_numbers_are_told():
    cells = draw(np.random.default_rng(7), 4)
    cells.boxes[1, 2] = np.inf
    cells.uncertainties[2, 0] = np.nan
    assert cells.finite().tolist() == [True, False, False, True]


def test_the_box_of_the_label_is_that_of_its_pixels(monkeypatch):
    labels = np.zeros((9, 9), np.uint16)
    labels[2:5, 3:8] = 1
    labels[7, 0] = 3
    for strip in (1, 4, 512):
        monkeypatch.setattr(cells_module, "STRIP", strip)
        boxes = measure(labels, 3).boxes
        assert boxes[0].tolist() == [3, 2, 7, 4] and boxes[2].tolist() == [0, 7, 0, 7]
        assert np.isnan(boxes[1]).all()
        assert measure(labels * 0, 0).boxes.shape == (0, 4)


def test_pixels_gathered_row_by_row_are_those_of_the_whole():
    """Also where nobody says how many labels come."""
    labels = np.random.default_rng(8).integers(0, 30, (40, 25)).astype(np.uint32)
    whole, found = measure(labels, 29), Pixels()
    for strip in np.split(labels, [3, 3, 20]):
        found.add(strip)
    assert np.array_equal(found.area, whole.area)
    assert np.array_equal(found.boxes, whole.boxes)
    assert found.centroids == pytest.approx(whole.centroids)
