"""Training: packed images, crops, targets on the grid, steps that learn, exact resume."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY, blind_network, tiny_config
from torch import nn
from training_data import draw_image, make_data, write_catalogue

from app import segmenter
from app.arguments import WEIGHTS
from app.network import fourier, weights
from app.network.cpn import CPN
from app.segmenter import Segmenter
from training import __main__ as command
from training import (
    augment,
    catalog,
    checkpoints,
    engine,
    losses,
    mixing,
    muon,
    own_data,
    packing,
    recipe,
    sampler,
    schedule,
    targets,
    train,
    validation,
)
from training.policies import POLICIES
from training.recipe import Recipe, make_recipe, without_losses

SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "compact.safetensors"
RECIPE = Recipe(minutes=1, crops=((64, 3), (96, 2)), positions=64, samples=16)


@pytest.fixture
def pack(tmp_path):
    return packing.pack(catalog.entries(make_data(tmp_path / "data"), "train"), tmp_path / "pack")


def plain_view(image, side, matrix=((1.0, 0.0), (0.0, 1.0)), offset=(0.0, 0.0)):
    return augment.Views(
        torch.tensor([image]), torch.tensor([matrix]), torch.tensor([offset]), side
    )


def test_a_missing_catalogue_or_split_is_named(tmp_path):
    with pytest.raises(ValueError, match="catalog.csv"):
        catalog.entries(tmp_path, "train")
    with pytest.raises(ValueError, match="'test'"):
        catalog.entries(make_data(tmp_path / "data"), "test")


def disc_batch(radius=8, side=64):
    """One crop with a disc in the middle: objects, depths as from gather_crops."""
    label = np.zeros((side, side), np.int32)
    cv2.circle(label, (side // 2, side // 2), radius, 1, -1)
    owner, depth, _ = packing.describe_objects(label)
    return torch.from_numpy(owner)[None], torch.from_numpy(depth)[None], label


def test_foreground_is_the_centric_part_and_between_is_ignored():
    objects, depths, label = disc_batch()
    owner, foreground, ignored = targets.centric_map(objects, depths, 2, 0.6, 0.3)
    relative = torch.nn.functional.max_pool2d(depths.float(), 2)[0] / 255
    assert torch.equal(foreground[0], relative > 0.6)
    assert torch.equal(ignored[0], (relative > 0.3) & (relative <= 0.6))
    assert (owner[foreground] == 0).all()
    _, whole, none = targets.centric_map(objects, depths, 2, 0.75, 0.75)
    assert 0 < whole.sum() < foreground.sum()
    assert not none.any()  # equal fractions: no ignore zone, as in the paper


def test_the_centre_of_a_small_object_survives_the_grid():
    for x in range(4):
        for y in range(4):
            label = np.zeros((32, 32), np.int32)
            label[10 + y : 13 + y, 10 + x : 13 + x] = 1
            owner, depth, _ = packing.describe_objects(label)
            maps = targets.centric_map(
                torch.from_numpy(owner)[None], torch.from_numpy(depth)[None], 4, 0.75, 0.75
            )
            assert maps[1].any()


def test_ignored_objects_are_neither_foreground_nor_background():
    objects = torch.full((1, 8, 8), -1, dtype=torch.int32)
    objects[0, 2:6, 2:6] = -2
    _, foreground, ignored = targets.centric_map(
        objects, torch.zeros(1, 8, 8, dtype=torch.uint8), 2, 0.6, 0.4
    )
    assert not foreground.any()
    assert ignored[0, 1:3, 1:3].all()
    assert ignored.sum() == 4


def test_cells_are_chosen_evenly_over_objects_not_over_area():
    owner = torch.zeros(1, 40, 40, dtype=torch.long)
    owner[0, :2, :2] = 1
    foreground = torch.ones(1, 40, 40, dtype=torch.bool)
    small = 0
    for seed in range(50):
        crop, row, column = targets.choose_positions(owner, foreground, 8, seed)
        assert len(crop) == 8
        assert len({(r, c) for r, c in zip(row.tolist(), column.tolist())}) == 8
        small += (owner[crop, row, column] == 1).sum().item()
    assert small / 50 > 2  # of 4 cells in 1600; by area it would be 0.02
    assert len(targets.choose_positions(owner, foreground, 5000, 0)[0]) == 1600


def test_contours_that_leave_the_crop_are_clipped_to_it(pack):
    view = plain_view(0, 20, offset=tuple((pack.polygons[0].mean(0) - 3).tolist()))
    contour = targets.object_contours(pack, view, torch.tensor([0]), torch.tensor([0]))
    assert contour.min() >= 0
    assert contour.max() <= 19


def test_a_disc_goes_to_targets_to_maps_to_a_proposal_and_is_the_disc_again(pack):
    """Decision 10 along the whole way: what training asks for is what prediction draws."""
    objects, depths, label = disc_batch()
    pack = replace(pack, polygons=packing.describe_objects(label)[2])
    config = tiny_config(order=8, samples=64)
    layers = config.architecture
    t = fourier.uniform_locations(16)
    found = targets.make_targets(pack, plain_view(0, 64), objects, depths, layers, RECIPE, t, 0)
    network = CPN(config).eval()
    maps = network(torch.zeros(1, 3, 64, 64))
    maps = maps._replace(
        location=torch.zeros_like(maps.location),
        fourier=torch.zeros_like(maps.fourier),
        refinement=torch.zeros_like(maps.refinement),
    )
    crop, row, column = found.positions
    offset = (found.centres - network.grid_points(row, column)) / layers.contour_scale
    maps.location[crop, :, row, column] = offset
    maps.fourier[crop, :, row, column] = found.coefficients.flatten(1) / layers.contour_scale
    proposals = network.propose(maps, found.positions, (64, 64), iterations=0)
    assert len(row) > 4
    for contour in proposals.contours.detach().numpy():
        filled = np.zeros(label.shape, np.uint8)
        cv2.fillPoly(filled, [np.round(contour).astype(np.int32)], 1)
        assert (filled * label).sum() / np.maximum(filled, label).sum() >= 0.95


@pytest.mark.parametrize("side", range(4))
def test_a_true_side_teaches_the_map_channel_of_that_side(pack, side):
    """Left, top, right, bottom: from the target's box through the loss to the head's channel."""
    state, sampler = new_run(pack=pack)
    images, found = sampler()
    state.network.eval()
    maps = state.network(images)

    def gradient(boxes):
        draw = torch.Generator().manual_seed(0)
        given = replace(found, boxes=boxes)
        terms = losses.total_loss(state.network, maps, given, images.shape[-2:], RECIPE, draw)
        return torch.autograd.grad(terms["uncertainty"], maps.uncertainty, retain_graph=True)[0]

    proposals = state.network.propose(maps, found.positions, images.shape[-2:], found.t, 1)
    near = proposals.boxes.detach()
    changed = near.clone()
    changed[:, side] += 1e-2
    difference = (gradient(changed) / gradient(near) - 1).nan_to_num(0).abs().amax((0, 2, 3))
    assert difference.argmax() == side


def test_crops_without_any_cell_teach_the_background_alone(pack):
    state, sampler = new_run(pack=pack)
    images, _ = sampler()
    count, _, side, _ = images.shape
    objects = torch.full((count, side, side), -1, dtype=torch.int32)
    image = torch.zeros(count, dtype=torch.long)
    size = torch.full((count,), 9.0)
    view = augment.random_views(
        pack, image, (size, size), side, POLICIES["strong"], 0.7, 0.0, state.generator
    )
    depths, t = torch.zeros_like(objects).byte(), fourier.uniform_locations(16)
    found = targets.make_targets(pack, view, objects, depths, TINY.architecture, RECIPE, t, 0)
    terms = engine.train_step(state, (images, found), RECIPE)
    assert terms["contour"] == terms["boundary"] == terms["uncertainty"] == 0
    assert terms["object"] > 0


def new_run(seed=0, recipe=RECIPE, pack=None):
    torch.manual_seed(seed)
    network = CPN(TINY)
    state = engine.new_state(network, recipe, torch.device("cpu"))
    return state, sampler.Sampler(pack, network.architecture, recipe, state.generator)


def test_targets_of_a_batch_describe_the_chosen_cells(pack):
    state, sampler = new_run(pack=pack)
    for _ in range(6):
        images, found = sampler()
        assert images.shape[2] in (64, 96)
        assert 0 <= images.min() <= images.max() <= 1
        k = len(found.positions[0])
        assert found.foreground[found.positions].all()
        assert found.contours.shape == (k, RECIPE.samples, 2)
        assert found.coefficients.shape == (k, TINY.architecture.order, 4)
        inside = (found.centres >= found.boxes[:, :2]) & (found.centres <= found.boxes[:, 2:])
        assert inside.all()
        # Points at drawn t lie within the outline's extent.
        assert (found.contours.amin(1) >= found.boxes[:, :2] - 1e-3).all()
        assert (found.contours.amax(1) <= found.boxes[:, 2:] + 1e-3).all()


@pytest.mark.parametrize("optimiser", recipe.CHOICES["optimiser"])
def test_a_network_learns_one_batch(pack, optimiser):
    recipe = replace(RECIPE, learning_rate=3e-3, warm_up=0.0, optimiser=optimiser)
    state, sampler = new_run(recipe=recipe, pack=pack)
    batch = sampler()
    found = [engine.train_step(state, batch, recipe)["loss"] for _ in range(60)]
    assert np.mean(found[-5:]) < 0.7 * np.mean(found[:5])


def test_a_loss_that_is_not_finite_stops_the_run(pack):
    state, sampler = new_run(pack=pack)
    with torch.no_grad():
        next(state.network.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 0"):
        engine.train_step(state, sampler(), RECIPE)


@pytest.mark.parametrize("optimiser", recipe.CHOICES["optimiser"])
def test_a_resumed_run_is_the_uninterrupted_one(pack, tmp_path, optimiser):
    """Same batches, same losses, same weights: everything that matters is in the checkpoint."""
    recipe = replace(RECIPE, optimiser=optimiser)

    def go(state, sampler, steps):
        found = []
        for _ in range(steps):
            found.append(engine.train_step(state, sampler(), recipe)["loss"])
            state.seconds += 7.0
        return found

    straight, sampler = new_run(recipe=recipe, pack=pack)
    expected = go(straight, sampler, 6)
    first, sampler = new_run(recipe=recipe, pack=pack)
    found = go(first, sampler, 3)
    checkpoints.save_checkpoint(tmp_path / "checkpoint.safetensors", first)
    second, sampler = new_run(seed=99, recipe=recipe, pack=pack)
    checkpoints.load_checkpoint(tmp_path / "checkpoint.safetensors", second)
    found += go(second, sampler, 3)
    assert found == expected
    assert (second.step, second.seconds) == (straight.step, straight.seconds)
    for a, b in (
        (straight.network, second.network),
        (straight.average, second.average),
    ):
        for x, y in zip(a.state_dict().values(), b.state_dict().values()):
            assert torch.equal(x, y)


@pytest.mark.parametrize("first", [True, False])
def test_the_clock_of_the_first_process_alone_counts(pack, monkeypatch, first):
    """Else processes would disagree on when a run ends, and wait for one another for ever."""
    monkeypatch.setattr(losses.distributed, "is_first", lambda: first)
    state, sampler = new_run(pack=pack)
    terms = engine.train_step(state, sampler(), RECIPE, seconds=2.5)
    assert state.seconds == (2.5 if first else 0)
    assert "seconds" not in terms


def test_norms_freeze_late_in_the_run(pack):
    state, sampler = new_run(pack=pack)
    before = state.network.encoder.stem[1].running_mean.clone()
    engine.train_step(state, sampler(), RECIPE)
    moved = state.network.encoder.stem[1].running_mean.clone()
    assert not torch.equal(before, moved)
    state.seconds = 59.0
    engine.train_step(state, sampler(), RECIPE)
    assert torch.equal(state.network.encoder.stem[1].running_mean, moved)


def test_the_learning_rate_rises_then_falls():
    recipe = Recipe(minutes=1, warm_up=0.1)
    rates = [schedule.rate_factor(p / 100, p, recipe) for p in range(101)]
    top = int(np.argmax(rates))
    assert top == 10
    assert rates[top] == pytest.approx(1.0)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_the_papers_rate_warms_up_for_1000_steps_and_falls_at_milestones():
    """Table 2 and reference.md, section 4: from lr / 1000; gamma 0.666 at six parts of the run."""
    paper = make_recipe("paper", steps=100_000)
    at = [schedule.rate_factor(step / 100_000, step, paper) for step in range(0, 100_000, 100)]
    assert at[0] == pytest.approx(0.001)
    assert at[5] == pytest.approx(0.5)
    assert at[10:100] == [1.0] * 90
    for milestone, power in ((100, 1), (250, 2), (350, 3), (500, 4), (700, 5), (999, 6)):
        assert at[milestone] == pytest.approx(0.666**power)


def test_the_papers_rate_is_drawn_by_the_seed_and_scaled_by_the_batch():
    """lr ~ N(8e-4, 1e-4) sqrt(bs / 64), 10 crops in each process."""
    drawn = [schedule.peak_rate(make_recipe("paper", steps=1, seed=seed), 8) for seed in range(400)]
    scale = (80 / 64) ** 0.5
    assert np.mean(drawn) / scale == pytest.approx(8e-4, rel=0.03)
    assert np.std(drawn) / scale == pytest.approx(1e-4, rel=0.15)
    assert schedule.peak_rate(make_recipe("paper", steps=1, seed=7), 8) == drawn[7]


def test_the_papers_optimiser_is_adam_of_table_2():
    optimiser = schedule.make_optimiser(CPN(TINY), make_recipe("paper", steps=1))
    assert type(optimiser) is torch.optim.Adam
    assert optimiser.defaults["betas"] == (0.9, 0.999)
    assert optimiser.defaults["weight_decay"] == 2e-5


@pytest.mark.parametrize("name, kind", [("muon", muon.Muon), ("adamw", torch.optim.AdamW)])
def test_our_optimisers_decay_kernels_but_not_vectors(name, kind):
    ours = schedule.make_optimiser(CPN(TINY), make_recipe("fast", optimiser=name))
    assert type(ours) is kind
    assert [group["weight_decay"] for group in ours.param_groups] == [0.02, 0.0]


@pytest.mark.parametrize(
    "field, value, wanted",
    [
        ("optimiser", "Muon", "one of muon, adamw, adam"),
        ("decay", "step", "one of cosine, milestones"),
        ("quality_of", "boxes", "one of contour, box"),
        ("boundary_of", "box", "one of contours, refined"),
        ("policy", "weak", "one of none, mild, strong, wide"),
        ("detached_boxes", 1, "true or false"),
        ("learning_rate", 0, "a number above 0"),
        ("learning_rate", "high", "a number above 0"),
        ("learning_rate", float("nan"), "a number above 0"),
        ("weight_decay", -0.1, "a number from 0 on"),
        ("ema", 1.5, "a number from 0 on, at most 1"),
        ("subsample", 2, "a number above 0, at most 1"),
        ("aimed_share", 1.5, "a number from 0 on, at most 1"),
        ("clip", -1, "a number above 0, or null"),
        ("patience", 1.5, "a whole number above 0, or null"),
        ("samples", True, "a whole number above 0"),
        ("validation_minutes", None, "a number from 0 on"),
        ("background_depth", 0.7, "at most foreground_depth"),
        ("crops", [], "pairs of a side"),
        ("crops", [64, 3], "pairs of a side"),
        ("crops", [[64, 3, 1]], "pairs of a side"),
        ("crops", [[66, 3]], "multiple of 4"),
        ("crops", [[64, 0]], "pairs of a side"),
        ("betas", [0.9], "two numbers"),
        ("betas", 0.9, "two numbers"),
        ("quality", [0.8, 0.3], "two numbers"),
        ("quality", "ab", "two numbers"),
        ("weights", {"object": 1.0}, "numbers from 0 on of object, uncertainty, contour"),
        ("weights", {**recipe.paper_weights(), "colour": 1.0}, "numbers from 0 on of object"),
        ("weights", {**recipe.paper_weights(), "object": -1.0}, "numbers from 0 on of object"),
        ("oversample", {"drawn": "5"}, "numbers from 0 on of sources"),
    ],
)
def test_a_value_that_a_field_of_the_recipe_cannot_have_is_refused(field, value, wanted):
    with pytest.raises(ValueError, match=f"^{field} is .*, not .*{wanted}"):
        Recipe(minutes=1, **{field: value})


def test_the_papers_crops_look_anywhere_and_a_share_is_one():
    assert make_recipe("paper", steps=1).aimed_share == 0
    assert make_recipe("fast").aimed_share == 0.7


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6), (1, 9)])
def test_muon_makes_all_directions_of_a_step_count_alike(shape):
    """The gradient's singular vectors stay, its singular values all come near 1."""
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    direction = muon.orthogonal(1000 * gradient)
    assert direction.shape == shape
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    turned = left.T @ direction @ right.T
    assert turned.diag().min() > 0.6 and turned.diag().max() < 1.3
    assert torch.allclose(turned, torch.diag(turned.diag()), atol=1e-4)
    assert not muon.orthogonal(torch.zeros(shape)).any()


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (40, 6, 1, 1), (1, 8, 3, 3)])
def test_muon_steps_along_the_orthogonal_part_of_its_momentum(shape):
    """Against U V^T of moments written out, whatever the kernel's memory layout."""
    draw = torch.Generator().manual_seed(2)
    kernel = nn.Parameter(torch.randn(shape, generator=draw))
    laid = nn.Parameter(kernel.detach().clone(memory_format=torch.channels_last))
    optimiser = muon.Muon([kernel, laid], lr=0.1, weight_decay=0.3)
    momentum = torch.zeros(shape)
    for _ in range(4):
        before, gradient = kernel.detach().clone(), torch.randn(shape, generator=draw)
        kernel.grad, laid.grad = gradient.clone(), gradient.clone()
        optimiser.step()
        momentum = 0.95 * momentum + 0.05 * gradient
        left, _, right = torch.linalg.svd(
            (0.95 * momentum + 0.05 * gradient).flatten(1), full_matrices=False
        )
        step = 0.1 * 0.2 * max(left.shape[0], right.shape[1]) ** 0.5 * (left @ right)
        expected = (1 - 0.1 * 0.3) * before - step.view(shape)
        assert (kernel - expected).norm() < 0.35 * step.norm()
    assert torch.allclose(kernel, laid, atol=1e-5)


