"""The real command on hostile, broken and strange inputs and folders: decisions 6 and 7."""

import ctypes
import os
import resource
import struct
import subprocess
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from app.names import stem
from app.samples import fluorescence
from experiments import fuzz
from experiments.fuzz import predict, problems
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

HUGE = 10**9  # pixels


# Files that cannot be read: name -> (content, what the reason says)


def bomb_png(side):
    """A valid black PNG whose file is a thousandth of its pixels."""
    deflate, rows = zlib.compressobj(wbits=-15), side // 1000
    piece = deflate.compress(bytes(rows * (side + 1))) + deflate.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">HH", side * (side + 1) % 65521, 1)
    data = b"\x78\x9c" + piece * 1000 + deflate.flush() + checksum
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def bomb_tiff(side, compression, encode):
    """A valid black TIFF all of whose strips, of 1000 rows, are the same bytes of the file."""
    strip, strips, place = encode(bytes(1000 * side)), side // 1000, 8 + 2 + 8 * 12 + 4
    arrays = place + len(strip), place + len(strip) + 4 * strips
    tags = {256: side, 257: side, 258: 8, 259: compression, 262: 1}
    tags.update({273: arrays[0], 278: 1000, 279: arrays[1]})
    content = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    for tag, value in tags.items():
        content += struct.pack("<HHII", tag, 4, strips if tag in (273, 279) else 1, value)
    numbers = [place] * strips + [len(strip)] * strips
    return content + bytes(4) + strip + struct.pack(f"<{2 * strips}I", *numbers)


def circle_of_pages(count):
    """A TIFF whose directories are a circle, longer than tifffile looks for."""
    size = 2 + 8 * 12 + 4
    head, page = b"II*\0\x08\0\0\0", tiff(6, 8, bytes(48))[8 : 8 + size - 4]
    following = [8 + size * ((number + 1) % count) for number in range(count)]
    return head + b"".join(page + struct.pack("<I", place) for place in following)


def with_ome(attributes, document=""):
    """A TIFF with OME metadata of our own."""
    text = (
        f'{document}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:0">'
        f'<Image><Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="6" {attributes}'
        "</Pixels></Image></OME>"
    )
    options = {"description": text, "metadata": None, "photometric": "minisblack"}
    return tiff_by_tifffile(picture((6, 8)), options)


