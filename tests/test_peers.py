"""Other methods beside ours: a watershed, StarDist by its own package, and the table of all."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

from evaluate.folders import EvaluationError, list_images, pairs, read_labels
from evaluate.peers import inputs, table, watershed

ROOT = Path(__file__).resolve().parents[1]


def discs(shape, places, radius):
    """An image (H, W, 3) uint8 of bright discs on black, and its labels."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.uint16)
    for number, (row, column) in enumerate(places, 1):
        labels[np.hypot(y - row, x - column) <= radius] = number
    return np.repeat(np.where(labels > 0, 200, 0).astype(np.uint8)[..., None], 3, 2), labels


TOUCHING = ((30, 30), (30, 48), (70, 60))


def make_split(folder, count=3):
    """Images and truth of discs, as `python -m app.training split` writes them."""
    (folder / "images").mkdir(parents=True)
    (folder / "truth").mkdir()
    rows = ["name,group,source"]
    for number in range(count):
        image, labels = discs((100, 120), np.add(TOUCHING, number), 10)
        tifffile.imwrite(str(folder / "images" / f"a{number}.tif"), image, photometric="rgb")
        tifffile.imwrite(str(folder / "truth" / f"a{number}_label.tif"), labels)
        rows.append(f"a{number},one,one")
    (folder / "groups.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("dark", [False, True])
def test_the_watershed_parts_touching_cells_bright_or_dark(dark):
    image, truth = discs((100, 120), TOUCHING, 10)
    labels = watershed.segment(255 - image if dark else image, min_distance=5)
    assert labels.max() == 3
    for number in (1, 2, 3):
        found = labels == np.bincount(labels[truth == number]).argmax()
        assert (found & (truth == number)).sum() > 0.9 * (found | (truth == number)).sum()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (40, 30)])
def test_the_watershed_finds_nothing_in_an_even_image(shape):
    labels = watershed.segment(np.full((*shape, 3), 90, np.uint8), min_distance=5)
    assert labels.shape == shape and not labels.any()


def test_specks_are_no_cells():
    image, _ = discs((60, 60), [(20, 20)], 1)
    assert not watershed.segment(image, min_distance=5).any()


def test_the_least_distance_is_that_of_the_best_mean_f1(capsys):
    samples = [discs((100, 120), TOUCHING, 10)]
    chosen = watershed.choose_distance(samples)
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    f1 = {int(words[2]): float(words[-1]) for words in told}
    assert list(f1) == list(watershed.DISTANCES)
    assert f1[chosen] == max(f1.values()) == 1
    assert f1[20] < 1  # the two that touch are one


def test_the_watershed_labels_a_folder_for_the_evaluator(tmp_path):
    split = make_split(tmp_path / "val")
    folders = ["--images", split / "images", "--truth", split / "truth", "--out", tmp_path / "out"]
    assert watershed.main([str(word) for word in folders]) == 0
    for pair in pairs(split / "truth", tmp_path / "out"):
        assert read_labels(pair.labels[0]).shape == read_labels(pair.truth[0]).shape
        assert read_labels(pair.labels[0]).max() == 3


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    folders = ["--images", tmp_path / "none", "--truth", tmp_path, "--out", tmp_path / "out"]
    assert watershed.main([str(word) for word in folders]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_an_image_without_truth_and_a_broken_one_are_refused(tmp_path):
    split = make_split(tmp_path / "val")
    (split / "truth" / "a1_label.tif").unlink()
    with pytest.raises(EvaluationError, match="the same names"):
        inputs.labelled(split / "images", split / "truth")
    (split / "images" / "a0.tif").write_bytes(b"II*\0")
    with pytest.raises(EvaluationError, match="a0.tif"):
        inputs.read(split / "images" / "a0.tif")


def scores(folder, **sources):
    """A folder with what the table reads of a scores.json."""
    folder.mkdir()
    images = [
        {"group": source, "scores": [{"f1": f1}]}
        for source, found in sources.items()
        for f1 in found
    ]
    (folder / "scores.json").write_text(json.dumps({"images": images}))
    return str(folder)


def test_the_table_compares_by_source_and_in_all(tmp_path, capsys):
    ours = scores(tmp_path / "ours", one=[0.5, 0.7], two=[0.9])
    other = scores(tmp_path / "other", one=[0.7, 0.7], two=[0.4])
    assert table.main([ours, other]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "|  | images | ours | other |",
        "| --- | --- | --- | --- |",
        "| one | 2 | 0.600 | **0.700** |",
        "| two | 1 | **0.900** | 0.400 |",
        "| mean | 3 | **0.700** | 0.600 |",
        "| median | 3 | **0.700** | **0.700** |",
        "| mean over sources | 3 | **0.750** | 0.550 |",
        "| sources where ours is ahead |  |  | 1 of 2 |",
    ]


def test_the_table_refuses_other_images_and_other_files(tmp_path, capsys):
    ours = scores(tmp_path / "ours", one=[0.5, 0.7])
    assert table.main([ours, scores(tmp_path / "other", one=[0.5])]) == 2
    assert "same images" in capsys.readouterr().err
    (tmp_path / "other" / "scores.json").write_text("{}")
    assert table.main([ours, str(tmp_path / "other")]) == 2
    assert "scores.json" in capsys.readouterr().err


@pytest.fixture(scope="session")
def stardist():
    """Runs a command of StarDist in the environment of the peers, which CI makes."""
    folder = ROOT / ".venv-peers"
    if os.environ.get("CI"):
        pins = "evaluate/peers/requirements.txt"
        subprocess.run(["sh", "environment.sh", str(folder), pins], cwd=ROOT, check=True)
    elif not (folder / "complete").is_file():
        pytest.skip("there is no .venv-peers with StarDist: sh evaluate/peers/run makes it")

    def run(*arguments):
        command = [folder / "bin" / "python", "-m", "evaluate.peers.stardist_2d", *arguments]
        return subprocess.run(
            [str(word) for word in command], cwd=ROOT, capture_output=True, encoding="utf-8"
        )

    return run


def test_stardist_is_trained_for_its_budget_and_labels_a_folder(stardist, tmp_path):
    split, model, out = make_split(tmp_path / "val", 24), tmp_path / "model", tmp_path / "out"
    hours = 0.004
    trained = stardist("train", "--model", model, "--split", split, "--cpu-hours", hours)
    assert trained.returncode == 0, trained.stderr
    record = json.loads((model / "training.json").read_text())
    assert hours <= record["cpu_hours"] < hours + 0.03  # what ends a step and an epoch comes on top
    assert record["steps"] >= 1

    chosen = stardist("thresholds", "--model", model, "--split", split)
    assert chosen.returncode == 0, chosen.stderr
    assert json.loads((model / "thresholds.json").read_text())["nms"] in (0.3, 0.4, 0.5)

    predicted = stardist("predict", "--model", model, "--images", split / "images", "--out", out)
    assert predicted.returncode == 0, predicted.stderr
    assert len(list_images(split / "images")) == len(list(out.iterdir())) == 24
    for pair in pairs(split / "truth", out):
        assert read_labels(pair.labels[0]).shape == (100, 120)


def test_stardist_tells_of_too_few_images_and_of_a_missing_model(stardist, tmp_path):
    split = make_split(tmp_path / "val")
    trained = stardist("train", "--model", tmp_path / "m", "--split", split, "--cpu-hours", 1)
    assert trained.returncode == 2 and "more than 20 images" in trained.stderr
    chosen = stardist("thresholds", "--model", tmp_path / "none", "--split", split)
    assert chosen.returncode == 2 and str(tmp_path / "none") in chosen.stderr
