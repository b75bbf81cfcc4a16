"""Windows cover the image, and merging gives back exactly the cells that were cut by them."""

from dataclasses import fields

import numpy as np
import pytest

from app.cells import Cells
from app.suppression import Rules
from app.windows import (
    STRETCH,
    Window,
    cut_by_window,
    merge,
    reading_order,
    settle_within,
    windows,
)

MARGIN = 3

by_either_rule = pytest.mark.parametrize("by_outlines", [False, True])


def ellipse(x, y, rx, ry, samples=32):
    t = np.linspace(0, 2 * np.pi, samples, endpoint=False)
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1)


def cells_of(contours, rng=None, floor=0.0):
    """Cells of these outlines; scores between floor and 1, uncertainties up to 0.1."""
    rng = rng or np.random.default_rng(0)
    contours = np.asarray(contours, np.float32).reshape(-1, 32, 2)
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    scores = rng.uniform(floor, 1, len(boxes)).astype(np.float32)
    return Cells(contours, boxes, scores, rng.uniform(0, 0.1, (len(boxes), 4)).astype(np.float32))


def draw(rng, height, width, tries=150, taken=()):
    """Outlines of random cells whose boxes do not overlap, some of them cut by the image edge."""
    found, boxes = [], [np.asarray(box) for box in taken]
    for _ in range(tries):
        x, y = rng.uniform((0, 0), (width, height))
        contour = np.clip(ellipse(x, y, *rng.uniform(2, 12, 2)), 0, (width - 1, height - 1))
        x0, y0, x1, y1 = *contour.min(axis=0), *contour.max(axis=0)
        if all(x1 < b[0] or b[2] < x0 or y1 < b[1] or b[3] < y0 for b in boxes):
            found.append(contour.astype(np.float32))
            boxes.append((x0, y0, x1, y1))
    return np.array(found)


def see(contours, window, rng, guess=False):
    """What a window shows: all cells that reach into it, cut off at its edges (or all guessed).

    Each cell comes with two light proposals beside the good one, as a network gives them.
    """
    lower, upper = np.array(window[:2]), np.array(window[2:]) - 1
    visible = (contours.max(axis=1) >= lower) & (contours.min(axis=1) <= upper)
    shown = contours[visible.all(axis=1)]
    doubles = np.concatenate([shown + 0.5, shown - 0.5])
    if not guess:
        shown, doubles = np.clip(shown, lower, upper), np.clip(doubles, lower, upper)
    light = cells_of(doubles, rng)
    light.scores /= 2
    return Cells.cat([light, cells_of(shown, rng, floor=0.7)])


def look(contours, height, width, size, stride, **how):
    rng = np.random.default_rng(0)
    places = windows(height, width, size, stride)
    return [(place, see(contours, place, rng, **how)) for place in places]


def rules_of(threshold, by_outlines=False, certainty="relative", recovery=True):
    return Rules(threshold, certainty, by_outlines, recovery)


def merged(parts, height, width, by_outlines=False):
    threshold = 0.4 if by_outlines else np.pi / 10
    cells, recovered = merge(parts, height, width, rules_of(threshold, by_outlines))
    return cells, recovered.sum()


def in_reading_order(contours):
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    return contours[np.lexsort((boxes[:, 0], boxes[:, 1]))]


def draw_plans(count=200):
    """Random (length, size, stride) of rows of windows, after the odd ones."""
    for size, stride in ((1, 1), (7, 3), (64, 32), (64, 64)):
        yield from ((length, size, stride) for length in (1, 8, 64, 96, 97, 1000))
    rng = np.random.default_rng(0)
    for size in rng.integers(1, 300, count).tolist():
        yield int(rng.integers(1, 2000)), size, int(rng.integers(1, size + 1))


def test_windows_are_few_and_alike_and_overlap_as_asked():
    for length, size, stride in draw_plans():
        most, overlap = int(STRETCH * size), size - stride
        found = windows(1, length, size, stride)
        starts, ends = np.array([(window.x0, window.x1) for window in found]).T
        assert starts[0] == 0 and ends[-1] == length
        assert (ends - starts == ends[0]).all() and ends[0] <= most
        assert (ends[:-1] - starts[1:] >= overlap).all()
        fewer = len(found) - 1
        if fewer:
            assert np.ptp(np.diff(starts)) <= 1
            assert fewer * most - (fewer - 1) * overlap < length


