"""Contours and their Fourier coefficients (paper, equation 2), one copy for every user.

A contour is (..., S, 2) points x, y. Its coefficients are (..., N, 4): a_n, b_n, c_n, d_n of
orders n = 1..N, where a, c go with the sine and b, d with the cosine; its centre is (..., 2):
a_0, c_0. The location t runs once around the contour in [0, 1).
"""

import math
from typing import Optional, Tuple

import torch


def uniform_locations(samples: int, device: Optional[torch.device] = None) -> torch.Tensor:
    """S locations t = 0, 1/S, ..., (S - 1)/S (S,)."""
    return torch.arange(samples, device=device, dtype=torch.float32) / samples


def basis(t: torch.Tensor, order: int) -> torch.Tensor:
    """sin and cos of 2 pi n t for n = 1..order: (2, order, S) of t (S,)."""
    n = torch.arange(1, order + 1, device=t.device, dtype=t.dtype)
    angle = 2 * math.pi * n[:, None] * t
    return torch.stack([angle.sin(), angle.cos()])


def to_contour(coefficients: torch.Tensor, centre: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Equation 2: coefficients (..., N, 4), centre (..., 2), t (S,) -> contour (..., S, 2)."""
    sine, cosine = basis(t, coefficients.shape[-2])
    a, b, c, d = coefficients.unbind(-1)
    x = a @ sine + b @ cosine
    y = c @ sine + d @ cosine
    return torch.stack([x, y], -1) + centre[..., None, :]


def from_contour(contour: torch.Tensor, order: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """Equation 2 solved for a contour (..., S, 2) sampled at uniform t.

    Returns coefficients (..., order, 4) and centre (..., 2). Exact for S > 2 * order.
    """
    samples = contour.shape[-2]
    sine, cosine = basis(uniform_locations(samples, contour.device), order)
    x, y = contour.unbind(-1)
    parts = [x @ sine.T, x @ cosine.T, y @ sine.T, y @ cosine.T]
    return torch.stack(parts, -1) * (2 / samples), contour.mean(-2)


def resample(polygons: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Points at relative arc length t in [0, 1) along closed polygons.

    polygons (n, P, 2) and t (S,) or (n, S) -> (n, S, 2); t = 0 is the first vertex. A polygon of
    length zero (one pixel) gives its only point.
    """
    closed = torch.cat([polygons, polygons[:, :1]], 1)
    steps = (closed[:, 1:] - closed[:, :-1]).norm(dim=-1)
    length = torch.cat([torch.zeros_like(steps[:, :1]), steps.cumsum(1)], 1)
    wanted = t.expand(len(polygons), -1) * length[:, -1:]
    after = torch.searchsorted(length, wanted.contiguous(), right=True)
    after = after.clamp(1, polygons.shape[1])
    start, end = length.gather(1, after - 1), length.gather(1, after)
    share = ((wanted - start) / (end - start).clamp(min=1e-6)).clamp(0, 1)[..., None]
    index = after[..., None].expand(-1, -1, 2)
    return closed.gather(1, index - 1) * (1 - share) + closed.gather(1, index) * share


def canonical(polygons: torch.Tensor, samples: int) -> torch.Tensor:
    """Polygons (n, P, 2) -> contours (n, samples, 2) at uniform arc length in canonical form.

    Clockwise on screen (x right, y down), t = 0 where the ray from the centre (the mean of the
    outline) to the right leaves the polygon last. So the form depends on the shape alone and a
    rotated image has the targets of the rotated shape (design.md, decision 2).
    """
    x, y = polygons.unbind(-1)
    following = polygons.roll(-1, 1)
    area = (x * following[..., 1] - y * following[..., 0]).sum(1)
    polygons = torch.where(area[:, None, None] < 0, polygons.flip(1), polygons)
    t = uniform_locations(samples, polygons.device)
    contour = resample(polygons, t)
    return resample(contour, (_start(contour)[:, None] + t) % 1)


def _start(contour):
    """Relative arc length (n,) at which clockwise contours (n, S, 2) cross their centre's row on
    the way down, farthest to the right; 0 for a flat one."""
    x, y = (contour - contour.mean(1, keepdim=True)).unbind(-1)
    next_x, next_y = x.roll(-1, 1), y.roll(-1, 1)
    share = -y / (next_y - y).clamp(min=1e-6)
    crossing = torch.where((y < 0) & (next_y >= 0), x + share * (next_x - x), -math.inf)
    best, segment = crossing.max(1)
    start = (segment + share.gather(1, segment[:, None])[:, 0]) / contour.shape[1]
    return torch.where(best.isfinite(), start, torch.zeros_like(start))
