"""The paper's losses, equations 1 to 5, one small function each.

Each gives a value for every proposal (k,); `means` averages them over all processes. Lengths are
input pixels, boxes left, top, right, bottom. Lengths are not divided by the object's size: the
gradient of an absolute difference is the same for small and large objects, and large ones have the
longer way to go.
"""

import math

import torch
from torch.nn import functional as F

from app.cells import UNCERTAINTY_SCALE
from app.network.cpn import boxes_of
from training import distributed

LEAST_UNCERTAINTY = 0.01  # of the sigmoid: equation 4 explodes where delta goes to zero
LEAST_QUALITY = 0.1  # target score of the worst proposal on a cell, degenerate ones included
RASTER = 12  # sampled points along each side of two contours' common box


def means(values):
    """The mean of each list of values, {name: (k,)}, k being those of all processes; 0 for none.

    Returns {name: scalar}: the mean over all processes, with the gradient of the own values. The
    processes' gradients are averaged afterwards: the factor makes that a sum. However many lists,
    the processes wait for one another once.
    """
    sums = torch.stack([each.sum() for each in values.values()])
    counts = sums.new_tensor([len(each) for each in values.values()])
    sums_of_all, counts = distributed.total(torch.stack([sums.detach(), counts]).double())
    counts = counts.clamp(min=1)
    own = sums * (distributed.processes() / counts).float()
    # The difference is 0 exactly: every process has the same means, bit for bit.
    found = (sums_of_all / counts).float() + (own - own.detach())
    return dict(zip(values, found.unbind()))


def score_loss(logits, target):
    """Equation 1: binary cross entropy (k,) of score logits (k,) with their targets (k,) in 0..1.

    The target of the foreground is the detached IoU of predicted and true cell, so that the score
    ranks how good a proposal is; that of the background is 0.
    """
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def contour_loss(contours, target):
    """Equation 3: mean absolute difference (k,) of contours (k, S, 2)."""
    return (contours - target).abs().mean((1, 2))


def location_loss(centres, target):
    """Mean absolute difference (k,) of centres a_0, c_0 (k, 2)."""
    return (centres - target).abs().mean(1)


def order_weights(order, device=None):
    """Weights (N,) of the orders: 1 + 4 (1 - n / (N - 1))^2, n = 0..N-1: 5 down to 1."""
    n = torch.arange(order, device=device, dtype=torch.float32)
    return 1 + 4 * (1 - n / max(order - 1, 1)) ** 2


def fourier_loss(coefficients, target):
    """L1 (k,) of coefficients (k, N, 4) with order weights (L_repr of equation 5)."""
    difference = (coefficients - target).abs().mean(2)  # (k, N)
    return (difference * order_weights(difference.shape[1], difference.device)).mean(1)


