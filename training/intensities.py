"""Random intensities of crops as a tensor program (design.md, decision 3).

`random_changes` draws everything of a whole batch on the CPU, `apply_changes` computes: a part of a
batch gets bit for bit what it gets as a part of the whole, so that several GPUs share a batch.
Hence sums over pixels or taps are written such that their order cannot depend on the batch.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch.nn import functional as F

RADIUS = 3  # of the blurs' kernels, in pixels
BRIGHTEST = 0.5  # mean intensity up to which crops are overexposed
GLOW = 32  # pixels over which what is beside a stain is smooth
LEVELS = 65535  # to which intensities are rounded for their mean
X = torch.arange(-RADIUS, RADIUS + 1.0)  # offsets of a kernel's taps from its middle,
Y = X[:, None]  # across and down
UNIT = ((X == 0) & (Y == 0)).float()  # the kernel (7, 7) that changes nothing
BOX = ((X.abs() <= 1) & (Y.abs() <= 1)).float() / 9  # the mean of 3 x 3 pixels


@dataclass
class Changes:
    """What happens to the intensities of B crops, in this order; neutral where nothing does.

    median (B,) bool; kernel (B, 7, 7) float32 of a blur; exposure (B,), at least 1; gamma,
    contrast, brightness (B,); light (B, 3): by how much the illumination rises to the right edge,
    to the lower edge, and falls to the corners; noise (B,) standard deviation, common (B,) bool:
    the same in all channels, seed (B,) int64, also of what is beside; invert, bone (B,) bool; shift
    (B, 3): of hue, saturation and value, as fractions of their range; company (B,) bool; mixing (B,
    3, 3): new channel x old channel.
    """

    median: torch.Tensor
    kernel: torch.Tensor
    exposure: torch.Tensor
    gamma: torch.Tensor
    contrast: torch.Tensor
    brightness: torch.Tensor
    light: torch.Tensor
    noise: torch.Tensor
    common: torch.Tensor
    seed: torch.Tensor
    invert: torch.Tensor
    bone: torch.Tensor
    shift: torch.Tensor
    company: torch.Tensor
    mixing: torch.Tensor

    def select(self, index):
        """The changes of some of the crops: a slice or their numbers."""
        return Changes(*(getattr(self, field.name)[index] for field in fields(self)))


def random_changes(policy, grey, photograph, generator):
    """Random Changes of crops by a Policy: grey ones and photographs, each (B,) bool, and others.

    generator: torch.Generator on the CPU, as all tensors given and returned.
    """
    count, colours = len(grey), policy.colours(grey, photograph)
    median, kernel = _random_blurs(policy.blurs, count, generator)
    noise, common = _random_noise(policy, count, generator)
    return Changes(
        median=median,
        kernel=kernel,
        exposure=_random_gains(policy.exposure, count, generator),
        gamma=_random_factors(policy.gamma, count, generator),
        contrast=_random_factors(policy.contrast, count, generator),
        brightness=_random_amounts(policy.brightness, count, generator),
        light=_random_light(policy, count, generator),
        noise=noise,
        common=common | grey,
        seed=torch.randint(2**31, (count,), generator=generator),
        invert=_chosen(colours.invert, count, generator),
        bone=_chosen(colours.bone, count, generator),
        shift=_random_shifts(colours, count, generator),
        company=_chosen(colours.company, count, generator),
        mixing=_random_mixing(colours, count, generator),
    )


def _chosen(share, count, generator):
    """Which crops (count,) bool are among a share, a number or one of each crop (count,)."""
    return torch.rand(count, generator=generator) < share


def _one_of(shares, count, generator):
    """Number (count,) of the kind that each crop is, kind k with probability shares[k]; there is
    one kind more, for all other crops."""
    limits = torch.tensor(shares).cumsum(0)
    return torch.bucketize(torch.rand(count, generator=generator), limits, right=True)


def _between(low, high, count, generator):
    return low + (high - low) * torch.rand(count, generator=generator)


def _random_amounts(chance, count, generator):
    """Numbers (count,) by a Chance; 0 elsewhere."""
    amounts = _between(chance.low, chance.high, count, generator)
    return amounts * _chosen(chance.share, count, generator)


def _random_factors(chance, count, generator):
    """Numbers (count,) by a Chance, a factor as likely as its inverse; 1 elsewhere."""
    low, high = math.log(chance.low), math.log(chance.high)
    return (_between(low, high, count, generator) * _chosen(chance.share, count, generator)).exp()


def _random_gains(chance, count, generator):
    """Numbers (count,) by a Chance, the halves of its range in logarithms alike; 1 elsewhere."""
    gains = _between(math.log(chance.low), math.log(chance.high), count, generator).exp()
    return torch.where(_chosen(chance.share, count, generator), gains, torch.ones(count))


def _random_blurs(blurs, count, generator):
    """Which crops (count,) get the median, and the kernels (count, 7, 7) of all crops."""
    kinds = (blurs.motion, blurs.box, blurs.gaussian, blurs.median)
    kind = _one_of(kinds, count, generator)
    length = _between(3.0, 2.0 * RADIUS + 1, count, generator)
    angle = _between(0.0, math.pi, count, generator)
    sigma = _between(*blurs.sigma, count, generator)
    drawn = (line_kernels(length, angle), BOX, gaussian_kernels(sigma))
    kernel = UNIT.expand(count, -1, -1)
    for number, kernels in enumerate(drawn):
        kernel = torch.where((kind == number).view(-1, 1, 1), kernels, kernel)
    return kind == len(drawn), kernel


def _random_light(policy, count, generator):
    slope = _random_amounts(policy.gradient, count, generator)
    angle = _between(0.0, 2 * math.pi, count, generator)
    fall = _random_amounts(policy.vignette, count, generator)
    return torch.stack([slope * angle.cos(), slope * angle.sin(), fall], 1)


def _random_noise(policy, count, generator):
    """Standard deviations (count,), and whether the noise is common to the channels."""
    chances = (policy.noise, policy.common_noise)
    kind = _one_of([chance.share for chance in chances], count, generator)
    amount = torch.zeros(count)
    for number, chance in enumerate(chances):
        drawn = _between(chance.low, chance.high, count, generator)
        amount = torch.where(kind == number, drawn, amount)
    return amount, kind == 1


def _random_shifts(colours, count, generator):
    limits = torch.stack([colours.hue, colours.saturation, colours.value], 1)
    shifts = limits * (2 * torch.rand(count, 3, generator=generator) - 1)
    return shifts * _chosen(colours.shift, count, generator)[:, None]


def _random_mixing(colours, count, generator):
    """Mixing of the channels, whose rows have sum 1 (grey stays grey), then their shuffle, then
    what is left of each."""
    spread = colours.mixing * _chosen(colours.mix, count, generator)
    mixing = torch.eye(3) + torch.randn(count, 3, 3, generator=generator) * spread.view(-1, 1, 1)
    mixing = mixing / mixing.sum(2, keepdim=True)
    order = torch.rand(count, 3, generator=generator).argsort(1)
    shuffled = _chosen(colours.shuffle, count, generator)[:, None]
    order = torch.where(shuffled, order, torch.arange(3))
    mixing = mixing.gather(1, order[..., None].expand(-1, -1, 3))
    dim = _chosen(colours.dim, count, generator)[:, None]
    gains = colours.least_gain[:, None] ** (torch.rand(count, 3, generator=generator) * dim)
    lost = torch.rand(count, 3, generator=generator) < 0.5
    lost &= _chosen(colours.drop, count, generator)[:, None] & ~lost.all(1, keepdim=True)
    return mixing * (gains * ~lost)[..., None]


def _normalised(kernels):
    return kernels / kernels.sum((1, 2), keepdim=True)


def gaussian_kernels(sigma):
    """Kernels (B, 7, 7) of standard deviations (B,) in pixels."""
    return _normalised((-(X**2 + Y**2) / (2 * sigma.view(-1, 1, 1) ** 2)).exp())


def line_kernels(length, angle):
    """Kernels (B, 7, 7): motion along a line through the middle.

    length (B,): pixels that the line covers, 1..7. angle (B,): radians from the x axis, clockwise
    on screen. A tap weighs 1 on the line and 0 from one pixel off it on.
    """
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    beyond = ((X * cos + Y * sin).abs() - (length.view(-1, 1, 1) - 1) / 2).clamp(min=0)
    return _normalised((1 - torch.hypot(beyond, Y * cos - X * sin)).clamp(min=0))


def apply_changes(images, changes):
    """Changed crops (B, 3, h, w) float32 in 0..1 of crops of the same kind, on their device.

    changes: Changes of the B crops, on the CPU. The given crops stay as they are.
    """
    images = images.clone(memory_format=torch.contiguous_format)

    def on(chosen, change, *numbers):
        """Change the chosen crops (B,) bool, given their rows of `numbers`."""
        rows = chosen.nonzero()[:, 0]
        if len(rows):
            given = (number[rows].to(images.device) for number in numbers)
            rows = rows.to(images.device)
            images.index_copy_(0, rows, change(images.index_select(0, rows), *given))

    changed = (changes.contrast != 1) | (changes.brightness != 0)
    mixed = (changes.mixing != torch.eye(3)).flatten(1).any(1)
    on(changes.median, median_filter)
    on(changes.kernel[:, RADIUS, RADIUS] != 1, blur, changes.kernel)
    on(changes.exposure != 1, expose, changes.exposure)
    on(changes.gamma != 1, apply_gamma, changes.gamma)
    on(changed, change_contrast, changes.contrast, changes.brightness)
    on((changes.light != 0).any(1), illuminate, changes.light)
    on(changes.noise > 0, add_noise, changes.noise, changes.common, changes.seed)
    on(changes.invert, invert)
    on(changes.bone, colour_as_bone)
    on((changes.shift != 0).any(1), shift_colours, changes.shift)
    on(changes.company, put_beside_others, changes.seed)
    on(mixed, mix_channels, changes.mixing)
    return images.clamp_(0, 1)


def _median_of_three(a, b, c):
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def median_filter(images):
    """Median of 3 x 3 pixels; borders are repeated.

    Of three sorted columns of three, it is the median of the largest minimum, the median of the
    medians and the smallest maximum.
    """
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    a, b, c = padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]
    low = torch.minimum(torch.minimum(a, b), c)
    high = torch.maximum(torch.maximum(a, b), c)
    middle = _median_of_three(a, b, c)
    low = torch.maximum(torch.maximum(low[..., :-2], low[..., 1:-1]), low[..., 2:])
    high = torch.minimum(torch.minimum(high[..., :-2], high[..., 1:-1]), high[..., 2:])
    middle = _median_of_three(middle[..., :-2], middle[..., 1:-1], middle[..., 2:])
    return _median_of_three(low, middle, high)


def blur(images, kernel):
    """Images (B, 3, h, w) filtered with a kernel (B, 7, 7) each; borders are repeated."""
    height, width = images.shape[2:]
    padded = F.pad(images, (RADIUS,) * 4, mode="replicate")
    blurred = torch.zeros_like(images)
    used = (kernel != 0).any(0).nonzero().tolist()
    # Tap by tap: a convolution's order of additions may depend on the batch, and takes longer. A
    # tap that other crops alone use adds 0.
    for y, x in used:
        part = padded[:, :, y : y + height, x : x + width]
        blurred.addcmul_(part, kernel[:, y, x].view(-1, 1, 1, 1))
    return blurred


def apply_gamma(images, gamma):
    """Images to the power gamma (B,)."""
    # exp(log) takes half the time of pow.
    return (images.clamp(min=1e-6).log() * gamma.view(-1, 1, 1, 1)).exp()


def _means(images):
    """Means (B, 1, 1, 1) of crops: exact sums, whatever the order of additions."""
    total = (images * LEVELS).int().sum((1, 2, 3), keepdim=True)
    return total.float() / (LEVELS * images[0].numel())


def expose(images, exposure):
    """Images times exposure (B,), clipped at 1, but not brighter than BRIGHTEST in the mean: in a
    bright image nothing but white would be left."""
    limit = BRIGHTEST / _means(images).clamp(min=1e-3)
    factor = torch.minimum(exposure.view(-1, 1, 1, 1), limit).clamp(min=1)
    return (images * factor).clamp(0, 1)


def change_contrast(images, contrast, brightness):
    """Intensities' differences from their mean times contrast (B,), plus brightness (B,)."""
    mean = _means(images)
    return (images - mean) * contrast.view(-1, 1, 1, 1) + mean + brightness.view(-1, 1, 1, 1)


