"""Drawn images of cells: what is labelled is there, and training takes them."""

import csv
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage
from training_data import make_data

from app import images
from app.network import weights
from training import __main__ as command
from training import synthetic
from training.recipe import Recipe
from training.sampler import image_chances


@pytest.fixture(scope="module")
def drawn():
    """Twelve (image, labels)."""
    return [synthetic.draw(np.random.default_rng((3, number))) for number in range(12)]


def test_images_are_rgb_and_every_label_is_one_piece_of_a_cells_size(drawn):
    for image, labels in drawn:
        assert image.shape == (512, 512, 3) and image.dtype == np.uint8
        assert labels.shape == (512, 512) and labels.dtype == np.int32
        assert sorted(np.unique(labels[labels > 0])) == list(range(1, labels.max() + 1))
        for number, window in enumerate(ndimage.find_objects(labels), 1):
            mask = labels[window] == number
            assert mask.sum() >= synthetic.LEAST and ndimage.label(mask, np.ones((3, 3)))[1] == 1


def test_most_images_have_cells_of_many_sizes_and_numbers(drawn):
    counts = [labels.max() for _, labels in drawn]
    assert np.count_nonzero(counts) >= 11 and len(set(counts)) >= 8
    sizes = [np.median(np.bincount(labels.ravel())[1:]) for _, labels in drawn if labels.any()]
    assert max(sizes) > 20 * min(sizes)


def test_cells_can_be_seen(drawn):
    """At the border of the labels the light changes more than elsewhere, in nearly all images."""
    seen = 0
    for image, labels in drawn:
        grey = ndimage.gaussian_filter(image.astype(float).mean(2), 1)
        slope = np.hypot(*np.gradient(grey))
        border = ndimage.morphological_gradient(labels, 3) > 0
        away = ndimage.distance_transform_edt(~border) > 6
        seen += slope[border].mean() > 1.2 * slope[away].mean()
    assert seen >= 10


@pytest.mark.parametrize("shape", synthetic.SHAPES)
@pytest.mark.parametrize("extent", [8, 200])
def test_a_cell_of_any_shape_is_about_as_large_as_it_should_be(shape, extent):
    rng = np.random.default_rng(0)
    for angle in (0, 1, 2):
        mask = synthetic.outline_mask(shape, extent, angle, rng)
        rows, columns = np.nonzero(mask)
        assert mask.any() and mask[[0, -1]].sum() + mask[:, [0, -1]].sum() == 0
        assert 0.4 * extent < max(np.ptp(rows), np.ptp(columns)) < 2.6 * extent


def test_tidy_labels_are_the_largest_pieces_numbered_anew():
    labels = np.zeros((30, 30), int)
    labels[2:8, 2:8], labels[20:24, 20:24], labels[12, 12] = 7, 7, 9
    tidy = synthetic.tidy(labels)
    assert tidy.max() == 1 and (tidy > 0).sum() == 36 and tidy[3, 3] == 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_so_many_of_the_crops_are_of_drawn_images(share):
    owner = torch.tensor([0] * 5 + [1] * 20)
    pack = SimpleNamespace(sources=owner, heights=owner * 0 + 512, widths=owner * 0 + 512)
    recipe = Recipe(steps=1, synthetic=20, synthetic_share=share, oversample={"mine": 3})
    chances = image_chances(pack, recipe, ("mine", synthetic.SOURCE))
    assert chances[owner == 1].sum() / chances.sum() == pytest.approx(share, abs=1e-6)


def test_images_are_drawn_into_folders_of_any_name(tmp_path):
    """OpenCV ends the process over names that are no text, as old disks have them."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    synthetic.write_images(1, 0, folder)
    assert len(list(folder.iterdir())) == 2


def test_a_users_folder_may_be_called_synthetic():
    owner = torch.zeros(3, dtype=torch.long)
    pack = SimpleNamespace(sources=owner, heights=owner + 512, widths=owner + 512)
    chances = image_chances(pack, Recipe(steps=1, synthetic_share=0.3), ("synthetic",))
    assert (chances > 0).all()


def test_a_run_draws_its_images_once_and_learns_from_them(tmp_path):
    data, out = make_data(tmp_path / "data"), tmp_path / "out"
    given = ["--data", data, "--init", "research", "--out", out, "--schedule", "fast"]
    given += ["--set", "crops=[[64,2]]", "synthetic=3", "synthetic_share=0.5", "--steps"]
    assert command.main([str(word) for word in [*given, 1]]) == 0
    folder = out / "synthetic_3"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(before) == 6
    record = weights.load(out / "weights.safetensors")[1]
    assert record["data"]["sources"] == [synthetic.SOURCE, "drawn"]
    with (out / "validation.csv").open() as file:
        assert synthetic.SOURCE not in next(csv.reader(file))
    del given[2:4]  # --init: a run goes on without
    assert command.main([str(word) for word in [*given, 2]]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    again = synthetic.entries(3, folder)[1]
    image, labels = synthetic.draw(np.random.default_rng((0, 1)))
    assert (images.read(again.image)[0] == image).all()
    assert (images.read_labels(again.label) == labels).all()
