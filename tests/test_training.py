"""Training: packed images, crops, targets on the grid, steps that learn, exact resume."""

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY

from app.network import weights
from app.network.cpn import CPN
from app.training import __main__ as command
from app.training import augment, catalog, engine, losses, schedule, targets
from app.training.recipe import Recipe

RECIPE = Recipe(minutes=1, crops=((64, 3), (96, 2)), cells=64, samples=16)


def make_data(folder, count=3, side=120):
    """A small data folder: bright ellipses on dark, `count` images each of train and val."""
    rng = np.random.default_rng(0)
    rows = []
    (folder / "drawn").mkdir(parents=True)
    for number in range(2 * count):
        image = rng.integers(0, 40, (side, side + 7 * number), np.uint8)
        label = np.zeros(image.shape, np.uint16)
        for k in range(5):
            centre = (15 + 22 * k, int(rng.integers(20, side - 20)))
            axes = (int(rng.integers(6, 9)), int(rng.integers(6, 14)))
            cv2.ellipse(label, centre, axes, int(rng.integers(180)), 0, 360, k + 1, -1)
        image[label > 0] += 150
        cv2.imwrite(str(folder / "drawn" / f"{number}.png"), image)
        cv2.imwrite(str(folder / "drawn" / f"{number}_label.png"), label)
        split = "train" if number < count else "val"
        rows.append(("drawn", f"{number}.png", f"{number}_label.png", split))
    with (folder / "catalog.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("source", "image", "label", "split"))
        writer.writerows(rows)
    return folder


@pytest.fixture
def pack(tmp_path):
    return catalog.pack(catalog.entries(make_data(tmp_path / "data"), "train"))


def plain_view(image, side, matrix=((1.0, 0.0), (0.0, 1.0)), offset=(0.0, 0.0)):
    return augment.Views(
        torch.tensor([image]), torch.tensor([matrix]), torch.tensor([offset]), side
    )


def test_a_pack_holds_every_pixel_and_object(tmp_path):
    folder = make_data(tmp_path / "data")
    listing = catalog.entries(folder, "train")
    pack = catalog.pack(listing)
    for number, entry in enumerate(listing):
        image = cv2.imread(str(entry.image), cv2.IMREAD_UNCHANGED)
        label = cv2.imread(str(entry.label), cv2.IMREAD_UNCHANGED).astype(int)
        size = int(pack.heights[number] * pack.widths[number])
        start = int(pack.starts[number])
        objects = pack.objects[start : start + size].reshape(label.shape).numpy()
        for row in range(pack.first[number], pack.first[number] + pack.counts[number]):
            values = np.unique(label[objects == row])
            assert len(values) == 1
            assert ((label == values[0]) == (objects == row)).all()
        assert ((objects == -1) == (label == 0)).all()
        assert pack.colours[start : start + size].numel() == image.size
    pack.save(tmp_path / "pack")
    again = catalog.Pack.load(tmp_path / "pack")
    assert all(torch.equal(a, b) for a, b in zip(vars(pack).values(), vars(again).values()))


def test_fragmented_and_tiny_objects_are_ignored():
    label = np.zeros((30, 40), np.int32)
    label[2:8, 2:8] = 7
    label[10:14, 2:6] = label[20:24, 20:24] = 9  # two pieces
    label[28, 30:33] = 4  # three pixels
    owner, depth, outlines = catalog.describe_objects(label)
    assert len(outlines) == 1
    assert (owner[label == 7] == 0).all()
    assert (owner[label == 9] == -2).all()
    assert (owner[label == 4] == -2).all()
    assert (owner[label == 0] == -1).all()
    assert depth[label == 7].max() == 255
    assert depth[owner < 0].max() == 0


def test_an_empty_label_image_can_be_packed():
    owner, depth, outlines = catalog.describe_objects(np.zeros((5, 6), np.int32))
    assert (owner == -1).all()
    assert depth.max() == 0
    assert outlines == []


def test_a_missing_catalogue_or_split_is_named(tmp_path):
    with pytest.raises(ValueError, match="catalog.csv"):
        catalog.entries(tmp_path, "train")
    with pytest.raises(ValueError, match="'test'"):
        catalog.entries(make_data(tmp_path / "data"), "test")


def test_the_identity_view_is_the_image_itself(pack):
    view = plain_view(1, 64, offset=(10.0, 20.0))
    images, objects, depths = augment.gather_crops(pack, view)
    width, start = int(pack.widths[1]), int(pack.starts[1])
    rows = start + (torch.arange(64)[:, None] + 20) * width + torch.arange(64) + 10
    assert torch.allclose(images[0, 0] * 255, (pack.colours[rows] & 255).float(), atol=1e-3)
    assert torch.equal(objects[0], pack.objects[rows])
    assert torch.equal(depths[0], pack.depths[rows])


def test_quarter_turns_gather_the_turned_image_exactly(pack):
    """Crop pixel (x, y) shows image pixel (63 - y, x): the image turned clockwise."""
    straight = augment.gather_crops(pack, plain_view(0, 64))
    view = plain_view(0, 64, ((0.0, 1.0), (-1.0, 0.0)), (0.0, 63.0))
    turned = augment.gather_crops(pack, view)
    for a, b in zip(straight, turned):
        assert torch.allclose(torch.rot90(a, -1, (-2, -1)).float(), b.float(), atol=1e-4)


def test_outside_the_image_is_black_background(pack):
    images, objects, depths = augment.gather_crops(pack, plain_view(0, 64, offset=(-500.0, 0.0)))
    assert images.max() == 0
    assert (objects == -1).all()
    assert depths.max() == 0


def test_drawn_views_are_inside_and_polygons_follow_the_pixels(pack):
    """The map that moves pixels moves polygons: a contour drawn is the mask gathered."""
    draw = torch.Generator().manual_seed(3)
    image = torch.tensor([0, 1, 2] * 8)
    views = augment.draw_views(pack, image, engine.typical_sizes(pack)[image], 64, draw)
    _, objects, _ = augment.gather_crops(pack, views)
    compared = 0
    for crop in range(len(image)):
        for owner in objects[crop].unique():
            mask = (objects[crop] == owner).numpy()
            border = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
            if owner < 0 or border or mask.sum() < 150:
                continue
            row = torch.tensor([crop])
            contour = targets.object_contours(pack, views, row, owner[None].long())[0]
            filled = np.zeros(mask.shape, np.uint8)
            cv2.fillPoly(filled, [contour.round().int().numpy()], 1)
            overlap = (mask & (filled > 0)).sum() / (mask | (filled > 0)).sum()
            assert overlap > 0.8
            compared += 1
    assert compared >= 10


def test_intensities_stay_in_range_and_are_reproducible():
    images = torch.rand(16, 3, 32, 32)
    first = augment.change_intensities(images.clone(), torch.Generator().manual_seed(5))
    again = augment.change_intensities(images.clone(), torch.Generator().manual_seed(5))
    other = augment.change_intensities(images.clone(), torch.Generator().manual_seed(6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 1


def disc_batch(radius=8, side=64):
    """One crop with a disc in the middle: objects, depths as from gather_crops."""
    label = np.zeros((side, side), np.int32)
    cv2.circle(label, (side // 2, side // 2), radius, 1, -1)
    owner, depth, _ = catalog.describe_objects(label)
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
            owner, depth, _ = catalog.describe_objects(label)
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
    draw = torch.Generator().manual_seed(0)
    small = 0
    for _ in range(50):
        crop, row, column = targets.choose_cells(owner, foreground, 8, draw)
        assert len(crop) == 8
        assert len({(r, c) for r, c in zip(row.tolist(), column.tolist())}) == 8
        small += (owner[crop, row, column] == 1).sum().item()
    assert small / 50 > 2  # of 4 cells in 1600; by area it would be 0.02
    assert len(targets.choose_cells(owner, foreground, 5000, draw)[0]) == 1600


def test_contours_that_leave_the_crop_are_clipped_to_it(pack):
    view = plain_view(0, 20, offset=tuple((pack.polygons[0].mean(0) - 3).tolist()))
    contour = targets.object_contours(pack, view, torch.tensor([0]), torch.tensor([0]))
    assert contour.min() >= 0
    assert contour.max() <= 19


def test_a_disc_goes_to_targets_to_maps_to_a_proposal_and_is_the_disc_again(pack):
    """Decision 10 along the whole way: what training asks for is what prediction draws."""
    objects, depths, label = disc_batch()
    polygon = torch.stack(catalog.describe_objects(label)[2])
    pack = replace(pack, polygons=polygon)
    draw = torch.Generator().manual_seed(0)
    config = replace(TINY, order=8, samples=64)
    view = plain_view(0, 64)
    found = targets.make_targets(pack, view, objects, depths, config, RECIPE, draw)
    network = CPN(config).eval()
    maps = network(torch.zeros(1, 3, 64, 64))
    maps = maps._replace(
        location=torch.zeros_like(maps.location),
        fourier=torch.zeros_like(maps.fourier),
        refinement=torch.zeros_like(maps.refinement),
    )
    crop, row, column = found.cells
    offset = (found.centres - network.grid_points(row, column)) / config.contour_scale
    maps.location[crop, :, row, column] = offset
    maps.fourier[crop, :, row, column] = found.coefficients.flatten(1) / config.contour_scale
    proposals = network.propose(maps, found.cells, (64, 64), iterations=0)
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

    proposals = state.network.propose(maps, found.cells, images.shape[-2:], found.t, 1)
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
    view = augment.draw_views(pack, image, torch.full((count,), 9.0), side, state.draw)
    found = targets.make_targets(
        pack, view, objects, torch.zeros_like(objects).byte(), TINY, RECIPE, state.draw
    )
    terms = engine.train_step(state, (images, found), RECIPE)
    assert terms["contour"] == terms["boundary"] == terms["uncertainty"] == 0
    assert terms["object"] > 0


def new_run(seed=0, recipe=RECIPE, pack=None):
    torch.manual_seed(seed)
    network = CPN(TINY)
    state = engine.new_state(network, recipe, "cpu")
    return state, engine.Sampler(pack, network.config, recipe, state.draw)


def test_targets_of_a_batch_describe_the_chosen_cells(pack):
    state, sampler = new_run(pack=pack)
    for _ in range(6):
        images, found = sampler()
        assert images.shape[2] in (64, 96)
        assert 0 <= images.min() <= images.max() <= 1
        k = len(found.cells[0])
        assert found.foreground[found.cells].all()
        assert found.contours.shape == (k, RECIPE.samples, 2)
        assert found.coefficients.shape == (k, TINY.order, 4)
        inside = (found.centres >= found.boxes[:, :2]) & (found.centres <= found.boxes[:, 2:])
        assert inside.all()
        # Points at drawn t lie within the outline's extent.
        assert (found.contours.amin(1) >= found.boxes[:, :2] - 1e-3).all()
        assert (found.contours.amax(1) <= found.boxes[:, 2:] + 1e-3).all()


def test_a_network_learns_one_batch(pack):
    recipe = replace(RECIPE, learning_rate=3e-3, warm_up=0.0)
    state, sampler = new_run(recipe=recipe, pack=pack)
    batch = sampler()
    found = [engine.train_step(state, batch, recipe)["loss"] for _ in range(40)]
    assert np.mean(found[-5:]) < 0.7 * np.mean(found[:5])


def test_a_loss_that_is_not_finite_stops_the_run(pack):
    state, sampler = new_run(pack=pack)
    with torch.no_grad():
        next(state.network.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 0"):
        engine.train_step(state, sampler(), RECIPE)


def test_a_resumed_run_is_the_uninterrupted_one(pack, tmp_path):
    """Same batches, same losses, same weights: everything that matters is in the checkpoint."""

    def go(state, sampler, steps):
        found = []
        for _ in range(steps):
            found.append(engine.train_step(state, sampler(), RECIPE)["loss"])
            state.seconds += 7.0
        return found

    straight, sampler = new_run(pack=pack)
    expected = go(straight, sampler, 6)
    first, sampler = new_run(pack=pack)
    found = go(first, sampler, 3)
    engine.save_checkpoint(tmp_path / "checkpoint.safetensors", first)
    second, sampler = new_run(seed=99, pack=pack)
    engine.load_checkpoint(tmp_path / "checkpoint.safetensors", second)
    found += go(second, sampler, 3)
    assert found == expected
    assert (second.step, second.seconds) == (straight.step, straight.seconds)
    for a, b in (
        (straight.network, second.network),
        (straight.average, second.average),
    ):
        for x, y in zip(a.state_dict().values(), b.state_dict().values()):
            assert torch.equal(x, y)


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
    recipe = Recipe(minutes=1, learning_rate=1.0, warm_up=0.1)
    rates = [schedule.learning_rate(p / 100, recipe) for p in range(101)]
    top = int(np.argmax(rates))
    assert top == 10
    assert rates[top] == pytest.approx(1.0)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_every_source_has_a_share_and_large_ones_do_not_drown_the_others():
    pack = type("P", (), {"sources": torch.tensor([0] * 100 + [1] * 4)})
    chances = engine.image_chances(pack, Recipe(minutes=1, source_power=0.5))
    assert chances[:100].sum().item() == pytest.approx(10)
    assert chances[100:].sum().item() == pytest.approx(2)


def test_the_command_trains_validates_and_goes_on(tmp_path, monkeypatch, capsys):
    """The real command on drawn data with a tiny preset: every file that a run leaves."""
    data, out = make_data(tmp_path / "data"), tmp_path / "run"
    monkeypatch.setitem(command.PRESETS, "compact", replace(TINY, window=128, window_stride=96))
    monkeypatch.setattr(command, "Recipe", lambda **given: replace(RECIPE, **given))
    arguments = ["--data", str(data), "--out", str(out), "--device", "cpu", "--minutes"]
    assert command.main([*arguments, "0.05"]) == 0
    _, record = weights.load(out / "weights.safetensors")
    assert record["steps"] > 0
    with (out / "validation.csv").open() as lines:
        assert {"mean", "median", "macro", "drawn"} <= set(next(csv.DictReader(lines)))
    assert command.main([*arguments, "0.1"]) == 0
    assert "Going on from step" in capsys.readouterr().out
    assert weights.load(out / "weights.safetensors")[1]["steps"] > record["steps"]
    given = ["--data", str(data), "--weights", str(out / "weights.safetensors")]
    assert command.main(["validate", *given, "--out", str(tmp_path / "labels")]) == 0
    assert "macro" in capsys.readouterr().out
    assert len(list((tmp_path / "labels" / "drawn").glob("*_label.tiff"))) == 3
    assert command.main(["calibrate", *given]) == 0
    config = weights.load(out / "weights.safetensors")[0].config
    stored = f"{config.window}/{config.window_stride}, threshold {config.score_threshold}"
    assert f"stored: windows {stored}" in capsys.readouterr().out
    assert command.main([*arguments, "1", "--init", str(out / "weights.safetensors")]) == 2
    assert "holds a run already" in capsys.readouterr().err
    (out / "checkpoint.safetensors").write_bytes(b"damaged")
    assert command.main([*arguments, "1"]) == 2
    assert "no checkpoint" in capsys.readouterr().err


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "o"), "--minutes", "1"]
    assert command.main(arguments) == 2
    assert "catalog.csv" in capsys.readouterr().err
    missing = Path(tmp_path / "none.safetensors")
    assert command.main([*arguments, "--init", str(missing)]) == 2
    assert "none.safetensors" in capsys.readouterr().err