def test_windows_come_row_by_row_and_cover_each_pixel():
    found = windows(100, 131, 64, 40)
    covered = np.zeros((100, 131), bool)
    for window in found:
        covered[window.y0 : window.y1, window.x0 : window.x1] = True
    assert covered.all()
    assert len({(w.y0, w.y1) for w in found}) * len({(w.x0, w.x1) for w in found}) == len(found)
    assert found == sorted(found, key=lambda window: (window.y0, window.x0))


def test_an_image_little_larger_than_a_window_is_one_window():
    assert windows(96, 70, 64, 48) == [(0, 0, 70, 96)]
    assert windows(97, 70, 64, 48) == [(0, 0, 70, 57), (0, 40, 70, 97)]


@pytest.mark.parametrize("stride", [-1, 0, 65])
def test_a_stride_that_leaves_gaps_or_does_not_advance_is_refused(stride):
    with pytest.raises(ValueError, match=f"1..64.*not {stride}"):
        windows(100, 100, 64, stride)


def test_a_cell_is_cut_near_an_edge_where_the_image_goes_on():
    # Pixels 10..29 both ways: the outermost three are 10..12 and 27..29.
    window = Window(10, 10, 30, 30)
    square = np.array([[13, 13], [26, 26]] * 16)
    for shift, cut in [((0, 0), False), ((-0.1, 0), True), ((0, -0.1), True), ((0.1, 0), True)]:
        cells = cells_of([square + shift])
        assert cut_by_window(cells, window, 40, 40).tolist() == [cut]
        assert cut_by_window(cells, Window(0, 0, 40, 40), 40, 40).tolist() == [False]
    # The four sides, each with the image ending there or going on.
    full = cells_of([[[10, 10], [29, 29]] * 16]).shift(-10, -10)
    assert not cut_by_window(full, Window(0, 0, 20, 20), 20, 20).any()
    assert cut_by_window(full, Window(0, 0, 20, 20), 21, 20).all()
    assert cut_by_window(full, Window(0, 0, 20, 20), 20, 21).all()
    assert cut_by_window(full.shift(1, 0), Window(1, 0, 21, 20), 20, 21).all()
    assert cut_by_window(full.shift(0, 1), Window(0, 1, 20, 21), 21, 20).all()


