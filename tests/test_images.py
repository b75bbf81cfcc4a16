"""app.images: which files are inputs, every format read back as written, label images."""

import csv
import os
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from app.images import (
    ImageError,
    guess_axes,
    list_inputs,
    load,
    read,
    read_description,
    write_labels,
)
from app.names import EXTENSIONS
from tests.valid_files import (
    colour_files,
    picture,
    png,
    png_chunk,
    saved,
    smooth,
    tiff,
    tiff_by_tifffile,
)

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture
def check(tmp_path, monkeypatch):
    """check(content, expected, warned=False, atol=0): what is read from these bytes.

    At once, and by region as from large files.
    """

    def check(content, expected, warned=False, atol=0, name="image.tif"):
        (tmp_path / name).write_bytes(content)
        for small in (2**26, -1):
            monkeypatch.setattr("app.images.SMALL", small)
            image, warnings = read(tmp_path / name)
            assert image.dtype == expected.dtype and image.dtype.isnative
            assert image.shape == expected.shape and image.ndim == expected.ndim
            if atol:
                assert np.abs(np.asarray(image, float) - expected).max() <= atol
            else:
                np.testing.assert_array_equal(np.asarray(image), expected)
            assert bool(warnings) == warned
            check_regions(image, np.asarray(image))

    return check


def check_regions(image, whole, draws=8):
    """Rectangles of an image are the same of the whole array, in any order."""
    draw = np.random.RandomState(0)
    for _ in range(draws):
        top, bottom = np.sort(draw.randint(0, whole.shape[0] + 2, 2))
        left, right = np.sort(draw.randint(0, whole.shape[1] + 2, 2))
        part = image[top:bottom, left:right]
        assert isinstance(part, np.ndarray) and part.dtype == whole.dtype
        np.testing.assert_array_equal(part, whole[top:bottom, left:right])


@pytest.fixture
def check_tiff(check):
    """check_tiff(stored, expected, warned, atol, **options of tifffile.imwrite)."""

    def check_tiff(stored, expected=None, warned=False, atol=0, **options):
        content = tiff_by_tifffile(stored, options)
        check(content, stored if expected is None else expected, warned, atol)

    return check_tiff


# --- TIFF -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_of_every_dtype_is_read_as_stored(check_tiff, compression, order):
    for code in "BHIQbhiqefd":
        options = {"compression": compression, "byteorder": order}
        check_tiff(picture((30, 41), code), photometric="minisblack", **options)


@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}, {"rowsperstrip": 7}, {"bigtiff": True}])
@pytest.mark.parametrize("compression", [None, "zlib", "packbits", "zstd"])
def test_tiff_of_every_layout_is_read_as_stored(check_tiff, compression, layout):
    for shape in ((50, 70), (50, 70, 3), (1, 1), (1, 9), (9, 1), (1, 1, 3)):
        for dtype in ("uint8", "uint16"):
            photometric = "rgb" if len(shape) == 3 else "minisblack"
            options = dict(layout, compression=compression, photometric=photometric)
            check_tiff(picture(shape, dtype), **options)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "tiff_deflate"])
def test_tiff_by_libtiff(check, compression):
    for stored in (picture((50, 70, 3)), picture((50, 70)), picture((50, 70), np.uint16)):
        for predictor in (1, 2):
            options = {"compression": compression, "tiffinfo": {317: predictor}}
            check(saved(Image.fromarray(stored), "TIFF", **options), stored)


def test_float_tiff_keeps_nan_and_infinity(check_tiff):
    stored = picture((20, 30), np.float32)
    stored[3, 4], stored[5, 6], stored[7, 8] = np.nan, np.inf, -np.inf
    check_tiff(stored, compression="zlib", predictor=True)


def test_jpeg_in_tiff(check_tiff):
    check_tiff(smooth(0), compression="jpeg", atol=3)
    check_tiff(smooth(0, 40, 80), compression="jpeg", photometric="rgb", atol=6)
    check_tiff(smooth(0, 40, 80), compression="jpeg", photometric="rgb", tile=(16, 16), atol=6)


