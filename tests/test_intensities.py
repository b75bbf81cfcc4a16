"""Intensities: what each change does, what a policy draws, and that parts of a batch agree."""

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch

from training import intensities
from training.policies import POLICIES, Blurs, Chance, Colours, Policy

COUNT = 24


def draw(policy, grey=False, count=COUNT, seed=0, photograph=True):
    """Changes of grey crops, of photographs or of those whose channels are stains."""
    generator = torch.Generator().manual_seed(seed)
    kinds = (torch.full((count,), kind) for kind in (grey, photograph and not grey))
    return intensities.random_changes(policy, *kinds, generator)


def random_crops(count=COUNT, grey=False, height=37, width=45):
    """Crops of whole 8-bit levels, random in every pixel."""
    levels = torch.randint(256, (count, 1 if grey else 3, height, width)).float() / 255
    return levels.expand(-1, 3, -1, -1).clone()


def changed(images, policy, grey=False, photograph=True):
    changes = draw(policy, grey, len(images), photograph=photograph)
    return intensities.apply_changes(images, changes)


def is_grey(images):
    return torch.allclose(images, images[:, :1].expand_as(images), atol=1e-6)


def point_crop():
    """One black crop with a bright pixel at x = 22, y = 18."""
    images = torch.zeros(1, 3, 37, 45)
    images[:, :, 18, 22] = 1
    return images


def opencv(function, image):
    """What an OpenCV function makes of a crop (3, h, w)."""
    return torch.from_numpy(function(image.permute(1, 2, 0).numpy().copy())).permute(2, 0, 1)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_part_of_a_batch_changes_bit_for_bit_as_in_the_whole(policy):
    images = random_crops()
    kinds = torch.arange(COUNT) % 3
    generator = torch.Generator().manual_seed(0)
    changes = intensities.random_changes(POLICIES[policy], kinds == 0, kinds == 1, generator)
    whole = intensities.apply_changes(images, changes)
    for index in (slice(0, 1), slice(5, 17), torch.tensor([20, 3])):
        part = intensities.apply_changes(images[index], changes.select(index))
        assert torch.equal(part, whole[index])


def test_the_order_of_memory_makes_no_difference_and_the_given_crops_stay_as_they_are():
    images = random_crops()
    given = images.clone()
    rearranged = images.contiguous(memory_format=torch.channels_last)
    first, second = changed(images, POLICIES["strong"]), changed(rearranged, POLICIES["strong"])
    assert torch.equal(first, second)
    assert not torch.equal(first, given)
    assert torch.equal(images, given)
    assert torch.equal(rearranged, given)


