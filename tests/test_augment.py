"""Views: random affine maps of the packed images, and what the crops show."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional
from training_data import make_data

from app import images as files
from app.intensity import to_rgb8
from training import augment, catalog, packing, targets
from training.policies import POLICIES, Policy

SIDE = 64


@pytest.fixture
def listing(tmp_path):
    return catalog.entries(make_data(tmp_path / "data"), "train")


@pytest.fixture
def pack(listing, tmp_path):
    return packing.pack(listing, tmp_path / "pack")


def plain_view(image, matrix=((1.0, 0.0), (0.0, 1.0)), offset=(0.0, 0.0)):
    return augment.Views(
        torch.tensor([image]), torch.tensor([matrix]), torch.tensor([offset]), SIDE
    )


def draw(pack, policy, count, seed=0, side=SIDE, aimed=0.7, gaps=0.0):
    """Views of the pack's images in turn."""
    image = torch.arange(count) % len(pack.starts)
    sizes = tuple(bound[image] for bound in policy.bounds(pack))
    generator = torch.Generator().manual_seed(seed)
    return augment.random_views(pack, image, sizes, side, policy, aimed, gaps, generator)


def gather(pack, views):
    return augment.gather_crops(pack, views, pack.mixes[views.image])


def scales_of(views):
    """Crop pixels per image pixel."""
    return 1 / torch.det(views.matrix).abs().sqrt()


def test_the_identity_view_is_the_image_as_prediction_sees_it(pack, listing):
    images, objects, depths = gather(pack, plain_view(1, offset=(10.0, 20.0)))
    expected = to_rgb8(files.read(listing[1].image)[0])[20 : 20 + SIDE, 10 : 10 + SIDE]
    assert np.abs(images[0].permute(1, 2, 0).numpy() * 255 - expected).max() <= 2
    width, start = int(pack.widths[1]), int(pack.starts[1])
    rows = start + (torch.arange(SIDE)[:, None] + 20) * width + torch.arange(SIDE) + 10
    own = pack.objects[rows]
    assert torch.equal(objects[0], torch.where(own < 0, own, own + pack.first[1]).int())
    assert objects.max() >= pack.first[1] > 0
    assert torch.equal(depths[0], pack.depths[rows])


def test_quarter_turns_gather_the_turned_image_exactly(pack):
    """Crop pixel (x, y) shows image pixel (63 - y, x): the image turned clockwise."""
    straight = gather(pack, plain_view(0))
    turned = gather(pack, plain_view(0, ((0.0, 1.0), (-1.0, 0.0)), (0.0, 63.0)))
    for a, b in zip(straight, turned):
        assert torch.equal(torch.rot90(a, -1, (-2, -1)), b)


def test_outside_the_image_is_black_background(pack):
    lit = replace(pack, curves=torch.ones_like(pack.curves))  # even where black is converted to 1
    images, objects, depths = gather(lit, plain_view(0, offset=(-30.0, 0.0)))
    assert images[..., :30].max() == 0
    assert images[..., 30:].min() == 1
    assert (objects[..., :30] == -1).all()
    assert depths[..., :30].max() == 0


def test_between_pixels_levels_are_interpolated_linearly(pack):
    pack = replace(pack, curves=torch.linspace(0, 1, 256).expand(len(pack.starts), 3, 2, -1))
    pixels = gather(pack, plain_view(0))[0]
    between = gather(pack, plain_view(0, offset=(0.25, 0.5)))[0][..., :-1, :-1]
    columns = 0.75 * pixels[..., :-1] + 0.25 * pixels[..., 1:]
    assert torch.allclose(between, (columns[..., :-1, :] + columns[..., 1:, :]) / 2, atol=1e-6)