def test_tiff_palette_becomes_rgb(check_tiff, check):
    indices, colours = picture((20, 30)), picture((3, 256), np.uint16)
    expected = (colours >> 8).astype(np.uint8).T[indices]
    check_tiff(indices, expected, photometric="palette", colormap=colours)
    check_tiff(indices, expected, photometric="palette", colormap=colours >> 8)  # as some write
    drawing = Image.fromarray(picture((20, 30, 3))).quantize(16)
    check(saved(drawing, "TIFF"), np.asarray(drawing.convert("RGB")))


def test_tiff_that_stores_white_as_zero_is_inverted(check_tiff, check):
    for dtype in ("uint8", "uint16", "uint32"):
        stored = picture((20, 30), dtype)
        check_tiff(stored, np.iinfo(dtype).max - stored, photometric="miniswhite")
    stored = picture((20, 30), np.float32)
    check_tiff(stored, -stored, photometric="miniswhite")
    stored = np.array([[0b00011011], [0b11100100]], np.uint8)  # 0 1 2 3, 3 2 1 0
    expected = np.array([[255, 170, 85, 0], [0, 85, 170, 255]], np.uint8)
    check(tiff(2, 4, stored.tobytes(), bits=2, photometric=0), expected)


def test_tiff_of_few_bits_is_spread_to_8_and_12_bits_are_kept(check):
    check(tiff(1, 4, b"\x0f\x7f", bits=4), np.array([[0, 255, 119, 255]], np.uint8))
    check(tiff(2, 3, b"\xa0\x40", bits=1), np.array([[255, 0, 255], [0, 255, 0]], np.uint8))
    check(tiff(1, 2, b"\x12\x3f\xff", bits=12), np.array([[0x123, 0xFFF]], np.uint16))
    bilevel = picture((20, 30)) > 127
    check(saved(Image.fromarray(bilevel), "TIFF"), bilevel.astype(np.uint8) * 255)


def test_tiff_drops_only_alpha(check_tiff):
    rgba = picture((20, 30, 4))
    for extra in ("unassalpha", "assocalpha", "unspecified"):
        check_tiff(rgba, rgba[..., :3], photometric="rgb", extrasamples=[extra])
    wide = picture((20, 30, 4), np.uint16)
    check_tiff(wide, wide[..., :3], photometric="rgb", extrasamples=["unassalpha"])
    check_tiff(wide, None, True, photometric="rgb", extrasamples=["unspecified"])
    grey = {"photometric": "minisblack", "planarconfig": "contig"}
    check_tiff(rgba[..., :2], rgba[..., 0], extrasamples=["unassalpha"], **grey)
    check_tiff(rgba[..., :2], extrasamples=["unspecified"], **grey)
    check_tiff(rgba, None, True, **grey)


def test_tiff_cmyk_becomes_rgb(check):
    ink = Image.fromarray(picture((20, 30, 4)), "CMYK")
    check(saved(ink, "TIFF"), np.asarray(ink.convert("RGB")))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 16])
def test_tiff_channels_come_last_however_they_are_stored(check_tiff, count):
    for dtype in ("uint8", "uint16", "float32"):
        last = picture((40, 50, count), dtype)
        first = np.ascontiguousarray(np.moveaxis(last, 2, 0))
        expected, warned = last, count > 3
        grey = {"photometric": "minisblack"}
        check_tiff(last, expected, warned, planarconfig="contig", **grey)
        check_tiff(first, expected, warned, planarconfig="separate", **grey)
        check_tiff(first, expected, warned, metadata={"axes": "CYX"}, **grey)
        check_tiff(last, expected, warned, metadata={"axes": "YXC"}, **grey)
        check_tiff(first, expected, True, **grey)  # by guess_axes
        check_tiff(last, expected, warned, **grey)
        check_tiff(last, expected, warned, compression="zlib", **grey)
        check_tiff(first, expected, warned, ome=True, metadata={"axes": "CYX"}, **grey)
        check_tiff(first, expected, warned, imagej=True, metadata={"axes": "CYX"}, **grey)


