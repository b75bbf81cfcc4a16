"""Which channels and which plane of an image are taken, and what a file says beside its pixels."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from app.images import ImageError, load
from app.selection import check_channels, parse_channels, parse_plane
from tests.valid_files import picture

GREY = {"photometric": "minisblack"}


@pytest.fixture(params=[2**26, -1], ids=["at once", "by region"])
def written(request, tmp_path, monkeypatch):
    """Writes an array as TIFF with these options of tifffile; the path. Read both ways."""
    monkeypatch.setattr("app.images.SMALL", request.param)

    def write(stored, **options):
        path = tmp_path / "image.tif"
        tifffile.imwrite(str(path), stored, **dict(GREY, **options))
        return path

    return write


def pixels(path, **selection):
    image = load(path, **selection).pixels
    whole = image[:, :]
    assert whole.shape == image.shape and whole.dtype == image.dtype and image.ndim == whole.ndim
    return whole


# Channels

STORED = picture((4, 40, 50), np.uint16)
IMAGE = np.moveaxis(STORED, 0, 2)
NAMES = ["Hoechst", "GFP", "Cy5", "405"]
OME = {"ome": True, "metadata": {"axes": "CYX", "Channel": {"Name": NAMES}}}
IMAGEJ = {"imagej": True, "metadata": {"axes": "CYX", "Labels": NAMES}}


@pytest.mark.parametrize("options", [OME, IMAGEJ])
def test_channels_are_taken_by_number_or_name_in_the_order_given(written, options):
    path = written(STORED, **options)
    for channels, indices in {
        (3, 1): [2, 0],
        (1, 2, 3): [0, 1, 2],
        ("Cy5", "hoechst"): [2, 0],
        (2, 405): [1, 3],
        (4, 4): [3, 3],
    }.items():
        np.testing.assert_array_equal(pixels(path, channels=channels), IMAGE[..., indices])
    np.testing.assert_array_equal(pixels(path, channels=[2]), IMAGE[..., 1])


def test_who_takes_channels_is_not_told_that_the_first_three_are_used(written):
    path = written(STORED, **OME)
    assert load(path).warnings and not load(path, channels=(4, 1)).warnings


def test_samples_of_a_pixel_are_channels_too(written):
    image = picture((40, 50, 3))
    path = written(image, photometric="rgb")
    np.testing.assert_array_equal(pixels(path, channels=(1, 2, 3)), pixels(path))
    np.testing.assert_array_equal(pixels(path, channels=(3, 1)), image[..., [2, 0]])
    grey = written(image[..., 0])
    np.testing.assert_array_equal(pixels(grey, channels=[1]), image[..., 0])


def test_only_the_planes_of_the_channels_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("app.images.SMALL", -1)
    options = dict(GREY, compression="zlib", metadata={"axes": "CYX"}, rowsperstrip=40)
    path = tmp_path / "image.tif"
    tifffile.imwrite(str(path), STORED, **options)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(str(path)) as file:
        start, count = file.pages[1].dataoffsets[0], file.pages[1].databytecounts[0]
    content[start : start + count] = bytes(count)
    path.write_bytes(content)
    np.testing.assert_array_equal(pixels(path, channels=(3, 1)), IMAGE[..., [2, 0]])
    with pytest.raises(ImageError):
        pixels(path, channels=(1, 2))


def test_a_channel_that_is_not_there_is_answered_by_those_that_are(written, tmp_path):
    with pytest.raises(ImageError, match="no channel DAPI: .* 1 Hoechst, 2 GFP, 3 Cy5, 4 405$"):
        load(written(STORED, **OME), channels=("GFP", "DAPI"))
    with pytest.raises(ImageError, match="no channel 5: the image has 1, 2, 3, without names$"):
        load(written(picture((40, 50, 3)), photometric="rgb"), channels=[5])


@pytest.mark.parametrize("text", ["", "1,2,3,4", "0", "1,,2"])
def test_what_can_be_no_channels_of_any_image_is_refused(text):
    with pytest.raises(ValueError):
        parse_channels(text)
    assert parse_channels(" 3, DAPI") == [3, "DAPI"]
    for channels in ([-1], [0, "GFP"], [""], [], [1, 2, 3, 4]):
        with pytest.raises(ValueError, match="channel"):
            check_channels(channels)


# Planes

STACK = picture((3, 2, 2, 40, 50), np.uint16)  # T, Z, C, Y, X


def combined(array, how):
    """Numpy's answer for the axes before the last three."""
    planes = array.reshape(-1, *array.shape[-3:])
    if how == "max":
        return np.moveaxis(planes.max(0), 0, 2)
    if how == "mean":
        return np.moveaxis(np.rint(planes.mean(0)).astype(array.dtype), 0, 2)
    return np.moveaxis(planes[how - 1], 0, 2)


