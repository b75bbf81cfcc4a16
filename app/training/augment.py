"""Crops as tensor programs: random affine views of the packed images, and their intensities.

Everything works on a whole batch at once, on the pack's device (design.md, decision 3). `draw`
is a torch.Generator on the CPU, so that a run can be resumed exactly.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

LEAST_SIZE, LARGEST_SIZE = 6.0, 160.0  # pixels that rescaling may make of a typical object
LEAST_SCALE, LARGEST_SCALE = 0.4, 2.5
RESCALED_SHARE = 0.5  # of the crops; the others keep the scale that prediction will see
ASPECT_STD = 0.05
AIMED_SHARE = 0.7  # of the crops look near an object


@dataclass
class Views:
    """B square crops: which image each shows, and the map from crop to image pixels.

    image (B,) int64; matrix (B, 2, 2), offset (B, 2): image xy = matrix @ crop xy + offset;
    side: pixels of the crop.
    """

    image: torch.Tensor
    matrix: torch.Tensor
    offset: torch.Tensor
    side: int

    def to(self, device):
        """The same views on a device."""
        tensors = (self.image.to(device), self.matrix.to(device), self.offset.to(device))
        return Views(*tensors, self.side)

    def to_crop(self, points, row):
        """Image points (k, S, 2) -> points of the crops row (k,)."""
        inverse = torch.inverse(self.matrix)[row].transpose(1, 2)
        return (points - self.offset[row][:, None]) @ inverse


def uniform(low, high, size, draw):
    """Numbers (size,) drawn uniformly."""
    return low + (high - low) * torch.rand(size, generator=draw)


def draw_views(pack, image, typical, side, draw):
    """Random views of the images (B,) int64: rotation, flip, scale, aspect, position.

    typical (B,): size in pixels of a typical object of each image; it bounds the scale (paper,
    instance-aware rescaling). Half of the quarter turns are exact, which blurs nothing.
    """
    count = len(image)
    turn = torch.randint(4, (count,), generator=draw) * (math.pi / 2)
    free = torch.rand(count, generator=draw) < 0.5
    angle = turn + torch.where(free, uniform(-math.pi / 4, math.pi / 4, count, draw), 0.0 * turn)
    flip = torch.where(torch.rand(count, generator=draw) < 0.5, -1.0, 1.0)
    low = (LEAST_SIZE / typical).clamp(LEAST_SCALE, 1.0).log()
    high = (LARGEST_SIZE / typical).clamp(1.0, LARGEST_SCALE).log()
    low = torch.minimum(low, (LARGEST_SIZE / typical).clamp(max=1.0).log())
    scale = (low + (high - low) * torch.rand(count, generator=draw)).exp()
    rescaled = torch.rand(count, generator=draw) < RESCALED_SHARE
    scale = torch.where(rescaled, scale, torch.ones(count))
    aspect = (torch.randn(count, generator=draw) * ASPECT_STD).exp()
    aspect = torch.where(rescaled, aspect, torch.ones(count))
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).reshape(
        -1, 2, 2
    )
    stretch = torch.stack([flip * aspect, 1 / aspect], -1) / scale[:, None]
    matrix = rotation * stretch[:, None]
    centre = draw_centres(pack, image, matrix, side, draw)
    middle = torch.full((2,), (side - 1) / 2)
    return Views(image, matrix, centre - matrix @ middle, side)


def draw_centres(pack, image, matrix, side, draw):
    """Image points (B, 2) that the crops show in their middle.

    Most crops look near a random object, so that sparse images teach as much as crowded ones;
    all stay inside their image as far as it is large enough.
    """
    count = len(image)
    extent = torch.stack([pack.widths[image], pack.heights[image]], -1).float()
    half = matrix.abs().sum(2) * side / 2
    low, high = torch.minimum(half, extent / 2), torch.maximum(extent - half, extent / 2)
    anywhere = torch.rand(count, 2, generator=draw)
    objects = pack.counts[image]
    chosen = (torch.rand(count, generator=draw) * objects).long() + pack.first[image]
    chosen = chosen.clamp(max=len(pack.polygons) - 1)
    near = pack.polygons[chosen].mean(1) + (anywhere - 0.5) * half
    aimed = (torch.rand(count, generator=draw) < AIMED_SHARE) & (objects > 0)
    centre = torch.where(aimed[:, None], near, low + (high - low) * anywhere)
    return torch.minimum(torch.maximum(centre, low), high) - 0.5


def positions(views, device):
    """Image coordinates x, y (B, side, side) of every crop pixel."""
    ticks = torch.arange(views.side, dtype=torch.float32, device=device)
    matrix, offset = views.matrix.to(device), views.offset.to(device)
    x = ticks[None, None, :] * matrix[:, 0, 0, None, None] + offset[:, 0, None, None]
    y = ticks[None, None, :] * matrix[:, 1, 0, None, None] + offset[:, 1, None, None]
    x = x + ticks[None, :, None] * matrix[:, 0, 1, None, None]
    y = y + ticks[None, :, None] * matrix[:, 1, 1, None, None]
    return x, y


def gather_crops(pack, views):
    """Pixels and labels of the views.

    Returns images (B, 3, side, side) float32 in 0..1 (bilinear, black outside), objects
    (B, side, side) int32 (nearest; -1 background and outside, -2 ignored) and depths
    (B, side, side) uint8.
    """
    device = pack.colours.device
    x, y = positions(views, device)
    image = views.image.to(device)
    height = pack.heights[image][:, None, None]
    width = pack.widths[image][:, None, None]
    start = pack.starts[image][:, None, None]
    inside = (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
    left, top = x.floor(), y.floor()
    u, v = (x - left)[:, None], (y - top)[:, None]
    left, top = left.long(), top.long()
    columns = [left.clamp(min=0).minimum(width - 1), (left + 1).clamp(min=0).minimum(width - 1)]
    rows = [top.clamp(min=0).minimum(height - 1), (top + 1).clamp(min=0).minimum(height - 1)]
    corners = [
        _unpack(pack.colours[start + row * width + column]) for row in rows for column in columns
    ]
    upper = torch.lerp(corners[0], corners[1], u)
    lower = torch.lerp(corners[2], corners[3], u)
    images = torch.lerp(upper, lower, v) / 255 * inside[:, None]
    nearest_x = (x + 0.5).floor().long().clamp(min=0).minimum(width - 1)
    nearest_y = (y + 0.5).floor().long().clamp(min=0).minimum(height - 1)
    index = start + nearest_y * width + nearest_x
    objects = torch.where(inside, pack.objects[index], pack.objects.new_tensor(-1))
    depths = pack.depths[index] * inside
    return images, objects, depths


def _unpack(colours):
    """Packed colours (B, h, w) int32 -> (B, 3, h, w) float32 in 0..255."""
    return torch.stack([colours & 255, (colours >> 8) & 255, colours >> 16], 1).float()


def change_intensities(images, draw):
    """Random intensities of crops (B, 3, h, w) in 0..1: the `mild` policy, on the device.

    Contrast and brightness, gamma, inversion of grey images, hue and saturation as a random
    3x3 mixing, channel shuffle, blur, noise. Each crop draws which of them it gets.
    """
    count, device = len(images), images.device

    def amount(low, high, share):
        """Per crop a number in low..high with probability `share`, else NaN."""
        values = uniform(low, high, count, draw)
        return torch.where(torch.rand(count, generator=draw) < share, values, math.nan).to(device)

    images = _change_colours(images, amount, draw)
    gamma = amount(math.log(0.6), math.log(1.6), 0.5).nan_to_num(0).exp().view(-1, 1, 1, 1)
    images = images.clamp(1e-6, 1) ** gamma
    contrast = amount(math.log(0.5), math.log(2.0), 0.5).nan_to_num(0).exp().view(-1, 1, 1, 1)
    brightness = amount(-0.1, 0.1, 0.3).nan_to_num(0).view(-1, 1, 1, 1)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * contrast + mean + brightness
    images = _blur(images, amount(0.4, 1.5, 0.2))
    noise = amount(0.005, 0.05, 0.25).nan_to_num(0).view(-1, 1, 1, 1)
    if (noise > 0).any():
        rows = (noise.flatten() > 0).nonzero()[:, 0]
        grain = torch.randn(images[rows].shape, generator=draw).to(device)
        images[rows] = images[rows] + grain * noise[rows]
    return images.clamp(0, 1)


def _change_colours(images, amount, draw):
    """Channel shuffle, a random mixing of the channels, and inversion of grey crops."""
    count, device = len(images), images.device
    order = torch.rand(count, 3, generator=draw).argsort(1)
    order = torch.where(torch.rand(count, 1, generator=draw) < 0.1, order, torch.arange(3))
    mixing = torch.eye(3).expand(count, 3, 3) + torch.randn(count, 3, 3, generator=draw) * 0.08
    mixed = torch.rand(count, 1, 1, generator=draw) < 0.25
    mixing = torch.where(mixed, mixing / mixing.sum(2, keepdim=True), torch.eye(3))
    mixing = mixing.gather(1, order[..., None].expand(-1, -1, 3)).to(device)
    images = torch.einsum("bij,bjhw->bihw", mixing, images)
    grey = (images[:, 0] - images[:, 2]).abs().amax((1, 2)) < 0.02
    invert = grey & ~amount(0, 1, 0.05).isnan()
    return torch.where(invert.view(-1, 1, 1, 1), 1 - images, images)


def _blur(images, sigma):
    """Gaussian blur of the crops whose sigma (B,), in pixels, is not NaN."""
    rows = (~sigma.isnan()).nonzero()[:, 0]
    if len(rows) == 0:
        return images
    ticks = torch.arange(-4, 5, device=images.device)
    kernel = torch.exp(-((ticks / sigma[rows, None]) ** 2) / 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    chosen = images[rows].reshape(1, -1, *images.shape[2:])
    chosen = F.pad(chosen, (4, 4, 4, 4), mode="replicate")
    chosen = F.conv2d(chosen, kernel[:, None, :, None], groups=len(kernel))
    chosen = F.conv2d(chosen, kernel[:, None, None, :], groups=len(kernel))
    images = images.clone()
    images[rows] = chosen.reshape(len(rows), 3, *images.shape[2:])
    return images