def test_muon_moves_vectors_with_adamw():
    vector, twin = nn.Parameter(torch.zeros(8)), nn.Parameter(torch.zeros(8))
    vector.grad = twin.grad = torch.arange(8.0)
    muon.Muon([vector], lr=0.1, weight_decay=0.0).step()
    torch.optim.AdamW([twin], lr=0.1, weight_decay=0.0).step()
    assert torch.equal(vector, twin)


def test_muon_lets_unused_kernels_be():
    kernel = nn.Parameter(torch.ones(4, 4, 1, 1))
    muon.Muon([kernel], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(kernel, torch.ones(4, 4, 1, 1))


@pytest.mark.parametrize("name", sorted(recipe.SCHEDULES))
def test_every_schedule_takes_a_step(pack, name):
    small = {"crops": ((64, 3),), "samples": 16, "steps": 3, "minutes": None}
    chosen = make_recipe(name, **small)
    state, batches = new_run(recipe=chosen, pack=pack)
    terms = engine.train_step(state, batches(), chosen)
    assert set(terms) == {*chosen.weights, "learned", "loss", "gradient"}
    assert terms["learned"] == 1  # of true cells every side is
    assert sum(terms[term] * chosen.weights[term] for term in chosen.weights) == pytest.approx(
        terms["loss"], rel=1e-4
    )


def test_a_run_without_a_length_or_with_two_is_refused():
    for lengths in ({}, {"minutes": 1, "steps": 5}):
        with pytest.raises(ValueError, match="--minutes or by --steps"):
            Recipe(**lengths)
    for lengths in (
        {"minutes": 0},
        {"minutes": "soon"},
        {"steps": 0},
        {"steps": -3},
        {"steps": 1.5},
    ):
        with pytest.raises(ValueError, match=f"^{next(iter(lengths))} is .* number above 0"):
            Recipe(**lengths)


@pytest.mark.parametrize("kind, calls", [("contour", 1), ("box", 0)])
def test_the_iou_of_contours_is_counted_only_where_the_score_learns_it(
    pack, monkeypatch, kind, calls
):
    seen, contour_iou = [], losses.contour_iou
    monkeypatch.setattr(losses, "contour_iou", lambda *pair: seen.append(1) or contour_iou(*pair))
    chosen = replace(RECIPE, quality_of=kind)
    state, batches = new_run(recipe=chosen, pack=pack)
    engine.train_step(state, batches(), chosen)
    assert len(seen) == calls


def test_losses_that_are_switched_off_count_nothing(pack):
    off = without_losses(RECIPE, "uncertainty", "boundary")
    state, batches = new_run(pack=pack)
    images, found = batches()
    maps = state.network(images)
    draw = torch.Generator().manual_seed(0)
    terms = losses.total_loss(state.network, maps, found, images.shape[-2:], off, draw)
    terms["loss"].backward()
    assert state.network.uncertainty.layers[-1].weight.grad.abs().max() == 0
    assert state.network.fourier.layers[-1].weight.grad.abs().max() > 0


def sources_of(*counts):
    numbers = [number for number, count in enumerate(counts) for _ in range(count)]
    sides = torch.full((len(numbers),), 256)
    parts = {"sources": torch.tensor(numbers), "heights": sides, "widths": sides}
    return type("P", (), parts)


def test_every_source_has_a_share_and_large_ones_do_not_drown_the_others():
    chances = sampler.image_chances(sources_of(100, 4), Recipe(minutes=1, source_power=0.5))
    assert chances[:100].sum().item() == pytest.approx(10)
    assert chances[100:].sum().item() == pytest.approx(2)


def test_every_look_of_a_source_has_a_share_too():
    """Sixteen images of about one size and four of another, beside a source of four."""
    pack = sources_of(20, 4)
    pack.heights = torch.cat([pack.heights[:16] + torch.arange(16), pack.heights[16:] * 4])
    chances = sampler.image_chances(pack, Recipe(minutes=1, source_power=0.5))
    assert chances[:16].sum().item() == pytest.approx(20**0.5 * 4 / 6)
    assert chances[16:20].sum().item() == pytest.approx(20**0.5 * 2 / 6)
    assert chances[20:].sum().item() == pytest.approx(2)
    even = sampler.image_chances(pack, Recipe(minutes=1, source_power=1))
    assert even.tolist() == pytest.approx([1] * 24)


def test_oversampled_sources_come_more_often():
    five = Recipe(minutes=1, source_power=1.0, oversample={"b": 5})
    chances = sampler.image_chances(sources_of(3, 2), five, ["a", "b"])
    assert chances.tolist() == [1, 1, 1, 5, 5]
    with pytest.raises(ValueError, match="no source 'c'.*a, b"):
        unknown = replace(five, oversample={"c": 5})
        sampler.image_chances(sources_of(3, 2), unknown, ["a", "b"])


def test_large_cells_prefer_large_crops_unless_all_are_alike(pack):
    """The paper's one size of crops shows every image as often."""
    chosen = replace(RECIPE, crops=((64, 3), (96, 2)), turning_size=20.0)
    _, batches = new_run(recipe=chosen, pack=pack)
    batches.typical = torch.tensor([10.0, 40.0, 40.0])

    def share(kind):
        return (batches._random_images(kind, 3000) == 0).float().mean().item()

    assert share(0) == pytest.approx(1 / 2, abs=0.04)  # 1 : 1/2 : 1/2
    assert share(1) == pytest.approx(1 / 5, abs=0.04)  # 1/2 : 1 : 1
    assert make_recipe("paper", steps=1).turning_size is None
    batches.recipe = replace(chosen, turning_size=None)
    assert share(0) == pytest.approx(1 / 3, abs=0.04)


def test_a_subsample_is_the_runs_own_and_drawn_with_replacement():
    half = [sampler.subsample(1000, Recipe(minutes=1, subsample=0.5, seed=s)) for s in range(2)]
    assert [each.sum().item() for each in half] == [500, 500]
    assert not torch.equal(*half)
    assert half[0].max() > 1
    assert 0.55 < (half[0] == 0).float().mean() < 0.65  # exp(-1/2)
    again = sampler.subsample(1000, Recipe(minutes=1, subsample=0.5, seed=0))
    assert torch.equal(again, half[0])
    assert (sampler.subsample(9, Recipe(minutes=1)) == 1).all()
    assert sampler.subsample(1, Recipe(minutes=1, subsample=0.1)).tolist() == [1]


def test_early_stopping_keeps_the_best_weights(pack, tmp_path):
    """Scores of the validations: the weights before training, then better, then never again."""
    chosen = replace(RECIPE, minutes=60, validation_minutes=0.01, patience=2)
    state, batches = new_run(recipe=chosen, pack=pack)
    state.origin = {"steps": 5}
    scores = iter([0.5, 0.6, 0.55, 0.59, 0.9])
    seen = []

    def validate(state):
        seen.append([value.clone() for value in state.average.state_dict().values()])
        return next(scores)

    time = iter(range(10**6))
    run = engine.Run(state, chosen, tmp_path, validate)
    run.go(batches, clock=lambda: next(time))
    assert len(seen) == 4
    assert (state.best, state.stale) == (0.6, 2)
    assert 0 < state.best_step < state.step
    with (tmp_path / "log.csv").open() as lines:
        assert [int(row["step"]) for row in csv.DictReader(lines)][-1] == state.step
    best, _ = weights.load(tmp_path / "best.safetensors")
    for kept, wanted in zip(best.state_dict().values(), seen[1]):
        assert torch.allclose(kept.float(), wanted.float(), atol=1e-3)
    checkpoint = checkpoints.checkpoint_run(tmp_path / "checkpoint.safetensors")
    assert (checkpoint["best"], checkpoint["stale"]) == (0.6, 2)


class OnSmallGpu(CPN):
    """On a device (cpu:0, as the CPU itself is called cpu) whose memory every image overflows."""

    place = torch.device("cpu:0")

    def parameters(self, recurse=True):
        return iter([SimpleNamespace(device=self.place)])

    def to(self, *arguments, **options):
        self.place = next((a for a in arguments if isinstance(a, torch.device)), self.place)
        return super().to(*arguments, **options)

    def forward(self, images):
        if self.place != torch.device("cpu"):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(images)


def test_a_validation_without_enough_memory_leaves_the_network_where_it_was(tmp_path, monkeypatch):
    """It goes on on the CPU; the next step needs the averaged network on the GPU again."""
    monkeypatch.setattr(segmenter, "pick_device", lambda name: torch.device("cpu:0"))
    listing = catalog.entries(make_data(tmp_path / "data", count=1), "val")
    network = OnSmallGpu(TINY).eval()
    state = SimpleNamespace(average=network, device=network.place, step=1, seconds=60.0)
    score = train.Validator(listing, tmp_path)(state)
    assert 0 <= score <= 1
    assert network.place == torch.device("cpu:0")
    assert not network.training


def test_a_run_that_goes_on_from_an_older_checkpoint_tells_every_step_once(pack, tmp_path):
    """The rows after the checkpoint's step are dropped; before it they stay as they are."""
    state, batches = new_run(pack=pack)

    def steps_of(steps, validate=lambda state: 0.5):
        recipe = replace(RECIPE, minutes=None, steps=steps)
        engine.Run(state, recipe, tmp_path, validate).go(batches)
        with (tmp_path / "log.csv").open() as lines:
            return [int(row["step"]) for row in csv.DictReader(lines)]

    (tmp_path / "log.csv").write_text("step,minutes\n20,1.0\n")  # of a run without a checkpoint
    assert steps_of(3) == [3]
    checkpoints.save_checkpoint(tmp_path / "older", state)
    assert steps_of(5) == [3, 5]
    with (tmp_path / "log.csv").open("a") as file:
        file.write("7,0.")  # killed as it wrote
    checkpoints.load_checkpoint(tmp_path / "older", state)
    begun = (tmp_path / "log.csv").read_text().splitlines()[:2]
    assert steps_of(4) == [3, 4]
    assert (tmp_path / "log.csv").read_text().splitlines()[:2] == begun
    log = engine.Log(tmp_path / "validation.csv", 0)
    for step in (0, 3, 5):
        log({"step": step, "mean": 0.5})
    named = engine.Log(tmp_path / "named.csv", 0)
    named({"step": 0, "caf\udce9": 0.5})  # a source that is called as no text can be
    engine.Log(tmp_path / "named.csv", 1)
    engine.Log(tmp_path / "validation.csv", 4)
    for step in (0, 4):  # a full disk leaves an empty file
        (tmp_path / "empty.csv").write_text("")
        engine.Log(tmp_path / "empty.csv", step)
        assert not (tmp_path / "empty.csv").exists()
    assert (tmp_path / "validation.csv").read_text().split() == ["step,mean", "0,0.5", "3,0.5"]


def use_tiny(monkeypatch):
    """The command trains a tiny network with small crops."""
    monkeypatch.setitem(train.PRESETS, "compact", tiny_config(window=128, window_stride=96))
    small = {"crops": ((64, 3), (96, 2)), "positions": 64, "samples": 16, "synthetic": 0}
    for name in ("fast", "tune", "select"):
        monkeypatch.setitem(recipe.SCHEDULES, name, {**recipe.SCHEDULES[name], **small})


def test_the_command_trains_validates_and_goes_on(tmp_path, monkeypatch, capsys):
    """The real command on drawn data with a tiny preset: every file that a run leaves."""
    use_tiny(monkeypatch)
    monkeypatch.setattr(validation, "THRESHOLDS", (0.7, 0.85))
    data, out = make_data(tmp_path / "data"), tmp_path / "run"
    arguments = ["--data", str(data), "--out", str(out), "--device", "cpu", "--from-scratch"]
    assert command.main([*arguments, "--steps", "2"]) == 0
    _, record = weights.load(out / "weights.safetensors")
    assert record["steps"] > 0
    weights.load(out / "best.safetensors")
    with (out / "validation.csv").open() as lines:
        assert {"mean", "median", "macro", "drawn"} <= set(next(csv.DictReader(lines)))
    assert command.main([*arguments, "--steps", "4"]) == 0
    assert "Going on from step" in capsys.readouterr().out
    assert weights.load(out / "weights.safetensors")[1]["steps"] > record["steps"]
    given = ["--data", str(data), "--weights", str(out / "weights.safetensors")]
    assert command.main(["validate", *given, "--out", str(tmp_path / "labels")]) == 0
    assert "macro" in capsys.readouterr().out
    assert len(list((tmp_path / "labels").glob("drawn__*_label.tiff"))) == 3
    tried = ["--windows", "128/96", "--windows", "160/120", "--shares", "0", "--shares", "0.9"]
    assert command.main(["calibrate", *given, *tried]) == 0
    told = capsys.readouterr().out
    assert "128/96  0.85  0  mean" in told and "160/120  0.85  0.9  mean" in told
    assert command.main(["calibrate", *given]) == 0
    config = weights.load(out / "weights.safetensors")[0].config.inference
    stored = f"{config.window}/{config.window_stride}, threshold {config.score_threshold}"
    assert f"stored: windows {stored}, share {config.score_share}" in capsys.readouterr().out
    started = [*arguments[:-1], "--minutes", "1", "--init", str(out / "weights.safetensors")]
    assert command.main(started) == 2
    assert "holds a run already" in capsys.readouterr().err
    (out / "checkpoint.safetensors").write_bytes(b"damaged")
    assert command.main([*arguments, "--minutes", "1"]) == 2
    assert "no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option, value, said",
    [("--shares", share, f"'{share}'") for share in ("1.5", "-0.1", "nan", "most")]
    + [("--windows", "512", "'512'"), ("--windows", "128/160", "not in 1..128")],
)
def test_shares_and_windows_that_make_no_sense_are_refused(option, value, said, capsys):
    with pytest.raises(SystemExit):
        command.main(["calibrate", "--data", "d", "--weights", "w", f"{option}={value}"])
    told = capsys.readouterr().err
    assert f"argument {option}" in told and said in told


