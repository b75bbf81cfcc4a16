"""Any dtype to 8-bit RGB: the paper's curve, a curve per channel, and what is no image."""

import csv
import math
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest

from app import images, intensity
from app.intensity import (
    CONVERSIONS,
    Curve,
    Curves,
    Histogram,
    is_photograph,
    no_image,
    survey,
    to_rgb8,
)
from app.network.config import CHOICES

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


def test_every_conversion_can_be_configured():
    assert set(CONVERSIONS) == set(CHOICES["conversion"])


def blobs(shape=(256, 256), count=12, seed=0):
    """Round cells of brightness 1 with soft edges on 0: (light (H, W) float, mask (H, W) bool)."""
    draw = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    for y, x in draw.integers(20, np.array(shape) - 20, (count, 2)):
        cv2.circle(mask, (int(x), int(y)), 12, 1, -1)
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2), mask.astype(bool)


LIGHT, CELLS = blobs()
GLOW = cv2.GaussianBlur(blobs(seed=1)[0], (0, 0), 20) / 0.3


def noisy(level, sigma=8.0, seed=0):
    return level + np.random.default_rng(seed).normal(0, sigma, np.shape(level))


def stored(*channels, dtype=np.uint16):
    """Channels (H, W) as an image (H, W, C) of an integer type, clipped."""
    return np.dstack(channels).clip(0, np.iinfo(dtype).max).astype(dtype)


DIM, BRIGHT, NONE = noisy(120 + 900 * LIGHT), 500 + 30000 * GLOW, np.zeros(LIGHT.shape)
COMPOSITES = {
    "16-bit RGB": stored(NONE, BRIGHT, DIM),
    "two channels": stored(DIM, BRIGHT),
    "five channels": stored(DIM, BRIGHT, NONE, NONE, NONE),
    "camera offset": stored(noisy(5000 + 60 * LIGHT), noisy(5000 + NONE, 8, 1), 5000 + BRIGHT / 9),
    "8-bit RGB": stored(NONE, BRIGHT / 257, DIM / 257 * 12, dtype=np.uint8),
    "alike, but one dim": stored(DIM, 7 * DIM, 50 * DIM),
}


@pytest.mark.parametrize("image", COMPOSITES.values(), ids=COMPOSITES.keys())
def test_no_channel_drowns_another(image):
    """The dim stain's cells stand out by a seventh of the range at least."""
    curves = Curves.fit(image)
    assert not curves.photograph and len(curves.curves) == min(image.shape[2], 3)
    rgb = to_rgb8(image, curves).astype(int)
    contrast = np.median(rgb[CELLS], axis=0) - np.median(rgb[~CELLS], axis=0)
    assert contrast.max() > 36
    assert (rgb[..., 2] == 0).all() or image.shape[2] == 3


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_each_channel_is_converted_as_the_grey_image_that_it_is(dtype):
    image = np.dstack([20 + 180 * LIGHT, 60 + 100 * GLOW, noisy(20 + 80 * LIGHT, 1)])
    image = image.clip(0, 255).astype(dtype)
    rgb = to_rgb8(image, Curves.fit(image))
    for channel in range(3):
        assert np.array_equal(rgb[..., channel], to_rgb8(image[..., channel])[..., 0])


def test_a_constant_channel_is_black():
    for value in (0, 77, 255):
        image = stored(NONE + value, DIM / 5, noisy(60 + 100 * GLOW), dtype=np.uint8)
        rgb = to_rgb8(image, Curves.fit(image))
        assert rgb[..., 0].max() == 0 and rgb[..., 1].max() > 100


@pytest.mark.parametrize("sigma", [4, 40, 400])
def test_noise_is_not_blown_up_but_nuclei_above_it_stay(sigma):
    image = stored(noisy(3000 + 3 * sigma * LIGHT, sigma), noisy(3000 + NONE, sigma, 1), BRIGHT)
    rgb = to_rgb8(image, Curves.fit(image)).astype(float)
    assert rgb[..., 1].std() < 255 / 15
    contrast = rgb[CELLS, 0].mean() - rgb[~CELLS, 0].mean()
    assert contrast > 25 and contrast > 1.8 * rgb[~CELLS, 0].std()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_grey_stored_as_rgb_is_grey(dtype):
    grey = (noisy(30 + 60 * LIGHT, 3)).astype(dtype)
    image = np.dstack([grey] * 3)
    assert np.array_equal(to_rgb8(image, Curves.fit(image)), to_rgb8(grey, Curves.fit(grey)))
    assert np.array_equal(to_rgb8(grey, Curves.fit(grey)), to_rgb8(grey))


