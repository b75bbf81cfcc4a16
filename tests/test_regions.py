"""Large TIFF images are read by region: the same pixels, each decoded once, damage named."""

import gc
import os
import tracemalloc

import numpy as np
import pytest
import tifffile

from app.images import ImageError, read
from app.images.regions import Chunks
from app.intensity import Curve, to_rgb8
from app.windows import windows
from tests.valid_files import picture, smooth, tiff_by_tifffile

GREY = {"photometric": "minisblack"}


@pytest.fixture(autouse=True)
def every_image_counts_as_large(monkeypatch):
    monkeypatch.setattr("app.images.SMALL", -1)


def random_options(draw):
    """A layout, compression and byte order that tifffile can write."""
    layout = {
        "strips": {"rowsperstrip": int(draw.randint(1, 50))},
        "tiles": {"tile": (16 * int(draw.randint(1, 4)), 16 * int(draw.randint(1, 4)))},
        "one strip": {"rowsperstrip": 10**6},
        "as it comes": {},
    }[draw.choice(["strips", "tiles", "one strip", "as it comes"])]
    compression = draw.choice([None, "zlib", "packbits", "zstd", "lzma"])
    predictor = compression in ("zlib", "zstd", "lzma") and bool(draw.randint(2))
    order = {"byteorder": draw.choice(["<", ">"]), "bigtiff": bool(draw.randint(2))}
    return dict(layout, compression=compression, predictor=predictor, **order)


def random_image(draw):
    """(stored array, the image that it is, options that say so) of random size and kind."""
    dtype = draw.choice(["u1", "u2", "u4", "i2", "f4", "f8"])
    height, width = (int(side) for side in draw.randint(1, 120, 2))
    count = int(draw.randint(2, 6))
    kind = draw.choice(["grey", "white", "joint", "separate", "pages"])
    if kind in ("grey", "white"):
        image = picture((height, width), dtype)
        if kind == "grey" or image.dtype.kind != "u":
            return image, image, GREY
        return np.iinfo(dtype).max - image, image, {"photometric": "miniswhite"}
    image = picture((height, width, count), dtype)
    first = np.ascontiguousarray(np.moveaxis(image, 2, 0))
    if kind == "joint":
        return image, image, dict(GREY, planarconfig="contig")
    if kind == "separate":
        return first, image, dict(GREY, planarconfig="separate")
    return first, image, dict(GREY, metadata={"axes": "CYX"})


@pytest.mark.parametrize("seed", range(150))
def test_any_rectangle_is_that_of_the_whole_image(tmp_path, seed):
    draw, path = np.random.RandomState(seed), tmp_path / "image.tif"
    stored, expected, meaning = random_image(draw)
    options = dict(random_options(draw), **meaning)
    tifffile.imwrite(str(path), stored, **options)
    image, _ = read(path)
    assert image.shape == expected.shape and image.dtype == expected.dtype, options
    for _ in range(10):
        top, bottom = np.sort(draw.randint(0, image.shape[0] + 1, 2))
        left, right = np.sort(draw.randint(0, image.shape[1] + 1, 2))
        part = image[top:bottom, left:right]
        np.testing.assert_array_equal(part, expected[top:bottom, left:right])
        part[...] = 0  # what is taken belongs to the taker
    np.testing.assert_array_equal(image[:, :], expected)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
@pytest.mark.parametrize("shape", [(300, 200), (300, 200, 3), (300, 200, 5)])
def test_colours_are_those_of_the_array(tmp_path, monkeypatch, dtype, shape):
    """Also where the image is looked at in many parts, and by a sample."""
    monkeypatch.setattr("app.intensity.BAND", 7000)
    monkeypatch.setattr("app.intensity.SAMPLE", 9000)
    stored = picture(shape, dtype)
    options = {"photometric": "minisblack", "planarconfig": "contig", "rowsperstrip": 13}
    tifffile.imwrite(str(tmp_path / "image.tif"), stored, compression="zlib", **options)
    image, _ = read(tmp_path / "image.tif")
    assert Curve.fit(image) == Curve.fit(stored)
    np.testing.assert_array_equal(to_rgb8(image), to_rgb8(stored))


