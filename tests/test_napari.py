"""What napari opens of our outputs, by its own plugin engine and without a display."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_predict import noise, read_labels  # noqa: F401 (noise is a fixture)

if sys.version_info < (3, 11):
    pytest.skip("the plugin engine of today's napari", allow_module_level=True)

npe2 = pytest.importorskip("npe2")
PLUGIN = Path(__file__).resolve().parents[1] / "app" / "exports" / "napari" / "cpn_napari"


@pytest.fixture
def opened(monkeypatch):
    """Opens a file as napari does: {name of a layer: (data, arguments, type)}."""
    monkeypatch.syspath_prepend(str(PLUGIN.parent))
    manager = npe2.PluginManager()
    monkeypatch.setattr(npe2.PluginManager, "instance", lambda: manager)
    manager.register(npe2.PluginManifest.from_file(PLUGIN / "napari.yaml"))

    def opens(path):
        layers = npe2.read([str(path)], stack=False)
        return {layer[1]["name"]: layer for layer in layers}

    return opens


@pytest.fixture
def outputs(noise, tmp_path):  # noqa: F811
    """The folder of labels of two images, where the command has it by default."""
    return noise("--cells", "--export", "geojson").rename(tmp_path / "inputs-labels")


def test_a_label_image_comes_with_its_image_table_and_contours(opened, outputs):
    for name, labels in read_labels(outputs).items():
        stem = name[: -len("_label.tiff")]
        image, cells, contours = opened(outputs / name).values()
        assert image[1]["rgb"] and image[2] == "image"
        assert image[0].shape[:2] == labels.shape
        data, how, kind = cells
        assert np.array_equal(data, labels) and kind == "labels" and how["name"] == f"{stem} cells"
        features = how["features"]
        assert features["index"].tolist() == list(range(1, labels.max() + 1))
        areas = np.bincount(labels.ravel())[1:]
        assert features["area"].tolist() == areas.tolist() and "uncertainty_top" in features
        data, how, kind = contours
        assert kind == "shapes" and how["features"]["label"] == features["index"].tolist()
        with gzip.open(outputs / f"{stem}.geojson.gz") as file:
            rings = [
                feature["geometry"]["coordinates"][0] for feature in json.load(file)["features"]
            ]
        for outline, ring in zip(data, rings):  # y, x from the middle of the first pixel
            assert outline == pytest.approx(np.array(ring)[:-1, ::-1] - 0.5)


def test_what_is_not_there_is_left_out(opened, noise, tmp_path):  # noqa: F811
    folder = noise().rename(tmp_path / "elsewhere")
    ((data, how, kind),) = opened(folder / "a_label.tiff").values()
    assert kind == "labels" and data.any() and how == {"name": "a cells"}


def test_an_image_is_shown_by_the_axes_that_are_those_of_its_labels(opened, outputs):
    image = outputs.parent / "inputs" / "b.tif"
    for shape, expected in (
        ((64, 64), {}),
        ((5, 64, 64), {}),
        ((64, 64, 2), {"channel_axis": 2}),
    ):
        tifffile.imwrite(str(image), np.zeros(shape, np.uint16), photometric="minisblack")
        assert opened(outputs / "b_label.tiff")["b.tif"][1] == {"name": "b.tif", **expected}
    for bad in (
        lambda: tifffile.imwrite(str(image), np.zeros((9, 9))),
        lambda: image.write_bytes(b""),
    ):
        bad()
        with pytest.warns(UserWarning, match="b.tif is not shown"):
            assert list(opened(outputs / "b_label.tiff")) == ["b cells", "b contours"]


def test_more_contours_than_napari_is_quick_with_are_left_out(opened, outputs, monkeypatch):
    import cpn_napari

    monkeypatch.setattr(cpn_napari, "MOST_SHAPES", 2)
    with pytest.warns(UserWarning, match="contours are not shown"):
        assert list(opened(outputs / "a_label.tiff")) == ["a.png", "a cells"]


def test_other_files_are_left_to_other_readers(opened, tmp_path):
    Image.new("L", (4, 4)).save(str(tmp_path / "a.tiff"))
    with pytest.raises(ValueError, match="No compatible readers"):
        opened(tmp_path / "a.tiff")