@pytest.mark.parametrize("quality", [30, 50, 75, 90])
@pytest.mark.parametrize("sigma", [1, 1.5, 2, 3, 4])
def test_what_jpeg_leaves_of_noise_is_not_blown_up(tmp_path, quality, sigma):
    """It is flat, but for patterns of 8 x 8 pixels here and there."""
    path, parameters = tmp_path / "image.jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]
    frame = noisy(np.full((256, 256), 20.0), sigma).clip(0, 255).astype(np.uint8)
    assert cv2.imwrite(str(path), frame, parameters)
    image = images.load(path)
    seen = to_rgb8(image.pixels, Curves.fit(image.pixels, quantization=image.quantization))
    blocks = cv2.resize(seen, (64, 64), interpolation=cv2.INTER_AREA)  # what noise does not reach
    assert blocks.std() < 12
    nuclei = cv2.GaussianBlur(cv2.circle(NONE.copy(), (99, 99), 20, 1, -1), (0, 0), 2)
    assert cv2.imwrite(str(path), (frame + 60 * nuclei).astype(np.uint8), parameters)
    image = images.load(path)
    seen = to_rgb8(image.pixels, Curves.fit(image.pixels, quantization=image.quantization))
    assert seen[nuclei > 0.9].mean() > seen[nuclei < 0.1].mean() + 50


def stained(dtype=np.uint8, noise=4.0):
    """Purple cells on a pink, textured ground."""
    texture = cv2.GaussianBlur(noisy(NONE, 1, 3), (0, 0), 6)[..., None] * 150
    picture = np.array((236, 208, 228)) - LIGHT[..., None] * np.array((140, 150, 80)) - texture
    return (picture + noisy(np.zeros(picture.shape), noise)).clip(0, 255).astype(dtype)


@pytest.mark.parametrize("dtype, factor", [("uint8", 1), ("uint16", 200), ("float32", 0.01)])
def test_photographs_keep_the_papers_curve(dtype, factor):
    image = (stained(np.float64) * factor).astype(dtype)
    assert Curves.fit(image).photograph
    assert np.array_equal(to_rgb8(image, Curves.fit(image)), to_rgb8(image))


PHOTOGRAPHS = [
    *("bbbc041seg", "dsb2018", "gbm40", "insect_embryos_rf", "miccai15_cpm", "monuseg"),
    *("monuseg_more", "pannuke_uterus", "segpc_crops", "tcga_glioma", "tnbc", "wbc_zheng"),
    "yeast_bf_thang",
]


