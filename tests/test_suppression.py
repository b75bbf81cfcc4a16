"""Suppression: exactly the plain rules, for any boxes and outlines in any order."""

import cv2
import numpy as np
import pytest

from app.cells import Cells
from app.suppression import BEST_SCORES, Grid, box_iou, convincing, suppress, suppress_covered

SEEDS = range(20)
FRAME = (-7, 5, 93, 85)  # x0, y0, x1, y1


def cells_of(boxes, scores, uncertainties=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    scores = np.asarray(scores, np.float32)
    if uncertainties is None:
        uncertainties = np.zeros((len(boxes), 4))
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    return Cells(corners, boxes, scores, np.asarray(uncertainties, np.float32))


def draw(rng, count=400):
    """Boxes of 1 to 1000 px, squares and slivers, many of them near-copies, some exact ones."""
    sides = 10 ** rng.uniform(0, 3, (count, 1)) * 2 ** rng.uniform(-3, 3, (count, 2))
    corners = rng.uniform(-50, 10 ** rng.uniform(1.5, 3.5), (count, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1)
    copies = boxes[rng.integers(0, count // 10, count)]
    jitter = rng.normal(0, 0.1, (count, 4)) * np.tile(copies[:, 2:] - copies[:, :2], 2)
    jitter *= rng.random((count, 1)) < 0.8
    copies = np.sort((copies + jitter).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    boxes = np.where(rng.random((count, 1)) < 0.7, copies, boxes)
    scores = rng.random(count) if rng.random() < 0.5 else rng.integers(1, 4, count) / 4
    return cells_of(boxes, scores, rng.random((count, 4)))


def outlined(contours, scores):
    """Certain cells of these outlines (n, S, 2)."""
    contours = np.asarray(contours, np.float32)
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    return Cells(contours, boxes, np.asarray(scores, np.float32), np.zeros((len(boxes), 4)))


def bar(x, y, length, thickness, degrees):
    """The four corners of a rectangle around x, y."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (length / 2, thickness / 2)
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return corners @ [[cos, sin], [-sin, cos]] + (x, y)


def draw_bars(rng, count=150):
    """Bars of any slope, dots and lines too, in and around FRAME; few different scores."""
    contours = [
        bar(*rng.uniform(-20, 110, 2), *rng.choice([0, 1, 4, 15, 40], 2), rng.choice([0, 30, 101]))
        for _ in range(count)
    ]
    return outlined(contours, rng.integers(1, 4, count) / 4)


def plain_iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (areas - width * height) if width * height else 0


def plain_suppress(cells, iou_threshold):
    """Every cell against every heavier one that stays."""
    weights = cells.scores * cells.certainties("relative")
    boxes = cells.boxes.tolist()
    kept = []
    for i in sorted(range(len(cells)), key=lambda i: (-weights[i], boxes[i], i)):
        if all(plain_iou(boxes[i], boxes[j]) <= iou_threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("iou_threshold", [0, 0.1, np.pi / 10, 0.7, 1])
def test_equals_the_plain_quadratic_rule(iou_threshold):
    for seed in SEEDS:
        cells = draw(np.random.default_rng(seed), 200)
        assert suppress(cells, iou_threshold).tolist() == plain_suppress(cells, iou_threshold)


def test_stays_the_same_when_repeated_and_when_shuffled():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        cells = draw(rng)
        kept = cells.filter(suppress(cells, 0.3))
        assert suppress(kept, 0.3).tolist() == list(range(len(kept)))
        shuffled = cells.filter(rng.permutation(len(cells)))
        assert np.array_equal(shuffled.filter(suppress(shuffled, 0.3)).boxes, kept.boxes)


def test_uncertainty_decides_which_of_two_stays():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10]]
    cells = cells_of(boxes, [0.9, 0.8], [[0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0.1]])
    assert suppress(cells, 0.3).tolist() == [1]
    assert suppress(cells, 0.3, certainty=None).tolist() == [0]


def test_falls_only_above_the_threshold():
    cells = cells_of([[0, 0, 2, 1], [1, 0, 2, 1]], [0.9, 0.8])
    assert suppress(cells, 0.5).tolist() == [0, 1]
    assert suppress(cells, 0.499).tolist() == [0]


def test_a_cell_that_fell_suppresses_nothing():
    cells = cells_of([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], [0.9, 0.8, 0.7])
    assert suppress(cells, 0.3).tolist() == [0, 2]


def test_none_one_and_boxes_without_area():
    none = suppress(Cells.empty(), 0.3)
    assert none.dtype == np.int64 and len(none) == 0
    assert suppress(cells_of([[3, 4, 5, 6]], [0.5]), 0.3).tolist() == [0]
    points = cells_of(
        [[2, 2, 2, 2], [2, 2, 2, 2], [0, 0, 4, 4], [1, 0, 1, 4]], [0.9, 0.8, 0.7, 0.6]
    )
    with np.errstate(all="raise"):
        assert suppress(points, 0.0).tolist() == [0, 1, 2, 3]


def test_iou_broadcasts_and_is_symmetric():
    boxes = draw(np.random.default_rng(0), 50).boxes.astype(np.float64)
    table = box_iou(boxes[:, None], boxes)
    expected = [[plain_iou(a, b) for b in boxes.tolist()] for a in boxes.tolist()]
    assert table == pytest.approx(np.array(expected))
    assert np.array_equal(table, table.T)


def test_grid_finds_every_box_that_touches_and_few_far_away():
    for seed in SEEDS:
        boxes = draw(np.random.default_rng(seed)).boxes.astype(np.float64)
        grid = Grid(boxes)
        for box in boxes[::20]:
            touching = (boxes[:, :2] <= box[2:]).all(axis=1) & (boxes[:, 2:] >= box[:2]).all(axis=1)
            near = grid.near(box)
            assert len(set(near.tolist())) == len(near)
            assert set(np.flatnonzero(touching)) <= set(near.tolist())
        box, near = grid.near_each(boxes)
        for index, expected in enumerate(boxes):
            assert sorted(near[box == index]) == sorted(grid.near(expected))
    x, y = np.meshgrid(np.arange(100.0) * 10, np.arange(100.0) * 10)
    lattice = np.stack([x, y, x + 9, y + 9], axis=-1).reshape(-1, 4)
    assert len(Grid(lattice).near(lattice[5050])) < 30


def plain_suppress_covered(cells, share):
    """Every cell drawn into a whole image of its own."""
    x0, y0, x1, y1 = FRAME
    outlines = cells.contours.transpose(0, 2, 1).reshape(len(cells), -1).tolist()
    keys = list(zip((-cells.scores).tolist(), cells.boxes.tolist(), outlines))
    covered = np.zeros((y1 - y0, x1 - x0), np.uint8)
    kept = []
    for i in sorted(range(len(cells)), key=lambda i: keys[i]):
        points = np.floor(cells.contours[i] + 0.5).astype(np.int32)
        mask = cv2.fillPoly(np.zeros_like(covered), [points], 1, offset=(-x0, -y0))
        if (mask & covered).sum() <= share * mask.sum():
            kept.append(i)
            covered |= mask
    return kept


@pytest.mark.parametrize("share", [0, 0.4, 1])
def test_outlines_equal_the_plain_rule_inside_the_frame_and_out_of_it(share):
    for seed in SEEDS:
        cells = draw_bars(np.random.default_rng(seed))
        kept = suppress_covered(cells, FRAME, share)
        assert kept.tolist() == plain_suppress_covered(cells, share)


def test_by_outlines_it_stays_the_same_when_repeated_and_when_shuffled():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        cells = draw_bars(rng)
        kept = cells.filter(suppress_covered(cells, FRAME, 0.4))
        assert suppress_covered(kept, FRAME, 0.4).tolist() == list(range(len(kept)))
        shuffled = cells.filter(rng.permutation(len(cells)))
        again = shuffled.filter(suppress_covered(shuffled, FRAME, 0.4))
        assert np.array_equal(again.contours, kept.contours)


def test_outlines_tell_neighbours_aslant_and_crossing_ones_from_doubles():
    aslant = [bar(40, 40, 40, 5, 45), bar(46, 40, 40, 5, 45), bar(40, 41, 40, 5, 45)]
    crossing = [bar(40, 40, 40, 5, 45), bar(40, 40, 40, 5, -45)]
    for contours, expected in ((aslant, [0, 1]), (crossing, [0, 1])):
        cells = outlined(contours, [0.9, 0.8, 0.7][: len(contours)])
        assert suppress(cells, 0.4).tolist() == [0]
        assert suppress_covered(cells, FRAME, 0.4).tolist() == expected


def test_a_part_falls_to_its_cell_but_not_the_cell_to_a_part():
    cell, part = bar(40, 40, 40, 20, 0), bar(40, 40, 10, 10, 0)
    assert suppress_covered(outlined([cell, part], [0.9, 0.8]), FRAME, 0.4).tolist() == [0]
    assert suppress_covered(outlined([cell, part], [0.8, 0.9]), FRAME, 0.4).tolist() == [1, 0]


def test_what_several_heavier_cells_cover_is_added_up_and_what_fell_covers_nothing():
    left, middle, right = bar(27, 40, 20, 10, 0), bar(40, 40, 20, 10, 0), bar(53, 40, 20, 10, 0)
    for contours, expected in (([left, right, middle], [0, 1]), ([left, middle, right], [0, 1, 2])):
        scores = [0.9, 0.8, 0.7]
        assert suppress_covered(outlined(contours, scores), FRAME, 0.4).tolist() == expected
    chain = [bar(27 + 10 * k, 40, 20, 10, 0) for k in range(3)]
    assert suppress_covered(outlined(chain, [0.9, 0.8, 0.7]), FRAME, 0.4).tolist() == [0, 2]


def test_falls_only_above_the_covered_share():
    # 4 pixels by 1, two of them shared.
    cells = outlined([bar(11.5, 10, 3, 0, 0), bar(13.5, 10, 3, 0, 0)], [0.9, 0.8])
    assert suppress_covered(cells, FRAME, 0.5).tolist() == [0, 1]
    assert suppress_covered(cells, FRAME, 0.499).tolist() == [0]


def test_certainty_counts_for_outlines_too():
    cells = outlined([bar(20, 20, 10, 10, 0), bar(21, 20, 10, 10, 0)], [0.9, 0.8])
    cells.uncertainties[0] = 0.5
    assert suppress_covered(cells, FRAME, 0.4).tolist() == [1]
    assert suppress_covered(cells, FRAME, 0.4, certainty=None).tolist() == [0]


def test_by_outlines_none_points_and_cells_outside_the_frame():
    for samples in (0, 4):
        none = suppress_covered(Cells.empty(samples), FRAME, 0.4)
        assert none.dtype == np.int64 and len(none) == 0
    twins = [bar(x, y, 0, 0, 0) for x, y in ((10, 10), (10.2, 10), (900, -900), (900, -900))]
    cells = outlined(twins, [0.9, 0.8, 0.7, 0.6])
    assert suppress_covered(cells, FRAME, 0.4).tolist() == [0, 2, 3]


def squares(sides, scores):
    """Cells of squares with these sides in pixels, apart from one another."""
    left = 1000 * np.arange(len(sides))
    boxes = np.stack([left, 0 * left, left + sides, np.asarray(sides)], axis=1)
    return cells_of(boxes, scores)


def convinced(cells, share, sure=0.0):
    return convincing(cells.scores, cells.areas(), share, sure)


def test_cells_of_one_size_need_a_share_of_the_best_scores():
    scores = np.linspace(0.3, 0.9, 13)
    kept = convinced(squares(np.full(13, 20), scores), 0.75)
    assert np.array_equal(kept, scores >= 0.75 * np.quantile(scores, BEST_SCORES))
    assert 0 < kept.sum() < 13


def test_where_all_scores_are_lower_the_same_cells_stay():
    cells = squares([20, 20, 20, 12, 6], [0.9, 0.88, 0.6, 0.9, 0.7])
    lower = squares([20, 20, 20, 12, 6], 0.6 * cells.scores)
    assert convinced(cells, 0.8).tolist() == convinced(lower, 0.8).tolist()


def test_a_smaller_cell_needs_a_higher_score_and_a_larger_one_no_lower():
    """A quarter of the typical area counts as 0.84 of the score."""
    assert convinced(squares([20, 20, 20, 10], [0.9, 0.9, 0.9, 0.87]), 0.8).all()
    assert convinced(squares([20, 20, 20, 10], [0.9, 0.9, 0.9, 0.84]), 0.8).tolist()[3] is False
    assert convinced(squares([20, 20, 20, 20], [0.9, 0.9, 0.9, 0.75]), 0.8).all()
    assert convinced(squares([20, 20, 20, 80], [0.9, 0.9, 0.9, 0.7]), 0.8).tolist()[3] is False


def test_the_typical_cell_is_one_of_those_that_reach_the_share():
    """Many small outlines of low score, as debris has, do not make small cells typical."""
    sides = [20, 20, 20, 10, *[6] * 12]
    scores = [0.9, 0.9, 0.9, 0.8, *[0.3] * 12]
    assert convinced(squares(sides, scores), 0.9).tolist() == [True] * 3 + [False] * 13


def test_an_image_without_a_sure_cell_has_none():
    cells = squares([20, 20, 20], [0.6, 0.59, 0.5])
    assert not convinced(cells, 0.6, sure=0.6).any()
    assert convinced(cells, 0.6, sure=0.595).all()


def test_beside_sure_cells_others_need_a_share_of_their_scores_alone():
    """However many of these there are."""
    cells = squares([20] * 12, [0.9, 0.8, *[0.55] * 5, *[0.5] * 5])
    assert convinced(cells, 0.6, sure=0.7).tolist() == [True] * 7 + [False] * 5


def test_outlines_without_area_are_no_cells():
    with np.errstate(all="raise"):
        assert not convinced(squares([0, 0, 0], [0.9, 0.85, 0.3]), 0.8).any()


def test_no_cell_one_cell_and_no_share():
    assert convinced(Cells.empty(4), 0.8).shape == (0,)
    assert convinced(squares([5], [0.3]), 0.8).all()
    assert convinced(squares([0, 0, 5], [0.3, 0.9, 0.9]), 0.0).all()