def jpeg_of_many_scans():
    """A progressive JPEG whose last scan comes again and again."""
    whole = saved(Image.fromarray(smooth(0, side=(300, 400))), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * 200 + whole[-2:]


def jpeg_tile_of_another_size():
    """A TIFF of small JPEG tiles, one of which says that it has 65,000 x 65,000 pixels."""
    content = tiff_by_tifffile(smooth(0), {"compression": "jpeg", "tile": (16, 16)})
    frame = content.rindex(b"\xff\xc0")
    return content[: frame + 5] + struct.pack(">HH", 65_000, 65_000) + content[frame + 9 :]


def broken_files():
    lol = '<!DOCTYPE OME [<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{10 * f"&{chr(97 + i)};"}">' for i in range(12)
    )
    bitmap = struct.pack("<IiiHHIIiiII", 40, HUGE, HUGE, 1, 24, 0, 0, 0, 0, 0, 0)
    jpeg = bytearray(saved(Image.fromarray(picture((20, 30))), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    noisy = bytearray(colour_files()["png"])
    noisy[len(noisy) // 2] ^= 1  # libpng says on standard error what it thinks of that
    planes = 'SizeZ="1" SizeC="1" SizeT="1"'
    files = {
        "nothing.png": (b"", "empty"),
        "text.tif": (b"not an image, whatever its name says", "not TIFF, PNG"),
        "archive.jpg": (b"PK\x03\x04" + bytes(100), "not TIFF, PNG"),
        "huge_png.png": (png(HUGE, HUGE, 8, 0, picture((2, 9))), f"{HUGE} x {HUGE}"),
        "huge_tif.tif": (tiff(HUGE, HUGE, bytes(100)), f"{HUGE} x {HUGE}"),
        "huge_bmp.bmp": (b"BM" + struct.pack("<IHHI", 200, 0, 0, 54) + bitmap, f"{HUGE} x {HUGE}"),
        "huge_jpg.jpg": (bytes(jpeg), "65500 x 65500"),
        "checksum.png": (bytes(noisy), "damaged"),
        "many_channels.tif": (tiff(99, 99, bytes(9801), more={277: 60_000}), "bomb"),
        "claims_png.png": (png(30_000, 30_000, 8, 0, picture((2, 900))), "bomb"),
        "claims_tif.tif": (tiff(30_000, 30_000, zlib.compress(bytes(1000)), compression=8), "bomb"),
        "large_tile.tif": (tiff(9, 9, bytes(99), more={322: 30_000, 323: 30_000}), "bomb"),
        "bomb.png": (bomb_png(30_000), "bomb"),
        "bomb_deflate.tif": (bomb_tiff(30_000, 8, zlib.compress), "bomb"),
        "bomb_zstd.tif": (bomb_tiff(30_000, 50000, imagecodecs.zstd_encode), "bomb"),
        "many_scans.jpg": (jpeg_of_many_scans(), "scans"),
        "jpeg_tile.tif": (jpeg_tile_of_another_size(), "damaged"),
        "circle.tif": (circle_of_pages(150), "circles"),
        "ome_stack.tif": (with_ome(planes.replace("1", f"{HUGE}", 1) + "><TiffData/>"), "planes"),
        "ome_count.tif": (with_ome(planes + f'><TiffData PlaneCount="{HUGE}"/>'), "planes"),
        "ome_laugh.tif": (with_ome(planes + ">&m;", lol + "]>"), "damaged"),
    }
    for number, content in enumerate(colour_files().values()):
        files[f"cut_{number}.png"] = content[: len(content) // 2], "cut short"
    return files


BROKEN = broken_files()


# Files that can: name -> (content, shape of the stored array, what is remarked)


def valid_files():
    rgb, grey = smooth(0, 40, 80), {"photometric": "minisblack"}
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown rotated by 90 degrees
    names = {
        f"{name}.png": (saved(Image.fromarray(rgb), "PNG"), (32, 48), "")
        for name in (
            "-rf",
            "--help",
            "a b",
            "a\tb",
            "$(touch x)",
            "'\"",
            "\u00fc\u7d30\u80de",
            "*",
            "\\",
        )
    }
    files = {
        "one_pixel.png": (saved(Image.fromarray(picture((1, 1))), "PNG"), (1, 1), ""),
        "one_row.png": (saved(Image.fromarray(picture((1, 5000))), "PNG"), (1, 5000), ""),
        "one_column.png": (saved(Image.fromarray(picture((5000, 1))), "PNG"), (5000, 1), ""),
        "low.png": (saved(Image.fromarray(picture((3, 700))), "PNG"), (3, 700), ""),
        "nan.tif": (tiff_by_tifffile(np.full((40, 50), np.nan, "f4"), grey), (40, 50), ""),
        "extreme.tif": (
            tiff_by_tifffile(np.array([[np.inf, -1.8e308], [1.8e308, np.nan]] * 20), grey),
            (40, 2),
            "",
        ),
        "channels.tif": (
            tiff_by_tifffile(picture((16, 40, 50)), dict(grey, metadata={"axes": "CYX"})),
            (40, 50),
            "16 channels",
        ),
        "stack.tif": (tiff_by_tifffile(picture((9, 40, 50)), grey), (40, 50), "for channels"),
        "big_endian.tif": (
            tiff_by_tifffile(picture((40, 50), "u2"), dict(grey, byteorder=">")),
            (40, 50),
            "",
        ),
        "palette.png": (saved(Image.fromarray(rgb).quantize(9), "PNG"), (32, 48), ""),
        "cmyk.jpg": (saved(Image.fromarray(rgb).convert("CMYK"), "JPEG"), (32, 48), ""),
        "rotated.jpg": (saved(Image.fromarray(rgb), "JPEG", exif=exif.tobytes()), (32, 48), ""),
        "one_of_a_set.tif": (
            with_ome(
                'SizeZ="1" SizeC="1" SizeT="1"><TiffData IFD="0"><UUID FileName="pipe.png">urn:1'
                "</UUID></TiffData>"
            ),
            (6, 8),
            "one of a set",
        ),
    }
    return dict(files, **names)


VALID = valid_files()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of all these files, of links, a pipe and a folder; and one for outputs."""
    inputs = tmp_path_factory.mktemp("inputs")
    for name, (content, *_) in dict(BROKEN, **VALID).items():
        (inputs / name).write_bytes(content)
    (inputs / "circle_1.png").symlink_to(inputs / "circle_2.png")
    (inputs / "circle_2.png").symlink_to(inputs / "circle_1.png")
    (inputs / "nowhere.png").symlink_to(inputs / "no such file")
    os.mkfifo(str(inputs / "pipe.png"))
    (inputs / "folder.png").mkdir()
    return inputs, tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def run(folders):
    """The command on that folder."""
    return predict(*folders)


def lines_about(run, name):
    return [line for line in run.lines if name in line]


def test_every_image_is_done_or_refused_in_one_line_and_nothing_else_happens(run, folders):
    inputs, outputs = folders
    found = problems(run, inputs, outputs)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_file_is_refused_with_the_reason(run, name):
    (line,) = lines_about(run, f" {name}: failed")
    assert BROKEN[name][1] in line


def test_links_pipes_and_folders_are_named(run):
    for name in ("circle_1.png", "circle_2.png", "nowhere.png"):
        (line,) = lines_about(run, name)
        assert "failed, the file cannot be opened" in line
    for name in ("pipe.png", "folder.png"):
        (line,) = lines_about(run, name)
        assert "passed over" in line


@pytest.mark.parametrize("name", sorted(VALID))
def test_a_strange_file_gives_labels_of_the_shape_of_its_array(run, folders, name):
    _, shape, remark = VALID[name]
    with tifffile.TiffFile(str(folders[1] / f"{stem(name)}_label.tiff")) as tif:
        assert tif.asarray().shape == shape
    assert bool(remark) == any(remark in line for line in lines_about(run, f"{name}: ") if remark)


def test_a_name_may_hold_a_line_break_which_does_not_break_the_line(tmp_path):
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "a\nb.png").write_bytes(saved(Image.fromarray(picture((8, 9))), "PNG"))
    run = predict(tmp_path / "inputs", tmp_path / "outputs")
    assert run.status == 0
    assert run.lines[0].startswith("1/1 a\\nb.png 9×8")
    assert sorted(os.listdir(str(tmp_path / "outputs"))) == ["a\nb_label.tiff", "summary.csv"]


# Folders


@pytest.fixture
def images(tmp_path):
    """A folder with an image of many cells and one of a single pixel."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    tifffile.imwrite(str(inputs / "cells.tif"), fluorescence(seed=1))
    Image.new("L", (1, 1)).save(str(inputs / "pixel.png"))
    return inputs


def check_one_sentence(run, *parts):
    """The command could not be started and says why."""
    assert run.status == 2
    (line,) = run.lines
    assert line.endswith(".") and all(part in line for part in parts)


def test_inputs_missing_or_empty(tmp_path):
    check_one_sentence(predict(tmp_path / "nowhere", tmp_path), "nowhere")
    (tmp_path / "empty").mkdir()
    check_one_sentence(predict(tmp_path / "empty", tmp_path / "labels"), "empty")


def test_outputs_that_cannot_be_a_folder(images, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    check_one_sentence(predict(images, tmp_path / "file"), "file")
    check_one_sentence(predict(images, "/proc/labels"), "/proc/labels")


def test_a_label_image_that_is_too_large_for_its_place_fails_alone(images, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    outputs = tmp_path / "outputs"
    check_only_the_pixel_is_done(predict(images, outputs, before=limit), outputs)


def check_only_the_pixel_is_done(run, outputs):
    assert run.status == 1
    assert "cells.tif: failed, the label image cannot be written" in run.lines[0]
    assert set(os.listdir(str(outputs))) <= {"pixel_label.tiff", "summary.csv"}
    assert (outputs / "pixel_label.tiff").is_file()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two pages."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8192,mode=777", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full(images, small_disk):
    check_only_the_pixel_is_done(predict(images, small_disk), small_disk)
    # The pixel's labels and summary.csv have the two pages now.
    check_one_sentence(predict(images, small_disk), "No space left")


# Users


def without_powers():
    """From the next program on root is a user like others: CAP_DAC_OVERRIDE, _READ_SEARCH go."""
    if os.geteuid() == 0:
        for capability in (1, 2):
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_files_and_folders_that_are_closed_to_the_user(tmp_path):
    inputs, outputs, closed = (tmp_path / name for name in ("inputs", "outputs", "closed"))
    inputs.mkdir()
    for name in ("closed.png", "open.png"):
        Image.new("L", (9, 9)).save(str(inputs / name))
    (inputs / "closed.png").chmod(0)
    run = predict(inputs, outputs, before=without_powers)
    assert run.status == 1
    (line,) = lines_about(run, "closed.png")
    assert "failed, the file cannot be opened (Permission denied)" in line
    assert sorted(os.listdir(str(outputs))) == ["open_label.tiff", "summary.csv"]
    closed.mkdir(mode=0o555)
    check_one_sentence(predict(inputs, closed, before=without_powers), "Permission denied")
    inputs.chmod(0)
    check_one_sentence(predict(inputs, outputs, before=without_powers), "inputs")


# Random damage: a part of  python -m experiments fuzz


def test_mutated_files_are_read_or_refused(tmp_path):
    assert not fuzz.fuzz_reads(range(300), 1, tmp_path)


def test_mutated_files_through_the_command(tmp_path):
    assert not fuzz.fuzz_commands(range(20), 2, tmp_path)
