"""Images in OME-Zarr folders are read by chunk, as those in files."""

import sys
import tracemalloc

import numpy as np
import pytest

from app import files, images
from app.digests import size_and_digest
from app.images import ImageError
from app.windows import windows

if sys.version_info < (3, 11):
    pytest.skip("the format's library needs Python 3.11", allow_module_level=True)

zarr = pytest.importorskip("zarr")

from ome_zarr.format import FormatV04, FormatV05  # noqa: E402
from ome_zarr.writer import write_image  # noqa: E402


def stored(shape, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, 60000, shape).astype(dtype)


def write(path, array, axes, fmt=None, **options):
    """An OME-Zarr by the field's own library, with levels below the first."""
    fmt = fmt or FormatV04()
    group = zarr.open_group(str(path), mode="w", zarr_format=fmt.zarr_format)
    write_image(array, group, axes=axes, fmt=fmt, **options)
    return path


def chunks_in(path):
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name.isdigit())


@pytest.mark.parametrize("fmt", [FormatV04(), FormatV05()])
@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "tczyx"])
def test_the_first_image_at_full_resolution(tmp_path, monkeypatch, axes, fmt):
    array = stored(tuple({"y": 70, "x": 50, "c": 3, "z": 4, "t": 2}[axis] for axis in axes))
    path = write(tmp_path / "a.ome.zarr", array, axes, fmt)
    expected = array
    for axis in [axis for axis in axes if axis in "tz"]:
        expected = expected[0] if axis == "t" or axes[0] == "z" else expected[:, 0]
    expected = np.moveaxis(expected, 0, 2) if "c" in axes else expected
    image = images.load(path)
    assert np.array_equal(image.pixels, expected)
    assert bool(image.warnings) == ("z" in axes)
    monkeypatch.setattr(images, "SMALL", -1)
    by_region = images.load(path).pixels
    assert isinstance(by_region, images.ZarrImage)
    assert (by_region.shape, by_region.dtype) == (expected.shape, expected.dtype)
    assert np.array_equal(by_region[10:33, 5:50], expected[10:33, 5:50])
    assert np.array_equal(np.asarray(by_region), expected)


@pytest.fixture
def chunks_read(monkeypatch):
    """Names of the chunks that are read, each as often as it is read."""
    names, get = [], zarr.storage.LocalStore.get

    async def seen(store, name, *args, **kwargs):
        if name[-1].isdigit():
            names.append(name)
        return await get(store, name, *args, **kwargs)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", seen)
    return names


@pytest.mark.parametrize("chunks", [(3, 64, 64), (1, 64, 48), (1, 300, 300), (2, 1, 400)])
def test_windows_in_order_decode_each_chunk_once(tmp_path, monkeypatch, chunks_read, chunks):
    array = stored((3, 500, 400))
    path = write(
        tmp_path / "a.zarr", array, "cyx", storage_options={"chunks": chunks}, scale_factors=[]
    )
    monkeypatch.setattr(images, "SMALL", -1)
    image = images.load(path).pixels
    chunks_read.clear()
    for window in windows(500, 400, 128, 96):
        part = image[window.y0 : window.y1, window.x0 : window.x1]
        expected = array[:, window.y0 : window.y1, window.x0 : window.x1]
        assert np.array_equal(part, np.moveaxis(expected, 0, 2))
        part[...] = 0  # what is taken belongs to the taker
    assert sorted(chunks_read) == sorted(set(chunks_read))
    assert len(chunks_read) == len(chunks_in(path))


def test_chunks_of_windows_long_gone_are_not_kept(tmp_path, monkeypatch):
    """Windows hold a few rows of chunks: far less than the 32 MB of this image."""
    array = np.zeros((4000, 4000), np.uint16)
    path = write(
        tmp_path / "a.zarr", array, "yx", storage_options={"chunks": (256, 256)}, scale_factors=[]
    )
    del array
    monkeypatch.setattr(images, "SMALL", -1)
    image = images.load(path).pixels
    image[:1, :1]
    tracemalloc.start()
    for window in windows(4000, 4000, 128, 96):
        image[window.y0 : window.y1, window.x0 : window.x1]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 2**20


def test_planes_channels_names_and_the_size_of_a_pixel(tmp_path):
    array = stored((2, 3, 40, 30))
    path = tmp_path / "a.zarr"
    write(path, array, "czyx", scale={"c": 1, "z": 2, "y": 0.5, "x": 0.5}, scale_factors=[])
    group = zarr.open_group(str(path))
    (scales,) = group.attrs["multiscales"]
    for axis in scales["axes"][1:]:
        axis["unit"] = "micrometer"
    group.attrs["multiscales"] = [scales]
    group.attrs["omero"] = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    image = images.load(path, channels=["gfp"], plane=2)
    assert np.array_equal(image.pixels, array[1, 1])
    assert image.pixel_size == pytest.approx(0.5) and not image.warnings
    most = images.load(path, plane="max").pixels
    assert np.array_equal(most, np.moveaxis(array.max(axis=1), 0, 2))
    with pytest.raises(ImageError, match="no plane 4"):
        images.load(path, plane=4)


def test_what_is_no_image_is_named(tmp_path):
    empty = tmp_path / "empty.zarr"
    empty.mkdir()
    plate = zarr.open_group(str(tmp_path / "plate.zarr"), mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": []}
    turned = write(tmp_path / "turned.zarr", stored((20, 30)), "yx")
    group = zarr.open_group(str(turned))
    scales = group.attrs["multiscales"]
    scales[0]["axes"] = [{"name": "x", "type": "space"}, {"name": "y", "type": "space"}]
    group.attrs["multiscales"] = scales
    for name, said in (("empty", "OME-Zarr"), ("plate", "a plate"), ("turned", "axes xy")):
        with pytest.raises(ImageError, match=said):
            images.load(tmp_path / f"{name}.zarr")


def test_damage_is_named_where_it_is_looked_at(tmp_path, monkeypatch):
    path = write(tmp_path / "a.zarr", stored((300, 300)), "yx")
    for chunk in chunks_in(path):
        chunk.write_bytes(b"damaged")
    monkeypatch.setattr(images, "SMALL", -1)
    image = images.load(path).pixels
    with pytest.raises(ImageError, match="OME-Zarr"):
        image[0:5, 0:5]


def test_a_folder_is_an_input_unless_it_holds_cells_of_ours(tmp_path):
    path = write(tmp_path / "a.ome.zarr", stored((30, 30)), "yx")
    assert images.list_inputs(tmp_path) == ([path], [])
    cells = path / "labels" / "cells"
    cells.mkdir(parents=True)
    (cells / ".zattrs").write_text("{}")
    inputs, passed_over = images.list_inputs(tmp_path)
    assert not inputs and [found for found, _ in passed_over] == [path]


def test_large_ones_are_told_without_decoding(tmp_path, monkeypatch):
    path = write(tmp_path / "a.zarr", stored((30, 30)), "yx")
    assert not files.is_large_file(path)
    monkeypatch.setattr(files, "LARGE", 900)
    assert files.is_large_file(path)


def test_a_folder_is_known_by_all_that_is_in_it(tmp_path):
    path = write(tmp_path / "a.zarr", stored((30, 30)), "yx")
    before = size_and_digest(path)
    assert size_and_digest(path) == before
    chunk = chunks_in(path)[0]
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    assert size_and_digest(path) != before