@pytest.mark.parametrize("policy", ["mild", "strong", "wide"])
@pytest.mark.parametrize("grey", [False, True])
def test_intensities_stay_in_range_and_are_reproducible(policy, grey):
    images, policy = random_crops(200, grey), POLICIES[policy]
    first, again, other = (
        intensities.apply_changes(images, draw(policy, grey, 200, seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 1


def test_without_a_policy_intensities_stay_bit_for_bit():
    images = random_crops()
    assert torch.equal(changed(images, POLICIES["none"]), images)


def test_highlights_of_dark_crops_are_lost():
    images = random_crops() ** 8
    found = changed(images, Policy(exposure=Chance(1.0, 3.0, 3.0)))
    assert torch.allclose(found, (3 * images).clamp(max=1))
    assert (found == 1).any()


def test_bright_crops_are_not_exposed_until_all_is_white():
    bright = 0.8 + random_crops() / 5
    policy = Policy(exposure=Chance(1.0, 12.0, 12.0))
    assert torch.allclose(changed(bright, policy), bright)
    assert changed(random_crops() ** 3, policy).mean() < 0.55


def test_gamma_is_a_power():
    images = random_crops()
    found = changed(images, Policy(gamma=Chance(1.0, 1.5, 1.5)))
    assert torch.allclose(found, images**1.5, atol=1e-5)


def test_gamma_brightens_as_often_as_it_darkens():
    gamma = draw(Policy(gamma=Chance(1.0, 0.25, 4.0)), count=2000).gamma
    assert gamma.min() >= 0.25
    assert gamma.max() <= 4
    assert (gamma > 1).float().mean() == pytest.approx(0.5, abs=0.05)


def test_contrast_spreads_around_the_mean():
    images = random_crops()
    found = changed(images, Policy(contrast=Chance(1.0, 0.5, 0.5)))
    assert torch.allclose(found.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1e-4)
    assert torch.allclose(found.std((1, 2, 3)), images.std((1, 2, 3)) / 2, atol=1e-4)


def test_brightness_is_added():
    images = random_crops() / 2
    found = changed(images, Policy(brightness=Chance(1.0, 0.2, 0.2)))
    assert torch.allclose(found, images + 0.2, atol=1e-5)


def test_a_gradient_brightens_one_side_as_much_as_it_darkens_the_other():
    images = torch.full((COUNT, 3, 37, 45), 0.5)
    found = changed(images, Policy(gradient=Chance(1.0, 0.4, 0.4)))
    assert torch.allclose(found + found.flip(2, 3), torch.ones_like(found), atol=1e-5)
    across, down = found[:, 0, 18, -1] - 0.5, found[:, 0, -1, 22] - 0.5
    assert torch.allclose(torch.hypot(across, down), torch.full((COUNT,), 0.2), atol=1e-5)


def test_a_vignette_darkens_the_corners_alone():
    found = changed(torch.ones(4, 3, 37, 45), Policy(vignette=Chance(1.0, 0.3, 0.3)))
    assert torch.allclose(found[:, :, 18, 22], torch.ones(4, 3))
    assert torch.allclose(found[:, :, [0, 0, -1, -1], [0, -1, 0, -1]], torch.tensor(0.7))


def test_the_median_is_opencvs_and_removes_a_single_hot_pixel():
    policy = Policy(blurs=Blurs(median=1.0))
    assert changed(point_crop(), policy).max() == 0
    images = random_crops(2)
    for image, found in zip(images, changed(images, policy)):
        eight = (image * 255).round().to(torch.uint8)
        expected = opencv(lambda pixels: cv2.medianBlur(pixels, 3), eight)
        assert torch.equal((found * 255).round().to(torch.uint8), expected)


def test_box_and_gaussian_blur_are_opencvs():
    images = random_crops(2)
    box = changed(images, Policy(blurs=Blurs(box=1.0)))
    gaussian = changed(images, Policy(blurs=Blurs(gaussian=1.0, sigma=(1.2, 1.2))))
    border = cv2.BORDER_REPLICATE
    for image, a, b in zip(images, box, gaussian):
        expected = opencv(lambda pixels: cv2.blur(pixels, (3, 3), borderType=border), image)
        assert torch.allclose(a, expected, atol=1e-5)
        expected = opencv(
            lambda pixels: cv2.GaussianBlur(pixels, (7, 7), 1.2, borderType=border), image
        )
        assert torch.allclose(b, expected, atol=1e-5)


def test_horizontal_motion_spreads_a_point_along_its_row_alone():
    kernel = intensities.line_kernels(torch.tensor([5.0]), torch.tensor([0.0]))
    found = intensities.blur(point_crop(), kernel)
    assert torch.allclose(found[:, :, 18, 20:25], torch.tensor(0.2), atol=1e-6)
    assert found.sum().item() == pytest.approx(3, abs=1e-5)


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 120, 155])
def test_motion_spreads_along_its_angle(degrees):
    angle = torch.tensor([np.deg2rad(degrees)], dtype=torch.float32)
    kernel = intensities.line_kernels(torch.tensor([7.0]), angle)[0].numpy()
    y, x = np.mgrid[-3:4, -3:4]
    along = x * np.cos(angle.item()) + y * np.sin(angle.item())
    across = y * np.cos(angle.item()) - x * np.sin(angle.item())
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert (kernel * along**2).sum() > 3
    assert (kernel * across**2).sum() < 0.25


def test_every_blur_keeps_the_mean_of_a_crop_with_an_even_border():
    images = torch.full((COUNT, 3, 37, 45), 0.3)
    images[:, :, 10:-10, 10:-10] = random_crops(COUNT, False, 17, 25)
    for blurs in (Blurs(motion=1.0), Blurs(box=1.0), Blurs(gaussian=1.0)):
        found = changed(images, Policy(blurs=blurs))
        assert not torch.allclose(found, images, atol=0.05)
        assert torch.allclose(found.mean((2, 3)), images.mean((2, 3)), atol=1e-5)


def test_noise_has_its_standard_deviation_and_is_each_channels_own():
    images = torch.full((8, 3, 64, 64), 0.5)
    noise = changed(images, Policy(noise=Chance(1.0, 0.05, 0.05))) - 0.5
    assert torch.allclose(noise.std((1, 2, 3)), torch.tensor(0.05), rtol=0.05)
    assert noise.mean().abs() < 0.002
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(np.corrcoef(noise[:, a].flatten(), noise[:, b].flatten())[0, 1]) < 0.05
    assert not torch.allclose(noise[0], noise[1])


def test_noise_of_grey_crops_and_common_noise_are_grey():
    images = torch.full((8, 3, 64, 64), 0.5)
    for policy, grey in (
        (Policy(noise=Chance(1.0, 0.05, 0.05)), True),
        (Policy(common_noise=Chance(1.0, 0.05, 0.05)), False),
    ):
        found = changed(images, policy, grey)
        assert is_grey(found)
        assert torch.allclose(found.std((1, 2, 3)), torch.tensor(0.05), rtol=0.05)


def test_inversion_makes_dark_bright_in_grey_crops_where_the_policy_says_so():
    policy = Policy(grey=Colours(invert=1.0))
    images = random_crops(grey=True)
    assert torch.allclose(changed(images, policy, grey=True), 1 - images)
    assert torch.equal(changed(images, policy, grey=False), images)


def test_the_colour_map_bone_is_opencvs():
    ramp = torch.arange(256.0).view(1, 1, 16, 16).expand(-1, 3, -1, -1) / 255
    found = changed(ramp, Policy(grey=Colours(bone=1.0)), grey=True)[0] * 255
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = cv2.applyColorMap(levels, cv2.COLORMAP_BONE)[..., ::-1].transpose(2, 0, 1)
    assert np.abs(found.numpy() - expected).max() < 2


def test_hue_saturation_and_value_are_opencvs_and_go_back_to_the_same_colours():
    images = random_crops(4)
    found = intensities.rgb_to_hsv(images)
    assert torch.allclose(intensities.hsv_to_rgb(found), images, atol=1e-5)
    full = torch.tensor([360.0, 1.0, 1.0]).view(3, 1, 1)
    for image, hsv in zip(images, found):
        expected = opencv(lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), image) / full
        assert torch.allclose(hsv, expected, atol=1e-4)