@pytest.mark.parametrize("source", PHOTOGRAPHS + ["scellseg", "codex_expert"])
def test_stains_and_smears_are_photographs_and_fluorescence_is_not(data, source):
    with open(data / "catalog.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == source]
    rows = [row for row in rows if row["channels"] == "3"]
    for row in rows[:: max(1, len(rows) // 4)]:
        image, _ = images.read(data / source / row["image"])
        assert Curves.fit(image).photograph == (source in PHOTOGRAPHS), row["image"]
        assert not Curves.fit(image).no_image.values, row["image"]


def frame_of(image, width, value):
    """The image with a margin of a value put around it."""
    sides = [(width, width)] * 2 + [(0, 0)] * (image.ndim - 2)
    return np.pad(image, sides, constant_values=value)


def turned(value):
    """(an image turned by 10 degrees, where it is none)."""
    image = stored(1000 + DIM)[..., 0]
    turn = cv2.getRotationMatrix2D((128, 128), 10, 1)
    how = {"flags": cv2.INTER_NEAREST, "borderValue": value}
    none = cv2.warpAffine(np.zeros_like(image), turn, (256, 256), **{**how, "borderValue": 1})
    return cv2.warpAffine(image, turn, (256, 256), **how), none.astype(bool)


def with_fills():
    """Yield (name, image with a fill, where it is)."""
    grey, rgb = stored(200 + 3 * DIM)[..., 0], COMPOSITES["16-bit RGB"]
    quarter, half, strip = (np.zeros(grey.shape, bool) for _ in range(3))
    quarter[:128, :128] = half[:, 150:] = strip[:3] = True
    for value in (0, 65535, 40000):
        yield f"quarter of {value}", np.where(quarter, value, grey).astype(np.uint16), quarter
        yield f"strip of {value}", np.where(strip, value, grey).astype(np.uint16), strip
        margin = frame_of(np.zeros(grey.shape, bool), 30, True)
        yield f"margin of {value}", frame_of(grey, 30, value), margin
        yield (f"turned, {value}", *turned(value))
    yield "channels", np.where(quarter[..., None], 65535, rgb).astype(np.uint16), quarter
    yield "float", np.where(half, -9999, grey).astype(np.float32), half
    yield "NaN", np.where(half, np.nan, grey).astype(np.float32), half
    tile = stored(noisy(90 + 80 * LIGHT, 2), dtype=np.uint8)[..., 0]
    yield "8 bit", np.where(quarter, 255, tile).astype(np.uint8), quarter
    yield "stained", np.where(half[..., None], 255, stained()).astype(np.uint8), half
    yield "all", np.full((50, 60), 7, np.uint16), np.ones((50, 60), bool)


FILLS = {name: (image, none) for name, image, none in with_fills()}


@pytest.mark.parametrize("squares", [2**18, 2**13])
@pytest.mark.parametrize("name", FILLS)
def test_a_fill_is_no_image(monkeypatch, name, squares):
    """Also where a square of the map stands for many pixels."""
    monkeypatch.setattr("app.no_image.MAP", squares)
    image, none = FILLS[name]
    found = no_image(image)(intensity.select_channels(image), (0, 0))
    assert (found != none).mean() < 0.002
    assert not found[~none].any() or squares < 2**18
    curves = Curves.fit(image)
    rgb = to_rgb8(image, curves)
    assert curves.photograph or not rgb[found].any()
    if not none.all():
        rest = intensity.select_channels(image)[~none][:, None]
        expected = [Histogram.of_channels(rest)[k] for k in range(rest.shape[2])]
        for part, one in zip(expected, intensity.survey(image, None)[0]):
            assert abs(int(one.counts.sum()) - int(part.counts.sum())) <= 0.002 * found.size


def test_the_rest_is_converted_as_without_the_fill():
    grey = stored(200 + 3 * DIM)[..., 0]
    image = frame_of(grey, 30, 65535)
    expected = to_rgb8(grey)
    assert np.array_equal(to_rgb8(image, Curves.fit(image))[30:-30, 30:-30], expected)


def test_saturated_cells_beside_a_fill_are_image():
    """Of the same value, and one of them at the frame."""
    light = cv2.circle(LIGHT.copy(), (255, 158), 40, 1, -1)
    light[:112] = 0
    light = cv2.GaussianBlur(light, (0, 0), 2)
    grey = noisy(1000 + 100000 * light).clip(0, 65535).astype(np.uint16)
    image = np.where(np.arange(256)[:, None] < 100, np.uint16(65535), grey)
    found = no_image(image)(image[..., None], (0, 0))
    assert found[:100].all() and not found[100:].any()
    assert (to_rgb8(image, Curves.fit(image))[100:][grey[100:] == 65535] == 255).all()


def clipped():
    """Yield (name, image) of what a camera sees of one exact value: no fills."""
    soft = cv2.GaussianBlur(LIGHT, (0, 0), 2)
    grains = cv2.GaussianBlur(noisy(NONE, 1, 5), (0, 0), 1) * 8
    yield "black ground", (300 * soft - 10).clip(0, 255).astype(np.uint8)
    yield "noisy black ground", (200 * soft + noisy(NONE, 3) - 6).clip(0, 255).astype(np.uint8)
    yield "white ground", (275 - 200 * soft).clip(0, 255).astype(np.uint8)
    yield "grainy white ground", (265 - 200 * soft + grains).clip(0, 255).astype(np.uint8)
    saturated = cv2.GaussianBlur(cv2.circle(NONE.copy(), (0, 120), 90, 1, -1), (0, 0), 3)
    yield "saturated", (noisy(100 + 9000 * saturated)).clip(0, 4095).astype(np.uint16)
    yield "RGB", stored(NONE, 300 * soft - 10, 0 * soft, dtype=np.uint8)
    smear = 275 - soft[..., None] * np.array((60, 180, 150))
    yield "smear", smear.clip(0, 255).astype(np.uint8)


CLIPPED = dict(clipped())


@pytest.mark.parametrize("name", CLIPPED)
def test_clipped_grounds_and_cells_are_image(name):
    image = CLIPPED[name]
    edges = np.concatenate([image[0], image[-1]])
    assert (edges == edges[0]).mean() > 0.3 or "saturated" in name  # the test's images are as meant
    assert not no_image(image).values
    assert not no_image(image)(intensity.select_channels(image), (0, 0)).any()


@pytest.mark.parametrize("gain", [2, 4, 8])
def test_overexposed_cells_and_grounds_are_image(data, gain):
    with open(data / "catalog.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "coelho2009"]
    for row in rows[:3]:
        image = cv2.imread(str(data / "coelho2009" / row["image"]), cv2.IMREAD_GRAYSCALE)
        image = np.clip(image.astype(int) * gain, 0, 255).astype(np.uint8)
        assert not no_image(image).values


def test_a_declared_value_and_what_is_not_finite_count_in_no_percentile():
    grey = stored(200 + 3 * DIM)[..., 0]
    scattered = np.random.default_rng(0).random(grey.shape) < 0.05
    for image, nodata in (
        (np.where(scattered, 60000, grey).astype(np.uint16), 60000),
        (np.where(scattered, -1e9, grey).astype(np.float32), -1e9),
        (np.where(scattered, np.inf, grey).astype(np.float32), None),
        (np.where(scattered, np.nan, grey).astype(np.float32), None),
    ):
        curves = Curves.fit(image, nodata=nodata)
        plain = Curve.fit(grey.astype(image.dtype))
        assert curves.curves[0].stretch_b == pytest.approx(plain.stretch_b, rel=0.02)
        rgb = to_rgb8(image, curves)
        assert not rgb[scattered].any()
        assert np.array_equal(curves.no_image(image[..., None], (0, 0)), scattered)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(65535, np.uint16), (-32768, np.int16), (-9999, np.float32), (1e20, np.float32)],
)
@pytest.mark.parametrize("where", ["tile", "row", "hot pixels"])
@pytest.mark.parametrize("colours", [False, True])
def test_one_value_far_from_all_others_decides_nothing(value, dtype, where, colours):
    clean = stored(200 + 3 * DIM)[..., 0].astype(dtype)
    clean = np.dstack([clean, 5000 - clean, clean // 2]) if colours else clean
    image = clean.copy()
    if where == "tile":
        image[40:80, 60:100] = value
    elif where == "row":
        image[50] = value
    else:
        image[np.random.default_rng(0).random(image.shape[:2]) < 0.005] = value
    for curve, plain in zip(Curves.fit(image).curves, Curves.fit(clean).curves):
        assert curve.stretch_a == pytest.approx(plain.stretch_a, rel=0.05)
        assert curve.stretch_b == pytest.approx(plain.stretch_b, rel=0.05)


def test_values_far_from_all_others_at_both_ends_decide_nothing():
    clean = stored(200 + 3 * DIM)[..., 0].astype(np.float32)
    image = clean.copy()
    draw = np.random.default_rng(0).random(image.shape)
    image[draw < 0.005], image[draw > 0.995] = -9999, 65535
    (curve,), (plain,) = Curves.fit(image).curves, Curves.fit(clean).curves
    assert curve.stretch_b == pytest.approx(plain.stretch_b, rel=0.05)


def test_a_far_value_that_the_sample_misses_makes_no_photograph(monkeypatch):
    monkeypatch.setattr(intensity, "SAMPLE", 3000)
    image = np.random.default_rng(0).normal(1000, 20, (120, 110, 3)).astype(np.float32)
    assert not Curves.fit(image).photograph
    for row in range(120):
        far = image.copy()
        far[row] = 1e20
        assert not Curves.fit(far).photograph


def test_an_image_of_few_values_keeps_them_all():
    image = np.zeros((40, 50), np.uint16)
    image[10:20, 10:20], image[25:35, 30:40] = 1, 1000
    (curve,) = Curves.fit(image).curves
    assert curve.stretch_b[1] == 1000


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("low", [1, 190])  # by the latter what is none is a fill as well
def test_where_one_channel_alone_has_the_declared_value_that_is_image(dtype, low):
    image = np.random.default_rng(0).integers(low, 200, (60, 50, 3)).astype(dtype)
    image[:20] = 0  # what is none
    image[20:50, :, 0] = 0
    red, green, _ = survey(image, nodata=0)[0]
    assert red.counts.sum() == green.counts.sum() == 40 * 50
    assert red.counts[red.levels == 0] == 30 * 50


@pytest.mark.parametrize("name", ["channels", "float", "margin of 65535", "turned, 0", "NaN"])
@pytest.mark.parametrize("squares", [2**18, 1000])
def test_a_part_is_as_in_the_whole(monkeypatch, name, squares):
    monkeypatch.setattr("app.no_image.MAP", squares)
    monkeypatch.setattr(intensity, "BAND", 5000)
    image, _ = FILLS[name]
    curves = Curves.fit(image)
    whole = curves(image, (0, 0))
    assert np.array_equal(to_rgb8(image, curves), whole)
    for top, left in ((0, 0), (37, 101), (130, 5)):
        part = curves(image[top : top + 90, left : left + 77], (top, left))
        assert np.array_equal(part, whole[top : top + 90, left : left + 77])
    monkeypatch.setattr(intensity, "BAND", 2**22)
    assert np.array_equal(to_rgb8(image, Curves.fit(image)), whole)


def test_without_a_place_all_of_a_fills_value_is_black():
    image, none = FILLS["quarter of 65535"]
    curves = Curves.fit(image)
    assert not curves(image[40:90, 50:200])[none[40:90, 50:200]].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 2), (1, 1, 3), (40, 30, 2), (7, 9, 3)])
def test_every_image_has_curves(dtype, shape):
    for image in (DRAW.integers(0, 200, shape).astype(dtype), np.full(shape, 9, dtype)):
        rgb = to_rgb8(image, Curves.fit(image))
        assert rgb.shape == (*shape[:2], 3) and rgb.dtype == np.uint8
    assert not rgb.any()
    with pytest.raises(ValueError, match="cannot be segmented"):
        Curves.fit(image[:0])


@pytest.mark.parametrize("image", COMPOSITES.values(), ids=COMPOSITES.keys())
def test_any_mix_of_each_channel_is_read_from_the_levels_of_the_even_one(image):
    curves = Curves.fit(image)
    levels, tables = to_rgb8(image, curves.even()), curves.tables()
    rgb = to_rgb8(image, curves).astype(float)
    assert tables.shape == (3, 2, 256) and len(curves.mixes) == 3
    for channel, (mix, (a, b)) in enumerate(zip(curves.mixes, tables)):
        found = (mix * a + (1 - mix) * b)[levels[..., channel]] * 255
        assert np.abs(found - rgb[..., channel]).max() <= 2


def test_memory_does_not_grow_with_the_image(monkeypatch):
    """But for some lines, and also where there is a fill: by far less than the 36 MB more."""
    monkeypatch.setattr(intensity, "BAND", 2**16)
    monkeypatch.setattr("app.annotations.STRIP", 2**16)
    peaks = []
    for height in (2000, 8000):
        image = DRAW.integers(0, 3000, (height, 1000, 3), np.uint16)
        image[: height // 4] = 65535
        tracemalloc.start()
        assert Curves.fit(image).no_image.values
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**22


def test_a_large_image_is_not_judged_by_its_margin():
    """By one or two lines it would be."""
    rng = np.random.default_rng(0)
    tissue = rng.normal((200, 120, 180), 12, (9000, 3000, 3))
    tissue[::7] -= 60
    tissue[:40] = tissue[:, :40] = 245
    image = tissue.clip(0, 255).astype(np.uint8)
    lines = survey(image, None)[1]
    assert len(lines) >= 16
    assert np.nanmedian(lines[1:]) < 200 and is_photograph(image.shape, lines)
