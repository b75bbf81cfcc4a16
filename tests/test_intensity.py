"""Any dtype to 8-bit RGB: the curve of the paper, percentiles, images without contrast."""

import math
from dataclasses import replace

import numpy as np
import pytest

from app import intensity
from app.intensity import Curve, Histogram, to_rgb8

DRAW = np.random.default_rng(0)
DTYPES = ("uint8", "uint16", "uint32", "int16", "int32", "float16", "float32", "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (40, 30), (40, 30, 1), (40, 30, 2), (7, 9, 3)])
def test_every_dtype_and_channel_count_becomes_8_bit_rgb(dtype, shape):
    image = DRAW.integers(0, 200, shape).astype(dtype)
    before = image.copy()
    rgb = to_rgb8(image)
    assert rgb.shape == (*shape[:2], 3)
    assert rgb.dtype == np.uint8
    assert np.array_equal(image, before)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_percentiles_are_numpys(dtype):
    image = DRAW.normal(120, 40, (211, 97)).clip(0, 255).astype(dtype)
    found = Histogram.cat(Histogram.of_channels(image)).percentiles(0.12, 99.88)
    assert found == pytest.approx(np.percentile(image.astype(float), (0.12, 99.88)))


def test_wide_images_are_judged_by_an_even_sample(monkeypatch):
    """Whatever the parts in which they are looked at."""
    monkeypatch.setattr(intensity, "SAMPLE", 3000)
    image = DRAW.integers(0, 10**6, (211, 97, 2)).astype(np.int32)
    step = 4  # the least with at most 3000 values
    for band in (97, 1000, 2**22):
        monkeypatch.setattr(intensity, "BAND", band)
        found = Histogram.of_channels(image)
        for channel, histogram in enumerate(found):
            expected = np.unique(image[::step, ::step, channel], return_counts=True)
            assert np.array_equal([histogram.levels, histogram.counts], expected)
    assert sum(part.counts.sum() for part in found) <= 3000


def test_grey_goes_to_all_channels_and_two_channels_to_red_and_green():
    grey = DRAW.integers(60, 255, (20, 20)).astype(np.uint8)
    rgb = to_rgb8(grey)
    assert (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all()
    two = to_rgb8(np.dstack([grey, 255 - grey]))
    assert two[..., 2].max() == 0
    assert np.array_equal(two[..., :2], np.dstack([grey, 255 - grey]))


def test_beyond_three_channels_the_first_three_count():
    many = DRAW.integers(0, 60000, (20, 20, 7)).astype(np.uint16)
    assert np.array_equal(to_rgb8(many), to_rgb8(many[..., :3]))


def test_bright_8_bit_images_stay_as_they_are():
    image = DRAW.integers(60, 255, (50, 50)).astype(np.uint8)
    assert np.array_equal(to_rgb8(image)[..., 0], image)


def test_wide_integers_are_stretched_between_0_12_and_99_88_percent():
    image = np.linspace(1000, 60000, 10_000).reshape(100, 100).astype(np.uint16)
    low, high = np.percentile(image, (0.12, 99.88))
    expected = np.clip((image - low) / (high - low), 0, 1) * 255
    assert np.abs(to_rgb8(image)[..., 0] - expected).max() <= 0.51


@pytest.mark.parametrize("scale", [1.0, 1e-6, 3e8])
def test_floats_are_stretched_whatever_their_range(scale):
    """A 0..1 image must not turn black."""
    image = np.linspace(0.2, 1, 10_000).reshape(100, 100)
    assert np.array_equal(to_rgb8(image * scale), to_rgb8(image))
    assert to_rgb8(image).mean() > 100


def test_dark_images_are_brightened_by_gamma():
    """g = 0.6 + 0.4 (1 - (cos(m / 17) + 1) / 2) below a mean of 17 pi, 1 above."""
    assert intensity.dark_gamma(0) == pytest.approx(0.6)
    mean = 20.0
    expected = 0.6 + 0.4 * (1 - (math.cos(mean / 17) + 1) / 2)
    assert intensity.dark_gamma(mean / 255) == pytest.approx(expected)
    assert intensity.dark_gamma(17 * math.pi / 255 - 1e-9) == pytest.approx(1.0)
    assert intensity.dark_gamma(0.5) == 1.0


def test_the_least_gamma_can_be_another():
    """And is reached from 1 along the same cosine."""
    assert intensity.dark_gamma(0, 0.4) == pytest.approx(0.4)
    assert intensity.dark_gamma(0.5, 0.4) == 1.0
    share = (1 - intensity.dark_gamma(0.1)) / 0.4
    assert intensity.dark_gamma(0.1, 0.4) == pytest.approx(1 - 0.6 * share)
    dark = DRAW.integers(0, 20, (40, 40)).astype(np.uint8)
    assert Curve.fit(dark, gamma_floor=0.4).gamma < Curve.fit(dark).gamma < 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_given_percentile_decides_the_stretch_of_every_dtype(dtype):
    image = DRAW.normal(120, 30, (211, 97)).clip(1, 254).astype(dtype)
    curve = Curve.fit(image, percentile=99)
    assert curve.stretch_b == pytest.approx(np.percentile(image.astype(float), (1, 99)))
    assert curve.stretch_b != pytest.approx(Curve.fit(image).stretch_b)
    assert curve.stretch_a == Curve.fit(image).stretch_a


def skewed(shape, dtype, scale=1.0, power=6):
    """A dark image with few bright pixels, as of fluorescence, of values 0..255 times `scale`."""
    return (DRAW.random(shape) ** power * 255.99 * scale).astype(dtype)


SKEWED = {
    "grey": skewed((90, 80), np.uint8),
    "bright grey": 255 - skewed((90, 80), np.uint8),
    "low contrast": 100 + skewed((90, 80), np.uint8, 0.1),
    "RGB": skewed((60, 50, 3), np.uint8, power=2),
    "two channels": skewed((60, 50, 2), np.uint8, power=2),
    "uint16": 300 + skewed((90, 80), np.uint16, 100),
    "float": skewed((90, 80), np.float32, 1e-4),
    "constant": np.full((9, 8), 7, np.uint8),
    "empty": np.zeros((9, 8), np.uint16),
    "binary": skewed((40, 50), np.uint16, power=1) // 128,
}


@pytest.mark.parametrize("image", SKEWED.values(), ids=SKEWED.keys())
@pytest.mark.parametrize("given", [{}, {"percentile": 99.9, "gamma_floor": 0.4}], ids=str)
def test_any_mix_is_read_from_the_levels_of_the_even_one(image, given):
    """Within 2 levels of the conversion itself; what training mixes is what prediction sees."""
    curve = Curve.fit(image, **given)
    levels, (a, b) = to_rgb8(image, curve.even()), curve.tables()
    for mix in (curve.mix, 0.0, 0.3, 1.0):
        found = (mix * a + (1 - mix) * b)[levels] * 255
        assert np.abs(found - to_rgb8(image, replace(curve, mix=mix))).max() <= 2


@pytest.mark.parametrize("image", SKEWED.values(), ids=SKEWED.keys())
def test_the_tables_of_the_levels_rise_from_0(image):
    """So that a missing blue, and what lies outside of the image, is black in any mix."""
    tables = Curve.fit(image).tables()
    assert (tables.shape, tables.dtype) == ((2, 256), np.float32)
    assert (tables[:, 0] == 0).all()
    assert (np.diff(tables) >= 0).all()
    assert tables.max() <= 1


def test_the_mix_follows_the_kind_of_image():
    """Stained bright-field is stretched (A), dark grey images half, others not at all."""
    stained = DRAW.integers(60, 255, (40, 40, 3)).astype(np.uint8)
    stained[..., 2] = 220 + DRAW.integers(0, 10, (40, 40))
    assert Curve.fit(stained).mix == 1.0
    assert Curve.fit(stained[..., ::-1]).mix == 0.0
    dark = DRAW.integers(0, 30, (40, 40)).astype(np.uint8)
    assert Curve.fit(dark).mix == 0.5
    assert Curve.fit(dark + 100).mix == 0.0


@pytest.mark.parametrize("value", [0, 1, 77, 255])
@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_images_stay_constant(value, dtype):
    rgb = to_rgb8(np.full((9, 8), value, dtype))
    assert len(np.unique(rgb)) == 1


def test_nan_and_infinities_do_not_decide_anything():
    image = DRAW.random((60, 60)).astype(np.float32)
    clean = to_rgb8(image)
    image[:2, 0] = (np.nan, -np.inf)
    image[2, 0] = np.inf
    rgb = to_rgb8(image)
    assert np.abs(rgb[3:].astype(int) - clean[3:]).max() <= 2
    assert rgb[0, 0, 0] == rgb[1, 0, 0] == 0
    assert rgb[2, 0, 0] == 255
    assert len(np.unique(to_rgb8(np.full((5, 5), np.nan)))) == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_part_is_converted_as_in_the_whole(dtype):
    """Windows of one image agree: the curve comes from the whole image."""
    image = DRAW.integers(0, 250, (600, 50, 3)).astype(dtype)
    curve = Curve.fit(image)
    if dtype == "float32":
        image[::7, ::3] = np.nan
    assert np.array_equal(curve(image)[100:590, 5:20], curve(image[100:590, 5:20]))


def test_the_empty_blue_of_two_channels_does_not_count():
    """A camera's offset goes away in two channels as in one."""
    grey = DRAW.integers(1000, 5000, (60, 60)).astype(np.uint16)
    two = np.dstack([grey, grey])
    assert Curve.fit(two).stretch_b == pytest.approx(Curve.fit(grey).stretch_b, abs=1)
    difference = to_rgb8(two)[..., 0].astype(int) - to_rgb8(grey)[..., 0]
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("shape", [(0, 5), (5,), (2, 3, 4, 5)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match="cannot be segmented"):
        to_rgb8(np.zeros(shape, np.uint8))
