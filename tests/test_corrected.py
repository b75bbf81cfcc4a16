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
    back, notes = read_outlines(predicted[1] / FILES[name], (90, 120))
    assert back.max() == 4 and not notes
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


def test_the_number_of_cells_is_told_beside_that_of_prediction(predicted, tmp_path, capsys):
    without_second(predicted[1], "geojson")
    assert gathered(predicted, tmp_path / "mine") == 0
    assert "a.png: a.geojson, 3 cells (4 predicted)\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a_label.tif", "a_label.png", "a_masks.tif"])
def test_a_label_image_that_another_program_named_counts(predicted, tmp_path, name, capsys):
    images.write_labels(tmp_path / "new.tiff", discs() * 2)
    pixels = tifffile.imread(str(tmp_path / "new.tiff"))
    if name.endswith(".png"):
        Image.fromarray(pixels).save(str(predicted[1] / name))
    else:
        tifffile.imwrite(str(predicted[1] / name), pixels)
    assert gathered(predicted, tmp_path / "mine") == 0
    assert f"a.png: {name}, 4 cells (4 predicted)" in capsys.readouterr().out


def test_what_has_no_images_name_is_told(predicted, tmp_path, capsys):
    (predicted[1] / "RoiSet.zip").write_bytes(b"zip")
    assert gathered(predicted, tmp_path / "mine") == 2
    assert "RoiSet.zip: not used, since no image has that name" in capsys.readouterr().out


def test_what_is_older_than_a_label_image_is_told(predicted, tmp_path, capsys):
    without_second(predicted[1], "geojson")
    os.utime(str(predicted[1] / "a.geojson"), (1, 1))
    tifffile.imwrite(str(predicted[1] / "a_label.tiff"), discs() * 2)
    assert gathered(predicted, tmp_path / "mine") == 0
    assert "a.geojson is older than the label image and not used" in capsys.readouterr().out


def test_of_a_stack_the_plane_that_was_predicted_is_taken(predicted, tmp_path, capsys):
    inputs, labels = predicted
    (inputs / "a.png").unlink()
    for name in ("a", "b"):
        planes = np.stack([np.full((90, 120), value, np.uint16) for value in (10, 20, 30)])
        tifffile.imwrite(
            str(inputs / f"{name}.tif"), planes, photometric="minisblack", metadata={"axes": "ZYX"}
        )
    record = {"program": "cpn", "plane": 3, "channels": None}
    outputs.save(labels / "b_label.tiff", discs(), record)  # as it was predicted
    tifffile.imwrite(str(labels / "a_label.tiff"), discs() * 2)
    assert gathered(predicted, tmp_path / "mine", "--from", "labels") == 0
    (entry,) = catalog.entries(tmp_path / "mine", "train")
    assert (images.read(entry.image)[0] == 30).all()
    assert gathered(predicted, tmp_path / "two", "--from", "labels", "--plane", "2") == 0
    (entry,) = catalog.entries(tmp_path / "two", "train")
    assert (images.read(entry.image)[0] == 20).all()
    (labels / "b_label.tiff").unlink()
    assert gathered(predicted, tmp_path / "three", "--from", "labels") == 0
    assert "plane" in capsys.readouterr().out, "what is passed over is told"


@pytest.mark.parametrize("channels", ["2", "3,1"])
def test_channels_come_as_they_were_predicted(predicted, tmp_path, channels):
    inputs, labels = predicted
    (inputs / "a.png").unlink()
    planes = np.stack([np.full((90, 120), value, np.uint16) for value in (10, 20, 30, 40)])
    tifffile.imwrite(str(inputs / "a.ome.tif"), planes, ome=True, metadata={"axes": "CYX"})
    tifffile.imwrite(str(labels / "a_label.tiff"), discs() * 2)
    assert gathered(predicted, tmp_path / "mine", "--from", "labels", "--channels", channels) == 0
    (entry,) = catalog.entries(tmp_path / "mine", "train")
    pixels = images.read(entry.image)[0].reshape(90, 120, -1)
    assert pixels[5, 5].tolist() == [10 * int(each) for each in channels.split(",")]


def test_of_several_label_images_none_is_taken_silently(predicted, tmp_path, capsys):
    for name in ("a_label.tiff", "a_masks.tif"):
        tifffile.imwrite(str(predicted[1] / name), discs() * 2)
    assert gathered(predicted, tmp_path / "mine") == 2
    assert "a_label.tiff, a_masks.tif" in capsys.readouterr().err


