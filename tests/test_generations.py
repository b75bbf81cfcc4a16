"""Generations of runs: what is drawn, what is kept, what is tried again."""

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import TINY, blind_network
from training_data import make_data

from app.network import weights
from training import __main__ as command
from training import catalog, generations, recipe, train

NO_IMAGES = train.Data(training=[], validation=[], unlabelled=[], licence="any")


def options(out, *more):
    given = ["--data", "none", "--runs", "2", "--generations", "5", "--minutes", "3", "--seed", "1"]
    return generations.parse([*given, "--out", str(out), *more])


@pytest.fixture
def scores(monkeypatch):
    """Runs that score what a test says, in order, and leave a file of weights."""
    wanted, seen = [], []

    def run(data, out, recipe, start, device, packs=None):
        (out / "best.safetensors").write_text(str(out))
        (out / "recipe.json").write_text(json.dumps(asdict(recipe)))
        seen.append((out, recipe, start))
        return SimpleNamespace(best=wanted[len(seen) - 1])

    monkeypatch.setattr(generations, "run", run)
    return wanted, seen


def test_the_next_generation_starts_from_the_best_until_none_is_better(tmp_path, scores):
    wanted, seen = scores
    wanted += [0.5, 0.6, 0.7, 0.65, 0.69, 0.7]  # the third generation does not improve on 0.7
    rows = generations.evolve(NO_IMAGES, options(tmp_path), train.Start(preset="compact"), "cpu")
    assert [row["score"] for row in rows] == wanted
    starts = [start.weights for _, _, start in seen]
    first, second = (tmp_path / f"generation-{g}" / f"run-{r}" for g, r in ((0, 1), (1, 0)))
    assert starts[:2] == [None, None]
    assert starts[2:4] == [first / "best.safetensors"] * 2
    assert starts[4:] == [second / "best.safetensors"] * 2
    assert (tmp_path / "best.safetensors").read_text() == str(second)
    with (tmp_path / "generations.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert [row["kept"] for row in table] == ["", "yes", "yes", "", "", ""]
    assert [float(row["score"]) for row in table] == wanted


def test_what_is_done_is_not_done_again(tmp_path, scores):
    wanted, seen = scores
    wanted += [0.5, 0.6, 0.1, 0.2]
    begun = train.Start(preset="compact")
    rows = generations.evolve(NO_IMAGES, options(tmp_path), begun, "cpu")
    again = generations.evolve(NO_IMAGES, options(tmp_path), begun, "cpu")
    assert again == rows
    assert len(seen) == 4


def test_what_is_done_with_other_settings_is_not_taken_for_what_is_asked_for(tmp_path, scores):
    scores[0].extend([0.5, 0.6, 0.1, 0.2])
    begun = train.Start(preset="compact")
    generations.evolve(NO_IMAGES, options(tmp_path), begun, "cpu")
    for other in (["--minutes", "7"], ["--seed", "5"]):
        with pytest.raises(ValueError, match=f"run-0 holds a run with other.*{other[0][2:]}"):
            generations.evolve(NO_IMAGES, options(tmp_path, *other), begun, "cpu")


def test_what_is_done_from_another_start_is_not_taken_for_what_is_asked_for(tmp_path, scores):
    scores[0].extend([0.5, 0.6, 0.1, 0.2])
    out, one, other = (tmp_path / name for name in ("out", "one", "other"))
    one.write_text("weights")
    other.write_text("other weights")
    generations.evolve(NO_IMAGES, options(out), train.Start(weights=one), "cpu")
    with pytest.raises(ValueError, match=r"run-0 holds a run with other settings \(weights\)"):
        generations.evolve(NO_IMAGES, options(out), train.Start(weights=other), "cpu")
    # By its content: the same weights elsewhere are the same start.
    generations.evolve(NO_IMAGES, options(out), train.Start(weights=one.rename(other)), "cpu")


@pytest.mark.parametrize("part", ["training", "validation", "unlabelled"])
def test_what_is_done_on_other_images_is_not_taken_for_what_is_asked_for(tmp_path, scores, part):
    scores[0].extend([0.5, 0.6, 0.1, 0.2])
    start, out = train.Start(preset="compact"), tmp_path / "out"
    generations.evolve(NO_IMAGES, options(out), start, "cpu")
    image = tmp_path / "image.png"
    image.write_text("pixels")
    data = replace(NO_IMAGES, **{part: [catalog.Entry("own", image)]})
    with pytest.raises(ValueError, match=f"{part} images"):
        generations.evolve(data, options(out), start, "cpu")


def test_over_the_generations_rates_fall_foreground_grows_and_all_images_are_used(tmp_path):
    drawn = [
        [generations.random_recipe(options(tmp_path), g, r) for r in range(40)] for g in range(4)
    ]

    def means(name):
        return [sum(getattr(each, name) for each in some) / len(some) for some in drawn]

    rates, depths = means("learning_rate"), means("foreground_depth")
    assert rates == sorted(rates, reverse=True)
    assert rates[3] == pytest.approx(rates[0] / 8, rel=0.15)
    assert depths[0] > depths[1] > depths[2]
    assert max(each.subsample for some in drawn[:2] for each in some) <= 1
    assert means("subsample")[0] < 0.9
    assert {each.subsample for some in drawn[2:] for each in some} == {1.0}
    assert {each.policy for each in drawn[0]} == {"mild", "strong"}
    assert len({each.seed for some in drawn for each in some}) == 160
    same = generations.random_recipe(options(tmp_path), 1, 2)
    assert same == drawn[1][2]


def test_runs_give_up_nothing_for_what_they_began_with_unless_told_to(tmp_path):
    for given, kept in ((), 1.0), (("--set", "kept_gain=0.5"), 0.5):
        drawn = generations.random_recipe(options(tmp_path, "--schedule", "tune", *given), 0, 0)
        assert drawn.kept_gain == kept


def test_switches_hold_for_all_runs_and_the_papers_targets_have_no_ignore_zone(tmp_path):
    more = ["--schedule", "paper", "--oversample", "neurips=5", "--no-giou"]
    drawn = generations.random_recipe(options(tmp_path, *more), 0, 0)
    assert drawn.oversample == {"neurips": 5}
    assert drawn.weights["boundary"] == 0
    assert drawn.optimiser == "adam"
    assert drawn.background_depth == drawn.foreground_depth
    fast = generations.random_recipe(options(tmp_path), 0, 0)
    assert fast.foreground_depth - fast.background_depth == pytest.approx(generations.IGNORED)


def test_the_command_trains_generations(tmp_path, monkeypatch, capsys):
    """The real command on drawn data: tables, and weights that load."""
    torch.manual_seed(0)
    start = tmp_path / "start.safetensors"
    weights.save(start, blind_network().state_dict(), TINY)
    small = {"crops": ((64, 2),), "positions": 64, "samples": 16}
    monkeypatch.setitem(recipe.SCHEDULES, "tune", small)
    arguments = ["generations", "--data", str(make_data(tmp_path / "data")), "--device", "cpu"]
    arguments += ["--out", str(tmp_path / "out"), "--init", str(start), "--runs", "2"]
    assert command.main([*arguments, "--generations", "1", "--minutes", "0.02"]) == 0
    assert "2 runs tried" in capsys.readouterr().out
    weights.load(tmp_path / "out" / "best.safetensors")
    for number in range(2):
        folder = tmp_path / "out" / "generation-0" / f"run-{number}"
        assert "score" in json.loads((folder / "result.json").read_text())
        stored = json.loads((folder / "recipe.json").read_text())
        assert stored["policy"] in ("mild", "strong")
    # Killed after a run's last checkpoint, before its score was kept: the run is over, not begun.
    result = tmp_path / "out" / "generation-0" / "run-1" / "result.json"
    score = result.read_text()
    result.unlink()
    assert command.main([*arguments, "--generations", "1", "--minutes", "0.02"]) == 0
    assert result.read_text() == score
    assert not Path(tmp_path / "out" / "generation-1").exists()


@pytest.mark.parametrize("name", generations.RANDOM)
def test_what_every_run_draws_cannot_be_set(tmp_path, capsys, name):
    with pytest.raises(SystemExit):
        options(tmp_path, "--set", f"{name}=1")
    assert f"draws its own {name}" in capsys.readouterr().err


def test_all_that_is_set_but_not_drawn_holds(tmp_path):
    base = generations.recipe_of(options(tmp_path, "--set", "clip=3", "samples=32"))
    drawn = generations.random_recipe(options(tmp_path, "--set", "clip=3", "samples=32"), 0, 0)
    changed = {name for name, value in asdict(base).items() if getattr(drawn, name) != value}
    assert changed <= {"seed", "learning_rate", *generations.WHOLE, *generations.RANDOM}
    assert (drawn.clip, drawn.samples) == (3, 32)


def test_numbers_that_make_no_sense_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        generations.parse(
            ["--data", str(tmp_path), "--out", str(tmp_path), "--minutes", "1", "--runs", "0"]
        )
    assert "at least 1" in capsys.readouterr().err