def test_calibration_scores_what_prediction_would_give(tmp_path):
    """The shipped network on drawn cells, at its own threshold and share, and at others."""
    found = Segmenter.load(SHIPPED, "cpu")
    config, own = found.network.config, found.inference
    listing = catalog.entries(make_data(tmp_path / "data"), "val")
    tried = validation.try_thresholds(found, listing, [own.score_share, 1.0])
    assert found.network.config == config
    assert {share for _, share in tried} == {own.score_share, 1.0}
    for threshold, share in ((own.score_threshold, own.score_share), (0.2, 1.0)):
        found.network.config = config.with_inference(score_threshold=threshold, score_share=share)
        f1 = [image.scores[0].f1 for image in validation.validate(found, listing, tmp_path)]
        assert tried[threshold, share].mean_f1 == pytest.approx(np.mean(f1))
        assert np.mean(f1) > 0
    assert tried[0.2, 1.0].pooled != tried[0.2, own.score_share].pooled


def test_switches_reach_the_recipe(tmp_path, monkeypatch):
    """What the command's options ask for stands in the record of the weights."""
    use_tiny(monkeypatch)
    data = make_data(tmp_path / "data")

    def stored(name, *switches):
        arguments = ["--data", str(data), "--out", str(tmp_path / name), "--device", "cpu"]
        arguments += ["--steps", "2", "--from-scratch", *switches]
        assert command.main(arguments) == 0
        record = weights.load(tmp_path / name / "weights.safetensors")[1]["recipe"]
        assert json.loads((tmp_path / name / "recipe.json").read_text()) == record
        return record

    without = stored("without", "--no-uncertainty", "--no-giou", "--oversample", "drawn=5")
    assert without["weights"]["uncertainty"] == without["weights"]["boundary"] == 0
    assert without["weights"]["contour"] > 0
    assert without["oversample"] == {"drawn": 5}
    assert without["unlabelled"] == 0
    unlabelled = ["--listen2student", str(data / "drawn")]
    taught = stored("taught", *unlabelled, "--set", "ema=0.5", 'policy="mild"')
    assert (taught["ema"], taught["policy"]) == (0.5, "mild")
    assert taught["unlabelled"] > 0 and taught["weights"]["sides"] > 0


