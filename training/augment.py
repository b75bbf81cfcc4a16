"""Crops as tensor programs: random affine views of the packed images.

Everything works on a whole batch at once, on the pack's device (design.md, decision 3). `generator`
is a torch.Generator on the CPU, so that a run can be resumed exactly.
"""

import math
from dataclasses import dataclass

import torch


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

    def select(self, index):
        """The views of some of the crops: a slice or their numbers."""
        return Views(self.image[index], self.matrix[index], self.offset[index], self.side)

    def to_crop(self, points, row):
        """Image points (k, S, 2) -> points of the crops row (k,)."""
        inverse = torch.inverse(self.matrix)[row].transpose(1, 2)
        return (points - self.offset[row][:, None]) @ inverse


def random_views(pack, image, sizes, side, policy, aimed, gaps, generator):
    """Random views of the images (B,) int64: rotation, flip, scale, aspect, position.

    sizes: least and largest object (each (B,), in pixels) of each image, as of Policy.bounds;
    they bound the scale (paper, instance-aware rescaling). aimed: share of the crops that look
    near an object; gaps: share that looks where the image has none. Views that are neither turned
    freely nor rescaled show whole pixels, which blurs nothing.
    """
    turns, turned = random_turns(len(image), policy, generator)
    stretches, rescaled = random_stretches(sizes, policy, generator)
    matrix = turns * stretches[:, None]
    centre = random_centres(pack, image, matrix, side, aimed, gaps, generator)
    middle = torch.full((2,), (side - 1) / 2)
    offset = centre - matrix @ middle
    blurred = (turned | rescaled)[:, None]
    return Views(image, matrix, torch.where(blurred, offset, offset.round()), side)


def random_turns(count, policy, generator):
    """Rotations (count, 2, 2): exact quarter turns, some of them turned on freely; and which
    (count,)."""
    quarter = torch.randint(4, (count,), generator=generator) * (math.pi / 2)
    free = torch.rand(count, generator=generator) < policy.free_rotation
    angle = (torch.rand(count, generator=generator) - 0.5) * (math.pi / 2) * free
    return rotations(quarter).round() @ rotations(angle), free