@pytest.mark.parametrize("size", [64, 70, 96])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("guess", [False, True])
@by_either_rule
def test_merge_gives_exactly_the_cells_if_the_overlap_holds_the_largest(
    size, seed, guess, by_outlines
):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(size // 2, 4 * size, 2)
    contours = draw(rng, height, width)
    largest = int(np.ceil(np.ptp(contours, axis=1).max())) + 1
    for stride in (size - largest - 2 * MARGIN, size // 3):
        parts = look(contours, height, width, size, stride, guess=guess)
        cells, recovered = merged(parts, height, width, by_outlines)
        assert recovered == 0
        assert np.array_equal(cells.contours, in_reading_order(contours))


GIANTS = {
    "over four windows": [ellipse(130, 120, 50, 45)],
    "over all windows": [ellipse(150, 150, 140, 145)],
    "through a row of windows that share nothing": [ellipse(150, 130, 148, 20)],
    "down a column": [ellipse(70, 150, 12, 140)],
    "two in the same windows": [ellipse(90, 90, 30, 80), ellipse(165, 90, 30, 80)],
}


@pytest.mark.parametrize("case", GIANTS)
@pytest.mark.parametrize("stride", [40, 48, 60])
@by_either_rule
def test_a_cell_larger_than_the_overlap_is_recovered_once_where_most_of_it_shows(
    case, stride, by_outlines
):
    side, size = 301, 96
    giants = np.array(GIANTS[case], np.float32)
    small = draw(np.random.default_rng(0), side, side)  # also inside the boxes of the giants
    parts = look(np.concatenate([small, giants]), side, side, size, stride)
    cells, recovered = merged(parts, side, side, by_outlines)
    assert recovered == len(giants)
    known = {contour.tobytes() for contour in small}
    known_again = np.array([contour.tobytes() in known for contour in cells.contours])
    assert np.array_equal(cells.contours[known_again], in_reading_order(small))
    fragments = cells.filter(~known_again)
    shown = [[shown_area(giant, place) for place, _ in parts] for giant in giants]
    areas = [shown_area(fragment, (0, 0, side, side)) for fragment in fragments.contours]
    assert sorted(areas) == pytest.approx(sorted(map(max, shown)))


def shown_area(contour, window):
    """Pixels of the part of a contour's box that a window shows."""
    lower = np.maximum(contour.min(axis=0), window[:2])
    upper = np.minimum(contour.max(axis=0), np.array(window[2:]) - 1)
    return np.maximum(upper - lower + 1, 0).prod()


def test_two_cells_that_one_window_tells_apart_are_both_recovered():
    here, there = Window(0, 0, 64, 64), Window(48, 0, 112, 64)
    cells = cells_of([ellipse(60, 24, 30, 10), ellipse(60, 30, 30, 10)])
    seen = cells_of(np.clip(cells.contours, 0, 63))
    parts = [(here, seen), (there, Cells.empty(32))]
    assert merge(parts, 64, 112, rules_of(0.7))[1].sum() == 2
    assert merge(parts, 64, 112, rules_of(0.3))[1].sum() == 1


@by_either_rule
def test_the_order_of_windows_does_not_matter(by_outlines):
    side = 250
    rng = np.random.default_rng(5)
    contours = np.concatenate([draw(rng, side, side), [ellipse(120, 120, 60, 60)]])
    parts = look(contours, side, side, 80, 50)
    for _, cells in parts:
        # The same cell has the same weight in each window, but not the same sides.
        cells.scores[:] = 0.5
        cells.uncertainties[:] = rng.permutation([0, 0.25, 0.5, 0.75])
    expected = merged(parts, side, side, by_outlines)
    for _ in range(10):
        shuffled = [parts[i] for i in rng.permutation(len(parts))]
        cells, recovered = merged(iter(shuffled), side, side, by_outlines)
        assert recovered == expected[1] == 1
        for field in fields(Cells):
            assert np.array_equal(getattr(cells, field.name), getattr(expected[0], field.name))


def test_which_cells_were_recovered_is_told_in_their_order():
    here, there = Window(0, 0, 64, 64), Window(48, 0, 112, 64)
    whole = cells_of([ellipse(20, 8, 6, 6), ellipse(20, 52, 6, 6)])
    cut = cells_of(np.clip([ellipse(60, 30, 30, 10)], 0, 63))
    cells, recovered = merge(
        [(here, Cells.cat([cut, whole])), (there, Cells.empty(32))], 64, 112, rules_of(0.3)
    )
    assert recovered.tolist() == [False, True, False]
    assert np.array_equal(cells.filter(recovered).contours, cut.contours)


def test_a_cut_cell_never_suppresses_a_whole_one():
    cut = cells_of([ellipse(52, 30, 11, 10)])
    whole = cells_of([ellipse(50, 30, 10, 10)])
    cut.scores[:], whole.scores[:] = 0.9, 0.5
    here, there = Window(0, 0, 64, 64), Window(36, 0, 100, 64)
    cells, recovered = merged([(here, Cells.cat([cut, whole])), (there, Cells.empty(32))], 64, 100)
    assert recovered == 0
    assert np.array_equal(cells.contours, whole.contours)


def test_a_cell_at_the_image_edge_is_whole_and_an_image_may_be_smaller_than_the_window():
    contours = draw(np.random.default_rng(3), 40, 50)
    boxes = cells_of(contours).boxes
    assert (boxes == 0).any() and (boxes[:, 2] == 49).any() and (boxes[:, 3] == 39).any()
    parts = look(contours, 40, 50, 64, 32)
    assert [window for window, _ in parts] == [(0, 0, 50, 40)]
    cells, recovered = merged(parts, 40, 50)
    assert recovered == 0
    assert np.array_equal(cells.contours, in_reading_order(contours))


def test_no_cells_anywhere():
    parts = [(window, Cells.empty(32)) for window in windows(100, 100, 64, 32)]
    cells, recovered = merged(parts, 100, 100)
    assert len(cells) == recovered == 0


def test_the_exact_plan_is_the_papers():
    """768 every 384 pixels, the last shifted back inside (section 2.4; reference.md, section 3)."""
    plan = windows(2000, 2000, 768, 384, "exact")
    assert len(plan) == 25
    for low, high in ((0, 2), (1, 3)):
        assert sorted({window[low] for window in plan}) == [0, 384, 768, 1152, 1232]
        assert {window[high] - window[low] for window in plan} == {768}
    assert windows(300, 768, 768, 384, "exact") == [Window(0, 0, 768, 300)]
    assert windows(769, 500, 768, 384, "exact") == [Window(0, 0, 500, 768), Window(0, 1, 500, 769)]


def test_without_recovery_what_no_window_shows_whole_is_dropped():
    """As in the paper; with it, the cell comes from the window that shows most of it."""
    contour = np.array([[10, 10], [90, 10], [90, 30], [10, 30]], np.float32)
    parts = []
    for window in (Window(0, 0, 60, 40), Window(40, 0, 100, 40)):
        seen = contour.clip((window.x0, 0), (window.x1 - 1, 39))[None]
        box = np.concatenate([seen.min(axis=1), seen.max(axis=1)], axis=1)
        parts.append((window, Cells(seen, box, np.ones(1, "f4"), np.zeros((1, 4), "f4"))))
    cells, recovered = merge(parts, 40, 100, rules_of(0.4, by_outlines=True))
    assert len(cells) == 1 and recovered.all()
    cells, recovered = merge(parts, 40, 100, rules_of(0.4, by_outlines=True, recovery=False))
    assert len(cells) == len(recovered) == 0


def crowd(rng, count, side):
    """Outlines that overlap in any way, and Cells of them whose weights are often equal."""
    contours = [
        ellipse(*rng.uniform(-3, side + 3, 2), *rng.uniform(2, 14, 2)) for _ in range(count)
    ]
    cells = cells_of(np.clip(contours, 0, side - 1), rng)
    cells.scores[:] = np.round(cells.scores, 1)
    cells.uncertainties[:] = 0
    return cells


@by_either_rule
@pytest.mark.parametrize("threshold", [0.1, 0.4])
def test_what_windows_have_settled_ends_as_if_all_were_settled_at_once(by_outlines, threshold):
    """Also where chains of overlapping cells run through many windows."""
    rng, side = np.random.default_rng(7), 120
    rules = rules_of(threshold, by_outlines, certainty=None)
    for size, stride in ((60, 30), (50, 40), (40, 11), (200, 100)):
        cells, parts = crowd(rng, 400, side), []
        for window in windows(side, side, size, stride):
            seen = cells.filter(~cut_by_window(cells, window, side, side))
            x0, y0, x1, y1 = seen.boxes.T
            inside = (x0 >= window.x0) & (y0 >= window.y0) & (x1 < window.x1) & (y1 < window.y1)
            parts.append((window, seen.filter(inside)))
        survivors = [settle_within(window, seen, side, side, rules)[0] for window, seen in parts]
        expected = Cells.cat(survivors)
        expected = expected.filter(rules.suppress(expected, (0, 0, side, side)))
        expected = expected.filter(reading_order(expected.boxes))
        found, recovered = merge(parts, side, side, rules)
        assert len(parts) > 1 or size > side
        assert len(found) > 0 and not recovered.any()
        assert np.array_equal(found.contours, expected.contours)


def test_of_an_enlarged_image_a_window_of_the_same_size_shows_its_middle():
    window = Window(10, 20, 110, 60)
    assert window.shown_at(0.5) == window.scaled(0.5) == Window(5, 10, 55, 30)
    assert window.shown_at(1) == window
    assert window.shown_at(2) == Window(70, 60, 170, 100)


def test_the_squares_of_a_window_are_all_of_it():
    window = Window(30, 40, 1030, 640)
    seen = np.zeros((700, 1100), int)
    for x0, y0, x1, y1 in window.squares(256):
        seen[y0:y1, x0:x1] += 1
        assert 256 <= x1 - x0 <= 384 and 256 <= y1 - y0 <= 384
    assert seen[40:640, 30:1030].min() == 1, "all of it"
    assert seen.sum() == seen[40:640, 30:1030].sum() < 1.02 * 600 * 1000, "and each part once"
    assert Window(5, 5, 6, 9).squares(256) == [Window(5, 5, 6, 9)]