def test_options_that_are_given_twice_keep_all_their_values():
    twice = ["--without", "a", "--without", "b", "c", "--oversample", "d=2", "--oversample", "e=3"]
    options = train.parse(["--data", "x", *twice, "--set", "ema=0.5", "--set", "clip=3"])
    assert options.without == ["a", "b", "c"]
    assert dict(options.oversample) == {"d": 2, "e": 3}
    assert dict(options.set) == {"ema": 0.5, "clip": 3}


def test_what_does_not_go_together_is_refused(tmp_path, capsys):
    data = ["--data", str(tmp_path)]
    for wrong in (
        ["--init", "a.safetensors", "--from-scratch"],
        ["--no-uncertainty", "--listen2student", str(tmp_path)],
        ["--minutes", "1", "--steps", "1"],
    ):
        with pytest.raises(SystemExit):
            command.main([*data, *wrong])
        assert wrong[0] in capsys.readouterr().err


def test_training_starts_from_the_shipped_weights(tmp_path):
    """By default, with the schedule for that: two steps leave all but the same weights."""
    data, out = make_data(tmp_path / "data", count=1), tmp_path / "run"
    arguments = ["--data", str(data), "--out", str(out), "--device", "cpu", "--steps", "2"]
    assert command.main([*arguments, "--set", "crops=[[64,2]]", "synthetic=0"]) == 0
    network, record = weights.load(out / "weights.safetensors")
    shipped, origin = weights.load(WEIGHTS)
    assert record["origin"] == origin
    assert network.config == shipped.config
    assert record["recipe"]["freeze_norms"] == 0.0
    for a, b in zip(network.state_dict().values(), shipped.state_dict().values()):
        assert torch.allclose(a.float(), b.float(), atol=0.01)


