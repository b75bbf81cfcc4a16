"""The commands of experiments for resized, empty and users' images: what they make and count."""

import csv

import cv2
import numpy as np
import pytest
from drawn import cells_of, drawn, save
from training_data import make_data

from app.intensity import no_image
from app.segmenter import Found
from evaluate.folders import read_labels
from experiments import afar, annotated, cases, nothing, sizes
from training import catalog, validation

TRUTH = drawn((64, 80), (10, 10, 30, 30), (40, 40, 50, 60)).astype(np.int32)


class Bright:
    """Stands in for a Segmenter: the cells are the numbers that the image shows."""

    scale = None

    def __init__(self):
        self.scales = []

    def segment(self, image):
        self.scales.append(self.scale)
        return cells_of(image.astype(np.int32)), []


@pytest.mark.parametrize("size", [0.5, 1.0, 2.0, 4.0])
def test_a_resized_image_keeps_its_type_and_its_labels(size):
    blocks = drawn((64, 80), (8, 8, 32, 32), (40, 40, 52, 60)).astype(np.uint8)
    image, truth = sizes.resized(blocks, blocks, size)
    assert image.dtype == blocks.dtype and image.shape == (64 * size, 80 * size)
    assert set(np.unique(truth)) == {0, 1, 2}
    if size == 1:  # elsewhere the numbers of this image blur at the edges
        assert sizes.f1_at(size, Bright(), blocks, blocks) == 1


def test_the_median_cell_is_that_of_a_disc_of_its_area():
    assert sizes.median_cell(np.zeros((5, 5), int)) == 0
    side = sizes.median_cell(drawn((64, 80), (10, 10, 30, 30)))
    assert side == pytest.approx(2 * np.sqrt(400 / np.pi))


