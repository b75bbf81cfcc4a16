"""python -m experiments tables: what the paper's tables ask for, and what is printed."""

import json
import sys

import numpy as np
import pytest
import tifffile
from drawn import drawn
from skimage.measure import label
from tiny import TINY

from app import samples
from app.network import weights
from app.network.config import PRESETS
from app.network.cpn import CPN
from evaluate.folders import EvaluationError
from experiments import tables
from experiments.__main__ import main


def save(path, record):
    """A weights file of a tiny network with this training record."""
    weights.save(path, CPN(TINY).state_dict(), TINY, record)
    return path


def recipe(**losses):
    """A training record whose recipe has these loss weights, after 70 steps."""
    return {"steps": 70, "recipe": {"weights": losses}}


@pytest.fixture
def folders(tmp_path):
    """Drawn, stained nuclei and their truth: two small images. (Arguments of the command.)"""
    (tmp_path / "images").mkdir()
    (tmp_path / "truth").mkdir()
    truth = label(samples.nuclei(np.random.RandomState(2)) > 0).astype(np.uint16)
    for name, part in (("a", np.s_[:128, :192]), ("b", np.s_[200:330, :130])):
        tifffile.imwrite(str(tmp_path / "images" / f"{name}.tif"), samples.stained(2)[part])
        tifffile.imwrite(str(tmp_path / "truth" / f"{name}_label.tiff"), truth[part])
    return ["--images", str(tmp_path / "images"), "--truth", str(tmp_path / "truth")]


def predicted(monkeypatch, f1):
    """Instead of predictions, what was asked for: a list of switches and weights' names.

    f1: a function of a tables.Setting, the quality of what it gives.
    """
    asked = []

    def predict(setting, images, labels):
        asked.append(setting)

    monkeypatch.setattr(tables, "predict", predict)
    monkeypatch.setattr(
        tables, "mean_and_median", lambda labels, truths: (f1(asked[-1]), f1(asked[-1]) / 2)
    )
    return asked


def rows_of(path, table):
    return json.loads((path / "tables.json").read_text(encoding="utf-8"))[table]


