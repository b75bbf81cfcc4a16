"""Equations 1 to 5, each against values worked out by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from training import losses
from training.recipe import Recipe

TRUE_BOX = torch.tensor([[0.0, 0.0, 10.0, 20.0]])


def test_score_loss_is_equation_1():
    # sigmoid(ln 3) = 0.75, sigmoid(0) = 0.5.
    foreground = losses.score_loss(torch.tensor([math.log(3.0)]), torch.ones(1))
    background = losses.score_loss(torch.tensor([0.0, math.log(3.0)]), torch.zeros(2))
    assert foreground.tolist() == pytest.approx([-math.log(0.75)])
    assert background.tolist() == pytest.approx([-math.log(0.5), -math.log(0.25)])


def test_score_loss_with_quality_is_least_where_the_score_is_the_quality():
    logits = torch.linspace(-4, 4, 801)
    values = losses.score_loss(logits, torch.full_like(logits, 0.7))
    assert logits[values.argmin()].sigmoid().item() == pytest.approx(0.7, abs=0.01)


def test_every_list_of_values_has_its_own_mean_and_none_is_zero():
    """Alone; test_distributed.py has several processes."""
    values = {"few": torch.tensor([3.0, 5.0], requires_grad=True), "many": torch.ones(50)}
    found = losses.means({**values, "none": torch.zeros(0)})
    assert {name: value.item() for name, value in found.items()} == {"few": 4, "many": 1, "none": 0}
    found["few"].backward()
    assert values["few"].grad.tolist() == [0.5, 0.5]


def test_contour_loss_is_equation_3():
    contours = torch.zeros(2, 2, 2)
    target = torch.tensor([[[1.0, -2.0], [3.0, 0.0]], [[0.0, 0.0], [0.0, 4.0]]])
    assert losses.contour_loss(contours, target).tolist() == [6 / 4, 4 / 4]


def test_location_loss_is_the_mean_distance_per_axis():
    found = losses.location_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 1.0]]))
    assert found.item() == pytest.approx(2.0)


def test_fourier_loss_weighs_the_orders_from_5_down_to_1():
    assert losses.order_weights(3).tolist() == [5.0, 2.0, 1.0]
    assert losses.order_weights(1).tolist() == [5.0]
    coefficients = torch.zeros(1, 3, 4)
    target = torch.tensor([[[4.0, 0, 0, 0], [0, 0, 0, 0], [0, -8.0, 0, 0]]])
    found = losses.fourier_loss(coefficients, target)
    assert found.item() == pytest.approx((5 * 1 + 2 * 0 + 1 * 2) / 3)


@pytest.mark.parametrize(
    "box, expected",
    [
        ([0, 0, 10, 20], 0.0),
        ([0, 0, 10, 10], 0.5),  # IoU 1/2, the hull is the union
        ([10, 0, 20, 20], 1.0),  # touching: IoU 0, the hull is the union
        ([30, 0, 40, 20], 1 + 400 / 800),  # apart: hull 40 x 20, union 400
        ([5, 10, 15, 30], 1 - 50 / 350 + (450 - 350) / 450),
    ],
)
def test_boundary_loss_is_one_minus_giou(box, expected):
    found = losses.boundary_loss(torch.tensor([box]).float(), TRUE_BOX)
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_boundary_loss_leaves_out_boxes_of_less_than_a_pixel():
    boxes = torch.tensor([[0.0, 0, 0.5, 9], [0, 0, 10, 20]])
    found = losses.boundary_loss(boxes, TRUE_BOX.repeat(2, 1))
    assert found.tolist() == pytest.approx([0.0])


def square(left, top, side, points=64):
    """A square outline (1, points, 2)."""
    t = torch.arange(points) / points * 4
    x = torch.stack([t, t * 0 + 1, 3 - t, t * 0])
    y = torch.stack([t * 0, t - 1, t * 0 + 1, 4 - t])
    part = t.long()[None]
    corner = torch.tensor([left, top]).float()
    return (torch.stack([x.gather(0, part)[0], y.gather(0, part)[0]], -1) * side + corner)[None]


@pytest.mark.parametrize(
    "shift, expected", [((0, 0), 1.0), ((6, 0), 1 / 3), ((6, 6), 1 / 7), ((20, 0), 0.0)]
)
def test_contour_iou_is_that_of_the_areas(shift, expected):
    found = losses.contour_iou(square(0, 0, 12), square(*shift, 12, points=48))
    assert found.item() == pytest.approx(expected, abs=0.04)


def test_contour_iou_sees_what_boxes_do_not():
    """A bow and a bar with nearly the same box, as of worms that lie beside each other."""
    turn = torch.linspace(0, math.pi, 40)
    outer = torch.stack([50 * turn.cos(), 50 * turn.sin()], -1)
    bow = torch.cat([outer, outer.flip(0) * 0.8])[None]
    bar = torch.tensor([[[-50.0, 0], [50, 0], [50, 8], [-50, 8]]])
    assert losses.contour_iou(bow, bar).item() < 0.2
    assert losses.contour_iou(bow, bow.roll(7, 1)).item() == 1


def test_contour_iou_of_nothing_and_of_a_point_is_no_nan():
    assert losses.contour_iou(torch.zeros(0, 5, 2), torch.zeros(0, 9, 2)).shape == (0,)
    assert losses.contour_iou(torch.ones(1, 5, 2), torch.ones(1, 9, 2)).tolist() == [0]


def test_the_score_target_is_the_iou_or_steeper():
    iou = torch.tensor([0.0, 0.3, 0.55, 0.8, 1.0])
    paper = losses.score_target(iou, (0.0, 1.0))
    assert paper.tolist() == pytest.approx([0.1, 0.3, 0.55, 0.8, 1.0])
    steep = losses.score_target(iou, (0.3, 0.8))
    assert steep.tolist() == pytest.approx([0.1, 0.1, 0.5, 1.0, 1.0])


def test_side_loss_is_of_the_learned_sides_alone():
    boxes = TRUE_BOX + torch.tensor([[1.0, -2.0, 30.0, 3.0]])
    learned = torch.tensor([[True, True, False, True]])
    assert losses.side_loss(boxes, TRUE_BOX, learned).tolist() == [1.0, 2.0, 3.0]


def test_a_pseudo_labels_side_is_learned_where_the_teacher_is_surer_than_an_unsure_student():
    """Listen2Student: delta_student > 0.5 and delta_teacher <= delta_student - 0.1."""
    student = torch.tensor([[0.6, 0.6, 0.4, 0.9], [0.0, 0.0, 0.0, 0.0]])
    teacher = torch.tensor([[0.5, 0.55, 0.1, 0.2], [0.0, 0.0, 0.0, 0.0]])
    targets = SimpleNamespace(is_pseudo=torch.tensor([True, False]), uncertainties=teacher)
    learned = losses.learned_sides(student, targets, Recipe(minutes=1))
    assert learned.tolist() == [[True, False, False, True], [True, True, True, True]]


def test_uncertainty_loss_is_equation_4():
    boxes = TRUE_BOX + torch.tensor([[1.0, -2.0, 0.0, 3.0]])
    sigmoid = torch.tensor([[0.2, 0.3, 0.4, 0.5]])
    delta = 7 * sigmoid[0]
    error = torch.tensor([1.0, 4.0, 0.0, 9.0])
    sides = error / (2 * delta**2) + 0.5 * (delta**2).log()
    expected = 0.6 * (sides.sum() + 2 * math.log(2 * math.pi))
    found = losses.uncertainty_loss(sigmoid, boxes, TRUE_BOX, torch.tensor([0.6]))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("side", range(4))
def test_moving_one_true_side_changes_the_gradient_of_its_uncertainty_alone(side):
    """Who keeps which order: left, top, right, bottom throughout the network and its losses."""

    def gradient(target):
        logits = torch.zeros(1, 4, requires_grad=True)
        iou = torch.ones(1)
        losses.uncertainty_loss(logits.sigmoid(), TRUE_BOX, target, iou).sum().backward()
        return logits.grad[0]

    moved = TRUE_BOX.clone()
    moved[0, side] += 2.0
    changed = (gradient(moved) - gradient(TRUE_BOX)).abs() > 1e-6
    assert changed.nonzero().flatten().tolist() == [side]


def test_uncertainty_learns_the_size_of_the_error():
    """The minimum of equation 4 is at delta = |v - v^|."""
    boxes = TRUE_BOX + 2.0
    deltas = torch.linspace(0.5, 6.5, 601)
    values = [
        losses.uncertainty_loss(
            torch.full((1, 4), delta.item() / 7), boxes, TRUE_BOX, torch.ones(1)
        ).item()
        for delta in deltas
    ]
    assert deltas[int(torch.tensor(values).argmin())].item() == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("detached", [True, False])
def test_uncertainty_loss_moves_the_boxes_where_they_are_not_detached(detached):
    """By (v - v^) / delta^2 times the IoU, equation 4 as the paper prints it."""
    boxes = (TRUE_BOX + torch.tensor([[1.0, -2.0, 0.0, 3.0]])).requires_grad_()
    iou = torch.tensor([0.5], requires_grad=True)
    logits = torch.zeros(1, 4, requires_grad=True)
    losses.uncertainty_loss(logits.sigmoid(), boxes, TRUE_BOX, iou, detached).mean().backward()
    assert iou.grad is None
    assert (logits.grad != 0).all()
    if detached:
        assert boxes.grad is None
    else:
        expected = 0.5 * torch.tensor([1.0, -2.0, 0.0, 3.0]) / 3.5**2
        assert torch.allclose(boxes.grad[0], expected)


def test_every_loss_of_no_proposals_is_zero_with_a_gradient():
    none = torch.zeros(0, 4, requires_grad=True)
    empty = torch.zeros(0, 4)
    values = {
        "boundary": losses.boundary_loss(none, empty),
        "uncertainty": losses.uncertainty_loss(none, empty, empty, torch.zeros(0)),
        "contour": losses.contour_loss(none.view(0, 2, 2), empty.view(0, 2, 2)),
        "fourier": losses.fourier_loss(none.view(0, 1, 4), empty.view(0, 1, 4)),
        "sides": losses.side_loss(none, empty, empty > 0),
    }
    for value in losses.means(values).values():
        assert value.item() == 0
        value.backward(retain_graph=True)


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_all_processes_have_the_same_means_bit_for_bit(monkeypatch, processes):
    """Or their clocks and learning rates would drift apart, and one would wait for the others."""
    generator = torch.Generator().manual_seed(1)
    parts = [
        {name: torch.rand(each + 1, generator=generator) for name in ("a", "b")}
        for each in range(processes)
    ]
    sums = [torch.stack([part[name].sum() for name in ("a", "b")]) for part in parts]
    counts = [torch.tensor([float(len(part[name])) for name in ("a", "b")]) for part in parts]
    total = torch.stack([sum(s.double() for s in sums), sum(c.double() for c in counts)])
    monkeypatch.setattr(losses.distributed, "processes", lambda: processes)
    monkeypatch.setattr(losses.distributed, "total", lambda _: total)
    found = [losses.means(part) for part in parts]
    for name in ("a", "b"):
        assert len({each[name].item() for each in found}) == 1
        pooled = torch.cat([part[name] for part in parts])
        assert torch.allclose(found[0][name], pooled.mean())
