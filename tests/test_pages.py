"""Which page of a TIFF the command segments, and what it makes of unusual colours and codecs."""

import re
import struct
from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_predict import OneSquare

from app import images, predict

RNG = np.random.default_rng(0)
FULL = RNG.integers(0, 255, (48, 64), np.uint8)
REDUCED, MASK = 1, 4  # of NewSubfileType


@pytest.fixture
def segmented(tmp_path, monkeypatch, capsys):
    """A function that runs the command on x.tif: (exit status, the screen); the path of x.tif."""
    monkeypatch.setattr(predict, "load_segmenter", lambda options: (OneSquare(), {}))
    (tmp_path / "inputs").mkdir()

    def run(*options):
        status = predict.main([str(tmp_path / "inputs"), str(tmp_path / "labels"), *options])
        return status, "".join(capsys.readouterr())

    return run, tmp_path / "inputs" / "x.tif"


def write_pages(path, *pages):
    """pages: (array, value of NewSubfileType)."""
    with tifffile.TiffWriter(str(path)) as file:
        for array, kind in pages:
            file.write(array, subfiletype=kind, photometric="minisblack", metadata=None)


@pytest.mark.parametrize("kinds", [(REDUCED, 0), (REDUCED, REDUCED, 0, REDUCED)])
def test_reduced_images_are_not_the_first_image(segmented, kinds):
    run, path = segmented
    sizes = [FULL[: 8 + k, :12] if kind else FULL for k, kind in enumerate(kinds)]
    write_pages(path, *zip(sizes, kinds))
    status, said = run()
    assert status == 0 and "64×48" in said and not re.search("several images|planes", said)
    assert np.array_equal(images.read(path)[0], FULL)


def test_a_transparency_mask_is_no_image(segmented):
    run, path = segmented
    with tifffile.TiffWriter(str(path)) as file:
        file.write(FULL > 9, subfiletype=MASK, metadata=None, photometric="minisblack")
        file.write(FULL, metadata=None, photometric="minisblack")
    status, said = run()
    assert status == 0 and not re.search("several images|planes", said)
    assert np.array_equal(images.read(path)[0], FULL)


def test_the_stack_behind_a_thumbnail_has_planes(segmented):
    run, path = segmented
    write_pages(path, (FULL[::4, ::4], REDUCED), (FULL, 0), (FULL.T[:48, :48], 0))
    assert "several images" in run()[1]
    write_pages(path, (FULL[::4, ::4], REDUCED), (FULL // 2, 0), (FULL, 0))
    assert "of its 2 planes the first is used (--plane N, max or mean" in run()[1]
    assert run("--plane", "2")[0] == 0
    assert np.array_equal(images.load(path, plane=2).pixels, FULL)


def test_a_file_of_reduced_images_alone_has_a_first_one(segmented):
    run, path = segmented
    write_pages(path, (FULL, REDUCED), (FULL[::2, ::2], REDUCED))
    assert "64×48" in run()[1]


@pytest.mark.parametrize("alpha", [0, 1, 2])  # unspecified, associated, unassociated
def test_a_palette_with_alpha_gives_its_colours(segmented, alpha):
    run, path = segmented
    palette = RNG.integers(0, 255, (3, 256)).astype(np.uint16)
    pixels = np.stack([FULL, np.full_like(FULL, 255)], axis=2).tobytes()
    tags = {256: 64, 257: 48, 258: (8, 8), 259: 1, 262: 3, 277: 2, 278: 48, 338: alpha}
    colours = tuple((palette * 257).ravel().tolist())
    write_tiff(path, {**tags, 320: colours}, pixels, {273: 0, 279: len(pixels)})
    assert run()[0] == 0
    assert np.array_equal(images.read(path)[0], np.moveaxis(palette[:, FULL], 0, 2))


def write_tiff(path, tags, data, places):
    """A TIFF of one page. tags: {number: whole numbers}; places: and those that count from where
    the data begin, unless they are lengths."""
    start = 8 + 2 + 12 * (len(tags) + len(places)) + 4
    entries, extra = [], b""
    lists = {number: tags[number] for number in tags if isinstance(tags[number], tuple)}
    offset = start
    for values in lists.values():
        extra += struct.pack(f"<{len(values)}H", *values)
    at = {273: start + len(extra), 513: start + len(extra)}
    for number, value in sorted({**tags, **places}.items()):
        if number not in lists:
            entries.append(struct.pack("<HHII", number, 4, 1, value + at.get(number, 0)))
        elif len(lists[number]) == 2:
            entries.append(struct.pack("<HHIHH", number, 3, 2, *value))
            offset += 4
        else:
            entries.append(struct.pack("<HHII", number, 3, len(value), offset))
            offset += 2 * len(value)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    path.write_bytes(head + b"".join(entries) + bytes(4) + extra + data)


def write_old_jpeg(path, stream, strip, size):
    """A TIFF of compression 6, whose tags 513 and 514 hold a JPEG stream."""
    height, width = size
    tags = {256: width, 257: height, 258: 8, 259: 6, 262: 1, 277: 1, 278: height}
    places = {273: strip, 279: len(stream) - strip, 513: 0, 514: len(stream)}
    write_tiff(path, tags, stream, places)


def test_old_style_jpeg_is_decoded_or_named(segmented):
    run, path = segmented
    stream = BytesIO()
    smooth = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
    Image.fromarray(smooth).save(stream, "JPEG", quality=95)
    stream = stream.getvalue()
    for strip in (0, stream.index(b"\xff\xda") + 10):
        write_old_jpeg(path, stream, strip, smooth.shape)
        assert run()[0] == 0
        assert np.abs(images.read(path)[0].astype(int) - smooth).max() < 4
    broken = ((stream[:200], (48, 64)), (b"tables alone", (48, 64)), (stream, (8, 8)))
    for content, size in broken:
        write_old_jpeg(path, content, 0, size)
        status, said = run()
        assert status == 1 and "old-style JPEG" in said


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_an_image_without_any_number_says_so(segmented, monkeypatch, shape):
    run, path = segmented
    tifffile.imwrite(str(path), np.full(shape, np.nan, np.float32))
    found = OneSquare().find(np.zeros((9, 9)))
    nothing = found._replace(cells=found.cells.filter(np.zeros(1, bool)))
    monkeypatch.setattr(OneSquare, "find", lambda *arguments: nothing)
    status, said = run()
    assert status == 0 and "all of its pixels are NaN" in said
    tifffile.imwrite(str(path), np.zeros(shape, np.float32))
    assert "NaN" not in run()[1]