def test_tune_leaves_the_encoder_as_it_was_but_not_a_new_one(tmp_path, monkeypatch):
    """Its norms as well, also where the others follow the batches."""
    use_tiny(monkeypatch)
    data, start = make_data(tmp_path / "data"), tmp_path / "start.safetensors"
    weights.save(start, blind_network().state_dict(), TINY)
    given = ["--data", data, "--device", "cpu", "--steps", "2", "--schedule", "tune"]
    given += ["--set", "freeze_norms=1.0", "learning_rate=0.1", "kept_gain=1"]
    given = [str(word) for word in given]
    for way, changed in ((["--init", str(start)], False), (["--from-scratch"], True)):
        out = tmp_path / way[0]
        assert command.main([*given, *way, "--out", str(out)]) == 0
        learned = weights.load(out / "weights.safetensors")[0].state_dict()
        begun = weights.load(start)[0].state_dict()
        same = {name: torch.equal(value, begun[name]) for name, value in learned.items()}
        assert all(same[name] for name in same if name.startswith("encoder")) != changed
        assert not all(same[name] for name in same if not name.startswith("encoder"))


def test_a_run_that_is_over_or_was_begun_otherwise_is_not_gone_on_with(
    tmp_path, monkeypatch, capsys
):
    use_tiny(monkeypatch)
    data, out = make_data(tmp_path / "data"), tmp_path / "run"
    arguments = ["--data", str(data), "--out", str(out), "--device", "cpu", "--from-scratch"]
    assert command.main([*arguments, "--steps", "2"]) == 0
    capsys.readouterr()
    assert command.main([*arguments, "--steps", "2"]) == 2
    assert "holds a finished run" in capsys.readouterr().err
    assert command.main([*arguments, "--steps", "4", "--no-giou"]) == 2
    assert "other settings (weights)" in capsys.readouterr().err
    label = cv2.imread(str(data / "drawn" / "0_label.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(data / "drawn" / "0_label.png"), label * (label > 1))
    assert command.main([*arguments, "--steps", "4"]) == 2
    assert "labels have changed" in capsys.readouterr().err


def test_a_run_goes_on_with_a_copy_of_its_data(tmp_path, monkeypatch):
    """On another machine the files lie elsewhere and are newer; their content decides."""
    use_tiny(monkeypatch)
    data, out = make_data(tmp_path / "data"), tmp_path / "run"
    arguments = ["--out", str(out), "--device", "cpu", "--from-scratch"]
    assert command.main(["--data", str(data), *arguments, "--steps", "2"]) == 0
    copied = tmp_path / "copied"
    shutil.copytree(data, copied, copy_function=shutil.copyfile)
    assert command.main(["--data", str(copied), *arguments, "--steps", "4"]) == 0


def test_commercial_use_needs_a_start_that_allows_it(tmp_path, monkeypatch, capsys):
    use_tiny(monkeypatch)
    data, out = make_data(tmp_path / "data"), tmp_path / "run"
    table = (data / "catalog.csv").read_text().splitlines()
    licences = ["licence", *["CC0", "CC BY-NC"] * 3]
    lines = [f"{row},{licence}" for row, licence in zip(table, licences)]
    (data / "catalog.csv").write_text("\n".join(lines))
    arguments = ["--data", str(data), "--out", str(out), "--device", "cpu", "--steps", "2"]
    arguments += ["--licence", "commercial"]
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert "research use only" in capsys.readouterr().err
    assert command.main([*arguments, "--from-scratch"]) == 0
    record = weights.load(out / "weights.safetensors")[1]
    assert record["data"] == {"sources": ["drawn"], "licence": "commercial"}
    assert len(packing.Pack.load(out / "pack").starts) == 2
    given = ["--data", str(data), "--weights", str(out / "weights.safetensors"), *arguments[-2:]]
    labels = tmp_path / "labels"
    assert command.main(["validate", *given, "--split", "train", "--out", str(labels)]) == 0
    assert len(list(labels.glob("*_label.tiff"))) == 2


@pytest.mark.parametrize("drawn", [0, 2])
def test_labels_without_any_object_are_refused(tmp_path, monkeypatch, capsys, drawn):
    """However many cells are in the images that are drawn beside."""
    use_tiny(monkeypatch)
    data = make_data(tmp_path / "data")
    for path in (data / "drawn").glob("*_label.png"):
        cv2.imwrite(str(path), np.zeros_like(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
    arguments = ["--data", str(data), "--out", str(tmp_path / "run"), "--from-scratch"]
    arguments += ["--device", "cpu", "--steps", "2", "--set", f"synthetic={drawn}"]
    assert command.main(arguments) == 2
    assert "no object in the labels" in capsys.readouterr().err


def tuned(tmp_path, monkeypatch):
    """The arguments of two steps of `tune` with a tiny network on drawn data, and its start."""
    use_tiny(monkeypatch)
    monkeypatch.setattr(mixing, "SHARES", (0.0, 0.5))
    data, start = make_data(tmp_path / "data"), tmp_path / "start.safetensors"
    weights.save(start, blind_network().state_dict(), TINY)
    given = ["--data", data, "--out", tmp_path / "run", "--device", "cpu", "--schedule", "tune"]
    return [str(word) for word in given], ["--init", str(start)]


@pytest.mark.parametrize("part", ["mixing.mix", "outcome.write"])
def test_a_run_interrupted_after_its_last_step_is_finished_by_the_same_command(
    tmp_path, monkeypatch, capsys, part
):
    given, init = tuned(tmp_path, monkeypatch)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"training.{part}", interrupted)
        assert command.main([*given, *init, "--steps", "2"]) == 130
    assert not (tmp_path / "run" / "outcome.html").exists()
    capsys.readouterr()
    assert command.main([*given, "--steps", "2"]) == 0
    assert "Trying means" in capsys.readouterr().out
    assert (tmp_path / "run" / "outcome.html").exists()
    assert command.main([*given, "--steps", "2"]) == 2
    assert "holds a finished run" in capsys.readouterr().err


@pytest.mark.parametrize("f1, is_mixed", [(0.9, True), (0.0, False)])
def test_a_run_that_is_made_longer_has_to_beat_what_it_was_mixed_to(
    tmp_path, monkeypatch, f1, is_mixed
):
    """And what is no better than the start on all images is not taken."""
    given, init = tuned(tmp_path, monkeypatch)

    def mix(out, score, kept):
        shutil.copyfile(out / "weights.safetensors", out / "best.safetensors")
        return 0.3

    monkeypatch.setattr("training.mixing.mix", mix)
    monkeypatch.setattr(train.Validator, "mean_f1", lambda self, state, network: f1)
    assert command.main([*given, *init, "--steps", "2"]) == 0
    run = tmp_path / "run"
    described = checkpoints.checkpoint_run(run / "checkpoint.safetensors")
    assert (described["best"], described["best_step"]) == ((0.9, 2) if is_mixed else (0.0, 0))
    result = "weights.safetensors" if is_mixed else "start.safetensors"
    assert (run / "best.safetensors").read_bytes() == (run / result).read_bytes()


def test_damaged_validation_images_are_replaced_by_others(tmp_path):
    listing = [catalog.Entry("own", Path(f"{n}.png"), Path(f"{n}_label.png")) for n in range(20)]
    parts = own_data.share(listing)
    bad = {entry.image for entry in parts["val"]}

    def usable(entries, write):
        return [entry for entry in entries if entry.image not in bad]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_data, "usable", usable)
        patch.setattr(own_data, "has_whole_cell", lambda entry: True)
        training, judged = train.usable_parts(parts["train"], parts["val"], tmp_path)
    assert judged and training
    assert not {e.image for e in training} & {e.image for e in judged}
    assert len(training + judged) == 16


def test_the_choice_of_images_compares_each_a_few_times(tmp_path, monkeypatch):
    """Not each with all others, which took minutes for tens of thousands of images."""
    listing = [catalog.Entry("own", Path(f"{n}.png"), Path(f"{n}_label.png")) for n in range(300)]
    compared, equal = [], catalog.Entry.__eq__
    monkeypatch.setattr(catalog.Entry, "__eq__", lambda *pair: compared.append(1) or equal(*pair))
    monkeypatch.setattr(own_data, "usable", lambda entries, write: entries[1:])
    monkeypatch.setattr(own_data, "has_whole_cell", lambda entry: True)
    training, judged = train.usable_parts(listing[:240], listing[240:], tmp_path)
    assert len(training + judged) == 299
    assert len(compared) <= 300


def test_ones_own_folder_of_images_is_enough(tmp_path, capsys):
    """Images and labels side by side; what is wrong with them is told, the others are used."""
    rng = np.random.default_rng(1)
    folder, out = tmp_path / "mine", tmp_path / "run"
    folder.mkdir()
    for number in range(5):
        image, label = draw_image(rng, 100, 120)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        cv2.imwrite(str(folder / f"{number}_label.png"), np.minimum(label, 1 + 99 * number))
    cv2.imwrite(str(folder / "4_label.png"), label[1:])
    cv2.imwrite(str(folder / "alone.png"), image)
    arguments = ["--data", str(folder), "--out", str(out), "--device", "cpu", "--steps", "2"]
    with pytest.warns(UserWarning, match="no label image for alone.png"):
        assert command.main([*arguments, "--set", "crops=[[64,2]]", "synthetic=0"]) == 0
    told = "".join(capsys.readouterr())
    assert "0_label.png: its only label, 1, comes in" in told
    assert "4_label.png: its shape" in told and "left out" in told
    with (out / "validation.csv").open() as lines:
        scores = [float(row["mean"]) for row in csv.DictReader(lines)]
    assert len(scores) == 2  # of the weights that it starts from, and in the end
    assert max(scores) > 0
    assert "learned from and validated on as well" in told
    assert "2 steps in" in told and f"{max(scores):.4f}" in told
    weights.load(out / "best.safetensors")


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "o"), "--minutes", "1"]
    assert command.main(arguments) == 2
    assert "_label" in capsys.readouterr().err  # the naming that was expected
    missing = Path(tmp_path / "none.safetensors")
    data = str(make_data(tmp_path / "data"))
    given = ["--data", data, "--out", str(tmp_path / "o")]
    assert command.main([*given, "--init", str(missing)]) == 2
    assert "none.safetensors" in capsys.readouterr().err
    assert command.main([*given, "--from-scratch", "--schedule", "paper"]) == 2
    assert "--minutes or by --steps" in capsys.readouterr().err
    rows = [("s", name, "0_label.png", "val") for name in ("a.1.tif", "a_1.tif")]
    alike = write_catalogue(tmp_path / "alike", [*rows, ("s", "0.png", "0_label.png", "train")])
    assert command.main(["--data", str(alike), "--out", str(tmp_path / "o"), "--minutes", "1"]) == 2
    assert "a.1.tif and " in capsys.readouterr().err
    for wrong in (["--set", "colour=3"], ["--set", "ema=high"], ["--oversample", "drawn"]):
        with pytest.raises(SystemExit):
            command.main([*given, *wrong])
        assert wrong[-1].split("=")[0] in capsys.readouterr().err
