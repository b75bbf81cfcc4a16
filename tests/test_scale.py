"""At which size an image is segmented: the way there for its pixels, and back for its cells."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from drawn import cells_of, drawn

from app import scale
from app.intensity import Curve, Curves, no_image, to_rgb8
from app.outlines import fill, on_grid
from app.scale import (
    FEW,
    Taps,
    View,
    are_groups,
    clearest,
    is_better,
    is_finer_better,
    may_be_too_small,
)
from app.sizes import NATIVE_DIAMETER, check_scale, factor_of
from app.windows import Window

FACTORS = [1 / 16, 0.3, 0.5, 0.77, 1.0, 1.3, 2.0, 5.5]


def view_of(image, factor):
    return View(image, Curve.fit(image), no_image(image), factor)


def whole(view):
    height, width = view.shape
    return view.window(Window(0, 0, width, height))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (90, 133, 3)).astype(np.uint8)


def test_the_native_diameter_stays_as_it_is_and_others_become_it():
    assert factor_of(NATIVE_DIAMETER) == 1
    assert factor_of(160) == pytest.approx(0.25) and factor_of(20) == pytest.approx(2)
    for diameter in (0, -3, 2, 700, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="diameter must be in 2.5..640 pixels"):
            factor_of(diameter)
    for factor in (0, -1, 0.01, 17, float("nan")):
        with pytest.raises(ValueError, match="scale must be in 0.0625..16"):
            check_scale(factor)


def scored(labels, score):
    """The cells of a label image, of this score."""
    return replace(cells_of(labels), scores=np.full(labels.max(), score, np.float32))


SPOTS = drawn((60, 60), *((y, x, y + 8, x + 8) for y in (10, 30) for x in (10, 25, 40)))
SQUARES = drawn((400, 400), *((y, x, y + 20, x + 20) for y in (150, 230) for x in (110, 190, 270)))


@pytest.mark.parametrize(
    ("inner", "coarse", "better"),
    [
        (0.90, 0.99, False),  # tissue on glass, say: its cells are sure
        (0.65, 0.99, True),  # a cell that is too large for the network falls to pieces
        (0.65, 0.65, False),
    ],
)
def test_what_holds_many_sure_cells_is_no_cell_however_sure(inner, coarse, better):
    one = scored(drawn(SQUARES.shape, (100, 100, 300, 300)), coarse)
    assert is_better(one, 0.5, scored(SQUARES, inner)) == better


def test_cells_of_which_a_finer_scale_shows_nothing_are_not_taken():
    """An empty well with a gradient looks like a cell from afar."""
    one = scored(drawn((400, 400), (100, 100, 300, 300)), 0.99)
    assert not is_better(one, 0.25, one.filter([]))


def test_where_there_are_true_cells_beside_a_group_they_decide():
    fine = scored(SQUARES, 0.8)
    group, beside = (100, 100, 300, 300), (320, 20, 380, 80)
    for score, better in ((0.9, True), (0.7, False)):
        both = scored(drawn(SQUARES.shape, group, beside), 0.99)
        both.scores[:] = 0.99, score
        assert are_groups(both, fine).tolist() == [True, False]
        assert is_better(both, 0.5, fine) == better
        assert not is_better(both, 0.125, fine), "the true one is too small to be told there"


def test_cells_that_are_small_or_missing_call_for_a_finer_look():
    none = scored(SQUARES, 0.9).filter([])
    assert may_be_too_small(none) and may_be_too_small(scored(SPOTS, 0.9))
    assert not may_be_too_small(scored(SQUARES, 0.9))


@pytest.mark.parametrize(
    ("before", "count", "score", "better"),
    [
        (0.7, 6, 0.70, True),
        (0.7, 1, 0.99, True),
        (0.7, 6, 0.69, False),
        (0.7, 0, 0.00, False),
        (0.5, 6, 0.60, False),  # grain, of which the scale 1 shows some as well
        # Of nothing something is made by grain as well: many cells, sure by themselves, are not.
        (None, 6, 0.80, True),
        (None, 4, 0.80, False),
        (None, 6, 0.70, False),
    ],
)
def test_a_finer_scale_is_taken_where_its_cells_are_as_sure(before, count, score, better):
    finer = scored(SPOTS, score).filter(np.arange(count))
    cells = scored(SPOTS, before or 0).filter(np.arange(6 if before else 0))
    assert is_finer_better(finer, cells) == better


def test_a_finer_scale_answers_for_small_cells_alone():
    """What is large there was seen at the scale 1, and found to be none."""
    assert not is_finer_better(scored(SQUARES, 0.9), scored(SPOTS, 0.7))
    assert not is_finer_better(scored(SQUARES, 0.9), scored(SPOTS, 0.7).filter([]))


@pytest.mark.parametrize(("x", "y"), [(0, 0), (700, 300), (300, 700)])
def test_the_squares_that_show_most_are_looked_at(x, y):
    """Not the same places of every image: a well has its cells in the middle, say."""
    draw = np.random.default_rng(0)
    image = draw.normal(100, 15, (1000, 1000))
    image[y : y + 200, x : x + 200] += 90 * (draw.random((200, 200)) > 0.9)
    squares = clearest(
        view_of(image.clip(0, 255).astype(np.uint8), 1.0), [Window(0, 0, 1000, 1000)]
    )
    assert len(squares) == FEW
    first = squares[0]
    assert first.x0 < x + 200 and x < first.x1 and first.y0 < y + 200 and y < first.y1
    assert all(250 <= square.x1 - square.x0 <= 384 for square in squares)


def test_of_background_no_square_is_looked_at():
    image = np.full((600, 600), 50, np.uint8)
    image[:, :300] = np.random.default_rng(0).integers(0, 255, (600, 300))
    squares = clearest(view_of(image, 1.0), [Window(0, 0, 600, 600)])
    assert squares and all(square.x0 < 300 for square in squares)
    assert clearest(view_of(image, 1.0), [Window(300, 0, 600, 600)]) == []


def test_without_scaling_a_view_is_the_converted_image(image):
    for factor in (1.0, 0.93, 1.08):
        view = view_of(image, factor)
        assert view.factor == 1 and view.shape == image.shape[:2]
        assert np.array_equal(whole(view)[0], to_rgb8(image))


@pytest.mark.parametrize("factor", FACTORS)
def test_any_window_is_as_in_the_whole_and_memory_is_bounded(image, factor, monkeypatch):
    view = view_of(image, factor)
    rgb, none = whole(view)
    assert rgb.shape == (*view.shape, 3) and rgb.dtype == np.uint8 and not none.any()
    monkeypatch.setattr(scale, "PART", 500)
    draw = np.random.default_rng(1)
    for _ in range(10):
        y0, x0 = (int(draw.integers(0, side)) for side in view.shape)
        y1, x1 = (int(draw.integers(a, n)) + 1 for a, n in zip((y0, x0), view.shape))
        part, _ = view.window(Window(x0, y0, x1, y1))
        assert np.array_equal(part, rgb[y0:y1, x0:x1])


@pytest.mark.parametrize("factor", FACTORS)
def test_pixels_are_those_of_opencv(image, factor):
    view = view_of(image, factor)
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    expected = cv2.resize(to_rgb8(image), view.shape[::-1], interpolation=kind)
    assert np.abs(whole(view)[0].astype(int) - expected).max() <= 1


def test_no_pixel_counts_more_than_another_when_an_image_becomes_smaller():
    for side, scaled in ((100, 50), (100, 33), (97, 3), (5, 4)):
        taps = Taps.of(side, scaled, 0, scaled)
        assert np.allclose(taps.weight.sum(1), 1, atol=1e-6)
        shares = np.bincount(taps.index.ravel(), taps.weight.ravel(), side)
        assert np.allclose(shares, scaled / side, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 2), (40, 50)])
@pytest.mark.parametrize("factor", FACTORS)
def test_an_image_of_any_shape_has_pixels_at_any_scale(shape, factor):
    view = view_of(np.full(shape, 200, np.uint8), factor)
    rgb, _ = whole(view)
    assert rgb.size and (rgb == 200).all()


def test_what_is_no_image_is_none_at_any_scale():
    image = np.random.default_rng(0).normal(100, 10, (200, 300)).astype(np.float32)
    image[:, :80] = np.nan
    for factor in (0.5, 1.0, 2.0):
        curves = Curves.fit(image)
        rgb, none = whole(View(image, curves, curves.no_image, factor))
        assert none[:, : int(80 * factor)].all() and not none[:, int(80 * factor) :].any()


# Back


def ellipse(shape, middle, axes):
    mask = np.zeros(shape, np.uint8)
    cv2.ellipse(mask, middle, axes, 30, 0, 360, 1, -1)
    return mask


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.7, 1.0, 1.7, 2.0, 4.0])
@pytest.mark.parametrize("axes", [(40, 25), (60, 60), (30, 18)])
def test_a_drawn_cell_comes_back_where_it_was(factor, axes):
    """Within half a pixel, of the image or scaled, whichever is larger."""
    mask = ellipse((201, 173), (83, 102), axes)
    view = view_of(mask * 255, factor)
    found = cells_of((whole(view)[0][..., 0] > 127).astype(np.uint8))
    assert len(found) == 1
    (back,), (expected,) = view.to_image(found).boxes, cells_of(mask).boxes
    assert np.abs(back - expected).max() <= max(0.5, 0.5 / factor)
    points = on_grid(view.to_image(found).contours[0], (0, 0))
    filled = fill(points, mask.shape, crosses=False)
    shared, united = (filled & mask).sum(), (filled | mask).sum()
    assert shared / united >= (0.96 if factor >= 0.5 else 0.93)


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0])
def test_a_box_of_whole_scaled_pixels_comes_back_exactly(factor):
    mask = drawn((120, 160), (20, 32, 60, 80), dtype=np.uint8)
    view = view_of(mask * 255, factor)
    small = cells_of((whole(view)[0][..., 0] > 127).astype(np.uint8))
    assert np.allclose(view.to_image(small).boxes, [[32, 20, 79, 59]], atol=1e-3)


def test_the_middle_of_a_cell_and_its_uncertainties_are_exact(image):
    """A box of n scaled pixels is one of n / factor pixels."""
    view = view_of(image, 0.5)
    cells = cells_of(ellipse(view.shape, (30, 20), (12, 8)))
    cells.uncertainties[:] = 0.3
    back = view.to_image(cells)
    (height, width), (small_height, small_width) = image.shape[:2], view.shape
    factors = np.array([small_width / width, small_height / height])
    middle, target = ((c.boxes[:, :2] + c.boxes[:, 2:]) / 2 for c in (cells, back))
    assert np.allclose(target, (middle + 0.5) / factors - 0.5, atol=1e-3)
    sides, found = (c.boxes[:, 2:] - c.boxes[:, :2] + 1 for c in (cells, back))
    assert np.allclose(found, sides / factors, atol=1e-3)
    assert np.allclose(back.boxes[:, :2], back.contours.min(1), atol=1e-3)
    assert np.allclose(back.boxes[:, 2:], back.contours.max(1), atol=1e-3)
    assert np.array_equal(back.uncertainties, cells.uncertainties)


def test_no_cells_come_back_as_none(image):
    empty = cells_of(np.zeros((20, 20), np.uint8))
    assert len(view_of(image, 0.5).to_image(empty)) == 0
