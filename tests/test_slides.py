"""Slides: TIFF by other names, of which the full resolution is taken, not thumbnail or label."""

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


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("kind, name", [(aperio, "a.svs"), (pyramid, "a.btf"), (pyramid, "a.SCN")])
def test_the_full_resolution_is_taken(tmp_path, monkeypatch, kind, name, region):
    if region:
        monkeypatch.setattr(images, "SMALL", -1)
    kind(tmp_path / name)
    assert list_inputs(tmp_path) == ([tmp_path / name], [])
    pixels = load(tmp_path / name).pixels
    assert pixels.shape == LEVELS[0].shape
    assert np.array_equal(pixels[100:300, 50:384], LEVELS[0][100:300, 50:384])
