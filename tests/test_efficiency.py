"""`python -m evaluate efficiency`: the size, the speed and the memory of the presets."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import TINY

from app.network.config import PRESETS
from app.network.cpn import CPN
from evaluate import efficiency
from evaluate.__main__ import main
from evaluate.efficiency import Speed, count_flops, count_parameters, measure

ROOT = Path(__file__).resolve().parents[1]


def test_paper_preset_has_the_parameters_and_multiply_adds_of_the_paper():
    network = CPN(PRESETS["paper"])
    assert count_parameters(network) == 228_242_999
    assert abs(count_flops(network, 512) / 1e9 - 443.60) <= 0.05


def test_compact_preset_stays_within_its_budget():
    network = CPN(PRESETS["compact"])
    assert count_parameters(network) <= 12e6
    assert count_flops(network, 512) <= 40e9


def test_peak_memory_is_of_this_measurement_alone():
    """A larger image needs more, and what this process holds does not count."""
    held = torch.ones(2**28)  # 1 GiB
    small, large = (measure(TINY, size, "cpu", amp=False) for size in (32, 1024))
    assert small.fps > large.fps > 0
    assert small.peak_memory + 50e6 < large.peak_memory
    assert large.peak_memory < held.numel() * 4


@pytest.mark.parametrize("module", [["evaluate", "efficiency"], ["app.efficiency"]])
def test_the_command_prints_ours_beside_the_papers(module):
    command = [sys.executable, "-m", *module, "--size", "32", "--device", "cpu"]
    result = subprocess.run(command, cwd=str(ROOT), check=True, stdout=subprocess.PIPE)
    rows = [line.split("  ") for line in result.stdout.decode().splitlines()]
    table = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}
    assert table["parameters"] == ["10,282,600", "228.24 M"]
    assert table["multiply-adds"] == ["0.08 G", "443.60 G"]
    ours, papers = table["frames per second, AMP on"]
    assert float(ours) > 0 and papers == "20.23"
    assert table["peak memory, AMP on"][1] == "2.25 GiB"
    assert float(table["frames per second, AMP off"][0]) > 0
    assert "Here: the preset compact at 1x3x32x32, on a CPU" in result.stdout.decode()
    assert "No GPU" not in result.stdout.decode()  # nobody asked for one


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(efficiency, "measure", lambda *_: Speed(1.0, 2**30))
    assert main(["efficiency", "--size", "32"]) == 0
    assert "No GPU can be used" in capsys.readouterr().out
    assert main(["efficiency", "--device", "cuda"]) == 2
    assert "The device cuda cannot be used" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_half_precision_needs_less_memory():
    on, off = (measure(PRESETS["compact"], 1024, "cuda", amp) for amp in (True, False))
    assert on.peak_memory < off.peak_memory
