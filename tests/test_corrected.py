"""What users corrected in napari, QuPath or ImageJ, as images and labels to train on."""

import gzip
import json
import os
import shutil
import sys
import zipfile

import numpy as np
import pytest
import tifffile
from drawn import cells_of
from PIL import Image

from app import exports, images, outputs
from app.exports.reading import read_outlines
from app.images import LabelError
from training import __main__ as command
from training import catalog

FORMATS = ["geojson", "roi"] if sys.version_info >= (3, 11) else ["geojson"]
FILES = {"geojson": "a.geojson.gz", "roi": "a_rois.zip"}


def discs():
    """Labels (90, 120) of three discs and a bar at the image's edge."""
    labels = np.zeros((90, 120), np.int32)
    y, x = np.mgrid[:90, :120]
    for label, (middle_x, middle_y, radius) in enumerate(
        ((25, 20, 9), (60, 45, 14), (90, 20, 6)), 1
    ):
        labels[np.hypot(x - middle_x, y - middle_y) <= radius] = label
    labels[80:, 70:85] = 4
    return labels


@pytest.fixture
def predicted(tmp_path):
    """The folders of an image a.png and of its labels with exports, as prediction leaves them."""
    inputs, labels = tmp_path / "X", tmp_path / "X-labels"
    inputs.mkdir()
    labels.mkdir()
    Image.fromarray(np.uint8(60) * (discs() > 0)).save(str(inputs / "a.png"))
    cells = cells_of(discs())
    result = exports.Result(inputs / "a.png", images.load(inputs / "a.png"), discs(), cells)
    wanted = exports.load(FORMATS)
    target = labels / "a_label.tiff"
    outputs.save(target, discs(), {"program": "cpn"}, None, None, None, wanted, result)
    return inputs, labels


def gathered(predicted, out, *options):
    return command.main(["corrected", *map(str, predicted), "--out", str(out), *options])


def without_second(folder, name):
    """Remove the second cell of an export, as a user would who finds that it is none."""
    if name == "geojson":
        packed = folder / FILES[name]
        collection = json.loads(gzip.decompress(packed.read_bytes()))
        del collection["features"][1]
        (folder / "a.geojson").write_text(json.dumps(collection["features"]))  # as QuPath has it
        return
    with zipfile.ZipFile(str(folder / FILES[name])) as archive:
        kept = {entry: archive.read(entry) for entry in archive.namelist() if entry != "2.roi"}
    with zipfile.ZipFile(str(folder / FILES[name]), "w") as archive:
        for entry, data in kept.items():
            archive.writestr(entry, data)


@pytest.mark.parametrize("name", FORMATS)
def test_outlines_that_prediction_exports_come_back_as_its_labels(predicted, name):
    labels = discs()
    back, without = read_outlines(predicted[1] / FILES[name], (90, 120))
    assert back.max() == 4 and without == 0
    for label in range(1, 5):
        mine = labels == label
        theirs = back == np.bincount(back[mine]).argmax()
        assert (mine & theirs).sum() / (mine | theirs).sum() > 0.95


@pytest.mark.parametrize("name", FORMATS)
def test_a_cell_removed_from_an_export_is_gone_and_training_takes_the_rest(
    predicted, name, tmp_path
):
    without_second(predicted[1], name)
    assert gathered(predicted, tmp_path / "mine") == 0
    labels = tifffile.imread(str(tmp_path / "mine" / "a_label.tiff"))
    assert labels.max() == 3 and labels[45, 60] == 0 and labels[20, 25] > 0
    (entry,) = catalog.entries(tmp_path / "mine", "train")
    assert entry.image.name == "a.png"


def test_a_label_image_painted_in_is_taken_as_it_is(predicted, tmp_path, capsys):
    painted = discs()
    painted[60:70, 10:20] = 9
    tifffile.imwrite(str(predicted[1] / "a_label.tiff"), painted)  # as napari does
    shutil.copyfile(str(predicted[0] / "a.png"), str(predicted[0] / "b.png"))  # without labels
    assert gathered(predicted, tmp_path / "new" / "mine") == 0
    out = capsys.readouterr().out
    assert "a.png: a_label.tiff" in out and "1 of 2 images were corrected" in out
    assert np.array_equal(tifffile.imread(str(tmp_path / "new/mine/a_label.tiff")), painted)


def test_what_nobody_corrected_is_no_truth(predicted, tmp_path, capsys):
    assert gathered(predicted, tmp_path / "mine") == 2
    assert "were corrected: all are as prediction wrote them" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


def test_where_several_files_may_be_the_correction_they_are_named(predicted, tmp_path, capsys):
    """A label image that was written anew knows no more which exports are as they were: one that
    is younger may have been corrected since."""
    tifffile.imwrite(str(predicted[1] / "a_label.tiff"), discs() * 2)
    os.utime(str(predicted[1] / "a.geojson.gz"), (2**31, 2**31))
    assert gathered(predicted, tmp_path / "mine") == 2
    assert "a_label.tiff, a.geojson.gz" in capsys.readouterr().err
    without_second(predicted[1], "geojson")
    (predicted[1] / "a.geojson.gz").unlink()
    assert gathered(predicted, tmp_path / "mine", "--from", "geojson") == 0
    assert tifffile.imread(str(tmp_path / "mine" / "a_label.tiff")).max() == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ('{"features": 3}', "cannot be read"),
        ('[{"geometry": {"type": "Polygon", "coordinates": [[[1], [2], [3]]]}}]', "be read"),
        ('"hello"', "cannot be read"),
        ("[1]", "cannot be read"),
        (
            '[{"geometry": {"type": "Polygon", "coordinates": [[[1, 2], [2, 2], [NaN, 3]]]}}]',
            "no num",
        ),
        ('[{"geometry": {"type": "Polygon", "coordinates": [[["a", 1], [2, 2]]]}}]', "be read"),
    ],
)
def test_a_file_that_tells_no_outlines_is_named(predicted, tmp_path, capsys, content, said):
    (predicted[1] / "a.geojson").write_text(content)
    assert gathered(predicted, tmp_path / "mine") == 2
    err = capsys.readouterr().err
    assert "a.geojson" in err and said in err and "Traceback" not in err
    with pytest.raises(LabelError):
        read_outlines(predicted[1] / "a.geojson", (90, 120))


