"""Threads: as many as a container may use, and none that spins while it waits."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

from app import arguments, threads
from app.network.device import set_up_cpu

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def machine(tmp_path):
    """A function that writes files of control groups, and says what limits they are."""

    def limits(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return list(threads.limits(tmp_path / "groups", tmp_path / "own"))

    return limits


def test_limits_of_a_container_and_of_all_groups_above_it(machine):
    assert machine("0::/\n", {}) == []
    assert machine("0::/\n", {"cpu.max": "150000 100000\n"}) == [1.5]
    assert machine("0::/a/b\n", {"a/cpu.max": "50000 100000\n"}) == [0.5, 1.5]
    assert machine("0::/\n", {"cpu.max": "max 100000\n"}) == []


def test_limits_of_the_older_kind_of_groups(machine):
    own = "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/\n"
    files = {"cpu/cpu.cfs_period_us": "100000\n", "cpu/cpu.cfs_quota_us": "100000\n"}
    assert machine(own, files) == [1.0]
    assert machine(own, {"cpu/cpu.cfs_quota_us": "-1\n"}) == []


def test_a_container_of_half_a_core_gets_one_thread(monkeypatch):
    monkeypatch.setattr(threads, "limits", lambda: [0.5, 64])
    assert threads.available() == 1
    monkeypatch.setattr(threads, "limits", lambda: [])
    assert threads.available() == len(os.sched_getaffinity(0))


def test_threads_are_a_number_of_1_or_more(capsys):
    assert arguments.parse(["a", "--threads", "3"]).threads == 3
    for wrong in ("0", "-1", "many", "²", "9" * 12):
        with pytest.raises(SystemExit):
            arguments.parse(["a", "--threads", wrong])
        assert "from 1 to 1024" in capsys.readouterr().err


def test_all_libraries_keep_to_the_threads_that_are_asked_for():
    before = torch.get_num_threads()
    try:
        for number in (1, 2):
            set_up_cpu(number)
            assert torch.get_num_threads() == cv2.getNumThreads() == number
    finally:
        set_up_cpu(before)


def test_threads_that_wait_do_not_spin_however_the_program_is_started(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    script = "import sys, os; print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    for package in ("app", "training"):
        command = [sys.executable, "-c", f"import {package}; {script}"]
        output = subprocess.check_output(command, cwd=str(ROOT), env=environment, encoding="utf-8")
        assert output == "PASSIVE False\n"
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\necho "$OMP_WAIT_POLICY"\n')
    fake.chmod(0o755)
    environment.update(CPN_CONTAINER="1", PATH=f"{tmp_path}:{os.environ['PATH']}")
    command = ["sh", str(ROOT / "predict.sh")]
    assert subprocess.check_output(command, env=environment, encoding="utf-8") == "PASSIVE\n"
    environment["OMP_WAIT_POLICY"] = "ACTIVE"
    assert subprocess.check_output(command, env=environment, encoding="utf-8") == "ACTIVE\n"
