"""Listen2Student: what a teacher says of unlabelled crops, and what a student learns of it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY
from training_data import draw_image, make_data

from app.network import device
from app.network.cpn import CPN
from training import catalog, engine, losses, packing, teacher
from training.recipe import Recipe, make_recipe, with_teacher
from training.sampler import Sampler
from training.targets import Targets, random_locations

# A teacher whose every proposal is a label, and a student that is unsure of every side.
RECIPE = Recipe(
    minutes=1,
    crops=((64, 4),),
    positions=64,
    samples=16,
    unlabelled=0.5,
    teacher_foreground=0.0,
    student_uncertainty=0.0,
    uncertainty_margin=-1.0,
)


@pytest.fixture
def run(tmp_path):
    """(State, Sampler, Teacher) of drawn images."""
    data = make_data(tmp_path / "data")
    (tmp_path / "unlabelled").mkdir()
    rng = np.random.default_rng(5)
    for number in range(2):
        image, _ = draw_image(rng, 120, 130)
        cv2.imwrite(str(tmp_path / "unlabelled" / f"{number}.png"), image)
    torch.manual_seed(0)
    state = engine.new_state(CPN(TINY), RECIPE, torch.device("cpu"))
    pack = packing.pack(catalog.entries(data, "train"), tmp_path / "pack")
    sampler = Sampler(pack, TINY.architecture, RECIPE, state.generator)
    unlabelled = catalog.unlabelled(tmp_path / "unlabelled")
    unlabelled = packing.pack(unlabelled, tmp_path / "unlabelled pack")
    return state, sampler, teacher.Teacher(unlabelled, RECIPE, state.generator)


def test_unlabelled_crops_follow_the_labelled_ones(run):
    state, sampler, taught = run
    images, targets = sampler()
    joined, both = taught.extend((images, targets), state.average)
    assert len(joined) == 6
    assert torch.equal(joined[:4], images)
    assert torch.equal(both.foreground[:4], targets.foreground)
    known = len(targets.positions[0])
    assert not both.is_pseudo[:known].any()
    assert both.is_pseudo[known:].all()
    assert (both.positions[0][known:] >= 4).all()
    assert both.foreground[both.positions].all()
    assert len(both.boxes) == len(both.contours) == len(both.uncertainties) > known


@pytest.fixture
def float32(monkeypatch):
    """No bfloat16, in which a teacher says other things than the network asked beside it."""
    monkeypatch.setattr(device, "cpu_has_bfloat16", lambda: False)


def test_scores_between_the_thresholds_are_ignored(run, float32):
    state, sampler, _ = run
    images, targets = sampler()
    with torch.no_grad():
        score = state.average(images).score[:, 0].float().sigmoid()
    low, high = score.flatten().quantile(torch.tensor([0.3, 0.6])).tolist()
    recipe = replace(RECIPE, teacher_foreground=high, teacher_background=low)
    taught = teacher.teach(state.average, images, targets.t, recipe, seed=0)
    between = (score > low) & (score < high)
    assert (taught.foreground == (score >= high)).float().mean() > 0.999
    assert (taught.ignored == between).float().mean() > 0.999


def test_labels_are_the_teachers_refined_proposals(run, float32):
    state, sampler, _ = run
    images, _ = sampler()
    t = random_locations(RECIPE.samples, state.generator)
    taught = teacher.teach(state.average, images, t, RECIPE, seed=3)
    with torch.no_grad():
        found = state.average.propose(state.average(images), taught.positions, (64, 64), t)
    assert torch.allclose(taught.contours, found.refined, atol=0.5)
    assert torch.allclose(taught.uncertainties, found.uncertainties, atol=0.02)
    assert not taught.contours.requires_grad


def terms_of(state, batch, recipe):
    images, targets = batch
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(1)
    maps = state.network.eval()(images)
    return losses.total_loss(state.network, maps, targets, (64, 64), recipe, draw)


def only_taught(targets, taught):
    """The same Targets as a teacher's, of the given uncertainties."""
    return replace(
        targets,
        is_pseudo=torch.ones_like(targets.is_pseudo),
        uncertainties=torch.full_like(targets.uncertainties, taught),
    )


def test_a_teacher_that_is_less_sure_than_the_student_teaches_no_outline(run):
    state, sampler, _ = run
    images, targets = sampler()
    recipe = replace(RECIPE, student_uncertainty=0.0, uncertainty_margin=0.0)
    ignored = terms_of(state, (images, only_taught(targets, 1.0)), recipe)
    shapes = ("uncertainty", "contour", "refinement", "fourier", "location", "boundary", "sides")
    assert [ignored[name].item() for name in shapes] == [0] * len(shapes)
    assert ignored["object"] > 0
    sure = terms_of(state, (images, only_taught(targets, 0.0)), recipe)
    true = terms_of(state, (images, targets), recipe)
    for name in shapes:
        assert sure[name].item() == pytest.approx(true[name].item())


def test_a_step_with_a_teacher_learns_from_both(run):
    state, sampler, taught = run
    before = {name: value.clone() for name, value in state.network.state_dict().items()}
    terms = engine.train_step(state, taught.extend(sampler(), state.average), RECIPE)
    assert terms["contour"] > 0
    assert any(
        not torch.equal(value, before[name]) for name, value in state.network.state_dict().items()
    )


@pytest.mark.parametrize("schedule", ["fast", "paper", "tune"])
def test_in_every_schedule_single_sides_teach_and_the_teacher_is_an_average(schedule):
    recipe = with_teacher(make_recipe(schedule, steps=9, minutes=None), 0.5)
    assert recipe.weights["sides"] > 0
    assert recipe.ema > 0
    assert recipe.unlabelled == 0.5


def test_batches_of_no_cells_join(run):
    _, sampler, _ = run
    _, targets = sampler()
    nothing = replace(
        targets,
        positions=tuple(c[:0] for c in targets.positions),
        **{
            name: getattr(targets, name)[:0]
            for name in vars(targets).keys() - {"foreground", "ignored", "positions", "t"}
        },
    )
    both = Targets.cat([nothing, targets, nothing])
    assert len(both.foreground) == 12
    assert torch.equal(both.positions[0], targets.positions[0] + 4)
