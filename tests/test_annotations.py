"""Scale bars and text that were drawn into an image."""

import csv

import cv2
import numpy as np
import pytest
import tifffile
from test_segmenter import Everywhere, random_network

from app import annotations, files, images
from app.intensity import Curves, no_image
from app.segmenter import Segmenter

WHITE, BLACK, YELLOW = (255, 255, 255), (0, 0, 0), (255, 255, 0)
FONTS = cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX


def cells(ground, light, shape=(256, 480)):
    """An image (H, W, 3) uint8 of soft round cells."""
    draw = np.random.default_rng(0)
    image = np.full(shape, ground, np.float32)
    for x, y in draw.uniform(20, 160, (30, 2)):
        cv2.circle(image, (int(x), int(y)), 9, float(light), -1)
    image = cv2.GaussianBlur(image, (0, 0), 2) + draw.normal(0, 3, shape)
    return np.dstack([image.clip(0, 255).astype(np.uint8)] * 3)


def annotated(image, colour, text="50 um", font=FONTS[1], scale=0.8):
    """The image with a scale bar and text above it, and where they are: boxes (2, 4)."""
    image = image.copy()
    cv2.rectangle(image, (200, 235), (299, 240), colour, -1)
    (width, height), _ = cv2.getTextSize(text, font, scale, 2)
    cv2.putText(image, text, (205, 225), font, scale, colour, 2, cv2.LINE_AA)
    return image, np.array([(200, 235, 300, 241), (205, 225 - height, 205 + width, 225)])


def is_found(box, found):
    """Whether a box is covered by 0.8 and more of those found, in all."""
    covered = np.zeros((1000, 1000), bool)
    for x0, y0, x1, y1 in found:
        covered[y0:y1, x0:x1] = True
    x0, y0, x1, y1 = box
    return covered[y0:y1, x0:x1].mean() >= 0.8


@pytest.mark.parametrize(
    "ground, light, colour", [(20, 180, WHITE), (230, 90, BLACK), (20, 180, YELLOW)]
)
@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize("text", ["50 um", "0.5 mm", "t = 12:30 h"])
def test_bars_and_text_are_found(ground, light, colour, font, text):
    image, boxes = annotated(cells(ground, light), colour, text, font)
    found = no_image(image).drawn
    assert all(is_found(box, found) for box in boxes)
    around = np.zeros(image.shape[:2], bool)
    around[180:, 190:] = True
    assert all(around[y0:y1, x0:x1].all() for x0, y0, x1, y1 in found)


def test_of_grey_images_and_of_16_bits_too():
    image, boxes = annotated(cells(20, 180), WHITE)
    grey = image[..., :1]
    deep = np.where(grey == 255, 65535, grey * np.uint16(10)).astype(np.uint16)
    for pixels in (grey, deep):
        found = no_image(pixels).drawn
        assert all(is_found(box, found) for box in boxes)


def test_a_jpeg_keeps_them_near_enough():
    image, boxes = annotated(cells(20, 180), WHITE)
    _, stored = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    found = no_image(cv2.imdecode(stored, cv2.IMREAD_COLOR)).drawn
    assert all(is_found(box, found) for box in boxes)


def test_between_a_bar_and_its_text_is_nothing_else():
    image, (bar, text) = annotated(cells(20, 180), WHITE)
    between = (bar[0], text[3], text[2], bar[1])
    assert is_found(between, no_image(image).drawn)


def test_beside_a_bar_a_single_digit_is_text():
    image, (bar, digit) = annotated(cells(20, 180), WHITE, "5")
    assert is_found(digit, no_image(image).drawn)
    image[bar[1] : bar[3], bar[0] : bar[2]] = 20
    assert not len(no_image(image).drawn)


def test_saturated_rods_in_a_row_are_cells():
    """Of one value, slender, and as high as one another: but their edges are blurred."""
    light = np.zeros((200, 300), np.float32)
    for column in range(20, 280, 30):
        cv2.rectangle(light, (column, 60), (column + 5, 90), 1, -1)
        cv2.rectangle(light, (column - 8, 150), (column + 12, 154), 1, -1)
    light = cv2.GaussianBlur(light, (0, 0), 1.5)
    image = (20 + 900 * light).clip(0, 255).astype(np.uint8)
    assert (image == 255).mean() > 0.02
    assert not len(no_image(image[..., None]).drawn)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 60, 3), (40, 2, 2), (5, 5, 1)])
@pytest.mark.parametrize("value", [0, 255])
def test_small_and_constant_images_have_none(shape, value):
    for dtype in (np.uint8, np.uint16, np.int32):
        assert no_image(np.full(shape, value, dtype)).drawn.shape == (0, 4)


def test_floats_and_slides_are_not_looked_at(monkeypatch):
    assert annotations.LARGEST < files.LARGE  # whose plan does not keep what is drawn
    image, _ = annotated(cells(20, 180), WHITE)
    assert not len(no_image(image.astype(np.float32)).drawn)
    monkeypatch.setattr(annotations, "LARGEST", image[..., 0].size - 1)
    assert not len(no_image(image).drawn)
    assert not len(Curves.fit(image).no_image.drawn)


