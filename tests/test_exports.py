"""What other programs open, by their own readers: GeoJSON (shapely), ROI (roifile), COCO."""

import gzip
import json
import sys
import uuid
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn import cells_of
from test_predict import noise, read_labels  # noqa: F401 (noise is a fixture)

from app import exports, images, predict
from app.cells import Cells
from app.exports import polygons
from experiments.__main__ import main as experiments

FORMATS = "geojson,roi,coco"
FILES = ("a.geojson.gz", "a_coco.json", "a_rois.zip")

if sys.version_info < (3, 11):
    pytest.skip("the formats' libraries need Python 3.11", allow_module_level=True)

roifile = pytest.importorskip("roifile")
shapely = pytest.importorskip("shapely")
shape = pytest.importorskip("shapely.geometry").shape
COCO = pytest.importorskip("pycocotools.coco").COCO


def result_of(cells, labels, path):
    path.write_bytes(b"an image")
    loaded = images.Loaded(None, [], None, None)
    return exports.Result(path, loaded, labels, cells)


def features_in(path):
    with gzip.open(str(path)) as file:
        return json.load(file)


@pytest.fixture
def discs(tmp_path):
    """The Result of an image of 70 x 90 pixels with three ellipses."""
    labels = np.zeros((70, 90), np.int32)
    for label, (middle, axes) in enumerate((((20, 20), (9, 9)), ((50, 30), (14, 6))), 1):
        cv2.ellipse(labels, middle, axes, 30, 0, 360, label, -1)
    labels[40:, 80:] = 3  # in the image's corner
    cells = cells_of(labels)
    cells.scores[:] = 0.5, 0.75, 1
    cells.uncertainties[:] = np.linspace(0, 1, 12).reshape(3, 4)
    return result_of(cells, labels, tmp_path / "a.png")


def written(result, name):
    """The file that an export makes of a Result."""
    export, target = exports.load([name])[0], result.path.with_name("a_label.tiff")
    assert export.write(exports.beside(target, export.endings[0]), result) == []
    assert export.is_done(target)
    return exports.beside(target, export.endings[0])


def crossing(samples=64):
    """A contour (1, S, 2) like an 8, which crosses itself."""
    t = np.linspace(0, 2 * np.pi, samples, endpoint=False)
    return np.stack([30 + 20 * np.sin(t), 20 + 8 * np.sin(2 * t)], 1).astype(np.float32)[None]


def test_geojson_is_as_qupath_takes_it(discs):
    collection = features_in(written(discs, "geojson"))
    assert collection["type"] == "FeatureCollection" and len(collection["features"]) == 3
    for row, feature in enumerate(collection["features"]):
        uuid.UUID(feature["id"])
        outline = shape(feature["geometry"])
        assert outline.is_valid and outline.geom_type == "Polygon"
        assert feature["geometry"]["coordinates"][0][0] == feature["geometry"]["coordinates"][0][-1]
        properties = feature["properties"]
        assert properties["objectType"] == "detection"
        measured = properties["measurements"]
        pixels = (discs.labels == row + 1).sum()
        assert measured["label"] == row + 1 and measured["label_area_px"] == pixels
        assert outline.area + outline.length / 2 == pytest.approx(pixels, rel=0.02)
        assert measured["score"] == pytest.approx(discs.cells.scores[row])
        sides = [measured[f"uncertainty_{side}"] for side in ("top", "right", "bottom", "left")]
        assert sides == pytest.approx(discs.cells.uncertainties[row], abs=1e-5)
        # Pixel (0, 0) has its middle at (0.5, 0.5); outlines run through those of border pixels.
        rows, columns = np.nonzero(discs.labels == row + 1)
        extent = (columns.min() + 0.5, rows.min() + 0.5, columns.max() + 0.5, rows.max() + 0.5)
        assert outline.bounds == pytest.approx(extent, abs=0.2)
        contour = shapely.Polygon(discs.cells.contours[row] + 0.5)
        assert outline.symmetric_difference(contour).area < 0.05 * contour.length


def test_ids_are_those_of_the_image_file_and_the_label(discs):
    first = [feature["id"] for feature in features_in(written(discs, "geojson"))["features"]]
    again = [feature["id"] for feature in features_in(written(discs, "geojson"))["features"]]
    assert first == again and len(set(first)) == 3
    discs.path.write_bytes(b"another image")
    other = [feature["id"] for feature in features_in(written(discs, "geojson"))["features"]]
    assert not set(first) & set(other)


