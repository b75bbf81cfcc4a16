"""Frames without cells that training draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY
from training_data import make_data

from training import catalog, negatives, packing, recipe, sampler


@pytest.mark.parametrize("side", [4, 16, 64, 131])
def test_frames_are_in_range_reproducible_and_unlike_one_another(side):
    frames = [negatives.empty_frame(side, seed) for seed in range(60)]
    for seed, frame in enumerate(frames):
        assert frame.shape == (side, side, 3) and frame.dtype == np.float32
        assert frame.min() >= 0 and frame.max() <= 1
        assert np.array_equal(frame, negatives.empty_frame(side, seed))
    assert len({frame.tobytes() for frame in frames}) > 50


def test_there_are_dark_and_bright_quiet_and_noisy_grey_and_coloured_frames():
    frames = np.stack([negatives.empty_frame(48, seed) for seed in range(200)])
    levels = frames.mean((1, 2, 3))
    steps = np.abs(np.diff(frames, axis=2)).mean((1, 2, 3))
    grey = (frames == frames[..., :1]).all((1, 2, 3)).mean()
    assert levels.min() < 0.1 and levels.max() > 0.8
    assert steps.min() < 0.01 and steps.max() > 0.1
    assert 0.4 < grey < 0.8


def test_crops_with_a_seed_become_empty_and_the_others_stay_as_they_are():
    images, objects = torch.rand(3, 3, 32, 32), torch.ones(3, 32, 32, dtype=torch.int32)
    depths = torch.full((3, 32, 32), 9, dtype=torch.uint8)
    given = images.clone()
    found, owners, borders = negatives.put(torch.tensor([-1, 5, -1]), images, objects, depths)
    assert torch.equal(found[[0, 2]], given[[0, 2]])
    assert torch.equal(found[1].permute(1, 2, 0), torch.from_numpy(negatives.empty_frame(32, 5)))
    assert (owners[1] == -1).all() and not borders[1].any()
    assert (owners[[0, 2]] == 1).all() and (borders[[0, 2]] == 9).all()


def test_a_run_of_negatives_alone_learns_no_cell(tmp_path):
    pack = packing.pack(catalog.entries(make_data(tmp_path / "data"), "train"), tmp_path / "pack")
    wanted = recipe.make_recipe("fast", minutes=None, steps=1, crops=((32, 4),), negatives=1.0)
    for share, empty in ((1.0, True), (0.0, False)):
        generator = torch.Generator().manual_seed(0)
        of_run = replace(wanted, negatives=share)
        _, targets = sampler.Sampler(pack, TINY.architecture, of_run, generator)()
        assert (len(targets.contours) == 0) == empty
        assert targets.foreground.any() != empty