def test_a_third_of_the_hue_circle_turns_red_into_green():
    images = random_crops(4)
    shift = torch.tensor([[1 / 3, 0.0, 0.0]]).expand(4, -1)
    assert torch.allclose(intensities.shift_colours(images, shift), images[:, [2, 0, 1]], atol=1e-5)


def test_saturation_and_value_shift_by_as_much_as_they_should():
    images = random_crops(4) * 0.5 + 0.2
    before = intensities.rgb_to_hsv(images)
    shift = torch.tensor([[0.0, -0.05, 0.1]]).expand(4, -1)
    after = intensities.rgb_to_hsv(intensities.shift_colours(images, shift))
    assert torch.allclose(after[:, 2], before[:, 2] + 0.1, atol=1e-4)
    expected = (before[:, 1] - 0.05).clamp(min=0)
    assert torch.allclose(after[:, 1], expected, atol=1e-4)


def test_a_shuffle_exchanges_whole_channels():
    images = random_crops(60)
    found = changed(images, Policy(rgb=Colours(shuffle=1.0)))
    orders = set()
    for image, channels in zip(images, found):
        same = [[torch.equal(old, new) for old in image] for new in channels]
        orders.add(tuple(row.index(True) for row in same))
    assert len(orders) == 6


def test_mixing_changes_colours_and_leaves_grey_grey():
    policy = Policy(rgb=Colours(mix=1.0, mixing=0.1))
    colourful, grey = random_crops(), random_crops(grey=True)
    assert not torch.allclose(changed(colourful, policy), colourful, atol=0.02)
    assert torch.allclose(changed(grey, policy), grey, atol=1e-5)