def test_the_real_command_predicts_and_scores(folders, tmp_path, capfd):
    """The shipped network finds drawn nuclei; an ensemble of it and an untrained one is a row."""
    ensemble = [str(tables.WEIGHTS), str(save(tmp_path / "new.safetensors", {}))]
    assert main(["tables", *folders, "--ensemble", *ensemble, "--out", str(tmp_path)]) == 0
    printed, progress = capfd.readouterr()
    assert printed == (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert "run 5 of 5" in progress and "2 of 2 images done" in progress
    parts, networks = rows_of(tmp_path, "table_4"), rows_of(tmp_path, "table_3")
    assert [row["model"] for row in networks] == ["compact", "2 CPNs"]
    assert {key: parts[2][key] for key in ("f1", "median_f1")} == {
        key: networks[0][key] for key in ("f1", "median_f1")
    }
    assert all(0.5 < row["f1"] <= 1 for row in parts)
    assert networks[0]["ua"] is True and networks[1]["giou"] is None


def test_table_4_has_the_papers_rows_and_each_configuration_is_predicted_once(
    folders, tmp_path, monkeypatch, capsys
):
    first = save(tmp_path / "first.safetensors", recipe(uncertainty=1, boundary=1))
    second = save(tmp_path / "second.safetensors", recipe(uncertainty=0, boundary=1))
    asked = predicted(monkeypatch, lambda s: 0.5 + 0.1 * s.ua_nms + 0.05 * s.amp + 0.01 * s.refine)
    networks = ["--weights", f"ours={first}", f"again={first}", "--weights", f"other={second}"]
    ensemble = ["--ensemble", str(first), "--ensemble", str(second)]
    assert main(["tables", *folders, *networks, *ensemble, "--out", str(tmp_path)]) == 0
    assert [tables.arguments_of(setting) for setting in asked] == [
        ["--weights", str(first)],
        ["--weights", str(second), "--no-uncertainty-nms"],  # it never learned uncertainties
        ["--weights", str(first), str(second)],
        ["--weights", str(first), "--no-uncertainty-nms"],
        ["--weights", str(first), "--no-refinement"],
        ["--weights", str(first), "--no-amp"],
    ]
    marks = [
        [row[key] for key in ("ua_nms", "amp", "refine")] for row in rows_of(tmp_path, "table_4")
    ]
    assert marks == [[False, True, True], [True, True, False], [True] * 3, [True, False, True]]
    assert [row["f1"] for row in rows_of(tmp_path, "table_4")] == pytest.approx(
        [0.56, 0.65, 0.66, 0.61]
    )
    found = {
        row["model"]: (row["epochs"], row["ua"], row["giou"])
        for row in rows_of(tmp_path, "table_3")
    }
    assert found == {
        "ours": ("70 steps", True, True),
        "again": ("70 steps", True, True),
        "other": ("70 steps", False, True),
        "2 CPNs": ("70, 70 steps", None, True),
    }
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "| ours | ResNet-10 U-Net | 70 steps | ✓ | × | ✓ | 0.6100 | 0.3050 |" in lines
    assert "| CPN | ResNeXt-101 U-Net | 225 | ✓ | × | ✓ | 0.8983 |" in lines


def test_the_presets_are_named_as_the_paper_names_networks():
    assert tables.backbone(PRESETS["paper"].architecture) == "ResNeXt-101 U-Net"
    assert tables.backbone(PRESETS["compact"].architecture) == "ResNet-18 U-Net"


def test_what_a_record_does_not_tell_is_a_question_mark(tmp_path):
    silent = tables.described("row", [save(tmp_path / "silent.safetensors", {})])
    assert silent[2:] == ("? steps", None, None)
    origin = {"origin": {"steps": 30, "origin": None}, **recipe(boundary=0)}
    assert tables.described("row", [save(tmp_path / "more.safetensors", origin)])[2:] == (
        "100 steps",
        None,
        False,
    )
    table = tables.render({"table_3": [(*silent, 0.5, 1.0)]}, 2)
    (line,) = (line for line in table.splitlines() if line.startswith("| row"))
    assert [cell.strip() for cell in line.split("|")[4:-1]] == ["?", "?", "0.5000", "1.0000"]


def test_f1_is_the_organisers_mean_over_images(tmp_path):
    """One image with its only cell found, one where half of two cells is; a third with nothing."""
    truths = {}
    places = [(5, 5, 15, 15), (20, 20, 30, 30)]
    for name, true, found in (("a", 1, 1), ("b", 2, 1), ("c", 0, 0)):
        truths[name] = tmp_path / f"{name}.tiff"
        tifffile.imwrite(str(truths[name]), drawn((40, 40), *places[:true]))
        tifffile.imwrite(str(tmp_path / f"{name}_label.tiff"), drawn((40, 40), *places[:found]))
    assert tables.mean_and_median(tmp_path, truths) == pytest.approx(((1 + 0.6667) / 3, 0.6667))
    tifffile.imwrite(str(truths["b"]), drawn((40, 41)))
    with pytest.raises(EvaluationError, match="b cannot be scored.*shape"):
        tables.mean_and_median(tmp_path, truths)


def test_what_is_wrong_is_said_before_anything_is_predicted(folders, tmp_path, monkeypatch, capsys):
    asked = predicted(monkeypatch, lambda setting: 1.0)

    def said(*arguments):
        assert main(["tables", *folders, *arguments]) == 2
        return capsys.readouterr().err

    assert "none.safetensors" in said("--weights", f"x={tmp_path / 'none.safetensors'}")
    (tmp_path / "text.safetensors").write_text("no weights")
    assert "text.safetensors" in said("--ensemble", str(tmp_path / "text.safetensors"))
    tifffile.imwrite(str(tmp_path / "images" / "c.tif"), np.zeros((9, 9), np.uint8))
    assert "no truth of c" in said()
    with pytest.raises(SystemExit):
        main(["tables", *folders, "--weights", "compact.safetensors"])
    assert "ROW=FILE" in capsys.readouterr().err
    assert not asked


def test_a_failing_prediction_is_the_end(folders, tmp_path, monkeypatch, capfd):
    """An image that cannot be done is named: a mean over the others would be another figure."""
    (tmp_path / "images" / "broken.tif").write_bytes(b"II*\0 nothing more")
    setting = tables.Setting((tables.WEIGHTS,), *tables.ALL_ON)
    with pytest.raises(EvaluationError, match="status 1"):
        tables.predict(setting, tmp_path / "images", tmp_path / "labels")
    assert "broken.tif: " in capfd.readouterr().err
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EvaluationError, match="status 1"):
        tables.predict(setting, tmp_path / "images", tmp_path / "labels")
