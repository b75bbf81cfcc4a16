"""One reader for label images: what the evaluator, training and split take, whoever wrote it."""

import csv
import os
import pickle

import numpy as np
import pytest
import tifffile
from drawn import drawn
from PIL import Image
from test_predict import OneSquare

from app import predict
from app.images import LabelError, read_labels
from app.names import LABEL_ENDINGS
from evaluate import __main__ as evaluate
from training import __main__ as training
from training import catalog
from training.packing import read_label

SHAPE = (30, 40)
CELLS = drawn(SHAPE, (5, 5, 15, 15), (18, 20, 26, 33))


def write_tiff(path, pixels, **how):
    tifffile.imwrite(str(path), pixels, **{"metadata": None, "photometric": "minisblack", **how})


def write_palette(path):
    palette = np.random.default_rng(0).integers(0, 2**16, (3, 256)).astype(np.uint16)
    write_tiff(path, CELLS.astype(np.uint8), photometric="palette", colormap=palette)


def write_palette_png(path):
    image = Image.fromarray(CELLS.astype(np.uint8), "P")
    image.putpalette([7, 7, 7, 7, 7, 7, 0, 99, 0])  # two labels of one colour
    image.save(str(path))


def write_seg(path, content=None):
    found = {"masks": CELLS, "filename": "x.tif", "flows": [np.zeros((2, 3, 3), "f4"), []]}
    numbers = {"diameter": np.float64(30.0), "colors": np.ones((2, 3), ">f4"), "outlines": CELLS.T}
    np.save(str(path), {**found, **numbers} if content is None else content, allow_pickle=True)


KINDS = {
    "label.tif": lambda path: write_tiff(path, CELLS),
    "palette_label.tif": write_palette,
    "palette_label.png": write_palette_png,
    "white_label.tif": lambda path: write_tiff(path, CELLS, photometric="miniswhite"),
    "long_label.tif": lambda path: write_tiff(path, CELLS[None, None, ..., None], metadata={}),
    "rgb_label.tif": lambda path: write_tiff(
        path, np.stack([CELLS] * 3, 2).astype(np.uint8), photometric="rgb"
    ),
    "rgb_label.png": lambda path: (
        Image.fromarray(CELLS.astype(np.uint8)).convert("RGBA").save(str(path))
    ),
    "minus_label.tif": lambda path: write_tiff(
        path, np.where(CELLS == 0, -1.0, CELLS).astype("i2")
    ),
    "float_label.tif": lambda path: write_tiff(
        path, np.where(CELLS == 0, -1.0, CELLS).astype("f4")
    ),
    "a_masks.tif": lambda path: write_tiff(path, CELLS),
    "a_cp_masks.png": lambda path: Image.fromarray(CELLS).save(str(path)),
    "a_cp_masks.tif": lambda path: write_tiff(path, CELLS),
    "a_label.ome.tif": lambda path: tifffile.imwrite(str(path), CELLS, ome=True),
    "a-lbl.tif": lambda path: tifffile.imwrite(str(path), CELLS.astype("f4"), imagej=True),
    "a_seg.npy": write_seg,
}


@pytest.fixture(params=KINDS)
def written(request, tmp_path):
    """(folder, name): an image and its label image beside it, of that name."""
    folder = tmp_path / "mine"
    folder.mkdir()
    name = request.param if request.param != "label.tif" else "a_label.tif"
    KINDS[request.param](folder / name)
    stem = name.replace("-", "_").partition("_")[0]
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(str(folder / f"{stem}.png"))
    return folder, name


def test_all_take_it_and_prediction_takes_it_for_no_image(written, tmp_path, monkeypatch, capsys):
    folder, name = written
    assert np.array_equal(read_labels(folder / name), CELLS)
    (entry,) = catalog.entries(folder, "train")
    assert entry.label.name == name
    assert np.array_equal(read_label(entry.label, SHAPE), CELLS)
    split = ["split", "--data", str(folder), "--out", str(tmp_path), "--group", "source"]
    assert training.main(split) == 0
    truth = str(tmp_path / "truth")
    for first, second in ((folder, folder), (tmp_path / "truth", truth)):
        out = tmp_path / f"scores of {first.name}"
        words = ["score", "--truth", str(first), "--labels", str(second), "--out", str(out)]
        assert evaluate.main(words) == 0
        with (out / "scores.csv").open() as lines:
            assert {float(row["f1"]) for row in csv.DictReader(lines)} == {1.0}
    monkeypatch.setattr(predict, "load_segmenter", lambda options: (OneSquare(), {}))
    capsys.readouterr()
    assert predict.main([str(folder), str(tmp_path / "labels")]) == 0
    out, err = capsys.readouterr()
    assert "1 of 1 images done" in out and f"{name}: passed over" in err


def test_a_cellpose_file_counts_where_there_is_no_label_image(tmp_path):
    write_seg(tmp_path / "a_seg.npy")
    write_tiff(tmp_path / "a_cp_masks.tif", CELLS)
    write_tiff(tmp_path / "a.tif", np.zeros(SHAPE, np.uint8))
    (entry,) = catalog.entries(tmp_path, "train")
    assert entry.label.name == "a_cp_masks.tif"
    words = ["score", "--truth", str(tmp_path), "--labels", str(tmp_path)]
    assert evaluate.main(words) == 0


class Hostile:
    """Runs a command where it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("inside", ["beside", "alone", "pickle", "masks"])
def test_a_hostile_cellpose_file_is_refused_and_does_nothing(tmp_path, capsys, inside):
    hostile, path = Hostile(f"touch '{tmp_path}/harm'"), tmp_path / "truth" / "a_seg.npy"
    path.parent.mkdir()
    content = {"beside": {"masks": CELLS, "more": hostile}, "masks": {"masks": hostile}}
    write_seg(path, content.get(inside, hostile))
    if inside == "pickle":
        head = path.read_bytes()
        path.write_bytes(head[: head.index(b"\n") + 1] + pickle.dumps(hostile))
    with pytest.raises(LabelError, match="system, which is neither an array nor a plain value"):
        read_labels(path)
    write_tiff(tmp_path / "a_label.tif", CELLS)
    words = ["score", "--truth", str(path.parent), "--labels", str(tmp_path)]
    assert evaluate.main(words) == 1
    assert "neither an array nor a plain value" in "".join(capsys.readouterr())
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [{}, {"masks": 3}, [1], {"masks": np.array([None, 1])}])
def test_what_holds_no_masks_is_refused(tmp_path, content):
    write_seg(tmp_path / "a_seg.npy", content)
    with pytest.raises(LabelError, match="a_seg.npy cannot be read"):
        read_labels(tmp_path / "a_seg.npy")
    np.save(str(tmp_path / "b_seg.npy"), CELLS)
    with pytest.raises(LabelError, match="none of Cellpose's"):
        read_labels(tmp_path / "b_seg.npy")


def test_every_ending_of_label_images_is_known(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predict, "load_segmenter", lambda options: (OneSquare(), {}))
    for ending in LABEL_ENDINGS:
        (tmp_path / f"x{ending.upper()}").write_bytes(b"")
    assert predict.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("passed over, a label image") == len(LABEL_ENDINGS)