def illuminate(images, light):
    """Images lit unevenly by light (B, 3), as of Changes."""
    height, width = images.shape[2:]
    x = torch.linspace(-1, 1, width, device=images.device)
    y = torch.linspace(-1, 1, height, device=images.device)[:, None]
    right, down, fall = light.view(-1, 3, 1, 1, 1).unbind(1)
    return images * ((1 + right * x - fall / 2 * x**2) + (down * y - fall / 2 * y**2))


def add_noise(images, noise, common, seed):
    """Images with Gaussian noise of standard deviations (B,), of the seed (B,) of each crop;
    common (B,): the same in all channels."""
    changed = []
    for image, amount, alike, number in zip(images, noise, common.tolist(), seed.tolist()):
        generator = torch.Generator(images.device).manual_seed(number)
        shape = (1 if alike else 3, *image.shape[1:])
        grain = torch.randn(shape, generator=generator, device=images.device)
        changed.append(torch.addcmul(image, grain, amount))
    return torch.stack(changed)


def invert(images):
    """Images in which dark is bright."""
    return 1 - images


def colour_as_bone(images):
    """Grey images with the colour map `bone`: 7/8 grey and 1/8 the colour map `hot`, its blue as
    red and its red as blue."""
    grey = images[:, :1].clamp(0, 1)
    slope = images.new_tensor([4, 8 / 3, 8 / 3]).view(3, 1, 1)
    start = images.new_tensor([3, 1, 0]).view(3, 1, 1)
    return (7 * grey + (slope * grey - start).clamp(0, 1)) / 8