def test_images_of_all_kinds_have_none(data):
    """Every eighth image of the data; experiments annotated looks at all."""
    with open(data / "catalog.csv", newline="") as file:
        rows = list(csv.DictReader(file))[::8]
    for row in rows:
        image, _ = images.read(data / row["source"] / row["image"])
        assert not len(no_image(image).drawn), row["image"]


@pytest.mark.parametrize("dtype, top", [("uint8", 255), ("uint16", 60000), ("int32", 10**6)])
@pytest.mark.parametrize("colour", [WHITE, YELLOW])
def test_it_decides_no_contrast(monkeypatch, dtype, top, colour):
    """Nor makes it a grey image one of three channels; also where histograms are of a sample."""
    monkeypatch.setattr("app.intensity.SAMPLE", 2**17)
    clean = (cells(20, 180) // 4).astype(dtype)
    drawn, _ = annotated(np.zeros(clean.shape, np.uint8), colour)
    share = drawn.max(2, keepdims=True) / 255
    image = np.rint((1 - share) * clean + share * np.array(colour) * (top / 255)).astype(dtype)
    expected, found = Curves.fit(clean), Curves.fit(image)
    assert len(found.no_image.drawn) == 1
    assert found.count == expected.count == 1
    for name in ("stretch_a", "stretch_b", "gamma"):
        before, after = (getattr(curves.curves[0], name) for curves in (expected, found))
        assert after == pytest.approx(before, rel=0.05, abs=1)


def patterns():
    """Yield (name, image) of what is seen, and not drawn: regular, sharp and bright."""
    draw = np.random.default_rng(0)
    channels = np.zeros((400, 400), np.float32)  # a mother machine
    for column in range(20, 380, 20):
        for row in range(10, 380, 34):
            cv2.rectangle(channels, (column, row), (column + 3, row + 24), draw.uniform(0.8, 1), -1)
    for blur in (0.7, 1.0, 1.3):
        seen = (
            200 + 2500 * cv2.GaussianBlur(channels, (0, 0), blur) + draw.normal(0, 30, (400, 400))
        )
        yield f"rods {blur}", seen.astype(np.uint16)
        yield f"rods along the rows {blur}", np.ascontiguousarray(seen.T.astype(np.uint16))
        yield f"saturated rods {blur}", (seen / 5).clip(0, 255).astype(np.uint8)
    rings = np.zeros((400, 400), np.float32)
    for column in range(20, 380, 26):
        for row in range(20, 380, 26):
            cv2.circle(rings, (column, row), 9, 1.0, 2)
    yield "rings", (600 * cv2.GaussianBlur(rings, (0, 0), 0.7)).clip(0, 255).astype(np.uint8)
    bands = np.full((400, 400), 230, np.uint8)
    for column in range(20, 380, 40):
        for row in draw.integers(10, 380, 8):
            cv2.rectangle(bands, (column, int(row)), (column + 25, int(row) + 4), 10, -1)
    yield "bands", cv2.GaussianBlur(bands, (0, 0), 0.7)
    yield "mask", np.where(channels > 0, 255, 0).astype(np.uint8)


PATTERNS = dict(patterns())


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_that_are_seen_are_none(name):
    assert not len(no_image(PATTERNS[name]).drawn)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_no_cells_are_taken_there_and_that_is_said(scale):
    clean = np.random.default_rng(0).integers(50, 120, (256, 480, 3)).astype(np.uint8)
    image, boxes = annotated(clean, WHITE)
    segmenter = Everywhere(random_network(window=480), "cpu", scale=scale)
    before, after = segmenter.find(clean), segmenter.find(image)
    assert not before.notes
    assert after.notes == ["what looks like a scale bar or text (bottom middle) holds no cells"]
    assert len(after.cells) < len(before.cells)
    inside = np.zeros(image.shape[:2], bool)
    for x0, y0, x1, y1 in boxes:
        inside[y0 - 4 : y1 + 4, x0 - 4 : x1 + 4] = True
    for x0, y0, x1, y1 in after.cells.boxes.astype(int):
        assert inside[y0 : y1 + 1, x0 : x1 + 1].mean() <= 0.75


def test_it_is_the_same_where_a_file_is_read_by_region(tmp_path):
    image, _ = annotated(cells(20, 180), WHITE)
    tifffile.imwrite(str(tmp_path / "tiles.tif"), image, tile=(64, 64), photometric="rgb")
    by_region = images.load_by_region(tmp_path / "tiles.tif")
    assert not isinstance(by_region, np.ndarray)
    expected = Curves.fit(image).no_image.drawn
    assert np.array_equal(Curves.fit(by_region).no_image.drawn, expected)
    assert len(expected) == 1
    segmenter = Segmenter(random_network(), "cpu")
    done = files.segment_file(segmenter, tmp_path / "tiles.tif", tmp_path / "tiles_label.tiff")
    assert any("scale bar" in remark for remark in done.remarks)
