"""What is lost on sources that training never saw: the command and its table."""

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import TINY
from training_data import make_data

from app.network import weights
from app.network.config import PRESETS
from app.network.cpn import CPN
from experiments import __main__ as command
from experiments import left_out


@pytest.fixture
def data(tmp_path):
    """A data folder of the sources drawn, strange and strange_too, an image each of train and val.

    strange_too has none in val.
    """
    folder = make_data(tmp_path / "data", count=1)
    with (folder / "catalog.csv").open() as file:
        header, *rows = csv.reader(file)
    for source in ("strange", "strange_too"):
        shutil.copytree(str(folder / "drawn"), str(folder / source))
    rows += [["strange", *row[1:]] for row in rows] + [["strange_too", *rows[0][1:]]]
    with (folder / "catalog.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return folder


def arguments(data, out, *more):
    given = ["left-out", "--data", data, "--out", out, "--from-scratch", "--steps", "1", *more]
    given += ["--device", "cpu", "--set", "crops=[[64,2]]", "synthetic=0", "kept_gain=1"]
    return list(map(str, given))


def sources_of(folder):
    return weights.load(folder / "best.safetensors")[1]["data"]["sources"]


def test_two_networks_are_scored_on_the_sources_that_one_never_saw(
    data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(PRESETS, "compact", TINY)
    out = tmp_path / "out"
    call = arguments(data, out, "--without", "strange", "strange_too")
    assert command.main(call) == 0
    told = capsys.readouterr().out
    header, *rows = [line.split() for line in told.splitlines()[-4:]]
    assert header == ["source", "split", "images", "with", "without", "drop"]
    assert [row[:3] for row in rows] == [
        ["strange", "train", "1"],
        ["strange", "val", "1"],
        ["strange_too", "train", "1"],
    ]
    for row in rows:
        seen, unseen, drop = map(float, row[3:])
        assert drop == pytest.approx(seen - unseen, abs=2e-4)
    assert sources_of(out / "with") == ["drawn", "strange", "strange_too"]
    assert sources_of(out / "without-strange-strange_too") == ["drawn"]

    written = [path.stat().st_mtime_ns for path in sorted(out.glob("*/best.safetensors"))]
    assert command.main(call) == 0
    assert capsys.readouterr().out.splitlines()[-4:] == told.splitlines()[-4:]
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("*/best.safetensors"))] == written

    longer = [*call, "--steps", "2"]
    assert command.main(longer) == 2
    assert "other settings (steps)" in capsys.readouterr().err


def test_the_best_weights_of_both_runs_are_judged_as_what_they_are(
    data, tmp_path, monkeypatch, capsys
):
    """The columns are those of the runs, and each is of its best validation, not of its end."""
    monkeypatch.setitem(PRESETS, "compact", TINY)
    out, judged = tmp_path / "out", []
    load, f1 = left_out.validation.load, iter((0.75, 0.25))

    def remember(path, device):
        judged.append((path.relative_to(out), device))
        return load(path, device)

    def aggregates(images, thresholds):
        return [None, SimpleNamespace(group="strange_too", images=1, mean_f1=next(f1))]

    monkeypatch.setattr(left_out.validation, "load", remember)
    monkeypatch.setattr(left_out, "aggregates", aggregates)
    monkeypatch.setattr(left_out, "SPLITS", ("train",))
    assert command.main(arguments(data, out, "--without", "strange_too")) == 0
    assert capsys.readouterr().out.split()[-3:] == ["0.7500", "0.2500", "0.5000"]
    best = [Path(name) / "best.safetensors" for name in ("with", "without-strange_too")]
    assert judged == [(path, "cpu") for path in best]


def test_weights_that_have_seen_the_source_are_refused_and_so_are_those_that_came_of_such(
    data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(PRESETS, "compact", TINY)
    out, later = tmp_path / "out", tmp_path / "later.safetensors"
    seen, unseen = {"data": {"sources": ["drawn", "strange"]}}, {"data": {"sources": ["drawn"]}}
    for record in (seen, {**unseen, "origin": seen}):
        weights.save(later, CPN(TINY).state_dict(), TINY, record)
        call = arguments(data, out, "--without", "strange", "strange_too")
        call[call.index("--from-scratch")] = f"--init={later}"
        assert command.main(call) == 2
        assert "later.safetensors was trained on strange:" in capsys.readouterr().err
        assert not out.exists()


def test_runs_that_begin_with_weights_go_on_where_they_were(data, tmp_path, monkeypatch, capsys):
    """As after an interruption: a checkpoint is there, a result is not."""
    monkeypatch.setitem(PRESETS, "compact", TINY)
    first, out = tmp_path / "first", tmp_path / "out"
    assert command.main(arguments(data, first, "--without", "strange")) == 0
    call = arguments(data, out, "--without", "strange")
    call[call.index("--from-scratch")] = f"--init={first / 'without-strange' / 'best.safetensors'}"
    assert command.main(call) == 0
    (out / "with" / "result.json").unlink()
    assert command.main(call) == 0, capsys.readouterr().err


def test_a_drop_is_what_the_run_without_the_source_has_less(tmp_path, monkeypatch):
    """The first folder's F1 less the second's, source by source."""

    def scores_of(folder, *_):
        f1 = {"seen": {"a": 0.75, "b": 0.5}, "unseen": {"a": 0.5, "b": 0.625}}[folder]
        return [
            SimpleNamespace(group=source, images=3, mean_f1=value) for source, value in f1.items()
        ]

    monkeypatch.setattr(left_out, "scores_of", scores_of)
    table = left_out.compare("seen", "unseen", {"val": ["images"]}, "cpu")
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["a", "val", "3", "0.7500", "0.5000", "0.2500"],
        ["b", "val", "3", "0.5000", "0.6250", "-0.1250"],
    ]


def test_a_source_that_is_not_there_is_said_before_anything_is_trained(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert command.main(arguments(data, out, "--without", "strnge")) == 2
    assert "no source 'strnge'; there is drawn, strange" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("missing, said", [("--without", "--without"), ("--from-scratch", "seen")])
def test_sources_and_a_start_that_has_not_seen_them_are_needed(
    data, tmp_path, capsys, missing, said
):
    call = arguments(data, tmp_path / "out", "--without", "strange")
    if missing == "--without":
        call.remove("strange")
    call.remove(missing)
    with pytest.raises(SystemExit):
        command.main(call)
    assert said in capsys.readouterr().err
