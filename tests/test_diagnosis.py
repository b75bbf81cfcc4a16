"""What a few labelled images have to teach is seen from what the weights find in them."""

import json

import numpy as np
import pytest
import tifffile

from app.arguments import WEIGHTS
from app.images import write_labels
from evaluate.matching import frame_labels
from experiments import marked
from training import __main__ as command
from training import catalog, diagnosis, validation


@pytest.fixture(scope="module")
def images():
    """(image, labels of the cells that count) of drawn ones in which not all do."""
    return [marked.drawn(np.random.default_rng(number)) for number in range(2)]


def folder_of(path, images, labels):
    """A folder of images and label images, as a user has it."""
    path.mkdir()
    for number, (image, label) in enumerate(zip(images, labels)):
        tifffile.imwrite(str(path / f"{number}.tif"), image)
        write_labels(path / f"{number}_label.tif", label)
    return path


def only_some_count(path):
    return diagnosis.only_some_count(WEIGHTS, catalog.entries(path, "val"), "cpu")


def test_cells_that_are_found_but_not_labelled_do_not_count(tmp_path, images):
    pixels, labels = zip(*images)
    assert only_some_count(folder_of(tmp_path / "some", pixels, labels))


def test_a_handful_of_labelled_cells_tells_nothing(tmp_path, images):
    (pixels, label), _ = images
    whole = np.setdiff1d(label, [0, *frame_labels(label)])
    few = np.where(np.isin(label, whole[:2]), label, 0)
    assert not only_some_count(folder_of(tmp_path / "few", [pixels], [few]))


def test_where_all_that_is_found_counts_outlines_are_learned(tmp_path, images):
    segmenter, _ = validation.load(WEIGHTS, "cpu")
    pixels = [image for image, _ in images]
    found = [validation.labels_of(segmenter, image) for image in pixels]
    assert not only_some_count(folder_of(tmp_path / "all", pixels, found))


def test_where_the_labelled_cells_are_not_found_outlines_are_learned(tmp_path, images):
    """Others are found there; but nothing tells that these do not count."""
    pixels, labels = zip(*images)
    moved = [np.roll(label, 40, 0) for label in labels]
    assert not only_some_count(folder_of(tmp_path / "elsewhere", pixels, moved))


def test_where_nothing_is_found_outlines_are_learned(tmp_path, images):
    empty = [np.full_like(image, 30) for image, _ in images]
    labels = [label for _, label in images]
    assert not only_some_count(folder_of(tmp_path / "nothing", empty, labels))


def test_the_command_chooses_the_schedule_and_goes_on_by_it(tmp_path, images, capsys):
    pixels, labels = zip(*images)
    data, out = folder_of(tmp_path / "some", pixels, labels), tmp_path / "run"
    given = ["--data", str(data), "--out", str(out), "--device", "cpu"]
    given += ["--set", "crops=[[64,2]]", "synthetic=0", "kept_gain=1.0"]

    def scheduled(*more):
        assert command.main([*given, *more]) == 0
        return json.loads((out / "recipe.json").read_text())["schedule"]

    assert scheduled("--steps", "1") == "select"
    assert "which of them count" in capsys.readouterr().out
    assert scheduled("--steps", "2") == "select"
    out = tmp_path / "chosen"
    given[3] = str(out)
    assert scheduled("--steps", "1", "--schedule", "tune") == "tune"