def test_random_views_show_what_plain_sampling_of_their_images_shows(pack):
    pack = replace(pack, curves=torch.linspace(0, 1, 256).expand(len(pack.starts), 3, 2, -1))
    views = draw(pack, POLICIES["strong"], 12)
    for x, y, image, *crop in zip(
        *augment.positions(views, "cpu"), views.image, *gather(pack, views)
    ):
        height, width = int(pack.heights[image]), int(pack.widths[image])
        part = slice(int(pack.starts[image]), int(pack.starts[image]) + height * width)
        planes, objects, depths = (
            torch.stack([getattr(pack, name)[part].view(height, width) for name in names])
            for names in (("red", "green", "blue"), ("objects",), ("depths",))
        )
        inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
        grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)[None]
        mixed = functional.grid_sample(
            planes[None] / 255, grid, padding_mode="border", align_corners=True
        )
        assert torch.allclose(crop[0], mixed[0] * inside, atol=1e-4)
        nearest = tuple((v + 0.5).long()[inside] for v in (y, x))
        own = objects[0][nearest]
        assert torch.equal(
            crop[1][inside], torch.where(own < 0, own, own + pack.first[image]).int()
        )
        assert torch.equal(crop[2][inside], depths[0][nearest])
        assert (crop[1][~inside] == -1).all()
        assert (crop[2][~inside] == 0).all()


def test_without_labels_a_crop_is_ignored(pack):
    images, _, _ = gather(pack, plain_view(0, offset=(-30.0, 0.0)))
    bare = replace(pack, objects=pack.objects[:0], depths=pack.depths[:0])
    again, objects, depths = gather(bare, plain_view(0, offset=(-30.0, 0.0)))
    assert torch.equal(again, images)
    assert (objects[..., 30:] == -2).all()
    assert (objects[..., :30] == -1).all()
    assert depths.max() == 0


@pytest.mark.parametrize("aimed", [0.0, 0.4, 1.0])
def test_a_share_of_the_crops_looks_near_an_object(pack, aimed):
    """All objects are in one corner of large images."""
    large = replace(pack, heights=pack.heights * 20, widths=pack.widths * 20)
    views = draw(large, POLICIES["none"], 1000, aimed=aimed)
    middle = views.matrix @ torch.full((2,), (SIDE - 1) / 2) + views.offset
    near = middle.amax(1) < 200
    assert near.float().mean().item() == pytest.approx(aimed, abs=0.05)


def corner_rows(pack, image):
    """Where the pixels (SIDE, SIDE) of an image's upper left corner lie in the pack."""
    ticks = torch.arange(SIDE)
    return pack.starts[image] + ticks[:, None] * pack.widths[image] + ticks


def test_the_mix_decides_between_the_two_conversions(pack):
    views = plain_view(2)
    level = pack.red[corner_rows(pack, 2)]
    for mix in (0.0, 0.3, 1.0):
        images, _, _ = augment.gather_crops(pack, views, torch.full((1, 3), mix))
        table = mix * pack.curves[2, 0, 0] + (1 - mix) * pack.curves[2, 0, 1]
        assert torch.allclose(images[0, 0], table[level.long()], atol=1e-6)


def test_a_look_up_is_linear_between_the_entries_of_each_channels_own_table():
    tables = torch.rand(2, 3, 256)
    levels = torch.tensor([0.0, 10.25, 254.5, 255.0]).expand(2, 3, 1, -1)
    expected = torch.stack(
        [
            tables[..., 0],
            0.75 * tables[..., 10] + 0.25 * tables[..., 11],
            (tables[..., 254] + tables[..., 255]) / 2,
            tables[..., 255],
        ],
        2,
    )
    found = augment.look_up(levels, tables)
    assert torch.allclose(found, expected[:, :, None], atol=1e-6)


def test_a_share_of_the_crops_looks_where_its_image_has_no_objects(pack):
    gaps = torch.tensor([[30.0, 20.0, 9.0]] * len(pack.starts))
    views = draw(replace(pack, gaps=gaps), POLICIES["none"], 60, side=8, gaps=1.0, aimed=0.0)
    centre = (views.matrix @ torch.full((2, 1), 3.5))[..., 0] + views.offset
    assert ((centre - torch.tensor([30.0, 20.0])).abs() <= 9 - 4 + 1).all()
    assert centre.std(0).min() > 1


@pytest.mark.parametrize("policy", ["none", "mild", "strong", "wide"])
def test_a_part_of_the_views_shows_what_it_shows_as_part_of_the_whole(pack, policy):
    views = draw(pack, POLICIES[policy], 12, side=53)
    whole = gather(pack, views)
    for index in (slice(3, 4), slice(4, 12), torch.tensor([7, 0])):
        for all_crops, crops in zip(whole, gather(pack, views.select(index))):
            assert torch.equal(all_crops[index], crops)