def test_what_prediction_wrote_beside_a_painted_label_image_is_no_correction(predicted, tmp_path):
    painted = np.where(discs() == 2, 0, discs())
    tifffile.imwrite(str(predicted[1] / "a_label.tiff"), painted)
    assert gathered(predicted, tmp_path / "mine", "--from", "geojson") == 2
    assert gathered(predicted, tmp_path / "mine") == 0
    assert not (tifffile.imread(str(tmp_path / "mine" / "a_label.tiff")) == 2).any()


def test_a_label_image_is_of_one_image_alone(predicted, tmp_path, capsys):
    """a.b.png was once predicted as a_label.tiff, by the challenge's names."""
    shutil.copyfile(str(predicted[0] / "a.png"), str(predicted[0] / "a.b.png"))
    tifffile.imwrite(str(predicted[1] / "a_label.tiff"), discs() * 2)
    assert gathered(predicted, tmp_path / "mine") == 0
    assert "1 of 2 images" in capsys.readouterr().out


def test_a_bad_correction_costs_the_others_nothing(predicted, tmp_path, capsys):
    shutil.copyfile(str(predicted[0] / "a.png"), str(predicted[0] / "b.png"))
    tifffile.imwrite(str(predicted[1] / "a_label.tiff"), discs() * 2)
    tifffile.imwrite(str(predicted[1] / "b_label.tiff"), discs()[:50])
    assert gathered(predicted, tmp_path / "mine") == 1
    captured = capsys.readouterr()
    assert "left out" in captured.err and "b_label.tiff: its shape is (50, 120)" in captured.err
    assert "1 of 2 images" in captured.out
    assert [path.name for path in sorted((tmp_path / "mine").iterdir())] == [
        "a.png",
        "a_label.tiff",
    ]


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
def test_an_image_whose_channels_were_chosen_keeps_its_values(predicted, tmp_path, dtype):
    inputs, labels = predicted
    (inputs / "a.png").unlink()
    planes = np.stack([np.full((90, 120), value) for value in (1, 2, 3)]).astype(dtype)
    tifffile.imwrite(
        str(inputs / "a.tif"), planes, photometric="minisblack", metadata={"axes": "CYX"}
    )
    tifffile.imwrite(str(labels / "a_label.tiff"), discs() * 2)
    assert gathered(predicted, tmp_path / "mine", "--from", "labels", "--channels", "3,1") == 0
    pixels = images.read(tmp_path / "mine" / "a.tif")[0]
    assert pixels.shape == (90, 120, 2) and pixels.dtype == dtype
    assert pixels[5, 5].tolist() == [3, 1]


def test_folders_that_training_takes_for_its_own_get_other_names(predicted, tmp_path):
    inputs, labels = predicted
    for folder in predicted:
        (folder / "labels").mkdir()
    shutil.move(str(inputs / "a.png"), str(inputs / "labels" / "a.png"))
    tifffile.imwrite(str(labels / "labels" / "a_label.tiff"), discs())
    assert gathered(predicted, tmp_path / "mine", "--recursive") == 0
    (entry,) = catalog.entries(tmp_path / "mine", "train")
    assert entry.source == "labels_"


def test_a_second_round_is_trained_with_the_first(predicted, tmp_path, capsys):
    tifffile.imwrite(str(predicted[1] / "a_label.tiff"), discs() * 2)
    assert gathered(predicted, tmp_path / "mine") == 0
    assert gathered(predicted, tmp_path / "mine" / "second") == 0
    assert f"--data {tmp_path / 'mine'} --out runs/second" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert gathered(predicted, tmp_path / "empty") == 0


def test_a_folder_that_is_not_there_is_named(predicted, tmp_path, capsys):
    assert gathered((predicted[0], tmp_path / "none"), tmp_path / "mine") == 2
    assert f"{tmp_path / 'none'} is no folder" in capsys.readouterr().err


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
    labels, notes = read_outlines(tmp_path / "a.geojson", (60, 60))
    assert labels.max() == 1 and labels.sum() == 100 and not notes
    assert labels[10:20, 10:20].all(), "whole pixels are those within, on all sides"
    (tmp_path / "none.geojson").write_text("[]")
    assert not read_outlines(tmp_path / "none.geojson", (60, 60))[0].any()


def write_squares(path, *squares, are_ours=()):
    """A GeoJSON file of squares (x, y, side), some of them with prediction's measurements."""
    features = []
    for number, (x, y, side) in enumerate(squares):
        ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        ours = number < len(are_ours) and are_ours[number]
        properties = {"measurements": {"label_area_px": 1}} if ours else {}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    path.write_text(json.dumps(features))


