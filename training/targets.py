"""What the network should say of a batch of crops: foreground, contours, coefficients."""

from dataclasses import dataclass, fields
from itertools import accumulate

import torch
from torch.nn import functional as F

from app.network import fourier
from app.network.cpn import boxes_of
from training import distributed

LEAST_VISIBLE = 2.0  # pixels: objects whose part in the crop is thinner are not learned


@dataclass
class Targets:
    """Of a batch of B crops with proposal grids of h x w, and k chosen foreground positions.

    foreground, ignored (B, h, w) bool. positions: (crop, row, column), each (k,). t (S,) the random
    locations. Of the object of each chosen position, in crop pixels, clipped to the crop:
    contours (k, S, 2) at t, coefficients (k, N, 4), centres (k, 2), boxes (k, 4) left, top,
    right, bottom. is_pseudo (k,) bool: it is a pseudo-label (teacher.py). uncertainties (k, 4) in
    [0, 1]: the teacher's, of a pseudo-label's sides; 0 for labelled cells.
    """

    foreground: torch.Tensor
    ignored: torch.Tensor
    positions: tuple
    t: torch.Tensor
    contours: torch.Tensor
    coefficients: torch.Tensor
    centres: torch.Tensor
    boxes: torch.Tensor
    is_pseudo: torch.Tensor
    uncertainties: torch.Tensor

    @classmethod
    def cat(cls, parts):
        """One batch of all crops of several, in order; they share size and locations t."""
        firsts = accumulate([0] + [len(part.foreground) for part in parts])
        positions = [(p.positions[0] + first, *p.positions[1:]) for first, p in zip(firsts, parts)]
        names = {field.name for field in fields(cls)} - {"positions", "t"}
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return cls(positions=tuple(map(torch.cat, zip(*positions))), t=parts[0].t, **joined)


def centric_map(objects, depths, stride, foreground_depth, background_depth):
    """Labels on the proposal grid: the deepest pixel of each stride x stride block counts.

    objects (B, H, W) int32, depths (B, H, W) uint8 (augment.gather_crops). A cell is foreground
    where the relative depth passes `foreground_depth`, ignored between `background_depth` and
    that, and where an ignored object has a pixel. Returns owner (B, h, w) int64, foreground and
    ignored (B, h, w) bool; taking the maximum lets the centre of a small object survive.
    """
    depths = depths.float()[:, None]
    deepest, index = F.max_pool2d(depths, stride, return_indices=True)
    owner = objects.flatten(1).gather(1, index.flatten(1)).reshape(deepest[:, 0].shape).long()
    deepest = deepest[:, 0] / 255
    unknown = F.max_pool2d((objects == -2).float()[:, None], stride)[:, 0] > 0
    foreground = (deepest > foreground_depth) & (owner >= 0)
    ignored = (unknown & ~foreground) | ((deepest > background_depth) & ~foreground & (owner >= 0))
    return owner, foreground, ignored


def random_locations(samples, generator):
    """Contour locations t (samples,), evenly spread from a random first one on."""
    return fourier.uniform_locations(samples) + torch.rand(1, generator=generator) / samples


def choose_positions(owner, foreground, limit, seed):
    """At most `limit` foreground positions, spread evenly over the objects, not over their area.

    owner, foreground (B, h, w). Returns (crop, row, column), each (k,). Positions are drawn without
    replacement, each weighted by 1 / (positions of its object in its crop). How many numbers that
    takes depends on the crops, so it has a generator of its own, by `seed` and process.
    """
    generator = torch.Generator().manual_seed(seed + distributed.rank())
    crop, row, column = foreground.nonzero(as_tuple=True)
    if len(crop) <= limit:
        return crop, row, column
    key = crop * (owner.max() + 1) + owner[crop, row, column]
    _, inverse, counts = key.unique(return_inverse=True, return_counts=True)
    # The k smallest of exponential draws with rate w are a weighted sample of size k.
    waiting = -torch.rand(len(crop), generator=generator).clamp(min=1e-12).log().to(crop.device)
    keep = (waiting * counts[inverse]).topk(limit, largest=False).indices.sort().values
    return crop[keep], row[keep], column[keep]


def object_contours(pack, views, crop, owner):
    """Canonical contours (k, POLYGON_POINTS, 2) of objects (k,) in the frame of crops (k,).

    The polygon's points go through the crop's affine map and are clipped to the crop; start and
    direction are set anew there (design.md, decision 2).
    """
    polygons = views.to_crop(pack.polygons[owner], crop).clamp(0, views.side - 1)
    return fourier.canonical(polygons, polygons.shape[1])


def make_targets(pack, views, objects, depths, config, recipe, t, seed):
    """Targets of a batch. `recipe` decides depths and the number of positions.

    t (S,): locations of the contours' points (`random_locations`). seed: int that decides which
    positions are chosen where there are too many.
    """
    owner, foreground, ignored = centric_map(
        objects, depths, config.grid_stride, recipe.foreground_depth, recipe.background_depth
    )
    positions = choose_positions(owner, foreground, recipe.positions, seed)
    # Positions of one object share its contour: compute it once.
    key = torch.stack([positions[0], owner[positions]], 1)
    unique, inverse = key.unique(dim=0, return_inverse=True)
    contours = object_contours(pack, views, unique[:, 0], unique[:, 1])
    boxes = boxes_of(contours)
    # Outlines run through pixel centres: what is n pixels wide extends over n - 1.
    visible = ((boxes[:, 2:] - boxes[:, :2] + 1).amin(1) >= LEAST_VISIBLE)[inverse]
    positions, inverse = tuple(p[visible] for p in positions), inverse[visible]
    coefficients, centres = fourier.from_contour(contours, config.order)
    t = t.to(contours.device)
    return Targets(
        foreground=foreground,
        ignored=ignored,
        positions=positions,
        t=t,
        contours=fourier.resample(contours, t)[inverse],
        coefficients=coefficients[inverse],
        centres=centres[inverse],
        boxes=boxes[inverse],
        is_pseudo=torch.zeros_like(inverse, dtype=torch.bool),
        uncertainties=torch.zeros_like(boxes[inverse]),
    )
