"""Slides: TIFF by other names, of which the full resolution is taken, not thumbnail or label."""

import struct

import cv2
import numpy as np
import pytest
import tifffile

from app import images
from app.images import list_inputs, load

LEVELS = [
    np.random.default_rng(k).integers(0, 255, (512 >> k, 384 >> k, 3), np.uint8) for k in (0, 2)
]
THUMBNAIL, LABEL = np.full((60, 40, 3), 9, np.uint8), np.full((50, 70, 3), 7, np.uint8)


def aperio(path):
    """The order of Aperio: the whole, a thumbnail in strips, smaller levels, label."""
    about = "Aperio Image Library v11\r\n384x512 [0,0 384x512] (256x256) JPEG/RGB Q=70|MPP = 0.25"
    how = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(str(path), bigtiff=True) as tif:
        tif.write(LEVELS[0], tile=(256, 256), description=about, compression="zlib", **how)
        tif.write(THUMBNAIL, rowsperstrip=16, description=about, **how)
        tif.write(LEVELS[1], tile=(256, 256), description=about, compression="zlib", **how)
        tif.write(LABEL, rowsperstrip=16, description=about + "\r\nlabel", subfiletype=1, **how)


def pyramid(path):
    """Levels in SubIFDs, as OME and Bio-Formats have them."""
    how = {"photometric": "rgb", "tile": (128, 128), "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(str(path), bigtiff=True) as tif:
        tif.write(LEVELS[0], subifds=1, **how)
        tif.write(LEVELS[1], subfiletype=1, **how)


def stream(image):
    """(JPEG of the image with restart markers, where its parts between them start)."""
    every = 64 // 16  # restart markers, in blocks of 16 x 16 pixels: one for 64 columns
    how = [cv2.IMWRITE_JPEG_RST_INTERVAL, every, cv2.IMWRITE_JPEG_QUALITY, 95]
    data = cv2.imencode(".jpg", image[:, :, ::-1], how)[1].tobytes()
    starts = [0, *(k + 2 for k in range(len(data)) if data[k] == 255 and 208 <= data[k + 1] <= 215)]
    scan = data.index(b"\xff\xda")
    starts[0] = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    return data, starts


def hamamatsu(path, image):
    """One stream of JPEG for the whole, whose parts between restart markers are the strips."""
    data, starts = stream(image)
    tags = [(271, "s", 0, "Hamamatsu", True), (65420, "I", 1, 1, True)]
    tags += [(65426, "I", len(starts), starts, True)]
    with tifffile.TiffWriter(str(path)) as tif:
        tif.write(
            iter([data]),
            shape=image.shape,
            dtype=np.uint8,
            photometric="ycbcr",
            compression="jpeg",
            rowsperstrip=image.shape[0],
            extratags=tags,
            metadata=None,
        )


def beyond_4_gb(path, image):
    """The same as Hamamatsu writes it: offsets of 64 bits in TIFF of 32, their upper halves apart.

    It takes hardly any room on the disk, since nothing is written before the end.
    """
    data, starts = stream(image)
    place = 2**32 + 4096
    directory = place + len(data)
    height, width = image.shape[:2]
    tags = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [8, 8, 8]),
        (259, "H", [7]),
        (262, "H", [6]),
        (271, "s", b"Hamamatsu\0"),
        (273, "I", [place]),
        (277, "H", [3]),
        (278, "I", [height]),
        (279, "I", [len(data)]),
        (65420, "I", [1]),
        (65426, "I", starts),
    ]
    kinds, sizes = {"s": 2, "H": 3, "I": 4}, {"s": 1, "H": 2, "I": 4}
    entries, uppers, values = b"", b"", b""
    behind = directory + 2 + 16 * len(tags) + 8
    for number, kind, value in tags:
        if len(value) * sizes[kind] > 4:
            stored = value if kind == "s" else struct.pack(f"<{len(value)}{kind}", *value)
            low = behind + len(values)
            values += stored + b"\0" * (len(stored) % 2)
        else:
            low = value[0]
        entries += struct.pack("<HHII", number, kinds[kind], len(value), low % 2**32)
        uppers += struct.pack("<I", low >> 32)
    with open(path, "wb") as file:
        file.write(b"II*\0" + struct.pack("<Q", directory))
        file.seek(place)
        file.write(data + struct.pack("<H", len(tags)) + entries + bytes(8) + uppers + values)


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("kind", [hamamatsu, beyond_4_gb])
def test_parts_of_the_one_stream_of_an_ndpi_are_read(tmp_path, monkeypatch, kind, region):
    if region:
        monkeypatch.setattr(images, "SMALL", -1)
    image = np.zeros((64, 512, 3), np.uint8)
    image[8:40, 30:300] = (200, 90, 160)
    kind(tmp_path / "a.ndpi", image)
    pixels = load(tmp_path / "a.ndpi").pixels
    assert pixels.shape == image.shape
    assert np.abs(pixels[:64, :512].astype(int) - image).mean() < 3


def scanned_by_leica(path):
    """An overview of the slide, then the scan, told apart by the description alone."""
    names = (("overview", LEVELS[1]), ("scan", LEVELS[0]))
    parts = [
        f'<image name="{name}"><pixels sizeX="{p.shape[1]}" sizeY="{p.shape[0]}">'
        f'<dimension sizeX="{p.shape[1]}" sizeY="{p.shape[0]}" r="0" ifd="{ifd}"/></pixels></image>'
        for ifd, (name, p) in enumerate(names)
    ]
    about = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f"<collection>{''.join(parts)}</collection></scn>"
    )
    how = {"photometric": "rgb", "tile": (128, 128), "metadata": None}
    with tifffile.TiffWriter(str(path), bigtiff=True) as tif:
        tif.write(LEVELS[1], description=about, **how)
        tif.write(LEVELS[0], **how)


SLIDES = [(aperio, "a.svs"), (pyramid, "a.btf"), (pyramid, "a.SCN"), (scanned_by_leica, "b.scn")]


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("kind, name", SLIDES)
def test_the_full_resolution_is_taken(tmp_path, monkeypatch, kind, name, region):
    if region:
        monkeypatch.setattr(images, "SMALL", -1)
    kind(tmp_path / name)
    assert list_inputs(tmp_path) == ([tmp_path / name], [])
    pixels = load(tmp_path / name).pixels
    assert pixels.shape == LEVELS[0].shape
    assert np.array_equal(pixels[100:300, 50:384], LEVELS[0][100:300, 50:384])