SHAPES = [
    ((3, 128, 96), "CYX"),
    ((128, 96, 3), "YXC"),
    ((2, 100, 80), "CYX"),
    ((100, 80, 2), "YXC"),
    ((1, 64, 64), "CYX"),
    ((64, 64, 1), "YXC"),
    ((16, 100, 80), "CYX"),
    ((100, 80, 16), "YXC"),
    ((17, 100, 80), "QYX"),
    ((100, 80, 17), "QYX"),
    ((5, 600, 6), "CYX"),
    ((600, 3, 3), "YXC"),
    ((3, 600, 4), "CYX"),
    ((4, 600, 3), "YXC"),
    ((16, 16, 16), "QYX"),
    ((300, 16, 16), "QYX"),
    ((90, 64, 48), "QYX"),
]


@pytest.mark.parametrize("shape, axes", SHAPES)
def test_axes_without_names_are_guessed_by_the_documented_rule(check_tiff, shape, axes):
    assert guess_axes(shape) == axes
    stored = picture(shape)
    expected = {"YXC": stored, "CYX": np.moveaxis(stored, 0, 2), "QYX": stored[0]}[axes]
    expected = np.squeeze(expected, 2) if expected.shape[2:] == (1,) else expected
    warned = axes == "QYX" or expected.shape[2:] > (3,) or (axes == "CYX" and shape[0] > 1)
    check_tiff(stored, expected, warned, photometric="minisblack")


def test_of_several_images_the_first_is_read_with_a_warning(check_tiff, check, tmp_path):
    stack = picture((3, 2, 5, 40, 50), np.uint16)  # T Z C Y X
    expected = np.moveaxis(stack[0, 0], 0, 2)
    grey = {"photometric": "minisblack"}
    for options in ({}, {"ome": True}, {"imagej": True}, {"compression": "zlib"}):
        check_tiff(stack, expected, True, metadata={"axes": "TZCYX"}, **dict(grey, **options))
    for axes in ("TYX", "ZYX"):
        check_tiff(stack[0, 0], stack[0, 0, 0], True, metadata={"axes": axes}, **grey)
    coloured = picture((7, 40, 50, 3))
    check_tiff(coloured, coloured[0], True, photometric="rgb")
    check_tiff(stack[0, 0], stack[0, 0, 0], True, metadata=None, **grey)  # plain pages
    pages = [Image.fromarray(page) for page in coloured]
    check(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]), coloured[0], True)
    other = Image.fromarray(picture((9, 9)))
    check(saved(pages[0], "TIFF", save_all=True, append_images=[other]), coloured[0], True)


def test_stack_of_which_only_the_first_page_is_described(check_tiff):
    stack = picture((4, 3, 40, 50), np.uint16)  # as ImageJ writes them above 4 GB
    for order in "<>":
        for imagej in (True, False):
            options = {"truncate": True, "imagej": imagej, "byteorder": order}
            options.update(metadata={"axes": "TCYX"}, photometric="minisblack")
            check_tiff(stack, np.moveaxis(stack[0], 0, 2), True, **options)


def test_each_file_of_an_ome_set_gives_its_own_image(tmp_path):
    """Taken literally, OME metadata would give the set's first image for every file."""
    names = ("a.ome.tif", "b.ome.tif")
    planes = "".join(
        f'<TiffData FirstT="{t}"><UUID FileName="{name}">urn:uuid:{t}</UUID></TiffData>'
        for t, name in enumerate(names)
    )
    for t, name in enumerate(names):
        description = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{t}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
            f'SizeX="50" SizeY="40" SizeC="1" SizeZ="1" SizeT="2">{planes}</Pixels></Image></OME>'
        )
        page = np.full((40, 50), t, np.uint8)
        options = {"metadata": None, "photometric": "minisblack"}
        tifffile.imwrite(tmp_path / name, page, description=description, **options)
    for t, name in enumerate(names):
        image, warnings = read(tmp_path / name)
        assert image.shape == (40, 50) and (image == t).all() and len(warnings) == 1
    (tmp_path / names[0]).unlink()
    image, warnings = read(tmp_path / names[1])
    assert (image == 1).all() and len(warnings) == 1