def test_the_same_generator_draws_the_same_views(pack):
    first, again, other = (draw(pack, POLICIES["strong"], 8, seed) for seed in (1, 1, 2))
    assert torch.equal(first.matrix, again.matrix)
    assert torch.equal(first.offset, again.offset)
    assert not torch.equal(first.offset, other.offset)


def test_without_rotation_and_rescaling_all_eight_orientations_show_whole_pixels(pack):
    views = draw(pack, POLICIES["none"], 96)
    assert len({tuple(matrix.flatten().tolist()) for matrix in views.matrix}) == 8
    x, y = augment.positions(views, "cpu")
    assert torch.equal(x, x.round())
    assert torch.equal(y, y.round())
    assert (x >= 0).all()
    assert (y >= 0).all()
    assert (x < pack.widths[views.image][:, None, None]).all()
    assert (y < pack.heights[views.image][:, None, None]).all()


def test_free_rotation_reaches_every_angle_and_keeps_the_scale(pack):
    views = draw(pack, Policy(free_rotation=1.0), 400)
    angle = torch.atan2(views.matrix[:, 1, 0], views.matrix[:, 0, 0])
    assert torch.histc(angle, 12).min() > 10
    assert torch.allclose(scales_of(views), torch.ones(400), atol=1e-5)


@pytest.mark.parametrize("policy", ["mild", "strong"])
def test_a_share_of_the_crops_is_rescaled(pack, policy):
    policy = POLICIES[policy]
    scale = scales_of(draw(pack, policy, 2000))
    assert ((scale - 1).abs() > 1e-4).float().mean() == pytest.approx(policy.rescaled, abs=0.04)


@pytest.mark.parametrize(
    "policy, least, most, low, high",
    [
        ("mild", 8, 96, 0.5, 2.0),  # 4 / 8 and 192 / 96
        ("mild", 3, 9, 1.0, 4.0),  # small already; and the largest scale
        ("mild", 10, 400, 0.4, 1.0),  # large already
        ("strong", 12, 12, 0.5, 2.5),
        ("strong", 5, 5, 1.0, 2.5),
        ("strong", 100, 100, 0.4, 1.6),
        ("strong", 800, 800, 0.2, 1.0),  # smaller than the least scale, to become 160
    ],
)
def test_scales_keep_the_least_object_visible_and_the_largest_whole(policy, least, most, low, high):
    sizes = (torch.full((4000,), float(least)), torch.full((4000,), float(most)))
    scale = augment.random_scales(sizes, POLICIES[policy], torch.Generator().manual_seed(0))
    assert scale.min().item() == pytest.approx(low, rel=5e-3)
    assert scale.max().item() == pytest.approx(high, rel=5e-3)
    middle = (low * high) ** 0.5 if policy == "strong" else (low + high) / 2
    assert scale.median().item() == pytest.approx(middle, rel=0.05)


def test_typical_objects_bound_the_scales_of_strong_and_extreme_ones_those_of_mild(pack):
    typical, same = POLICIES["strong"].bounds(pack)
    least, most = POLICIES["mild"].bounds(pack)
    assert torch.equal(typical, same)
    assert (least < typical).all()
    assert (most > typical).all()


def test_aspects_spread_around_one_and_keep_the_area(pack):
    policy = Policy(rescaled=1.0, least_scale=1.0, largest_scale=1.0, aspect_std=0.05)
    views = draw(pack, policy, 1000)
    width, height = views.matrix.norm(dim=1).unbind(1)
    assert torch.allclose(width * height, torch.ones(1000), atol=1e-5)
    assert (width / height).log().std().item() == pytest.approx(0.1, rel=0.1)


def test_views_of_images_without_objects_can_be_drawn(pack):
    empty = replace(pack, counts=torch.zeros_like(pack.counts), polygons=pack.polygons[:0])
    sizes = (torch.full((6,), 32.0),) * 2
    generator = torch.Generator().manual_seed(0)
    image = torch.arange(6) % 3
    views = augment.random_views(empty, image, sizes, SIDE, POLICIES["strong"], 0.7, 0.0, generator)
    assert views.offset.isfinite().all()


def test_polygons_follow_the_pixels_through_turns_and_scales(pack):
    """The map that moves pixels moves polygons: a contour drawn is the mask gathered."""
    views = draw(pack, POLICIES["strong"], 24, seed=3)
    _, objects, _ = gather(pack, views)
    compared = 0
    for crop in range(len(views.image)):
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