def test_rois_are_sub_pixel_outlines_named_by_label(discs):
    rois = roifile.roiread(str(written(discs, "roi")))
    assert [roi.name for roi in rois] == ["1", "2", "3"]
    outlines = polygons.polygons(discs.cells, discs.labels)
    for roi, outline in zip(rois, outlines):
        assert roi.coordinates() == pytest.approx(outline, abs=1e-4)
        assert roi.subpixelresolution


def test_beyond_what_a_roi_can_hold_there_is_a_warning(discs):
    labels = np.zeros((1, 60537), np.int32)
    export = exports.load(["roi"])[0]
    remarks = export.write(
        discs.path.with_name("a_rois.zip"),
        discs._replace(labels=labels, cells=Cells.empty(64)),
    )
    assert len(remarks) == 1 and "60536" in remarks[0]


def test_coco_has_the_pixels_of_each_label(discs):
    coco = COCO(str(written(discs, "coco")))
    assert coco.loadImgs(1)[0] == {"id": 1, "file_name": "a.png", "height": 70, "width": 90}
    for label in (1, 2, 3):
        (annotation,) = coco.loadAnns([label])
        mask = discs.labels == label
        assert np.array_equal(coco.annToMask(annotation), mask)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["bbox"] == box and annotation["area"] == mask.sum()
        assert annotation["score"] == pytest.approx(discs.cells.scores[label - 1])


@pytest.mark.parametrize("name", ["geojson", "roi", "coco"])
def test_an_image_without_cells_has_an_export_without_any(tmp_path, name):
    result = result_of(Cells.empty(64), np.zeros((5, 7), np.int32), tmp_path / "a.png")
    path = written(result, name)
    if name == "geojson":
        assert features_in(path) == {"type": "FeatureCollection", "features": []}
    elif name == "coco":
        assert json.loads(path.read_text())["annotations"] == []


def test_an_outline_that_crosses_itself_is_that_of_its_label():
    labels = np.zeros((40, 60), np.int32)
    cv2.fillPoly(labels, [np.rint(crossing()[0]).astype(np.int32)], 1)
    n = np.ones(1, np.float32)
    box = np.array([[10, 12, 50, 28]], np.float32)
    cells = Cells(crossing(), box, n, np.zeros((1, 4), np.float32))
    assert not shapely.Polygon(crossing()[0]).is_valid
    (outline,) = polygons.polygons(cells, labels)
    assert shapely.Polygon(outline).is_valid
    middles = np.indices((60, 40)).reshape(2, -1) + 0.5
    inside = shapely.contains_xy(shapely.Polygon(outline), *middles)
    inside = inside.reshape(60, 40).T
    assert not (inside & (labels == 0)).any() and inside.sum() >= 0.45 * labels.sum()
    labels[5:35, 5:55] = 1  # grown through disputed pixels, beyond the contour
    (outline,) = polygons.polygons(cells, labels)
    assert shapely.Polygon(outline).area == pytest.approx(30 * 50, abs=4)


def test_a_label_of_pixels_that_touch_at_corners_alone_has_a_valid_outline():
    labels = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 1]], np.int32)
    whole = (slice(0, 3), slice(0, 3))
    outline = polygons.outline_of(labels, 1, whole)
    assert shapely.Polygon(outline).is_valid
    labels = np.eye(3, dtype=np.int32)
    outline = polygons.outline_of(labels, 1, whole)
    assert shapely.Polygon(outline).area == pytest.approx(0.5)


def test_polygons_are_simple_just_where_shapely_says_so():
    rng = np.random.default_rng(0)
    told = [
        (polygons.is_simple(points), shapely.Polygon(points).is_valid)
        for points in (rng.integers(0, 12, (rng.integers(3, 7), 2)) for _ in range(2000))
    ]
    # What only touches itself, or turns back on itself, may be refused where shapely does not.
    assert not any(simple and not valid for simple, valid in told)
    assert 0.9 < sum(simple for simple, _ in told) / sum(valid for _, valid in told) <= 1


def test_whatever_contours_come_the_polygons_are_valid():
    rng = np.random.default_rng(0)
    n, samples = 300, 64
    t = np.linspace(0, 2 * np.pi, samples, endpoint=False)
    waves = rng.normal(0, 1, (n, 2, 2, 5)) / np.arange(1, 6) ** rng.uniform(0, 3, (n, 1, 1, 1))
    angles = t * np.arange(1, 6)[:, None]
    contours = waves[:, :, 0] @ np.cos(angles) + waves[:, :, 1] @ np.sin(angles)
    contours = 20 + contours.transpose(0, 2, 1) * rng.uniform(0.3, 8, (n, 1, 1))
    labels = np.zeros((40, 40), np.int32)
    for contour in contours.astype(np.float32):
        labels[:] = 0
        cv2.fillPoly(labels, [np.rint(contour).astype(np.int32)], 1)
        boxes = np.r_[contour.min(axis=0), contour.max(axis=0)][None]
        one = Cells(contour[None], boxes, np.ones(1), np.zeros((1, 4)))
        (outline,) = polygons.polygons(one, labels)
        assert shapely.Polygon(outline).is_valid