def test_a_size_is_compared_with_the_same_images_at_1():
    found = [("a", 1.0, 9, 0.5), ("a", 2.0, 18, 0.25), ("b", 1.0, 3, 1.0)]
    assert sizes.summary(found, [1.0, 2.0]) == [(1.0, 2, 0.75, 0.75), (2.0, 1, 0.25, 0.5)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ground", [20, 220])
def test_a_bar_and_texts_are_drawn_where_it_is_said(seed, ground):
    image = np.full((240, 300, 3), ground, np.uint8)
    drawn_into, boxes = annotated.annotated(image, np.random.default_rng(seed))
    assert (image == ground).all() and boxes.min() >= 0
    assert (boxes[:, 2:] <= (300, 240)).all()
    changed = (drawn_into != image).any(2)
    assert all(changed[y0:y1, x0:x1].mean() > 0.2 for x0, y0, x1, y1 in boxes)
    grown = boxes + (-4, -4, 4, 12)  # what reaches below the line, and the pen's thickness
    assert not changed[~annotated.masked(np.maximum(grown, 0), image.shape)].any()


class Everything:
    """Stands in for a Segmenter: all that is bright is a cell, unless it is known to be drawn."""

    def find(self, image):
        none = no_image(image)(image, (0, 0))
        bright = (image.max(2) > 127) & ~none
        return Found(cells_of(cv2.connectedComponents(bright.view(np.uint8))[1]), [], 1.0)


def test_cells_on_what_is_drawn_are_counted_with_and_without_knowing_it():
    image = np.full((240, 300, 3), 20, np.uint8)
    truth, draw = np.zeros(image.shape[:2], int), np.random.default_rng(0)
    found, _, before, _, unknown, _, left = annotated.compared(Everything(), image, truth, draw)
    assert (found, before) == (3, 0)
    assert unknown >= 10 and left <= 3  # small things beside the letters


def test_discs_show_the_cells_in_the_middle_alone():
    grid = [(y, x, y + 6, x + 6) for y in range(2, 112, 10) for x in range(2, 112, 10)]
    truth = drawn((120, 130), *grid)
    found = list(afar.discs(np.where(truth, 200, 20).astype(np.uint8), truth))
    assert [edge for edge, _, _ in found] == ["sharp", "fading"] * 3
    for (_, image, seen), radius in zip(found[::2], afar.RADII):
        away = np.hypot(*(np.indices((120, 120)) - 60))
        assert image.shape == seen.shape == (120, 120)
        assert image[away > radius * 120 + 8].max() < 20
        assert np.array_equal(seen > 0, (truth[:120, :120] > 0) & (away < radius * 120))
    few = np.where(truth > 5, 0, truth)
    assert list(afar.discs(few.astype(np.uint8), few)) == []


def test_a_disc_is_scored_with_its_scale_chosen_and_at_1():
    class OneFromAfar:
        scale = None

        def find(self, image):
            whole = drawn(image.shape, (0, 0, *image.shape))
            return Found(cells_of(TRUTH if self.scale else whole), [], self.scale or 0.25)

        def segment(self, image):
            return self.find(image).cells, []

    segmenter = OneFromAfar()
    assert afar.compared(segmenter, np.zeros(TRUTH.shape, np.uint8), TRUTH) == (0, 1, True)
    assert segmenter.scale is None


def test_a_case_is_scored_as_it_is_and_by_hand(tmp_path):
    for case in ("sizes_x1", "fill"):
        for part, name in (("in", "a.tif"), ("truth", "a_label.tif")):
            (tmp_path / case / part).mkdir(parents=True)
            save(tmp_path / case / part / name, TRUTH.astype(np.uint8))
    segmenter = Bright()
    *_, true, found, false, f1, by_hand = cases.row_of(segmenter, tmp_path / "sizes_x1/in/a.tif")
    assert (true, found, false, f1, by_hand) == (2, 2, 0, 1, 1)
    assert segmenter.scale is None and segmenter.scales[0] is None and segmenter.scales[1] > 0
    assert cases.row_of(segmenter, tmp_path / "fill/in/a.tif")[-1] is None


def test_a_camera_sees_the_same_frame_each_time_and_no_two_alike():
    frames = [nothing.camera(number, side=64) for number in range(20)]
    for number, frame in enumerate(frames):
        assert frame.dtype == (np.uint8 if number % 2 else np.uint16)
        assert np.array_equal(frame, nothing.camera(number, side=64))
        assert frame.std() > 0 and frame.max() < np.iinfo(frame.dtype).max
    assert len({frame.tobytes() for frame in frames}) == 20
    assert nothing.camera(0).shape == (nothing.SIDES[0],) * 2
    signal = np.zeros((64, 64))
    signal[20:40, 20:40] = 3000
    seen = nothing.camera(4, signal, 64).astype(float)
    assert seen[22:38, 22:38].mean() > seen[:10].mean() + 10 * seen[:10].std()


def test_a_gap_keeps_its_margin_from_every_label():
    labels = np.zeros((400, 500), int)
    labels[:, 200:204] = 1
    x, y, side = nothing.gap_of(labels)
    assert x >= 204 + nothing.MARGIN - 1 and side >= nothing.LEAST_GAP
    assert x + side <= 500 and y >= 0 and y + side <= 400
    assert not labels[y : y + side, x : x + side].any()


def test_the_gaps_that_are_listed_hold_no_labels(data):
    listing = catalog.entries(data, "val")
    pixels = list(nothing.crops(listing))
    assert len(pixels) == nothing.GAPS
    entries = {entry.flat_name: entry for entry in listing}
    with nothing.LISTED.open(newline="") as lines:
        for row, crop in zip(csv.DictReader(lines), pixels):
            x, y, side = (int(row[name]) for name in ("x", "y", "side"))
            labels = read_labels(entries[row["image"]].label)[y : y + side, x : x + side]
            assert labels.shape == crop.shape[:2] == (side, side) and side >= nothing.LEAST_GAP
            assert not labels.any()


def test_cells_are_counted_in_the_label_image(tmp_path):
    listing = catalog.entries(make_data(tmp_path / "data"), "train")
    image = catalog.read_image(listing[0].image)
    assert nothing.count(Bright(), TRUTH.astype(np.uint8)) == 2
    assert nothing.count(Bright(), np.zeros(image.shape[:2], np.uint8)) == 0
    assert validation.labels_of(Bright(), TRUTH.astype(np.uint8)).shape == TRUTH.shape