def rotations(angle):
    """Matrices (B, 2, 2) of angles (B,) in radians, from the x axis towards the y axis."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], -1).view(-1, 2, 2)


def random_stretches(sizes, policy, generator):
    """Image pixels per crop pixel (B, 2) along the crop's x and y, negative where x is flipped;
    and which crops are rescaled (B,)."""
    count = len(sizes[0])
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    scale = random_scales(sizes, policy, generator)
    aspect = (torch.randn(count, generator=generator) * policy.aspect_std).exp()
    stretches = torch.stack([flip * aspect, 1 / aspect], -1) / scale[:, None]
    plain = torch.stack([flip, torch.ones(count)], -1)
    rescaled = torch.rand(count, generator=generator) < policy.rescaled
    return torch.where(rescaled[:, None], stretches, plain), rescaled


def random_scales(sizes, policy, generator):
    """Scales (B,) within a Policy's bounds, of which 1 is always one.

    sizes: least and largest object of each image, as of `random_views`.
    """
    least, most = sizes
    low = (policy.least_size / least).clamp(policy.least_scale, 1.0)
    high = (policy.largest_size / most).clamp(max=policy.largest_scale)
    low, high = torch.minimum(low, high), high.clamp(min=1.0)
    share = torch.rand(len(least), generator=generator)
    if policy.log_scale:
        return low * (high / low) ** share
    return low + (high - low) * share


def random_centres(pack, image, matrix, side, aimed, gaps, generator):
    """Image points (B, 2) that the crops show in their middle.

    A share `aimed` of the crops looks near a random object, so that sparse images teach as much as
    crowded ones, and a share `gaps` into the largest gap between the objects, so that the network
    sees what is none; all stay inside their image as far as it is large enough.
    """
    count = len(image)
    extent = torch.stack([pack.widths[image], pack.heights[image]], -1).float()
    half = matrix.abs().sum(2) * side / 2
    low, high = torch.minimum(half, extent / 2), torch.maximum(extent - half, extent / 2)
    anywhere = torch.rand(count, 2, generator=generator)
    centre = low + (high - low) * anywhere
    objects = pack.counts[image]
    chosen = pack.first[image] + (torch.rand(count, generator=generator) * objects).long()
    kind = torch.rand(count, generator=generator)
    near = (kind < aimed) & (objects > 0)
    middle = pack.polygons[chosen[near]].mean(1)
    centre[near] = middle + (anywhere[near] - 0.5) * half[near]
    empty = kind >= 1 - gaps
    middle, radius = pack.gaps[image[empty]].split((2, 1), 1)
    room = (radius - half[empty]).clamp(min=0)
    centre[empty] = middle + (2 * anywhere[empty] - 1) * room
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


def gather_crops(pack, views, mixes):
    """Pixels and labels of the views, on the device of the pack's pixels (its index is there too).

    mixes (B, 3): share of conversion A in the 8-bit conversion of each crop's channels, the rest is
    B (paper, section 2.1). Returns images (B, 3, side, side) float32 in 0..1 (bilinear, black
    outside), objects (B, side, side) int32 (nearest; row of the object among all, -1 background and
    outside, -2 ignored and wherever there are no labels) and depths (B, side, side) uint8.
    """
    device = pack.red.device
    x, y = positions(views, device)
    image = views.image.to(device)
    height, width, start, first = (
        values[image][:, None, None]
        for values in (pack.heights, pack.widths, pack.starts, pack.first.int())
    )
    inside = (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
    x, y = x.clamp(min=0).minimum(width - 1), y.clamp(min=0).minimum(height - 1)
    curves = pack.curves[image]
    tables = torch.lerp(curves[:, :, 1], curves[:, :, 0], mixes.to(device)[..., None])
    levels = interpolate((pack.red, pack.green, pack.blue), start, width, height, x, y)
    images = look_up(levels, tables) * inside[:, None]
    if not len(pack.objects):
        return images, -1 - inside.int(), torch.zeros_like(inside, dtype=torch.uint8)
    nearest = start + (y + 0.5).long() * width + (x + 0.5).long()
    objects = take(pack.objects, nearest).int()
    objects = torch.where(objects < 0, objects, objects + first)
    objects = torch.where(inside, objects, objects.new_tensor(-1))
    return images, objects, take(pack.depths, nearest) * inside


def take(values, index):
    """values[index]; several times faster on the CPU."""
    return values.index_select(0, index.flatten()).view_as(index)


def interpolate(planes, start, width, height, x, y):
    """Bilinear levels (B, 3, h, w) float32 in 0..255 at points x, y (B, h, w) inside the images.

    planes: red, green and blue, each (P,) as of Pack; start, width, height (B, 1, 1): where in
    them each image lies.
    """
    left, top = x.long(), y.long()
    u, v = (x - left)[:, None], (y - top)[:, None]
    right, below = (left < width - 1).long(), width * (top < height - 1)
    index = start + top * width + left
    upper = levels_at(planes, index).lerp_(levels_at(planes, index + right), u)
    index += below
    lower = levels_at(planes, index).lerp_(levels_at(planes, index + right), u)
    return upper.lerp_(lower, v)


def levels_at(planes, index):
    """Levels (B, 3, h, w) float32 in 0..255 of the packed planes at index (B, h, w)."""
    levels = torch.empty(len(index), len(planes), *index.shape[1:], device=index.device)
    for channel, plane in enumerate(planes):
        levels[:, channel] = take(plane, index)
    return levels


def look_up(levels, tables):
    """Levels (B, 3, h, w) in 0..255 through the table (B, 3, 256) of each channel, linearly between
    its entries."""
    whole = levels.int()
    channel = torch.arange(tables[..., 0].numel(), dtype=torch.int32, device=levels.device)
    index = whole + 256 * channel.view(*tables.shape[:2], 1, 1)
    rises = tables.roll(-1, 2) - tables  # the last is of no use: nothing lies above 255
    return torch.addcmul(
        take(tables.flatten(), index), levels - whole, take(rises.flatten(), index)
    )
