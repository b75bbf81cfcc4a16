"""The paper's losses, equations 1 to 5, one small function each.

All lengths are input pixels, all boxes left, top, right, bottom. Lengths are not divided by the
object's size: the gradient of an absolute difference is the same for small and large objects, and
large ones have the longer way to go.
"""

import math

import torch
from torch.nn import functional as F

from app.cells import UNCERTAINTY_SCALE
from app.network.cpn import boxes_of

LEAST_UNCERTAINTY = 0.01  # of the sigmoid: equation 4 explodes where delta goes to zero
LEAST_QUALITY = 0.1  # target score of the worst box on a cell, degenerate ones included


def mean(values):
    """Mean of values (k,); 0 for none, with a gradient."""
    return values.sum() / max(len(values), 1)


def score_loss(foreground_logits, quality, background_logits, background_weight=2.0):
    """Equation 1: binary cross entropy, foreground (k,) and background (m,) averaged apart.

    quality (k,) in [0, 1]: the target of the foreground, the detached IoU of predicted and true
    box, so that the score ranks how good a proposal is.
    """
    foreground = F.binary_cross_entropy_with_logits(foreground_logits, quality, reduction="none")
    background = F.softplus(background_logits)
    return mean(foreground) + background_weight * mean(background)


def contour_loss(contours, target):
    """Equation 3: mean absolute difference of contours (k, S, 2)."""
    return mean((contours - target).abs().mean((1, 2)))


def location_loss(centres, target):
    """Mean absolute difference of centres a_0, c_0 (k, 2)."""
    return mean((centres - target).abs().mean(1))


def order_weights(order, device=None):
    """Weights (N,) of the orders: 1 + 4 (1 - n / (N - 1))^2, n = 0..N-1: 5 down to 1."""
    n = torch.arange(order, device=device, dtype=torch.float32)
    return 1 + 4 * (1 - n / max(order - 1, 1)) ** 2


def fourier_loss(coefficients, target):
    """L1 of coefficients (k, N, 4) with order weights (L_repr of equation 5)."""
    difference = (coefficients - target).abs().mean(2)
    weighted = difference * order_weights(difference.shape[1], difference.device)
    return mean(weighted.mean(1))


def box_iou(boxes, target):
    """IoU (k,) of boxes (k, 4) pairwise, and the enclosing and union areas (k,) of each pair."""
    low, high = torch.maximum(boxes, target)[:, :2], torch.minimum(boxes, target)[:, 2:]
    intersection = (high - low).clamp(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (target[:, 2:] - target[:, :2]).prod(1)
    union = (areas - intersection).clamp(min=1e-6)
    hull = torch.maximum(boxes[:, 2:], target[:, 2:]) - torch.minimum(boxes[:, :2], target[:, :2])
    return intersection / union, hull.prod(1).clamp(min=1e-6), union


def boundary_loss(boxes, target):
    """1 - GIoU of boxes (k, 4), over those with sides of at least one pixel (paper, 2.2.3)."""
    sides = torch.minimum(boxes[:, 2:] - boxes[:, :2], target[:, 2:] - target[:, :2])
    valid = (sides >= 1).all(1)
    iou, hull, union = box_iou(boxes[valid], target[valid])
    return mean(1 - iou + (hull - union) / hull)


def uncertainty_loss(uncertainties, boxes, target, iou):
    """Equation 4: negative power log-likelihood of the four sides, weighted by the IoU.

    uncertainties (k, 4) in (0, 1); boxes, target (k, 4); iou (k,). It learns to expect the
    boxes' error; the boxes themselves have better losses and are detached, as is the IoU.
    """
    # The floor holds the value, not the gradient: a side that is too sure can come back.
    floor = (uncertainties.clamp(min=LEAST_UNCERTAINTY) - uncertainties).detach()
    delta = UNCERTAINTY_SCALE * (uncertainties + floor)
    error = (boxes.detach() - target) ** 2
    sides = error / (2 * delta**2) + 0.5 * (delta**2).log()
    return mean(iou.detach() * (sides.sum(1) + 2 * math.log(2 * math.pi)))


def total_loss(network, maps, targets, size, recipe, draw):
    """Equation 5: all terms of a batch as a dict of scalars, with their weighted sum "loss".

    maps: the network's Maps; targets: Targets; size: (H, W) of the crops. The number of
    refinement iterations is drawn from 1 to the configured one.
    """
    logits = maps.score[:, 0].float()
    background = ~(targets.foreground | targets.ignored)
    most = network.config.refinement_iterations
    iterations = int(torch.randint(1, most + 1, (), generator=draw))
    proposals = network.propose(maps, targets.cells, size, targets.t, iterations)
    iou, _, _ = box_iou(proposals.boxes.detach(), targets.boxes)
    unrefined = boxes_of(proposals.contours)
    terms = {
        "object": score_loss(
            logits[targets.cells],
            iou.clamp(min=LEAST_QUALITY),
            logits[background],
            recipe.background_weight,
        ),
        "uncertainty": uncertainty_loss(
            proposals.uncertainties, proposals.boxes, targets.boxes, iou
        ),
        "contour": contour_loss(proposals.contours, targets.contours),
        "refinement": contour_loss(proposals.refined, targets.contours),
        "fourier": fourier_loss(proposals.coefficients, targets.coefficients),
        "location": location_loss(proposals.centres, targets.centres),
        # On the contour before refinement, so that it reaches the Fourier head as well.
        "boundary": boundary_loss(unrefined, targets.boxes),
    }
    terms["loss"] = sum(recipe.weights[name] * value for name, value in terms.items())
    return terms