def test_pyramid_and_thumbnails_do_not_hide_the_full_image(tmp_path):
    full = picture((64, 64, 3))
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as writer:
        options = {"photometric": "rgb", "tile": (32, 32), "metadata": None}
        writer.write(full, subifds=1, **options)
        writer.write(full[::2, ::2], subfiletype=1, **options)
        writer.write(full[::4, ::4], photometric="rgb", metadata=None)
    np.testing.assert_array_equal(read(tmp_path / "pyramid.tif")[0], full)


# --- PNG, JPEG, BMP, WebP ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_of_every_colour_type(check, dtype):
    bits = np.dtype(dtype).itemsize * 8
    for colour_type, samples, colours in ((0, 1, 1), (4, 2, 1), (2, 3, 3), (6, 4, 3)):
        stored = picture((20, 30, samples), dtype)
        content = png(20, 30, bits, colour_type, stored.astype(stored.dtype.newbyteorder(">")))
        check(content, np.squeeze(stored[..., :colours]))


def test_png_of_few_bits_palette_and_transparent_colour(check):
    check(
        png(1, 8, 1, 0, np.array([[0xA1]], np.uint8)),
        np.array([[1, 0, 1, 0, 0, 0, 0, 1]], np.uint8) * 255,
    )
    check(png(1, 4, 2, 0, np.array([[0x1B]], np.uint8)), np.array([[0, 85, 170, 255]], np.uint8))
    check(png(1, 2, 4, 0, np.array([[0x2F]], np.uint8)), np.array([[34, 255]], np.uint8))
    rgb = picture((20, 30, 3))
    for colours in (200, 12):  # 8 and 4 bits
        drawing = Image.fromarray(rgb).quantize(colours)
        for options in ({}, {"transparency": 3}):
            check(saved(drawing, "PNG", **options), np.asarray(drawing.convert("RGB")))
    for colour_type, stored in ((0, rgb[..., 0]), (2, rgb)):
        clear = np.atleast_1d(stored[0, 0]).astype(">u2").tobytes()
        check(png(20, 30, 8, colour_type, stored, [(b"tRNS", clear)]), stored)
    gamma = [(b"gAMA", struct.pack(">I", 45455))]
    check(png(20, 30, 8, 2, rgb, gamma), rgb)


ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


