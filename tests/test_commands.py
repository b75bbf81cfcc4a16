"""The commands of training: what their help says, how they fit together, how a run is stopped."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import tifffile
import torch
from tiny import tiny_config
from training_data import make_data

from app.network import weights
from app.network.cpn import CPN
from evaluate import __main__ as evaluate
from training import __main__ as training
from training import train
from training.checkpoints import checkpoint_run

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("validate", "calibrate", "split", "generations")


@pytest.fixture
def tiny(tmp_path):
    """(a folder of drawn data, a weights file of a tiny network), as texts."""
    torch.manual_seed(0)
    network = CPN(tiny_config(window=128, window_stride=96))
    weights.save(tmp_path / "tiny.safetensors", network.state_dict(), network.config)
    return str(make_data(tmp_path / "data")), str(tmp_path / "tiny.safetensors")


def help_of(capsys, main, *words):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_help_names_all_commands_and_shows_defaults(capsys):
    said = help_of(capsys, training.main)
    assert all(f" {name} (" in said for name in NAMES)
    assert "(default: 0)" in said and "(default: auto)" in said and "None" not in said
    assert "(default: val)" in help_of(capsys, training.main, "split")
    assert "(default: strict)" in help_of(capsys, evaluate.main, "score")
    for name in NAMES:
        assert "None" not in help_of(capsys, training.main, name)


def test_an_unknown_command_says_so(capsys):
    assert training.main(["validat", "--data", "x"]) == 2
    said = capsys.readouterr().err
    assert "no command 'validat'" in said and all(name in said for name in NAMES)


@pytest.mark.parametrize("command", [(), *((name,) for name in NAMES)])
def test_options_cannot_be_abbreviated(capsys, command):
    with pytest.raises(SystemExit):
        training.main([*command, "--dat", "x"])
    assert "--data" in capsys.readouterr().err  # is missing


def test_what_validate_and_split_write_is_scored_as_it_is(tiny, tmp_path, capsys):
    data, network = tiny
    split, labels = tmp_path / "split", tmp_path / "labels"
    given = ["validate", "--data", data, "--weights", network, "--out", str(labels)]
    assert training.main(given) == 0
    given = ["split", "--data", data, "--out", str(split), "--group", "source"]
    assert training.main(given) == 0
    words = ["--truth", str(split / "truth"), "--labels", str(labels)]
    words += ["--groups", str(split / "groups.csv"), "--out", str(tmp_path)]
    capsys.readouterr()
    assert evaluate.main(["score", *words]) == 0
    assert "drawn" in capsys.readouterr().out


@pytest.mark.parametrize("first", [2**31, 2**40, 2**63 + 5])
def test_labels_beyond_what_the_organisers_hold_are_validated_on_and_scored(tiny, tmp_path, first):
    data, network = tiny
    folder, out = tmp_path / "mine", tmp_path / "labels"
    shutil.copytree(str(Path(data) / "drawn"), str(folder))
    for path in folder.glob("*_label.png"):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.uint64)
        tifffile.imwrite(str(path.with_suffix(".tif")), np.where(labels, labels + first, 0))
        path.unlink()
    given = ["--data", str(folder), "--weights", network, "--out", str(out)]
    assert training.main(["validate", *given]) == 0
    split = ["split", "--data", str(folder), "--out", str(tmp_path), "--group", "source"]
    assert training.main(split) == 0
    for truth in (folder, tmp_path / "truth"):
        assert evaluate.main(["score", "--truth", str(truth), "--labels", str(truth)]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_keeps_a_checkpoint_and_goes_on(tiny, tmp_path, capsys, number):
    data, network = tiny
    given = ["--data", data, "--out", str(tmp_path / "run"), "--device", "cpu"]
    given += ["--set", "crops=[[64,2]]", "positions=64", "samples=16", "synthetic=0"]
    words = [sys.executable, "-m", "training", *given, "--init", network, "--minutes", "10"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    process = subprocess.Popen(words, cwd=str(ROOT), **pipes)
    until = time.monotonic() + 300
    while not (tmp_path / "run" / "log.csv").exists() and time.monotonic() < until:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 128 + number and "Traceback" not in said
    assert re.search(r"step 20, loss \d+\.\d+, [\d.]+ crops/s, \d+:\d+ left", said), said
    found = re.search(r"Stopped by SIG\w+ after step (\d+), .*checkpoint.safetensors: (.*)", said)
    assert found.group(2) == "the same command, without --init, goes on from there"
    assert training.main([*given, "--steps", str(int(found.group(1)) + 1)]) == 0
    assert f"Going on from step {found.group(1)}" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["mixing.mix", "outcome.write"])
def test_what_follows_the_last_step_can_be_stopped_and_finished(
    tiny, tmp_path, capsys, monkeypatch, what
):
    data, network = tiny
    given = ["--data", data, "--out", str(tmp_path / "run"), "--device", "cpu", "--steps", "1"]
    given += ["--set", "crops=[[64,2]]", "positions=64", "samples=16", "synthetic=0"]
    with monkeypatch.context() as patch:
        patch.setattr(f"training.{what}", Mock(side_effect=KeyboardInterrupt))
        assert training.main([*given, f"--init={network}"]) == 128 + signal.SIGINT
    said = capsys.readouterr().err
    assert "after step 1" in said and "the same command, without --init, goes on" in said
    assert training.main(given) == 0
    assert "outcome.html" in capsys.readouterr().out


def test_a_run_that_is_refused_is_not_said_to_go_on(tiny, tmp_path, capsys):
    data, network = tiny
    folder = tmp_path / "mine"
    shutil.copytree(str(Path(data) / "drawn"), str(folder))
    given = ["--data", str(folder), "--out", str(tmp_path / "run"), "--device", "cpu"]
    given += ["--set", "crops=[[64,2]]", "positions=64", "samples=16", "synthetic=0", "--steps"]
    assert training.main([*given, "1", "--init", network]) == 0
    label = sorted(folder.glob("*_label.png"))[0]
    cv2.imwrite(str(label), cv2.imread(str(label), cv2.IMREAD_UNCHANGED)[::-1])
    capsys.readouterr()
    assert training.main([*given, "2"]) == 2
    said = capsys.readouterr()
    assert "have changed since" in said.err and "Going on" not in said.out


def test_a_run_that_was_stopped_in_its_first_validation_begins_it_anew(tiny, tmp_path, monkeypatch):
    """That validation counted as one that brought nothing, beside that which was stopped."""
    data, network = tiny
    given = ["--data", data, "--out", str(tmp_path / "run"), "--device", "cpu", "--steps", "1"]
    given += ["--set", "crops=[[64,2]]", "positions=64", "samples=16", "synthetic=0"]
    validate = train.Validator.__call__

    def half(self, state):
        validate(self, state)
        return 0.5

    def stopped(self, state):
        os.kill(os.getpid(), signal.SIGINT)
        return half(self, state)

    monkeypatch.setattr(train.Validator, "__call__", stopped)
    assert training.main([*given, "--init", network]) == 128 + signal.SIGINT
    monkeypatch.setattr(train.Validator, "__call__", half)
    assert training.main(given) == 0
    rows = (tmp_path / "run" / "validation.csv").read_text().split()
    assert [row.split(",")[0] for row in rows] == ["step", "0", "1"]
    assert checkpoint_run(tmp_path / "run" / "checkpoint.safetensors")["stale"] == 1