def box_iou(boxes, target):
    """IoU (k,) of boxes (k, 4) pairwise, and the enclosing and union areas (k,) of each pair."""
    low, high = torch.maximum(boxes, target)[:, :2], torch.minimum(boxes, target)[:, 2:]
    intersection = (high - low).clamp(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (target[:, 2:] - target[:, :2]).prod(1)
    union = (areas - intersection).clamp(min=1e-6)
    hull = torch.maximum(boxes[:, 2:], target[:, 2:]) - torch.minimum(boxes[:, :2], target[:, :2])
    return intersection / union, hull.prod(1).clamp(min=1e-6), union


def contour_iou(contours, target):
    """IoU (k,) of the areas of contours (k, S, 2) and target (k, S', 2) pairwise.

    Counted on RASTER x RASTER points evenly spread over the pair's common box, inside by the
    even-odd rule; 0 where there is no area.
    """
    boxes, true_boxes = boxes_of(contours), boxes_of(target)
    low = torch.minimum(boxes[:, :2], true_boxes[:, :2])
    extent = torch.maximum(boxes[:, 2:], true_boxes[:, 2:]) - low
    ticks = (torch.arange(RASTER, device=contours.device) + 0.5) / RASTER
    points = low[:, None] + ticks[:, None] * extent[:, None]
    first, second = inside(contours, points), inside(target, points)
    union = (first | second).sum((1, 2))
    return (first & second).sum((1, 2)) / union.clamp(min=1)


def inside(contours, ticks):
    """Which points of a lattice the contours (k, S, 2) enclose, by the even-odd rule.

    ticks (k, R, 2): the x of the lattice's columns and the y of its rows. Returns
    (k, R, R) bool, [:, row, column].
    """
    x, y = (side[..., None] for side in contours.unbind(-1))
    next_x, next_y = x.roll(-1, 1), y.roll(-1, 1)
    column, row = ticks[:, None, :, 0], ticks[:, None, :, 1]
    crossed = (y > row) != (next_y > row)
    share = (row - y) / torch.where(crossed, next_y - y, torch.ones_like(row))
    # Where each edge crosses each row (k, S, R); what it does not cross lies left of everything.
    crossing = torch.where(crossed, x + share * (next_x - x), x.new_tensor(-math.inf))
    odd = torch.zeros(len(ticks), RASTER, RASTER, dtype=torch.bool, device=ticks.device)
    for edge in crossing.unbind(1):
        odd ^= edge[:, :, None] > column
    return odd


def score_target(iou, quality):
    """The score (k,) that proposals of this IoU (k,) should have: LEAST_QUALITY to 1.

    quality (low, high): the IoU of score 0 and of score 1, linear between. (0, 1) is the
    paper's, the IoU itself; a steeper one around 0.5 makes the score the chance of being right at
    that IoU, whatever the source, so that one threshold suits all.
    """
    low, high = quality
    return ((iou - low) / (high - low)).clamp(LEAST_QUALITY, 1)


def boundary_loss(boxes, target):
    """1 - GIoU (n,) of those boxes (k, 4) with sides of at least one pixel (paper, 2.2.3)."""
    sides = torch.minimum(boxes[:, 2:] - boxes[:, :2], target[:, 2:] - target[:, :2])
    valid = (sides >= 1).all(1)
    iou, hull, union = box_iou(boxes[valid], target[valid])
    return 1 - iou + (hull - union) / hull


def uncertainty_loss(uncertainties, boxes, target, iou, detached=True):
    """Equation 4: negative power log-likelihood (k,) of the four sides, weighted by the IoU.

    uncertainties (k, 4) in (0, 1); boxes, target (k, 4); iou (k,), of which no gradient is taken.
    detached: whether uncertainties learn to expect the boxes' error and the boxes themselves, which
    have better losses, learn nothing here. In the paper they do.
    """
    # The floor holds the value, not the gradient: a side that is too sure can come back.
    floor = (uncertainties.clamp(min=LEAST_UNCERTAINTY) - uncertainties).detach()
    delta = UNCERTAINTY_SCALE * (uncertainties + floor)  # (k, 4), in pixels
    error = ((boxes.detach() if detached else boxes) - target) ** 2
    sides = error / (2 * delta**2) + 0.5 * (delta**2).log()
    return iou.detach() * (sides.sum(1) + 2 * math.log(2 * math.pi))


def side_loss(boxes, target, learned):
    """Absolute differences (n,) of those sides of boxes (k, 4) that `learned` (k, 4) names."""
    return (boxes - target).abs()[learned]


def learned_sides(uncertainties, targets, recipe):
    """Which sides (k, 4), bool, of the chosen proposals are learned (Listen2Student, paper [9]).

    All of labelled cells. Of pseudo-labels, those of which the student is uncertain and the teacher
    less so by a margin. uncertainties (k, 4): the student's, in [0, 1].
    """
    unsure = uncertainties > recipe.student_uncertainty
    better = targets.uncertainties <= uncertainties - recipe.uncertainty_margin
    return ~targets.is_pseudo[:, None] | (unsure & better)


def total_loss(network, maps, targets, size, recipe, generator, seconds=0.0):
    """Equation 5: all terms of a batch as a dict of scalars, with their weighted sum "loss".

    "learned", for the log, is the share of the cells' sides that are learned (Listen2Student).
    "seconds" is what the first process was given: by it all decide alike.

    maps: the network's Maps; targets: Targets; size: (H, W) of the crops. The number of
    refinement iterations is drawn from 1 to the configured one.
    """
    logits = maps.score[:, 0].float()  # (B, h, w)
    background = logits[~(targets.foreground | targets.ignored)]
    most = network.config.inference.refinement_iterations
    iterations = int(torch.randint(1, most + 1, (), generator=generator))
    found = network.propose(maps, targets.positions, size, targets.t, iterations)
    iou = overlap = box_iou(found.boxes.detach(), targets.boxes)[0]  # (k,)
    if recipe.quality_of == "contour":
        iou = contour_iou(found.refined.detach(), targets.contours)
    sides = learned_sides(found.uncertainties.detach(), targets, recipe)  # (k, 4)
    values = {
        "foreground": score_loss(logits[targets.positions], score_target(iou, recipe.quality)),
        "background": score_loss(background, torch.zeros_like(background)),
        "sides": side_loss(found.boxes, targets.boxes, sides),
        "learned": sides.float().mean(1),
        "seconds": logits.new_tensor([seconds] if distributed.is_first() else []),
    }
    whole = sides.all(1)  # (k,): all else that a cell teaches needs all of its sides
    found, detached = found._make(part[whole] for part in found), recipe.detached_boxes
    contours, boxes = targets.contours[whole], targets.boxes[whole]
    # Not on the refined contour alone, whose gradient reaches the refinement head only.
    bounded = boxes_of(getattr(found, recipe.boundary_of))
    values.update(
        uncertainty=uncertainty_loss(
            found.uncertainties, found.boxes, boxes, overlap[whole], detached
        ),
        contour=contour_loss(found.contours, contours),
        refinement=contour_loss(found.refined, contours),
        fourier=fourier_loss(found.coefficients, targets.coefficients[whole]),
        location=location_loss(found.centres, targets.centres[whole]),
        boundary=boundary_loss(bounded, boxes),
    )
    terms = means(values)
    terms["object"] = terms.pop("foreground") + recipe.background_weight * terms.pop("background")
    terms["loss"] = sum(weight * terms[name] for name, weight in recipe.weights.items())
    return terms
