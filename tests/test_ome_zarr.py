"""OME-Zarr: the image with its labels in a folder, by the reader of ome-zarr."""

import sys

import numpy as np
import pytest
import tifffile
from drawn import cells_of, drawn
from test_predict import noise, read_labels  # noqa: F401 (noise is a fixture)

from app import exports, images, jobs

if sys.version_info < (3, 11):
    pytest.skip("the format's library needs Python 3.11", allow_module_level=True)

zarr = pytest.importorskip("zarr")
reader = pytest.importorskip("ome_zarr.reader")
parse_url = pytest.importorskip("ome_zarr.io").parse_url
ome_zarr = pytest.importorskip("app.exports.ome_zarr")

SUMMARY = "summary.csv"  # is of the last run
LABELS = drawn((2100, 1200), (10, 20, 40, 60), (1000, 900, 1200, 1100), (2090, 1190, 2100, 1200))


def written(path, image, labels=LABELS):
    """The folder that is made of an image (images.Loaded) with these labels."""
    labels = labels.astype(np.int32)
    cells = cells_of(labels)
    cells.scores[:] = np.linspace(0.25, 0.75, len(cells))
    cells.uncertainties[:] = 0.125, 0.25, 0.5, 1
    (export,) = exports.load(["ome-zarr"])
    assert (
        export.write(path / "a.ome.zarr", exports.Result(path / "a.tif", image, labels, cells))
        == []
    )
    return path / "a.ome.zarr"


def loaded(pixels, pixel_size=None):
    return images.Loaded(pixels, [], pixel_size, None)


def nodes_in(folder):
    """The nodes of ome_zarr.reader: of the image, of the folder of labels, of the labels."""
    return list(reader.Reader(parse_url(str(folder)))())


def test_a_reader_finds_the_image_and_in_it_the_labels_at_the_same_levels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60000, (2100, 1200, 3)).astype(np.uint16)
    image, _, labels = nodes_in(written(tmp_path, loaded(pixels, 0.5)))
    assert [level.shape for level in image.data] == [(3, 2100, 1200), (3, 1050, 600), (3, 525, 300)]
    assert [level.shape for level in labels.data] == [level.shape[1:] for level in image.data]
    assert np.array_equal(np.asarray(image.data[0]), np.moveaxis(pixels, 2, 0))
    means = pixels.reshape(1050, 2, 600, 2, 3).mean(axis=(1, 3))
    assert np.array_equal(np.asarray(image.data[1]), np.rint(np.moveaxis(means, 2, 0)))
    for number, level in enumerate(labels.data):  # nearest: no label that is none
        assert level.dtype == np.uint16
        assert np.array_equal(np.asarray(level), LABELS[:: 2**number, :: 2**number])
    for node, axes in ((image, "cyx"), (labels, "yx")):
        assert "".join(axis["name"] for axis in node.metadata["axes"]) == axes
        assert [axis["unit"] for axis in node.metadata["axes"][-2:]] == ["micrometer"] * 2
        scales = [of_level[0]["scale"] for of_level in node.metadata["coordinateTransformations"]]
        assert scales == [[1, side, side][-len(axes) :] for side in (0.5, 1, 2)]


def test_each_label_has_a_colour_and_what_is_known_of_it(tmp_path):
    labels = nodes_in(written(tmp_path, loaded(LABELS.astype(np.uint8))))[2]
    assert labels.metadata["name"] == "cells"
    colours = labels.metadata["color"]
    assert sorted(colours) == [1, 2, 3] and len(set(map(tuple, colours.values()))) == 3
    assert labels.metadata["properties"][2] == {
        "area": 200 * 200,
        "score": 0.5,
        "uncertainty_top": 0.125,
        "uncertainty_right": 0.25,
        "uncertainty_bottom": 0.5,
        "uncertainty_left": 1,
    }