def test_smaller_cells_lie_upon_larger_ones(tmp_path):
    write_squares(tmp_path / "a.geojson", (10, 10, 5), (5, 5, 20), (40, 40, 4), (40, 40, 9))
    labels, notes = read_outlines(tmp_path / "a.geojson", (60, 60))
    assert not notes and sorted(np.bincount(labels.ravel())[1:]) == [16, 25, 65, 375]


def test_a_cell_outlined_anew_is_as_the_user_outlined_it(tmp_path):
    """In QuPath a detection is outlined anew as an annotation, and the old one left."""
    for mine, ours in (((12, 12, 15), (10, 10, 20)), ((10, 10, 20), (12, 12, 15))):
        write_squares(tmp_path / "a.geojson", mine, ours, (40, 40, 8), are_ours=[0, 1, 1])
        labels, notes = read_outlines(tmp_path / "a.geojson", (60, 60))
        assert labels.max() == 2 and notes == ["1 outline of a cell that has another one left out"]
        assert np.bincount(labels.ravel()).tolist()[1:].count(mine[2] ** 2) == 1
        assert len(np.unique(labels[mine[1] : mine[1] + mine[2], mine[0] : mine[0] + mine[2]])) == 1


def test_one_of_two_outlines_that_are_nearly_alike_counts_and_neighbours_stay(tmp_path):
    write_squares(tmp_path / "a.geojson", (40, 40, 8), (41, 40, 8), (0, 0, 20), (9, 0, 20))
    labels, notes = read_outlines(tmp_path / "a.geojson", (60, 60))
    assert sorted(np.bincount(labels.ravel())[1:]) == [64, 180, 400]
    assert notes == ["1 outline of a cell that has another one left out"]
    row = [(8 * number, 0, 20) for number in range(6)]
    write_squares(tmp_path / "a.geojson", *row)
    assert read_outlines(tmp_path / "a.geojson", (60, 90))[0].max() == 6


def test_a_region_around_cells_or_the_whole_image_is_no_cell(tmp_path):
    cells = [(x, y, 6) for x in (10, 20, 30) for y in (10, 20, 30)]
    write_squares(tmp_path / "a.geojson", (5, 5, 40), *cells)
    labels, notes = read_outlines(tmp_path / "a.geojson", (60, 60))
    said = ["1 outline around many others or the whole image left out"]
    assert labels.max() == 9 and notes == said
    write_squares(tmp_path / "a.geojson", (0, 0, 60), (10, 10, 6))
    assert read_outlines(tmp_path / "a.geojson", (60, 60))[0].max() == 1
    write_squares(tmp_path / "a.geojson", (5, 5, 40), *cells[:8])
    labels, notes = read_outlines(tmp_path / "a.geojson", (60, 60))
    assert labels.max() == 9 and not notes, "a large cell may have some small ones upon it"
    write_squares(tmp_path / "a.geojson", (5, 5, 40), *cells, are_ours=[1] * 10)
    assert read_outlines(tmp_path / "a.geojson", (60, 60))[0].max() == 10


def test_an_outline_that_a_user_drew_is_as_large_as_it_was_drawn(tmp_path):
    angles = np.linspace(0, 2 * np.pi, 60)
    for radius in (5, 10, 20):
        circle = 30.5 + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        shape = {"type": "Polygon", "coordinates": [circle.tolist()]}
        (tmp_path / "a.geojson").write_text(json.dumps([{"type": "Feature", "geometry": shape}]))
        labels, _ = read_outlines(tmp_path / "a.geojson", (60, 60))
        assert labels.sum() == pytest.approx(np.pi * radius**2, rel=0.04)


def test_outlines_reach_beyond_the_image_and_large_ones_are_exact_too(tmp_path):
    write_squares(tmp_path / "a.geojson", (-5, -5, 15), (20, 20, 600), (900, 900, 50))
    labels, notes = read_outlines(tmp_path / "a.geojson", (700, 640))
    assert notes == ["1 outline without a pixel of its own left out"]
    assert sorted(np.bincount(labels.ravel())[1:]) == [100, 600**2]


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
    assert entry.source == "one__two"


def test_an_ome_zarr_costs_the_others_nothing(predicted, tmp_path, capsys):
    (predicted[0] / "z.zarr").mkdir()
    tifffile.imwrite(str(predicted[1] / "z_label.tiff"), discs())
    tifffile.imwrite(str(predicted[1] / "a_label.tiff"), discs())
    assert gathered(predicted, tmp_path / "mine", "--from", "labels") == 0
    assert "1 of 2 images" in capsys.readouterr().out
