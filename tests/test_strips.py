"""Strips of a label image are those of the whole, wherever they end."""

import numpy as np
import pytest

from app.cells import Cells
from app.large import strips
from app.large.strips import Strips
from app.rasterize import corners, rasterize
from app.windows import reading_order


def cells_of(contours):
    """Cells of these outlines in reading order."""
    contours = np.asarray(contours, np.float32).reshape(-1, 24, 2)
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    cells = Cells(contours, boxes, np.ones(len(boxes), "f4"), np.zeros((len(boxes), 4), "f4"))
    return cells.filter(reading_order(boxes))


def blob(rng, side, largest):
    """An outline that may be bent, cross itself or reach out of the image."""
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = rng.uniform(1, largest) * (
        1 + 0.6 * np.cos(rng.integers(1, 4) * t + rng.uniform(0, 6))
    )
    stretched = rng.uniform(0.1, 1, 2) * radius[:, None]
    return rng.uniform(-5, side + 5, 2) + stretched * np.stack([np.cos(t), np.sin(t)], axis=1)


def drawn(cells, shape):
    """(labels, strips, which cells have one), strip by strip."""
    found = Strips(corners(cells.contours)[:, 1::2], cells.contours.__getitem__, shape)
    parts = list(found)
    return np.concatenate(parts), parts, found.labelled


@pytest.fixture
def small_room(monkeypatch):
    monkeypatch.setattr(strips, "LEAST_ROWS", 8)
    monkeypatch.setattr(strips, "MARGIN", 2)
    monkeypatch.setattr(strips, "ROOM", 1)


@pytest.mark.parametrize("largest", [4, 12, 40])
@pytest.mark.parametrize("count", [30, 300])
def test_strips_are_those_of_the_whole(small_room, count, largest):
    """Crowds in which growing and pieces pass from cell to cell."""
    cut = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        shape = int(rng.integers(40, 200)), 100
        cells = cells_of([blob(rng, 120, largest) for _ in range(count)])
        expected, kept, _ = rasterize(cells, shape)
        labels, parts, labelled = drawn(cells, shape)
        assert labels.dtype == np.uint32
        assert np.array_equal(labels, expected)
        assert np.array_equal(cells.contours[labelled], kept.contours)
        cut += len(parts) > 3
    assert cut or largest == 40


def test_a_cell_taller_than_any_strip(small_room):
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    tall = np.stack([50 + 10 * np.cos(t), 150 + 140 * np.sin(t)], axis=1)
    others = [blob(np.random.default_rng(k), 300, 8) for k in range(100)]
    cells = cells_of([tall, *others])
    assert np.array_equal(drawn(cells, (300, 100))[0], rasterize(cells, (300, 100))[0])


def test_no_cells_cells_outside_and_outlines_that_are_no_numbers(small_room):
    assert not drawn(cells_of([]), (50, 30))[0].any()
    outside = blob(np.random.default_rng(0), 10, 4) + 500
    broken = np.full((24, 2), np.nan)
    labels, parts, labelled = drawn(cells_of([outside, broken]), (50, 30))
    assert labels.shape == (50, 30) and not labels.any() and not labelled.any()
    assert len(parts) > 3


def test_one_pixel():
    cells = cells_of([blob(np.random.default_rng(0), 1, 8)])
    assert np.array_equal(drawn(cells, (1, 1))[0], rasterize(cells, (1, 1))[0])