@pytest.mark.parametrize("policy", ["mild", "strong"])
def test_only_maps_and_shifts_of_colours_colour_grey_crops(policy):
    policy, images = POLICIES[policy], random_crops(100, grey=True)
    assert not is_grey(changed(images, policy, grey=True))
    quiet = replace(policy, grey=replace(policy.grey, bone=0.0, shift=0.0))
    found = changed(images, quiet, grey=True)
    assert is_grey(found)
    assert not torch.allclose(found, images, atol=0.05)


def test_dim_channels_keep_at_least_their_least_gain():
    images = random_crops()
    found = changed(images, Policy(composite=Colours(dim=1.0, least_gain=0.2)), photograph=False)
    gains = found.mean((2, 3)) / images.mean((2, 3))
    assert torch.allclose(found, images * gains[..., None, None], atol=1e-5)
    assert 0.2 <= gains.min() < 0.3 and 0.9 < gains.max() <= 1


def test_channels_are_lost_but_never_all():
    images = 0.1 + random_crops(200) / 2
    found = changed(images, Policy(composite=Colours(drop=1.0)), photograph=False)
    lost = (found == 0).flatten(2).all(2)
    assert torch.equal(found[~lost], images[~lost])
    assert set(lost.sum(1).tolist()) == {0, 1, 2}
    assert lost.float().mean(0).min() > 0.2


def test_a_stain_gets_company_in_any_order_and_stays_as_it_is():
    images = random_crops(60, grey=True)
    found = changed(images, Policy(grey=Colours(company=1.0)), grey=True)
    same = (found == images).flatten(2).all(2)
    assert (same.sum(1) == 1).all()
    assert same.any(0).all()
    assert not (found == 0).flatten(2).all(2).any()


def test_grey_and_colour_crops_of_one_batch_have_their_own_colours():
    grey = torch.arange(4000) % 2 == 0
    generator = torch.Generator().manual_seed(0)
    changes = intensities.random_changes(POLICIES["mild"], grey, ~grey, generator)
    assert changes.bone[grey].any()
    assert not changes.bone[~grey].any()
    assert changes.common[grey].all()
    saturation = changes.shift[:, 1].abs()
    assert 0 < saturation[grey].max() <= 3 / 255
    assert 20 / 255 < saturation[~grey].max() <= 30 / 255
    shuffled = (changes.mixing != torch.eye(3)).flatten(1).any(1).float()
    # One of the six orders is the old one.
    assert shuffled[grey].mean() == pytest.approx(0.2 * 5 / 6, abs=0.03)
    assert shuffled[~grey].mean() == pytest.approx(0.1 * 5 / 6, abs=0.03)


def test_the_mild_policy_draws_the_papers_shares():
    """reference.md, section 4."""
    changes = draw(POLICIES["mild"], count=20000)
    blurred = changes.median | (changes.kernel[:, 3, 3] != 1)
    assert blurred.float().mean() == pytest.approx(0.4, abs=0.02)
    assert (changes.gamma != 1).float().mean() == pytest.approx(0.66, abs=0.02)
    assert (changes.noise > 0).float().mean() == pytest.approx(0.1, abs=0.01)
    assert (changes.shift != 0).any(1).float().mean() == pytest.approx(0.1, abs=0.01)
    drawn = changes.gamma[changes.gamma != 1]
    assert 0.8 <= drawn.min() < drawn.max() <= 1.2
    drawn = changes.noise[changes.noise > 0]
    assert 0.01 <= drawn.min() < drawn.max() <= 0.05


def test_a_crop_gets_one_blur_at_most():
    changes = draw(Policy(blurs=Blurs(motion=0.3, median=0.3, box=0.2, gaussian=0.2)), count=500)
    assert (changes.median ^ (changes.kernel[:, 3, 3] != 1)).all()
    sums = changes.kernel.sum((1, 2))
    assert torch.allclose(sums, torch.ones_like(sums))


def test_changes_of_some_crops_are_rows_of_all_changes():
    changes = draw(POLICIES["strong"])
    part = changes.select(torch.tensor([4, 2]))
    for field in fields(changes):
        assert torch.equal(getattr(part, field.name), getattr(changes, field.name)[[4, 2]])