LAYOUTS = ({"rowsperstrip": 16}, {"tile": (32, 48)}, {"tile": (256, 256)}, {"rowsperstrip": 999})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_in_order_decode_each_part_once(tmp_path, monkeypatch, layout):
    decoded, chunk = [], Chunks._decoded
    monkeypatch.setattr(
        Chunks, "_decoded", lambda self, *where: decoded.append(where[1]) or chunk(self, *where)
    )
    tifffile.imwrite(str(tmp_path / "image.tif"), picture((500, 400)), compression="zlib", **layout)
    image, _ = read(tmp_path / "image.tif")
    for window in windows(500, 400, 128, 96):
        image[window.y0 : window.y1, window.x0 : window.x1]
    assert sorted(decoded) == list(range(max(decoded) + 1))
    Curve.fit(image)
    assert len(decoded) <= 2 * len(set(decoded))


@pytest.mark.parametrize("layout", LAYOUTS[:3])
@pytest.mark.parametrize("compression", ["zlib", None])
def test_memory_does_not_grow_with_the_image(tmp_path, monkeypatch, compression, layout):
    """Windows hold a few rows of tiles: far less than the 24 MB of this image."""
    monkeypatch.setattr("app.intensity.BAND", 2**16)
    stored = smooth(0, side=(4000, 1000)).astype(np.uint16)
    options = {"photometric": "rgb", "compression": compression, **layout}
    tifffile.imwrite(str(tmp_path / "image.tif"), np.dstack([stored] * 3), **options)
    del stored
    tracemalloc.start()
    image, _ = read(tmp_path / "image.tif")
    Curve.fit(image)
    for window in windows(4000, 1000, 128, 96):
        image[window.y0 : window.y1, window.x0 : window.x1]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 2**20


@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize("compression", ["zlib", "jpeg", "packbits", "zstd"])
def test_damage_is_named_where_it_is_looked_at(tmp_path, compression, layout):
    path = tmp_path / "image.tif"
    options = {"compression": compression, "photometric": "rgb", **layout}
    content = bytearray(tiff_by_tifffile(picture((128, 96, 3)), options))
    path.write_bytes(content)
    whole = read(path)[0][:, :]
    with tifffile.TiffFile(str(path)) as tif:
        page = tif.pages[0]
        start, count = page.dataoffsets[-1], page.databytecounts[-1]
        height = page.tilelength if page.is_tiled else page.rowsperstrip
        width = page.tilewidth if page.is_tiled else 96
    place = f"from row {127 // height * height}, column {95 // width * width} on"
    content[start : start + count] = b"\xff\xd8\xff\x00" * (count // 4) + bytes(count % 4)
    path.write_bytes(content)
    image, _ = read(path)
    np.testing.assert_array_equal(image[:90, :], whole[:90, :])
    with pytest.raises(ImageError, match=rf"damaged.*, {place}$"):
        image[90:, :]
    np.testing.assert_array_equal(image[10:90, 5:], whole[10:90, 5:])


@pytest.mark.parametrize("compression", ["zlib", None])
def test_a_file_that_shrinks_while_it_is_read(tmp_path, compression):
    path = tmp_path / "image.tif"
    tifffile.imwrite(str(path), picture((3000, 900)), compression=compression, rowsperstrip=8)
    image, _ = read(path)
    os.truncate(str(path), path.stat().st_size // 2)
    image[:100, :]
    with pytest.raises(ImageError):
        image[2900:, :]


def test_a_hole_in_the_image_is_empty(tmp_path):
    """As GDAL writes tiles without anything: of no bytes."""
    path, stored = tmp_path / "image.tif", picture((64, 64))
    options = {"tile": (32, 32), "compression": "zlib"}
    tifffile.imwrite(str(path), stored, **options)
    with tifffile.TiffFile(str(path), mode="r+b") as tif:
        tif.pages[0].tags["TileByteCounts"].overwrite([0] + list(tif.pages[0].databytecounts[1:]))
    stored = stored.copy()
    stored[:32, :32] = 0
    np.testing.assert_array_equal(read(path)[0][:, :], stored)


@pytest.fixture
def no_garbage_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
def test_the_file_is_open_as_long_as_the_image_is_there(tmp_path):
    def files():
        return len(os.listdir("/proc/self/fd"))

    path, before = tmp_path / "image.tif", files()
    tifffile.imwrite(str(path), picture((64, 64)), compression="zlib")
    image, _ = read(path)
    assert files() == before + 1
    image[3:9, 4:7]
    del image
    assert files() == before
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError):
        read(path)
    assert files() == before