def shift_colours(images, shift):
    """Images whose hue (a circle), saturation and value move by shift (B, 3)."""
    hue, saturation, value = rgb_to_hsv(images.clamp(0, 1)).unbind(1)
    by_hue, by_saturation, by_value = shift.view(-1, 3, 1, 1).unbind(1)
    saturation = (saturation + by_saturation).clamp(0, 1)
    value = (value + by_value).clamp(0, 1)
    return hsv_to_rgb(torch.stack([(hue + by_hue) % 1, saturation, value], 1))


def rgb_to_hsv(images):
    """Hue, saturation and value, each in 0..1 (hue 0 where there is none), of RGB (B, 3, h, w)."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    divisor = chroma.clamp(min=1e-6)
    hue = torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4)
    hue = torch.where(value == red, (green - blue) / divisor % 6, hue)
    return torch.stack([hue / 6, chroma / value.clamp(min=1e-6), value], 1)


def hsv_to_rgb(images):
    """RGB in 0..1 of hue, saturation and value in 0..1 (B, 3, h, w)."""
    hue, saturation, value = images.split(1, 1)
    sector = (images.new_tensor([5, 3, 1]).view(3, 1, 1) + hue * 6) % 6
    return value * (1 - saturation * torch.minimum(sector, 4 - sector).clamp(0, 1))


def put_beside_others(images, seed):
    """Grey images as one channel of three, in any order, beside a glow around their bright parts,
    or anywhere, and noise; of the seed (B,) of each crop."""
    changed = []
    for image, number in zip(images, seed.tolist()):
        generator = torch.Generator().manual_seed(number)
        strength, amount, level, anywhere = torch.rand(4, generator=generator).tolist()
        coarse = [max(side // GLOW, 2) for side in image.shape[1:]]
        if anywhere < 0.5:
            glow = torch.rand((1, 1, *coarse), generator=generator).to(image.device)
        else:
            glow = F.adaptive_avg_pool2d(image[None, :1], coarse)
        glow = (glow - glow.min()) / (glow.max() - glow.min()).clamp(min=1e-3)
        glow = F.interpolate(glow, image.shape[1:], mode="bilinear", align_corners=False)[0, 0]
        noise = torch.randn(image.shape[1:], generator=generator).to(image.device)
        noise = amount / 10 * noise + level / 4
        order = torch.randperm(3, generator=generator)
        changed.append(torch.stack([image[0], (0.2 + 0.8 * strength) * glow, noise])[order])
    return torch.stack(changed)


def mix_channels(images, mixing):
    """Channels i = sum over j of mixing (B, i, j) times channel j."""
    weights = mixing[..., None, None]
    return sum(weights[:, :, j] * images[:, j : j + 1] for j in range(3))