def test_points_and_lines_are_no_cells_and_of_several_pieces_the_largest_counts(tmp_path):
    square = [[10, 10], [20, 10], [20, 20], [10, 20], [10, 10]]
    small = [[40, 40], [43, 40], [43, 43], [40, 43], [40, 40]]
    shapes = [
        {"type": "Point", "coordinates": [5, 5]},
        {"type": "LineString", "coordinates": small},
        {"type": "MultiPolygon", "coordinates": [[small], [square]]},
    ]
    features = [{"type": "Feature", "geometry": shape} for shape in shapes]
    (tmp_path / "a.geojson").write_text(json.dumps({"features": features}))
    labels, without = read_outlines(tmp_path / "a.geojson", (60, 60))
    assert labels.max() == 1 and labels.sum() == 100 and without == 0
    assert labels[10:20, 10:20].all(), "whole pixels are those within, on all sides"
    (tmp_path / "none.geojson").write_text("[]")
    assert not read_outlines(tmp_path / "none.geojson", (60, 60))[0].any()


def write_squares(path, *squares):
    """A GeoJSON file of squares (x, y, side)."""
    rings = [
        [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
        for x, y, side in squares
    ]
    shapes = [{"type": "Polygon", "coordinates": [ring]} for ring in rings]
    path.write_text(json.dumps([{"type": "Feature", "geometry": shape} for shape in shapes]))


def test_smaller_cells_lie_upon_larger_ones_and_what_is_covered_is_counted(tmp_path):
    write_squares(tmp_path / "a.geojson", (10, 10, 5), (5, 5, 20), (40, 40, 8), (40, 40, 8))
    labels, without = read_outlines(tmp_path / "a.geojson", (60, 60))
    assert without == 1 and sorted(np.bincount(labels.ravel())[1:]) == [25, 64, 375]


def test_outlines_reach_beyond_the_image_and_large_ones_are_exact_too(tmp_path):
    write_squares(tmp_path / "a.geojson", (-5, -5, 15), (20, 20, 600), (900, 900, 50))
    labels, without = read_outlines(tmp_path / "a.geojson", (700, 640))
    assert without == 1 and sorted(np.bincount(labels.ravel())[1:]) == [100, 600**2]


@pytest.mark.skipif("roi" not in FORMATS, reason="the library needs Python 3.11")
def test_regions_drawn_in_imagej_are_cells_and_lines_are_none(tmp_path):
    roifile = pytest.importorskip("roifile")
    kinds = {"RECT": 1, "OVAL": 2, "LINE": 0}
    with zipfile.ZipFile(str(tmp_path / "a_rois.zip"), "w") as archive:
        for index, name in enumerate(kinds):
            roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE[name], name=name)
            roi.left, roi.top, roi.right, roi.bottom = 5 + 20 * index, 10, 15 + 20 * index, 20
            archive.writestr(f"{name}.roi", roi.tobytes())
    labels, _ = read_outlines(tmp_path / "a_rois.zip", (40, 70))
    assert labels.max() == 2 and np.bincount(labels.ravel())[1] == 100
    for index, label in enumerate(kinds.values()):
        assert labels[15, 10 + 20 * index] == label


@pytest.mark.skipif("roi" not in FORMATS, reason="the library needs Python 3.11")
def test_what_is_no_zip_is_named(tmp_path):
    (tmp_path / "a_rois.zip").write_bytes(b"no zip")
    with pytest.raises(LabelError, match="cannot be read"):
        read_outlines(tmp_path / "a_rois.zip", (40, 70))


def test_labels_in_folders_come_to_folders_that_training_looks_into(predicted, tmp_path):
    inputs, labels = predicted
    for folder in predicted:
        (folder / "one" / "two").mkdir(parents=True)
    shutil.move(str(inputs / "a.png"), str(inputs / "one" / "two" / "a.png"))
    tifffile.imwrite(str(labels / "one" / "two" / "a_label.tiff"), discs())
    assert gathered(predicted, tmp_path / "mine", "--recursive") == 0
    (entry,) = catalog.entries(tmp_path / "mine", "train")
    assert entry.source == "one_two"


def test_an_ome_zarr_costs_the_others_nothing(predicted, tmp_path, capsys):
    (predicted[0] / "z.zarr").mkdir()
    tifffile.imwrite(str(predicted[1] / "z_label.tiff"), discs())
    tifffile.imwrite(str(predicted[1] / "a_label.tiff"), discs())
    assert gathered(predicted, tmp_path / "mine", "--from", "labels") == 0
    assert "1 of 2 images" in capsys.readouterr().out
