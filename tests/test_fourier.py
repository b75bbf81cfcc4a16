"""Contours and Fourier coefficients: equation 2 both ways, canonical form, the pixel convention."""

import cv2
import numpy as np
import pytest
import torch

from app.cells import Cells
from app.network import fourier
from app.rasterize import rasterize
from training.packing import describe_objects, read_label


def drawn(contour, shape):
    """Mask of one contour (S, 2), by the product's own drawing."""
    contour = np.asarray(contour, np.float32)[None]
    box = np.concatenate([contour.min(1), contour.max(1)], 1)
    cells = Cells(contour, box, np.ones(1, np.float32), np.zeros((1, 4), np.float32))
    return rasterize(cells, shape)[0] > 0


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def random_polygons(count, points, seed=0):
    """Smooth lobed polygons (count, points, 2), clockwise on screen, around random centres."""
    draw = torch.Generator().manual_seed(seed)
    angle = torch.arange(points) / points * 2 * torch.pi
    lobes = torch.arange(1, 5)[:, None]
    phase = 6.28 * torch.rand(count, 4, 1, generator=draw)
    radius = 12 + (2 * (lobes * angle + phase).cos()).sum(1)
    shape = torch.stack([radius * angle.cos(), radius * angle.sin()], -1)
    return shape + 100 * torch.rand(count, 1, 2, generator=draw)


def test_coefficients_give_back_a_contour_and_a_contour_its_coefficients():
    draw = torch.Generator().manual_seed(0)
    coefficients = torch.randn(5, 7, 4, generator=draw)
    centre = torch.randn(5, 2, generator=draw)
    contour = fourier.to_contour(coefficients, centre, fourier.uniform_locations(32))
    again, centre_again = fourier.from_contour(contour, 7)
    assert torch.allclose(again, coefficients, atol=1e-5)
    assert torch.allclose(centre_again, centre, atol=1e-5)


def test_equation_2_by_hand():
    """x = 1 + 2 sin, y = 3 + 4 cos at t = 0, 1/4, 1/2: a, b, c, d = 2, 0, 0, 4."""
    contour = fourier.to_contour(
        torch.tensor([[2.0, 0.0, 0.0, 4.0]]),
        torch.tensor([1.0, 3.0]),
        torch.tensor([0, 0.25, 0.5]),
    )
    assert torch.allclose(contour, torch.tensor([[1.0, 7], [3, 3], [1, -1]]), atol=1e-5)


@pytest.mark.parametrize("radius", [4, 5, 8, 15, 40])
def test_mask_to_polygon_to_fourier_to_mask_keeps_discs(radius):
    """Decision 10: IoU of at least 0.95 for discs of radius 4 and more."""
    y, x = np.mgrid[: 2 * radius + 9, : 2 * radius + 11]
    disc = (x - radius - 4) ** 2 + (y - radius - 5) ** 2 <= radius**2
    _, _, outlines = describe_objects(disc.astype(np.int32))
    contour = fourier.canonical(outlines, 128)
    coefficients, centre = fourier.from_contour(contour, 10)
    again = fourier.to_contour(coefficients, centre, fourier.uniform_locations(64))[0]
    assert iou(drawn(again, disc.shape), disc) >= 0.95


def test_real_objects_survive_the_round_trip(data):
    """Every object of a crowded image: mean IoU above 0.97 at the shipped order."""
    label = read_label(data / "tnbc" / "01_1_label.png", (512, 512))
    owner, _, outlines = describe_objects(label)
    contours = fourier.canonical(outlines, 128)
    coefficients, centres = fourier.from_contour(contours, 10)
    again = fourier.to_contour(coefficients, centres, fourier.uniform_locations(64)).numpy()
    ious = []
    for row, contour in enumerate(again):
        ious.append(iou(drawn(contour, label.shape), owner == row))
    assert len(ious) > 10
    assert np.mean(ious) > 0.97
    assert np.min(ious) > 0.85


def test_resampling_keeps_a_uniform_polygon_and_walks_by_arc_length():
    square = torch.tensor([[[0.0, 0], [4, 0], [4, 4], [0, 4]]])
    walked = fourier.resample(square, torch.tensor([0, 1 / 8, 1 / 4, 0.5, 15 / 16]))
    assert torch.allclose(walked, torch.tensor([[[0.0, 0], [2, 0], [4, 0], [4, 4], [0, 1]]]))
    same = fourier.resample(square, fourier.uniform_locations(4))
    assert torch.allclose(same, square)


def test_resampling_one_pixel_gives_that_pixel():
    point = torch.full((1, 6, 2), 3.0)
    assert fourier.resample(point, fourier.uniform_locations(5)).eq(3).all()
    assert fourier.canonical(point, 8).eq(3).all()


def test_canonical_form_forgets_start_and_direction():
    polygons = random_polygons(20, 64)
    form = fourier.canonical(polygons, 128)
    rolled = fourier.canonical(polygons.roll(17, 1), 128)
    reversed_ = fourier.canonical(polygons.flip(1), 128)
    # The polygon is resampled from another start: points move by part of a step along it.
    assert (form - rolled).norm(dim=-1).mean() < 0.5
    assert (form - reversed_).norm(dim=-1).mean() < 0.5
    centres = [contour.mean(1) for contour in (form, rolled, reversed_)]
    assert (centres[0] - centres[1]).abs().max() < 0.1
    assert (centres[0] - centres[2]).abs().max() < 0.1


def test_canonical_form_starts_right_of_the_centre_and_goes_clockwise_on_screen():
    form = fourier.canonical(random_polygons(50, 64, seed=1).flip(1), 128)
    relative = form - form.mean(1, keepdim=True)
    angle = torch.atan2(relative[..., 1], relative[..., 0])
    assert angle[:, 0].abs().max() < 0.1
    assert (angle[:, 16] > angle[:, 0]).all()  # y grows downwards: clockwise


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_rotated_and_flipped_masks_have_the_targets_of_the_new_mask(quarters, flip):
    """Transforming the polygon equals extracting it from the transformed mask (decision 2)."""
    mask = np.zeros((60, 60), np.uint8)
    cv2.ellipse(mask, (34, 25), (18, 9), 25, 0, 360, 1, -1)
    cv2.circle(mask, (25, 30), 9, 1, -1)
    turned = np.rot90(mask[:, ::-1] if flip else mask, quarters)
    polygon = describe_objects(mask.astype(np.int32))[2]
    if flip:
        polygon = torch.stack([59 - polygon[..., 0], polygon[..., 1]], -1)
    for _ in range(quarters):  # counter-clockwise on screen
        polygon = torch.stack([polygon[..., 1], 59 - polygon[..., 0]], -1)
    extracted = describe_objects(np.ascontiguousarray(turned, np.int32))[2]
    moved = fourier.canonical(polygon, 128)
    fresh = fourier.canonical(extracted, 128)
    assert (moved - fresh).abs().max() < 1.0