@pytest.mark.parametrize("name", FORMATS.split(","))
def test_what_very_many_cells_take_is_measured(name, capsys):
    assert experiments(["export-memory", "--cells", "150", "--format", name]) == 0
    assert f"{name}, 150 cells: " in capsys.readouterr().out


# Through the command


def test_the_command_writes_what_is_asked_for_and_resume_what_is_missing(noise, capsys):  # noqa: F811
    folder = noise("--export", FORMATS)
    assert [path.name for path in sorted(folder.glob("a[._]*"))] == sorted([*FILES, "a_label.tiff"])
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    for name, labels in read_labels(folder).items():
        stem = name[: -len("_label.tiff")]
        features = features_in(folder / f"{stem}.geojson.gz")["features"]
        assert len(features) == labels.max() > 0
        assert all(shape(feature["geometry"]).is_valid for feature in features)
        coco = COCO(str(folder / f"{stem}_coco.json"))
        for label in coco.getAnnIds():
            assert np.array_equal(coco.annToMask(coco.anns[label]), labels == label)
        assert len(roifile.roiread(str(folder / f"{stem}_rois.zip"))) == labels.max()
    (folder / "b_coco.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    noise("--resume", "--export", "geojson,coco")
    changed = {
        path.name for path in folder.iterdir() if path.stat().st_mtime_ns != before.get(path)
    }
    assert changed == {"summary.csv", "b_label.tiff", "b.geojson.gz", "b_coco.json"}
    noise("--resume")
    assert "(2 of them before)" in capsys.readouterr().out
    noise()
    assert {path.suffix for path in folder.iterdir()} == {".tiff", ".csv"}, "and a summary"


def test_the_same_image_gives_the_same_bytes(noise):  # noqa: F811
    first, again = (
        {path.name: path.read_bytes() for path in noise("--export", FORMATS).glob("?[._]*")}
        for _ in range(2)
    )
    assert first == again and len(first) == 8


def test_killed_while_an_export_is_written_the_next_run_goes_on(noise, monkeypatch):  # noqa: F811
    folder = noise("--export", "geojson")
    before = {path: path.read_bytes() for path in folder.glob("[ab][._]*")}

    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("app.exports.coco.annotations", killed)
        patch.setattr("pathlib.Path.unlink", killed)  # what SIGKILL leaves is not tidied away
        noise("--export", "geojson,coco")
    assert {path: path.read_bytes() for path in folder.glob("[ab][._]*")} == before
    noise("--export", "geojson,coco", "--resume")
    assert (folder / "a_coco.json").exists()


def test_an_export_that_cannot_be_written_is_one_sentence(noise, monkeypatch, capsys):  # noqa: F811
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.exports.geojson.write_list", full)
    noise("--export", "geojson", status=1)
    err = capsys.readouterr().err
    assert err.count("failed, an export cannot be written (No space left on device)") == 2


def test_a_missing_library_is_one_sentence_that_says_what_to_do(noise, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setitem(sys.modules, "roifile", None)
    monkeypatch.delitem(sys.modules, "app.exports.roi", raising=False)
    noise("--export", "roi", status=2)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "needs the package roifile" in err
    assert "roifile==" in Path(err.split(" -r ")[1].strip()).read_text()


def test_a_broken_library_is_not_called_missing(noise, monkeypatch, tmp_path, capsys):  # noqa: F811
    (tmp_path / "roifile.py").write_text("raise ImportError('libroi.so: cannot be opened')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "roifile")
    monkeypatch.delitem(sys.modules, "app.exports.roi", raising=False)
    noise("--export", "roi", status=2)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "cannot be imported (libroi.so: cannot be opened)" in err and "reinstall" in err


def test_an_unknown_format_is_one_sentence(capsys):
    with pytest.raises(SystemExit):
        predict.parse(["in", "out", "--export", "geojson,svg"])
    assert "one of geojson, roi, coco, ome-zarr, not 'svg'" in capsys.readouterr().err
