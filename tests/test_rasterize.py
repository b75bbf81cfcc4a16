"""Rasterising: masks come back exactly, disputed pixels go to the neighbour that grows there."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from app.cells import Cells
from app.outlines import fill, on_grid, star_shaped, winding_number
from app.rasterize import FINENESS, PEN, rasterize, settle

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def circle(x, y, r, samples=64):
    t = np.linspace(0, 2 * np.pi, samples, endpoint=False)
    return np.stack([x + r * np.cos(t), y + r * np.sin(t)], axis=1)


def cells_of(contours):
    """Cells of these outlines (S, 2), scores telling them apart."""
    contours = np.asarray(contours, np.float32).reshape(len(contours), -1, 2)
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    scores = np.arange(1, len(contours) + 1, dtype=np.float32) / len(contours)
    return Cells(contours, boxes, scores, np.zeros((len(contours), 4), np.float32))


def draw(contour, shape):
    """One contour alone, bool, the short way: a full image per cell, at FINENESS times the size."""
    mask = np.zeros([side * FINENESS for side in shape], np.uint8)
    points = np.floor(np.float32(contour) * FINENESS + 0.5).astype(np.int32)
    cv2.fillPoly(mask, [points], 1)
    cv2.polylines(mask, [points], True, 1, PEN)
    return mask[::FINENESS, ::FINENESS] > 0


def plain_rasterize(contours, shape):
    """The rule in full images: undisputed pixels, then dilations by a cross until no change."""
    masks = np.array([draw(contour, shape) for contour in contours])
    claims = masks.sum(axis=0)
    labels = np.where(claims == 1, masks.argmax(axis=0) + 1, 0)
    while True:
        reached = np.zeros(shape, int)
        for label in range(len(masks), 0, -1):
            grown = cv2.dilate((labels == label).astype(np.uint8), CROSS) > 0
            reached[grown & (claims > 1) & (labels == 0)] = label
        if not reached.any():
            break
        labels += reached
    return np.searchsorted(np.unique(labels[labels > 0]), labels) + (labels > 0)


def check(labels, cells, lost, count):
    """Labels are 1..n without gaps, label k + 1 lying in the box of row k."""
    assert labels.dtype == np.int32
    assert np.array_equal(np.unique(labels[labels > 0]), np.arange(1, len(cells) + 1))
    assert len(cells) + lost == count
    for row, (x0, y0, x1, y1) in enumerate(cells.boxes):
        y, x = np.nonzero(labels == row + 1)
        assert x0 - 1 <= x.mean() <= x1 + 1 and y0 - 1 <= y.mean() <= y1 + 1


def blob(rng, side=60):
    """A mask of one ragged piece without holes, and its outline through border pixel centres."""
    noise = cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), rng.uniform(1, 4))
    found, _ = cv2.findContours(
        (noise > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    contour = max(found, key=len)[:, 0]
    mask = np.zeros((side, side), np.uint8)
    cv2.drawContours(mask, [contour[:, None]], -1, 1, cv2.FILLED)
    return mask, contour


def test_an_outline_through_border_pixels_gives_the_mask_again():
    for seed in range(30):
        mask, contour = blob(np.random.default_rng(seed))
        labels, _, lost = rasterize(cells_of([contour]), mask.shape)
        assert lost == 0
        assert np.array_equal(labels, mask)


@pytest.mark.parametrize("radius", [4, 6, 10, 30])
def test_discs_at_any_place_keep_their_area(radius):
    rng = np.random.default_rng(radius)
    y, x = np.mgrid[:80, :80]
    ratios, overlaps = [], []
    for _ in range(50):
        r, cx, cy = radius + rng.random(), *rng.uniform(35, 45, 2)
        disc = np.hypot(x - cx, y - cy) <= r
        # The outline runs through the border pixels: half a pixel inside.
        drawn = rasterize(cells_of([circle(cx, cy, r - 0.5, 224)]), disc.shape)[0] > 0
        ratios.append(drawn.sum() / (np.pi * r * r))
        overlaps.append((drawn & disc).sum() / (drawn | disc).sum())
    assert np.mean(ratios) == pytest.approx(1, abs=0.06 if radius == 4 else 0.04)
    assert np.mean(overlaps) > 0.94


@pytest.mark.parametrize("part", [7, 2**18])
def test_equals_dilating_full_images(monkeypatch, part):
    monkeypatch.setattr("app.rasterize.PART", part)
    monkeypatch.setattr("app.rasterize.AT_A_TIME", part)
    shape = (70, 90)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        count = rng.integers(1, 25)
        contours = [
            circle(*rng.uniform(-5, 95, 2), rng.uniform(0.3, 18)) * rng.uniform(0.7, 1, 2)
            for _ in range(count)
        ]
        # As the network's: inside the image. OpenCV clips lines that leave it a little otherwise.
        contours = [np.clip(contour, 0, (89, 69)) for contour in contours]
        result = rasterize(cells_of(contours), shape)
        check(*result, count)
        expected = plain_rasterize(contours, shape)
        settle(expected, ndimage.find_objects(expected))  # has tests of its own
        assert np.array_equal(result[0], expected)


def test_cells_apart_are_simply_drawn():
    contours = [circle(15 + 20 * i, 15 + 20 * j, 9) for j in range(4) for i in range(5)]
    labels, cells, lost = rasterize(cells_of(contours), (95, 115))
    expected = sum((row + 1) * draw(contour, (95, 115)) for row, contour in enumerate(contours))
    assert np.array_equal(labels, expected)
    assert lost == 0 and np.array_equal(cells.contours, np.float32(contours))


def test_two_discs_share_what_both_claim():
    contours = [circle(20, 20, 12), circle(36, 20, 12)]
    labels, _, lost = rasterize(cells_of(contours), (41, 57))
    left, right = (draw(contour, labels.shape) for contour in contours)
    assert lost == 0
    assert np.array_equal(labels > 0, left | right)
    assert (labels[left & ~right] == 1).all() and (labels[right & ~left] == 2).all()
    # Divided along the middle column, which is as near to both: the lower row takes it.
    assert np.array_equal(labels == 2, np.fliplr(labels == 1) & (np.arange(57) != 28))


def test_the_order_of_cells_matters_to_ties_alone():
    rng = np.random.default_rng(0)
    contours = [circle(*rng.uniform(0, 100, 2), rng.uniform(3, 14)) for _ in range(30)]
    cells = cells_of(contours)
    labels, kept, lost = rasterize(cells, (100, 100))
    back = np.arange(30)[::-1]
    labels_back, kept_back, lost_back = rasterize(cells.filter(back), (100, 100))
    assert lost == lost_back
    assert np.array_equal(kept_back.scores, kept.scores[::-1])
    mapped = np.where(labels_back > 0, len(kept) + 1 - labels_back, 0)
    assert np.array_equal(mapped > 0, labels > 0)
    claims = sum(draw(contour, labels.shape).astype(int) for contour in contours)
    assert np.array_equal(mapped[claims == 1], labels[claims == 1])
    assert (mapped != labels).sum() < 0.2 * (claims > 1).sum()


def test_a_cell_inside_another_is_lost_and_leaves_no_gap():
    contours = [circle(30, 30, 5), circle(30, 30, 20), circle(80, 30, 10), circle(82, 30, 3)]
    result = rasterize(cells_of(contours), (60, 100))
    check(*result, 4)
    labels, cells, lost = result
    assert lost == 2
    assert cells.scores.tolist() == [0.5, 0.75]
    assert np.array_equal(labels == 1, draw(contours[1], labels.shape))
    assert np.array_equal(labels == 2, draw(contours[2], labels.shape))


def test_twins_have_no_pixel_of_their_own():
    labels, cells, lost = rasterize(cells_of([circle(10, 10, 5)] * 2), (20, 20))
    assert len(cells) == 0 and lost == 2 and not labels.any()


def test_a_chain_of_touching_cells_stays_a_chain():
    contours = [circle(15 + 15 * i, 15, 9) for i in range(12)]
    result = rasterize(cells_of(contours), (31, 200))
    check(*result, 12)
    labels, _, lost = result
    assert lost == 0
    firsts = [labels[15].tolist().index(label) for label in range(1, 13)]
    assert firsts[0] == 6 and (np.diff(firsts[1:]) == 15).all()


def test_cells_over_the_image_edge_are_cut_and_cells_beyond_are_lost():
    shape = (40, 50)
    outside = [circle(-20, 20, 10), circle(25, -20, 10), circle(80, 20, 10), circle(25, 70, 10)]
    across = [circle(0, 0, 8), circle(49, 0, 8), circle(0, 39, 8), circle(52, 41, 8)]
    result = rasterize(cells_of(outside + across), shape)
    check(*result, 8)
    labels, cells, lost = result
    assert lost == 4 and np.array_equal(cells.contours, np.float32(across))
    for row, contour in enumerate(across):
        assert np.array_equal(labels == row + 1, draw(contour, shape))


def test_outlines_without_area_and_not_finite():
    nan = np.full((4, 2), np.nan)
    infinite = np.array([[1, 1], [np.inf, 1], [5, 5], [1, 5]])
    point, line = np.full((4, 2), 7.2), np.array([[2, 3], [9, 3]] * 2)
    labels, cells, lost = rasterize(cells_of([nan, point, infinite, line]), (12, 12))
    assert lost == 2 and cells.scores.tolist() == [0.5, 1]
    assert np.argwhere(labels == 1).tolist() == [[7, 7]]
    assert np.argwhere(labels == 2).tolist() == [[3, x] for x in range(2, 10)]


def test_no_cells_and_an_image_of_one_pixel():
    labels, cells, lost = rasterize(Cells.empty(16), (5, 7))
    assert labels.shape == (5, 7) and not labels.any() and len(cells) == lost == 0
    labels, cells, lost = rasterize(cells_of([circle(0, 0, 3)]), (1, 1))
    assert labels.tolist() == [[1]] and len(cells) == 1 and lost == 0
    labels, cells, lost = rasterize(cells_of([circle(0, 0, 3)] * 2), (1, 1))
    assert labels.tolist() == [[0]] and len(cells) == 0 and lost == 2


def test_an_outline_that_laps_over_itself_has_no_hole():
    """The even-odd rule would leave what it runs around twice to the background."""
    t = np.arange(64) / 64 * 2 * np.pi
    lapped = np.stack([np.cos(t) + 0.8 * np.cos(2 * t), np.sin(t) + 0.8 * np.sin(2 * t)], 1)
    contour = (lapped * 10 + 30).astype(np.float32)
    cells = Cells(
        contour[None],
        np.concatenate([contour.min(0), contour.max(0)])[None],
        np.ones(1, np.float32),
        np.zeros((1, 4), np.float32),
    )
    labels, _, _ = rasterize(cells, (64, 64))
    filled = ndimage.binary_fill_holes(labels > 0)
    assert (labels > 0).sum() == filled.sum() > 500


def test_a_ring_whose_ends_do_not_overlap_keeps_its_inside():
    """What an outline encloses without running around it is background, as in any other image."""
    angle = np.linspace(0.1, 2 * np.pi - 0.1, 32)
    outer = np.stack([np.cos(angle), np.sin(angle)], 1) * 25
    contour = np.concatenate([outer, outer[::-1] * 0.6]).astype(np.float32) + 32
    assert not star_shaped(contour[None])[0]
    mask = fill(on_grid(contour, (0, 0)), (64, 64), crosses=True)
    assert not mask[32, 32] and mask[32, 12]


def test_the_winding_number_counts_how_often_an_outline_runs_around():
    square = np.array([[2, 2], [8, 2], [8, 8], [2, 8]])
    assert abs(winding_number(square, (10, 10))).sum() == 36
    twice = winding_number(np.concatenate([square, square]), (10, 10))
    assert set(np.unique(abs(twice))) == {0, 2}


def test_discs_and_shapes_moved_anywhere_are_star_shaped_and_lapped_ones_not():
    t = np.arange(64) / 64 * 2 * np.pi
    disc = np.stack([np.cos(t), np.sin(t)], 1) * 9 + 1000
    twice = np.stack([np.cos(2 * t), np.sin(2 * t)], 1) * 9
    eight = np.stack([np.cos(t), np.sin(2 * t)], 1) * 9
    found = star_shaped(np.stack([disc, disc[::-1], twice, eight, disc * np.nan]))
    assert found.tolist() == [True, True, False, False, False]


def test_the_winding_number_of_pixels_apart_is_that_of_these_pixels():
    rng = np.random.default_rng(3)
    points = rng.integers(0, 200, (24, 2))
    assert np.array_equal(
        winding_number(points, (40, 40), 5), winding_number(points, (200, 200))[::5, ::5]
    )


def test_many_contours_are_looked_at_in_parts(monkeypatch):
    t = np.arange(16) / 16 * 2 * np.pi
    disc = np.stack([np.cos(t), np.sin(t)], 1) * 9
    contours = np.stack([disc, np.stack([np.cos(t), np.sin(2 * t)], 1)] * 7)
    expected = star_shaped(contours)
    monkeypatch.setattr("app.outlines.PART", 3)
    assert (
        np.array_equal(star_shaped(contours), expected) and expected.tolist() == [True, False] * 7
    )
    assert star_shaped(contours[:0]).shape == (0,)


def test_of_a_cell_in_pieces_the_largest_stays_without_holes():
    labels = np.zeros((12, 20), np.int32)
    labels[2:10, 2:12] = 1
    labels[4, 4] = labels[6:8, 6:8] = 0  # holes
    labels[5, 9] = 2  # a piece of another cell, which leaves one
    labels[3:6, 15:18] = 2
    labels[11, 19] = 1  # a piece far away
    settle(labels, ndimage.find_objects(labels))
    expected = np.zeros_like(labels)
    expected[2:10, 2:12] = 1
    expected[3:6, 15:18] = 2
    assert np.array_equal(labels, expected)


def test_a_whole_cell_in_the_hole_of_another_stays():
    labels = np.zeros((12, 12), np.int32)
    labels[1:11, 1:11] = 1
    labels[3:8, 3:8] = 0
    labels[4:6, 4:6] = 2
    settle(labels, ndimage.find_objects(labels))
    assert (labels == 2).sum() == 4 and (labels == 1).sum() == 96


def settled(labels):
    """What `settle` does, label by label."""
    count, square = labels.max(), np.ones((3, 3))
    found = labels.copy()
    pieces = [ndimage.label(labels == label, square)[0] for label in range(count + 1)]
    split = [label for label in range(1, count + 1) if pieces[label].max() > 1]
    for label in split:
        sizes = np.bincount(pieces[label].ravel())[1:]
        found[(labels == label) & (pieces[label] != 1 + sizes.argmax())] = 0
    for label in range(1, count + 1):
        found[ndimage.binary_fill_holes(found == label) & (found == 0)] = label
    return found


@pytest.mark.parametrize("rows, columns", [(1, 40), (40, 1), (6, 7), (60, 50)])
@pytest.mark.parametrize("smooth", [0, 0.7, 2])
def test_pieces_and_holes_of_any_shape(rows, columns, smooth):
    """Few labels: dots, rings, pieces that touch at corners alone, and rows with gaps."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        fields = [ndimage.gaussian_filter(rng.normal(size=(rows, columns)), smooth) for _ in "abcd"]
        labels = np.argmax(fields, axis=0).astype(np.int32)
        expected = settled(labels)
        settle(labels, ndimage.find_objects(labels))
        assert np.array_equal(labels, expected)