@pytest.mark.parametrize("plane", [1, 4, 6, "max", "mean"])
@pytest.mark.parametrize("options", [{}, {"ome": True}, {"imagej": True}, {"truncate": True}])
def test_a_plane_is_taken_or_all_become_one(written, plane, options):
    path = written(STACK, metadata={"axes": "TZCYX"}, **options)
    np.testing.assert_array_equal(pixels(path, plane=plane), combined(STACK, plane))
    assert load(path).warnings and not load(path, plane=plane).warnings


@pytest.mark.parametrize("plane", [1, 2, "max", "mean"])
def test_pages_without_any_names_are_a_stack_for_who_wants_a_plane(written, plane):
    stack = STACK[:, 0, 0]
    expected = combined(stack[:, None], plane)[..., 0]
    for options in ({"metadata": None}, {"metadata": {"axes": "ZYX"}}, {}):
        np.testing.assert_array_equal(pixels(written(stack, **options), plane=plane), expected)


@pytest.mark.parametrize("plane", [1, "max", "mean"])
def test_one_plane_is_itself(written, tmp_path, plane):
    for path in (written(IMAGE[..., 0]), written(STORED[:, None], metadata={"axes": "CZYX"})):
        np.testing.assert_array_equal(pixels(path, plane=plane), pixels(path))
    png = tmp_path / "image.png"
    Image.fromarray(IMAGE[..., 0].astype(np.uint8)).save(str(png))
    np.testing.assert_array_equal(pixels(png, plane=plane), pixels(png))
    with pytest.raises(ImageError, match="no plane 2: the image has 1 plane$"):
        load(png, plane=2)


def test_the_brightest_counts_where_white_is_stored_as_0(written):
    stack = picture((3, 40, 50))
    path = written(255 - stack, photometric="miniswhite", metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(pixels(path, plane="max"), stack.max(0))


def test_a_stack_whose_rows_are_pages(written):
    stack = STACK[:, 0].swapaxes(1, 2)  # T, Y, C, X
    path = written(np.ascontiguousarray(stack), metadata={"axes": "TYCX"})
    for plane in (1, 3, "max", "mean"):
        np.testing.assert_array_equal(pixels(path, plane=plane), combined(STACK[:, 0], plane))


def test_channels_of_a_plane(written):
    path = written(STACK, metadata={"axes": "TZCYX"})
    np.testing.assert_array_equal(
        pixels(path, plane="max", channels=(2, 1)), combined(STACK, "max")[..., ::-1]
    )


def test_a_plane_that_is_not_there_is_answered_by_how_many_there_are(written):
    with pytest.raises(ImageError, match="no plane 7: the image has 6 planes$"):
        load(written(STACK, metadata={"axes": "TZCYX"}), plane=7)


@pytest.mark.parametrize("text", ["0", "-1", "first", "1.5", ""])
def test_what_can_be_no_plane_of_any_stack_is_refused(text):
    with pytest.raises(ValueError):
        parse_plane(text)
    assert (parse_plane("7"), parse_plane("mean")) == (7, "mean")


# The size of a pixel, and no-data


def physical(x, unit="µm", y=None):
    size = {"PhysicalSizeX": x, "PhysicalSizeXUnit": unit, "PhysicalSizeY": y or x}
    return {"ome": True, "metadata": {"axes": "YX", "PhysicalSizeYUnit": unit, **size}}


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (physical(0.5), 0.5),
        (physical(325.0, "nm"), 0.325),
        (physical(0.4, y=0.9), 0.6),
        ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25),
        ({"imagej": True, "resolution": (2, 2), "metadata": {"unit": "\\u00B5m"}}, 0.5),
        ({"imagej": True, "resolution": (2, 2), "metadata": {"unit": "pixel"}}, None),
        ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (25400, 25400), "resolutionunit": "INCH"}, 1.0),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (2, 2), "resolutionunit": "NONE"}, None),
        ({}, None),
    ],
)
def test_the_size_of_a_pixel_is_known_where_the_file_says_it(written, options, size):
    found = load(written(IMAGE[..., 0], **options)).pixel_size
    assert found == (size and pytest.approx(size, rel=1e-4))


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        ("u1", "0", 0),
        ("i2", "-9999 ", -9999),
        ("f4", "0.1", float(np.float32(0.1))),
        ("f4", "nan", None),
        ("u2", "none", None),
    ],
)
def test_the_value_that_gdal_declares(written, dtype, text, value):
    path = written(picture((40, 50), dtype), extratags=[(42113, "s", 0, text, False)])
    assert load(path).nodata == value
    assert load(written(picture((40, 50), dtype))).nodata is None
