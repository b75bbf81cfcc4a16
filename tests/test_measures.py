"""Shapes, intensities and micrometres in the table of cells; the table of a whole run."""

import csv

import cv2
import numpy as np
import pytest
import tifffile
from drawn import cells_of, drawn
from skimage.measure import label, regionprops
from test_predict import noise, read_labels  # noqa: F401 (noise is a fixture)

from app import exports, images
from app.cells import Cells
from app.exports.measures import measures

LABELS = drawn((700, 40), (2, 2, 12, 22), (500, 3, 530, 12), (699, 39, 700, 40)).astype(np.int32)


def result_of(pixels, pixel_size=None, labels=LABELS, cells=None):
    cells = cells_of(labels) if cells is None else cells
    return exports.Result(None, images.Loaded(pixels, [], pixel_size, None), labels, cells)


def rows_in(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_measures_are_those_of_scikit_image_and_of_every_channel():
    pixels = np.random.default_rng(0).integers(0, 60000, (700, 40, 4)).astype(np.uint16)
    found = measures(result_of(pixels, 0.5))
    for row, region in enumerate(regionprops(LABELS)):
        for name in ("perimeter", "eccentricity", "solidity"):
            assert found[name][row] == pytest.approx(region[name])
        for channel in range(4):
            values = pixels[row + 1 == LABELS, channel]
            assert found[f"mean_{channel + 1}"][row] == pytest.approx(values.mean())
            assert found[f"sum_{channel + 1}"][row] == values.sum()
        assert found["area_um2"][row] == region.area / 4
        assert found["perimeter_um"][row] == pytest.approx(region.perimeter / 2)


@pytest.mark.parametrize("blur", [0.1, 1, 4])
def test_shapes_of_whatever_form_are_those_of_scikit_image(blur):
    """Single pixels, with holes, pieces that touch at corners, at the frame, across strips."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.normal(size=(300, 200)), (0, 0), blur)
    labels = label(ground > ground.std() / 2, connectivity=2).astype(np.int32)
    found = measures(result_of(labels, labels=labels, cells=Cells.empty()))
    regions = regionprops(labels)
    assert len(regions) > 20
    for name in ("perimeter", "eccentricity", "solidity"):
        expected = [region[name] for region in regions]
        assert found[name] == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_pixels_that_are_no_image_count_in_no_mean_and_no_sum():
    """NaN, and the value that the file declares; a cell of nothing else has no mean."""
    pixels = np.random.default_rng(0).uniform(0, 9, (700, 40)).astype(np.float32)
    pixels[5, 5], pixels[6, 6], pixels[699, 39] = np.nan, -9999, np.nan
    result = result_of(pixels)
    result = result._replace(image=result.image._replace(nodata=-9999))
    found = measures(result)
    values = pixels[(LABELS == 1) & np.isfinite(pixels) & (pixels != -9999)]
    assert len(values) == (LABELS == 1).sum() - 2
    assert found["mean_1"][0] == pytest.approx(values.mean())
    assert found["sum_1"][0] == pytest.approx(values.sum())
    assert np.isnan(found["mean_1"][2]) and found["sum_1"][2] == 0


def test_without_a_pixel_size_there_are_no_micrometres_and_without_cells_no_rows():
    found = measures(result_of(LABELS.astype(np.float32)))
    assert list(found) == ["perimeter", "eccentricity", "solidity", "mean_1", "sum_1"]
    assert found["mean_1"].tolist() == [1, 2, 3]
    nothing = np.zeros((5, 6), np.int32)
    found = measures(result_of(nothing, 0.5, nothing))
    assert {len(values) for values in found.values()} == {0} and len(found) == 7


@pytest.mark.parametrize("pixel_size", [0.1625, 0.5, 3.3])
def test_label_images_keep_the_size_of_a_pixel(tmp_path, pixel_size):
    images.write_labels(tmp_path / "a_label.tiff", LABELS, "a text", pixel_size)
    loaded = images.load(tmp_path / "a_label.tiff")
    assert loaded.pixel_size == pytest.approx(pixel_size, rel=1e-6)
    assert np.array_equal(loaded.pixels, LABELS)
    assert images.read_description(tmp_path / "a_label.tiff") == "a text"


def test_the_command_measures_and_joins_the_tables_of_a_run(noise, tmp_path, capsys):  # noqa: F811
    inputs = tmp_path / "inputs"
    with_size = tifffile.imread(str(inputs / "b.tif"))[..., 0]
    tifffile.imwrite(str(inputs / "b.tif"), with_size, resolution=(50800, 50800))  # 0.5 µm
    (inputs / "broken.tif").write_bytes(b"II*\0")
    joined = tmp_path / "all.csv"
    folder = noise("--measure", "--table", str(joined), status=1)
    labels = read_labels(folder)
    first, second = rows_in(folder / "a_cells.csv"), rows_in(folder / "b_cells.csv")
    assert "area_um2" not in first[0] and "mean_3" in first[0]
    assert "area_um2" in second[0] and "mean_2" not in second[0]
    for row in second:
        values = with_size[labels["b_label.tiff"] == int(row["label"])]
        assert float(row["sum_1"]) == values.sum()
        assert float(row["area_um2"]) == pytest.approx(values.size / 4)
    rows = rows_in(joined)
    assert [row.pop("image") for row in rows] == ["a.png"] * len(first) + ["b.tif"] * len(second)
    for row, own in zip(rows, first + second):
        assert {name: value for name, value in row.items() if value} == own
    assert images.load(folder / "b_label.tiff").pixel_size == pytest.approx(0.5)
    (inputs / "broken.tif").unlink()

    joined.unlink()
    noise("--resume", "--measure", "--table", str(joined))
    assert "(2 of them before)" in capsys.readouterr().out and len(rows_in(joined)) == len(rows)
    noise("--cells")
    capsys.readouterr()
    noise("--resume", "--measure")
    assert "of them before" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "said"), [("missing/all.csv", "There is no folder"), ("", "is a folder")]
)
def test_no_place_for_the_table_is_said_before_the_run(noise, tmp_path, capsys, place, said):  # noqa: F811
    noise("--table", str(tmp_path / place), "--overwrite", status=2)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err


def test_a_table_of_a_run_may_be_in_the_folder_that_the_run_makes(noise, tmp_path):  # noqa: F811
    assert not (tmp_path / "labels").exists()
    folder = noise("--table", str(tmp_path / "labels" / "all.csv"))
    assert len(rows_in(folder / "all.csv")) > 0


def test_a_table_that_cannot_be_written_is_one_sentence(noise, tmp_path, monkeypatch, capsys):  # noqa: F811
    def full(*arguments, **how):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.exports.tables.replacing", full)
    noise("--table", str(tmp_path / "all.csv"), status=1)
    assert "all.csv cannot be written (No space left" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"a,b\n1,2\n", b"\0\xff", b"", b"image,label\na.tif,a_mask.png\n", b"image\na.tif\n"],
)
def test_a_file_of_the_users_is_no_place_for_the_table_of_a_run(noise, tmp_path, capsys, content):  # noqa: F811
    theirs = tmp_path / "all.csv"
    theirs.write_bytes(content)
    noise("--table", str(theirs), status=2)
    assert "--overwrite" in capsys.readouterr().err and theirs.read_bytes() == content
    noise("--table", str(theirs), "--overwrite")
    assert theirs.read_bytes().startswith(b"image,label,")
    noise("--table", str(theirs))  # ours by now