def test_channels_are_shown_with_the_contrast_that_they_need(tmp_path):
    pixels = np.zeros((30, 20, 4), np.float32)
    pixels[..., 1] = np.linspace(5, 6, 600).reshape(30, 20)
    pixels[3, :, 1] = np.nan
    pixels[..., 2] = np.nan
    folder = written(tmp_path, loaded(pixels), np.zeros((30, 20), np.int32))
    channels = zarr.open_group(str(folder), mode="r").attrs["omero"]["channels"]
    assert [one["active"] for one in channels] == [True, True, True, False]
    assert [one["color"] for one in channels] == ["FF0000", "00FF00", "0000FF", "FFFFFF"]
    shown = channels[1]["window"]
    assert 5 <= shown["min"] < shown["start"] < 5.01 and 5.99 < shown["end"] < shown["max"] <= 6
    (tmp_path / "b").mkdir()
    folder = written(tmp_path / "b", loaded(LABELS[:9, :9].astype(np.uint8)), LABELS[:9, :9])
    (grey,) = zarr.open_group(str(folder), mode="r").attrs["omero"]["channels"]
    assert grey["color"] == "FFFFFF" and (grey["window"]["start"], grey["window"]["end"]) == (
        0,
        255,
    )


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_channel_of_one_value_or_of_few_others_has_a_width_too(dtype):
    constant = np.full((50, 50), 7, dtype)
    assert ome_zarr.window(constant) == {"min": 7, "max": 8, "start": 7, "end": 8}
    constant[3, 3] = 900
    assert ome_zarr.window(constant) == {"min": 7, "max": 900, "start": 7, "end": 900}


def test_of_a_tiff_that_is_read_by_parts_all_parts_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr("app.images.SMALL", -1)
    pixels = np.random.default_rng(0).integers(0, 255, (2100, 1200), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(256, 256), compression="zlib")
    image = images.load(tmp_path / "a.tif")
    assert not isinstance(image.pixels, np.ndarray)
    assert np.array_equal(np.asarray(nodes_in(written(tmp_path, image))[0].data[0][0]), pixels)


# Through the command


def test_the_command_writes_it_and_knows_it_again(noise):  # noqa: F811
    folder = noise("--export", "ome-zarr")
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    for name, labels in read_labels(folder).items():
        image, _, found = nodes_in(folder / name.replace("_label.tiff", ".ome.zarr"))
        assert np.array_equal(np.asarray(found.data[0]), labels)
        assert image.metadata["channel_names"] == ["channel 1", "channel 2", "channel 3"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    noise("--resume", "--export", "ome-zarr")
    assert {
        path: path.stat().st_mtime_ns for path in folder.rglob("*.tiff")
    }.items() <= before.items()
    noise("--export", "ome-zarr")
    assert set(folder.rglob("*")) == set(before), "ours is replaced"
    noise()
    assert {path.suffix for path in folder.iterdir()} == {".tiff", ".csv"}, (
        "and goes with its labels"
    )


def test_a_folder_of_the_users_is_never_replaced(noise, capsys):  # noqa: F811
    folder = noise("--export", "ome-zarr")
    mine = folder / "a.ome.zarr" / "notes.txt"
    mine.write_text("of the user")
    noise("--export", "ome-zarr", status=1)
    assert "a.ome.zarr is not as this program wrote it (move it away)" in capsys.readouterr().err
    noise("--export", "ome-zarr", "--overwrite", status=1)
    assert "a.ome.zarr is a folder of yours, which is never replaced" in capsys.readouterr().err
    assert mine.read_text() == "of the user" and (mine.parent / "labels" / "cells").is_dir()
    noise()
    assert mine.exists() and not (folder / "b.ome.zarr").exists()


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_stopped_while_it_is_written_what_was_before_stays(noise, monkeypatch, failure):  # noqa: F811
    def fails(*arguments):
        raise failure

    folder = noise("--export", "ome-zarr")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != SUMMARY}
    monkeypatch.setattr("app.exports.ome_zarr.known_of", fails)
    if isinstance(failure, OSError):
        noise("--export", "ome-zarr", status=1)
    else:
        with pytest.raises(KeyboardInterrupt):
            noise("--export", "ome-zarr")
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != SUMMARY}
    assert after == before and len(before) > 5


def test_images_of_the_folder_are_not_looked_for_in_it(tmp_path):
    (tmp_path / "a.ome.zarr" / "0").mkdir(parents=True)
    (tmp_path / "a.ome.zarr" / "0" / "part.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(b"")
    found = jobs.find_jobs([tmp_path], tmp_path / "out", recursive=True)
    assert [job.name for job in found.jobs] == ["a.ome.zarr", "b.png"]
    assert not found.passed_over
