"""Other methods beside ours: a watershed, StarDist and DeepSea, and the table of all."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from training_data import make_data

from evaluate.folders import EvaluationError, pairs, read_labels
from experiments.peers import __main__ as peers
from experiments.peers import deepsea_2d, inputs, watershed

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
    """Images and truth of discs, as `python -m training split` writes them."""
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


@pytest.mark.parametrize("shape", [(300, 400), (766, 1024), (90, 30)])
def test_deepsea_sees_all_images_in_its_own_size_and_its_cells_get_theirs_back(shape):
    image, truth = discs(shape, ((20, 14), (60, 14)), 8)
    seen = []

    def bright(grey):
        seen.append((grey.shape, grey.min(), grey.max()))
        return grey > 0

    labels = deepsea_2d.segment(image, bright)
    assert seen == [((383, 512), -1.0, 1.0)]
    assert labels.shape == shape and labels.max() == 2
    assert ((labels > 0) == (truth > 0)).mean() > 0.99
    assert not deepsea_2d.segment(np.full_like(image, 7), bright).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (40, 30)])
def test_the_watershed_finds_nothing_in_an_even_image(shape):
    labels = watershed.segment(np.full((*shape, 3), 90, np.uint8), min_distance=5)
    assert labels.shape == shape and not labels.any()


def test_specks_are_no_cells():
    image, _ = discs((60, 60), [(20, 20)], 1)
    assert not watershed.segment(image, min_distance=5).any()


def test_the_least_distance_is_that_of_the_best_mean_f1(capsys):
    samples = [("a", *discs((100, 120), TOUCHING, 10))]
    chosen = watershed.choose_distance(samples)
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    f1 = {int(words[2]): float(words[-1]) for words in told}
    assert list(f1) == list(watershed.DISTANCES)
    assert f1[chosen] == max(f1.values()) == 1
    assert f1[20] < 1  # the two that touch are one


def test_the_watershed_labels_a_folder_for_the_evaluator(tmp_path):
    split = make_split(tmp_path / "val")
    folders = ["--images", split / "images", "--truth", split / "truth", "--out", tmp_path / "out"]
    assert peers.main(["watershed", *map(str, folders)]) == 0
    for pair in pairs(split / "truth", tmp_path / "out"):
        assert read_labels(pair.labels[0]).shape == read_labels(pair.truth[0]).shape
        assert read_labels(pair.labels[0]).max() == 3


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    folders = ["--images", tmp_path / "none", "--truth", tmp_path, "--out", tmp_path / "out"]
    assert peers.main(["watershed", *map(str, folders)]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_an_image_without_truth_and_a_broken_one_are_refused(tmp_path):
    split = make_split(tmp_path / "val")
    folders = split / "images", split / "truth"
    tifffile.imwrite(str(split / "truth" / "a2_label.tif"), np.zeros((99, 120), np.uint8))
    with pytest.raises(EvaluationError, match="(99, 120)"):
        inputs.labelled(*folders)
    (split / "truth" / "a1_label.tif").write_bytes(b"II*\0")
    with pytest.raises(EvaluationError, match="a1_label.tif cannot be read"):
        inputs.labelled(*folders)
    (split / "images" / "a0.tif").write_bytes(b"II*\0")
    with pytest.raises(EvaluationError, match="a0.tif"):
        inputs.labelled(*folders)
    (split / "truth" / "a1_label.tif").unlink()
    with pytest.raises(EvaluationError, match="the same names"):
        inputs.labelled(*folders)


def test_two_images_of_one_stem_have_labels_each(tmp_path):
    split = make_split(tmp_path / "val")
    shutil.copy(str(split / "images" / "a0.tif"), str(split / "images" / "a0.tiff"))
    inputs.label_all(split / "images", tmp_path / "out", lambda image: image[..., 0])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a0_tif_label.tiff", "a0_tiff_label.tiff"} <= names


def test_cells_that_touch_at_a_corner_are_two():
    image = np.zeros((40, 40, 3), np.uint8)
    image[8:20, 8:20] = image[20:32, 20:32] = 200
    assert watershed.part(np.where(image[..., 0] > 0, 3.0, 0.0), min_distance=20).max() == 2


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="holds no images"):
        inputs.labelled(tmp_path, tmp_path)


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
    assert peers.main(["table", ours, other]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    assert set("".join(rows.pop(1))) == {"-"}
    assert rows == [
        ["", "images", "ours", "other"],
        ["one", "2", "0.600", "**0.700**"],
        ["two", "1", "**0.900**", "0.400"],
        ["mean", "3", "**0.700**", "0.600"],
        ["median", "3", "**0.700**", "**0.700**"],
        ["mean over sources", "3", "**0.750**", "0.550"],
        ["sources where ours is ahead", "", "", "1 of 2"],
    ]


def test_the_table_refuses_other_images_and_other_files(tmp_path, capsys):
    ours = scores(tmp_path / "ours", one=[0.5, 0.7])
    assert peers.main(["table", ours, scores(tmp_path / "other", one=[0.5])]) == 2
    assert "same images" in capsys.readouterr().err
    (tmp_path / "other" / "scores.json").write_text("{}")
    assert peers.main(["table", ours, str(tmp_path / "other")]) == 2
    assert "scores.json" in capsys.readouterr().err


@pytest.fixture(scope="session")
def environment():
    """The Python of the peers' environment. Not even CI makes it: StarDist is an experiment, whose
    TensorFlow takes longer than all tests of ours."""
    folder = ROOT / ".venv-peers"
    if not (folder / "complete").is_file():
        pytest.skip("there is no .venv-peers with StarDist: sh experiments/peers/run makes it")
    return folder / "bin" / "python"


def run(*words):
    command = [str(word) for word in words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")


@pytest.fixture(scope="session")
def compared(environment, tmp_path_factory):
    """A comparison from start to end on drawn images, with a quarter of a minute of training."""
    folder = tmp_path_factory.mktemp("my peers")
    command = ["sh", "experiments/peers/run", make_data(folder / "data", count=24), folder / "out"]
    first = run(*command, HOURS)
    assert first.returncode == 0, first.stderr
    return command, folder / "out", first


HOURS = 0.004


def test_all_are_scored_on_the_same_images(compared):
    _, out, first = compared
    lines = first.stdout.splitlines()
    rows = [line.replace("|", " ").split() for line in lines]
    assert ["images", "ours", "stardist", "watershed"] in rows
    assert any(row[:2] == ["drawn", "24"] for row in rows)
    for name in ("ours", "stardist", "watershed"):
        labels = [
            read_labels(pair.labels[0]) for pair in pairs(out / "val/truth", out / "labels" / name)
        ]
        truth = [
            read_labels(pair.truth[0]) for pair in pairs(out / "val/truth", out / "labels" / name)
        ]
        assert [image.shape for image in labels] == [image.shape for image in truth]


def test_stardist_has_the_cpu_time_of_its_budget_and_then_ends(compared):
    record = json.loads((compared[1] / "stardist" / "training.json").read_text())
    assert record["cpu_hours"] >= HOURS
    assert record["steps"] < 1000 * 100  # those of all epochs
    assert record["parameters"] > 1e6


def test_a_second_start_trains_nothing_and_says_the_same(compared):
    command, out, first = compared
    trained = (out / "stardist" / "training.json").stat().st_mtime_ns
    again = run(*command)
    assert again.returncode == 0, again.stderr
    table = [line for line in first.stdout.splitlines() if line.startswith("|")]
    assert [line for line in again.stdout.splitlines() if line.startswith("|")] == table
    assert (out / "stardist" / "training.json").stat().st_mtime_ns == trained


def test_stardist_labels_by_its_thresholds(compared, environment, tmp_path):
    """However little it has learned: more than the least probability is a cell, or nothing is."""
    model, images = (
        shutil.copytree(compared[1] / "stardist", tmp_path / "model"),
        tmp_path / "images",
    )
    images.mkdir()
    image, truth = discs((100, 120), TOUCHING, 10)
    tifffile.imwrite(str(images / "a.tif"), image, photometric="rgb")
    for probability in (1e-6, 1 - 1e-6):
        (model / "thresholds.json").write_text(json.dumps({"prob": probability, "nms": 0.4}))
        done = run(
            *(environment, "-m", "experiments.peers", "stardist", "predict"),
            *("--model", model, "--images", images, "--out", tmp_path / "out"),
        )
        assert done.returncode == 0, done.stderr
        labels = read_labels(tmp_path / "out" / "a_label.tiff")
        assert labels.shape == truth.shape
        assert labels.any() == (probability < 0.5)


def test_stardist_tells_of_too_few_images_and_of_a_missing_model(environment, tmp_path):
    command = [environment, "-m", "experiments.peers", "stardist"]
    options = ["--model", tmp_path / "none", "--split", make_split(tmp_path / "val")]
    trained = run(*command, "train", *options, "--cpu-hours", 1)
    assert trained.returncode == 2 and "more than 20 images" in trained.stderr
    endless = run(*command, "train", *options, "--cpu-hours", "nan")
    assert endless.returncode == 2 and "nan is no number of hours" in endless.stderr
    chosen = run(*command, "thresholds", *options)
    assert chosen.returncode == 2 and str(tmp_path / "none") in chosen.stderr