@pytest.mark.parametrize("passes", [ADAM7, ((0, 0, 1, 1),)])
@pytest.mark.parametrize("shape", [(20, 30), (9, 1), (1, 9), (2, 2)])
def test_png_interlaced_or_not_is_read_whole_or_refused(check, tmp_path, passes, shape):
    for colour_type, samples, colours in ((2, 3, 3), (4, 2, 1), (6, 4, 3)):
        stored = picture((*shape, samples), ">u2")
        header = struct.pack(">IIBBBBB", shape[1], shape[0], 16, colour_type, 0, 0, len(passes) > 1)
        rows = b"".join(
            b"\0" + row.tobytes()
            for top, left, down, across in passes
            for row in stored[top::down, left::across]
            if row.size
        )
        for data in (rows, rows[:-1], rows[: len(rows) // 2]):
            body = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
            content = WHOLE["png"][:8] + b"".join(png_chunk(*chunk) for chunk in body)
            if data == rows:
                check(
                    content,
                    np.squeeze(stored[..., :colours], 2 if colours == 1 else ()).astype("u2"),
                )
            else:
                (tmp_path / "image").write_bytes(content)
                refusal(tmp_path / "image")


def test_jpeg_grey_colour_and_cmyk(check):
    for quality in ({"quality": 95}, {"quality": 95, "progressive": True, "subsampling": 0}):
        check(saved(Image.fromarray(smooth(0)), "JPEG", **quality), smooth(0), atol=3)
        rgb = smooth(0, 40, 80)
        check(saved(Image.fromarray(rgb), "JPEG", **quality), rgb, atol=6)
        ink = Image.fromarray(rgb).convert("CMYK")
        check(saved(ink, "JPEG", **quality), rgb, atol=6)


def test_a_jpeg_says_how_coarsely_it_was_rounded(tmp_path):
    """Of the standard's tables: 11, 12 and 12 are the steps of the lowest frequencies at 50."""
    grey, path = Image.fromarray(smooth(0)), tmp_path / "image"
    for quality, steps in ((50, (11, 12, 12)), (75, (6, 6, 6)), (95, (1, 1, 1))):
        for image in (grey, grey.convert("RGB")):
            path.write_bytes(saved(image, "JPEG", quality=quality, progressive=quality == 75))
            assert load(path).quantization == pytest.approx(np.mean(steps))
    for kind in ("PNG", "WEBP", "BMP", "TIFF"):
        path.write_bytes(saved(grey, kind))
        assert load(path).quantization == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_not_applied(check, kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown rotated by 90 degrees
    rgb = smooth(0, 40, 80)
    check(saved(Image.fromarray(rgb), kind, exif=exif.tobytes(), lossless=True), rgb, atol=6)


def test_bmp(check):
    rgb = picture((20, 31, 3))
    check(saved(Image.fromarray(rgb), "BMP"), rgb)
    check(saved(Image.fromarray(rgb[..., 0]), "BMP"), rgb[..., 0])
    check(
        saved(Image.fromarray(rgb[..., 0] > 99), "BMP"), (rgb[..., 0] > 99).astype(np.uint8) * 255
    )
    drawing = Image.fromarray(rgb).quantize(20)
    check(saved(drawing, "BMP"), np.asarray(drawing.convert("RGB")))
    check(
        saved(Image.fromarray(picture((20, 31, 4)), "RGBA"), "BMP"), picture((20, 31, 4))[..., :3]
    )


def test_webp(check):
    rgba = picture((20, 30, 4))
    check(saved(Image.fromarray(rgba[..., :3]), "WEBP", lossless=True), rgba[..., :3])
    check(saved(Image.fromarray(rgba), "WEBP", lossless=True, exact=True), rgba[..., :3])
    rgb = smooth(0, 40, 80)
    check(saved(Image.fromarray(rgb), "WEBP", quality=95), rgb, atol=8)


def test_the_frames_of_an_animated_webp_are_a_stack(tmp_path):
    frames = np.roll(picture((20, 30, 3)), 1, 0), picture((20, 30, 3)), 255 - picture((20, 30, 3))
    first, *others = map(Image.fromarray, frames)
    path = tmp_path / "film.webp"
    path.write_bytes(saved(first, "WEBP", save_all=True, append_images=others, lossless=True))
    pixels, warnings = read(path)
    np.testing.assert_array_equal(pixels, frames[0])
    assert warnings == ["of its 3 planes the first is used (--plane N, max or mean takes others)"]
    last, brightest = load(path, plane=3), load(path, plane="max")
    assert last.warnings == brightest.warnings == []
    np.testing.assert_array_equal(last.pixels, frames[2])
    np.testing.assert_array_equal(brightest.pixels, np.max(frames, axis=0))
    with pytest.raises(ImageError, match="there is no plane 4: the image has 3 planes"):
        load(path, plane=4)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "BMP"])
def test_the_content_decides_not_the_extension(check, kind):
    rgb = picture((20, 30, 3))
    for extension in EXTENSIONS:
        check(saved(Image.fromarray(rgb), kind), rgb, name="image" + extension)


# --- what cannot be read ----------------------------------------------------------------------


def refusal(path):
    """The sentence with which a file is refused."""
    with pytest.raises(ImageError) as caught:
        read(path)
    sentence = str(caught.value)
    assert sentence and "\n" not in sentence and str(path.parent) not in sentence
    assert "Error" not in sentence and "Traceback" not in sentence
    return sentence


WHOLE = colour_files()


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_file_cut_short_is_refused(tmp_path, name):
    path = tmp_path / "image"
    path.write_bytes(WHOLE[name])
    whole, _ = read(path)
    assert whole.shape == (60, 70, 3)
    for fraction in (0, 0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999):
        path.write_bytes(WHOLE[name][: int(len(WHOLE[name]) * fraction)])
        if fraction <= 0.9:
            refusal(path)
        else:  # what is cut off may be of no importance
            with suppress(ImageError):
                np.testing.assert_array_equal(read(path)[0], whole)


def test_a_damaged_file_is_read_or_refused_but_nothing_else_happens(tmp_path):
    draw, path = np.random.RandomState(1), tmp_path / "image"
    for content in WHOLE.values():
        for _ in range(20):
            damaged = np.frombuffer(content, np.uint8).copy()
            where = draw.randint(0, len(damaged) // draw.choice([1, 50]), 3)
            damaged[where] = draw.randint(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            try:
                image, _ = read(path)
            except ImageError:
                continue
            assert image.ndim in (2, 3) and image.size


def test_what_is_no_image_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "image.png"
    assert "No such file" in refusal(path)
    assert "directory" in refusal(tmp_path)
    os.mkfifo(str(tmp_path / "pipe.png"))
    assert "pipe" in refusal(tmp_path / "pipe.png")
    path.write_bytes(b"")
    assert "empty" in refusal(path)
    path.write_text("not an image at all, whatever its name says")
    assert "not TIFF, PNG" in refusal(path)
    tifffile.imwrite(path, np.ones((8, 8), np.complex64))
    assert "complex64" in refusal(path)
    tifffile.imwrite(path, picture((8, 8, 3)), photometric="cielab")
    assert "CIELAB" in refusal(path)


@pytest.mark.parametrize("side", [32_769, 65_000])
def test_a_header_that_claims_an_absurd_size_is_refused_unread(tmp_path, side):
    bitmap = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    jpeg = bytearray(saved(Image.fromarray(picture((20, 30))), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    path = tmp_path / "image"
    for content in (
        png(side, side, 8, 0, picture((2, 9))),
        tiff(side, side, bytes(100)),
        b"BM" + struct.pack("<IHHI", 200, 0, 0, 54) + bitmap + bytes(100),
        bytes(jpeg),
    ):
        path.write_bytes(content)
        assert f"{side} x {side}" in refusal(path)
    path.write_bytes(tiff(0, 30, b""))
    refusal(path)


def test_a_large_image_without_contents_is_no_bomb(tmp_path):
    black, path = Image.new("L", (5000, 4000)), tmp_path / "image"
    zlib_tiff = {"compression": "zlib", "rowsperstrip": 4000, "photometric": "minisblack"}
    for content in (
        png(4000, 5000, 1, 0, np.zeros((4000, 625), np.uint8)),
        png(4000, 5000, 16, 2, np.zeros((4000, 30_000), np.uint8)),
        saved(black.quantize(2), "PNG", bits=1),
        saved(black, "JPEG"),
        saved(black.convert("RGB"), "JPEG", progressive=True),
        saved(black, "TIFF", compression="tiff_lzw"),
        tiff_by_tifffile(np.zeros((4000, 5000), np.uint16), zlib_tiff),
    ):
        path.write_bytes(content)
        image, _ = read(path)
        assert image.shape[:2] == (4000, 5000) and not image[::500, ::500].any()


def test_an_image_beyond_the_memory_is_refused(tmp_path, monkeypatch):
    def decode(*arguments):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    (tmp_path / "image").write_bytes(WHOLE["png"])
    assert "memory" in refusal(tmp_path / "image")


# Reads all files of a folder in 8 threads, each in an order of its own.
READ_IN_THREADS = """
import cv2, imagecodecs, logging, numpy, os, PIL.Image, PIL.TiffImagePlugin, random, sys, tifffile
import threading, warnings

def state():
    output, level = os.fstat(2), logging.getLogger("tifffile").level
    filters, pixels = list(warnings.filters), PIL.Image.MAX_IMAGE_PIXELS
    return output.st_dev, output.st_ino, pixels, filters, level

def work(seed):
    paths = 20 * os.listdir(".")
    random.Random(seed).shuffle(paths)
    for path in paths:
        try:
            images.read(path)
        except images.ImageError:
            if "whole" in path:
                os.write(2, b"refused: " + path.encode())

logging.lastResort = None  # what tifffile says where nobody has asked for it
PIL.Image.MAX_IMAGE_PIXELS = 100  # less than half of what the files hold, which is an error
before = state()
sys.path.insert(0, sys.argv[1])
from app import images
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if state() != before:
    print(before, "became", state(), file=sys.stderr)
os.write(2, b"all read")
"""


def test_reading_in_many_threads_changes_nothing_of_the_process(tmp_path):
    """Not where standard error goes, no limit, log level or warning filter of a library."""
    draw = np.random.RandomState(0)
    for number, name in enumerate(("png", "16-bit png", "jpg", "lzw", "bmp", "webp")):
        (tmp_path / f"whole {number}").write_bytes(WHOLE[name])
        damaged = bytearray(WHOLE[name])
        damaged[draw.randint(len(damaged) // 2, len(damaged))] ^= 255
        (tmp_path / f"damaged {number}").write_bytes(damaged)
    command = [sys.executable, "-c", READ_IN_THREADS, str(ROOT)]
    result = subprocess.run(command, cwd=str(tmp_path), stderr=subprocess.PIPE, encoding="utf-8")
    assert (result.returncode, result.stderr) == (0, "all read")


# --- the folder -------------------------------------------------------------------------------


def test_inputs_are_the_images_of_a_folder_sorted(tmp_path):
    inputs = ["-rf.png", "B.TIF", "a b.jpeg", "a.tiff", "c\nd.bmp", "f.jpg", "x_label.jpg"]
    inputs += ["x_labels.png", "z_label.v2.tif", "\u00fc \u7d30\u80de.webp"]
    labels = ["a_label.tiff", "b_label.png", "q_LABEL.TIF", "_label.png"]
    others = [".hidden.png", "notes.txt", "no_extension", "tif", "archive.tif.gz"]
    for name in inputs + labels + others:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "e_gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(str(tmp_path / "pipe.png"))
    found, passed_over = list_inputs(tmp_path)
    assert [path.name for path in found] == sorted(inputs + ["e_gone.png"])
    assert [path.name for path, _ in passed_over] == sorted(
        labels + others + ["folder.png", "pipe.png"]
    )
    why = {path.name: reason for path, reason in passed_over}
    assert why[".hidden.png"] == "hidden" and why["folder.png"] == "a folder"
    assert {why[name] for name in labels} == {"a label image"}
    assert "extension" in why["notes.txt"] and "extension" in why["archive.tif.gz"]
    assert list_inputs(str(tmp_path)) == (found, passed_over)


def test_a_folder_that_cannot_be_listed_is_an_image_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(ImageError, match="cannot be listed"):
            list_inputs(folder)


# --- label images -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "most, dtype", [(0, "u2"), (65_535, "u2"), (65_536, "u4"), (2**32 - 1, "u4")]
)
def test_labels_are_read_back_as_written(tmp_path, most, dtype):
    for shape in ((1, 1), (1, 7), (7, 1), (300, 200)):
        labels = np.random.RandomState(0).randint(0, most + 1, shape, dtype=np.int64)
        labels.flat[-1] = most
        write_labels(tmp_path / "a_label.tiff", labels)
        image, warnings = read(tmp_path / "a_label.tiff")
        assert image.dtype == np.dtype(dtype) and not warnings
        np.testing.assert_array_equal(image, labels)
    assert [path.name for path in tmp_path.iterdir()] == ["a_label.tiff"]


def test_labels_are_small_and_any_tiff_reader_takes_them(tmp_path):
    labels = np.repeat(np.arange(1000, dtype=np.int32), 1000).reshape(1000, 1000)
    write_labels(tmp_path / "a_label.tiff", labels)
    assert (tmp_path / "a_label.tiff").stat().st_size < labels.size // 20
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a_label.tiff")), labels)
    with tifffile.TiffFile(tmp_path / "a_label.tiff") as tif:
        assert len(tif.pages) == 1 and tif.pages[0].compression == 8


@pytest.mark.parametrize(
    "labels", [np.zeros((4, 4, 1), int), np.zeros((4, 4)), np.array([[-1]]), np.array([[2**32]])]
)
def test_what_is_no_label_image_is_not_written(tmp_path, labels):
    with pytest.raises(ValueError):
        write_labels(tmp_path / "a_label.tiff", labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt, SystemExit, MemoryError, OSError(28, "full")]
)
@pytest.mark.parametrize("step", ["tifffile.imwrite", "os.fsync", "os.replace"])
def test_labels_that_are_not_complete_are_absent(tmp_path, monkeypatch, step, failure):
    def interrupt(file, *arguments, **options):
        if hasattr(file, "write"):
            file.write(b"half of an image")
        assert all(path.name.startswith(".") for path in tmp_path.iterdir() if path != kept)
        raise failure

    kept = tmp_path / "b_label.tiff"
    write_labels(kept, np.ones((2, 2), int))
    before = kept.read_bytes()
    monkeypatch.setattr(step, interrupt)
    expected = ImageError if isinstance(failure, OSError) else failure
    for path in (tmp_path / "a_label.tiff", kept):
        with pytest.raises(expected):
            write_labels(path, np.ones((200, 200), int))
        assert list(tmp_path.iterdir()) == [kept] and kept.read_bytes() == before


def test_a_label_image_keeps_a_text(tmp_path):
    path = tmp_path / "a_label.tiff"
    for text in ('{"weights": "0123"}', "two\nlines", "caf\u00e9 \u7d30\u80de", "x" * 9999):
        write_labels(path, np.ones((30, 40), int), text)
        assert read_description(path) == text
        np.testing.assert_array_equal(read(path)[0], np.ones((30, 40)))
    write_labels(path, np.ones((30, 40), int))
    assert read_description(path) is None


def test_files_that_are_no_whole_label_image_have_no_text(tmp_path):
    path = tmp_path / "a_label.tiff"
    assert read_description(path) is None
    write_labels(path, picture((30, 40)), "text")
    whole = path.read_bytes()
    for content in (b"", b"text", WHOLE["png"], *(whole[:n] for n in range(0, len(whole), 50))):
        path.write_bytes(content)
        assert read_description(path) is None
    path.unlink()
    path.mkdir()
    assert read_description(path) is None
    os.mkfifo(str(tmp_path / "b_label.tiff"))
    assert read_description(tmp_path / "b_label.tiff") is None


def test_labels_for_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ImageError, match="cannot be written"):
        write_labels(tmp_path / "nowhere" / "a_label.tiff", np.ones((2, 2), int))


# --- real images ------------------------------------------------------------------------------


def catalog_rows():
    """For each file type, dtype and number of channels of the shared images, one catalog row."""
    rows = {}
    with open(DATA / "catalog.csv", newline="") as file:
        for row in csv.DictReader(file):
            key = Path(row["image"]).suffix, row["dtype"], row["channels"]
            rows.setdefault(key, row)
    return list(rows.values())


@pytest.mark.skipif(not DATA.is_dir() and "CI" not in os.environ, reason=f"{DATA} is missing")
def test_real_images_agree_with_the_catalog():
    rows = catalog_rows()
    kinds = {Path(row["image"]).suffix for row in rows}
    assert kinds == {".jpg", ".png", ".tif", ".webp"}
    for row in rows:
        height, width, channels = (int(row[name]) for name in ("height", "width", "channels"))
        image, warnings = read(DATA / row["source"] / row["image"])
        assert image.shape == (height, width) + (() if channels == 1 else (channels,))
        assert image.dtype == row["dtype"] and not warnings
        assert image.std() > 0
        labels, _ = read(DATA / row["source"] / row["label"])
        assert labels.shape == (height, width) and labels.dtype == np.uint16
