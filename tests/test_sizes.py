"""The sizes of cells that are wanted: in pixels, or in micrometres."""

import numpy as np
import pytest
from drawn import cells_of, drawn
from skimage.draw import disk
from skimage.measure import regionprops

from app.sizes import Size, Sizes, UnknownPixelSize, diameters


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (12, Size(12.0)),
        ("12", Size(12.0)),
        ("12.5px", Size(12.5)),
        ("8.5um", Size(8.5, True)),
        ("8.5 µm", Size(8.5, True)),
        ("8.5μm", Size(8.5, True)),
        (Size(3.0, True), Size(3.0, True)),
    ],
)
def test_sizes_are_pixels_or_micrometres(given, expected):
    assert Size.of(given) == expected


@pytest.mark.parametrize("given", ["", "big", "0", "-3", 0, "1.2.3", "5mm", "nan", "um", "inf"])
def test_what_is_no_size_is_said(given):
    with pytest.raises(ValueError, match="number of pixels, or of µm as in 8.5um"):
        Size.of(given)


def test_no_size_is_between_a_large_least_and_a_small_most():
    with pytest.raises(ValueError, match="at least 9 pixels and at most 8 pixels"):
        Sizes.of(9, 8)
    assert Sizes.of("9um", 8) == Sizes(Size(9.0, True), Size(8.0))  # who knows


def test_micrometres_are_pixels_where_the_size_of_a_pixel_is_known():
    assert Size.of("10um").pixels(0.5) == 20
    assert Size.of(10).pixels(None) == 10
    with pytest.raises(UnknownPixelSize, match="does not say how large its pixels are"):
        Sizes.of("10um", None).in_pixels(None)


@pytest.mark.parametrize("radius", [3, 8, 40])
def test_the_diameter_is_that_of_the_label(radius):
    labels = np.zeros((100, 100), np.uint8)
    labels[disk((50, 50), radius + 0.5)] = 1
    (region,) = regionprops(labels)
    assert diameters(cells_of(labels)) == pytest.approx([region.equivalent_diameter], abs=0.5)


def test_cells_between_the_sizes_are_wanted():
    cells = cells_of(drawn((100, 100), (5, 5, 11, 11), (20, 20, 40, 40), (50, 50, 95, 95)))
    for least, most, expected in (
        (None, None, [1, 1, 1]),
        (10, None, [0, 1, 1]),
        (None, 30, [1, 1, 0]),
        (10, 30, [0, 1, 0]),
    ):
        assert Sizes.of(least, most).fit(cells).tolist() == list(map(bool, expected))
