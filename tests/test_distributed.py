"""Several processes, started by torchrun as a user would: the steps of one with the whole batch."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import TINY
from training_data import make_data

from app.network import weights
from app.network.cpn import CPN
from training import distributed
from training.recipe import Recipe
from training.schedule import peak_rate

ROOT = Path(__file__).resolve().parents[1]
TRAINING = Path(__file__).with_name("train_in_float32.py")
STEPS = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, and the weights that all runs start from."""
    folder = tmp_path_factory.mktemp("distributed")
    make_data(folder / "data")
    torch.manual_seed(0)
    weights.save(folder / "start.safetensors", CPN(TINY).state_dict(), TINY)
    return folder


def train(folder, processes, crops, optimiser):
    """Train in a folder of its own; returns it."""
    out = folder / f"{processes}-processes-{optimiser}"
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else ())]
    command += [TRAINING, "--data", folder / "data", "--device", "cpu", "--out", out]
    command += ["--init", folder / "start.safetensors", "--steps", STEPS, "--set"]
    command += [f"crops=[[64,{crops}]]", "freeze_norms=0.0", "positions=100000", "synthetic=0"]
    command += [
        "learning_rate=3e-4",
        "reference_batch=12",
        "freeze_encoder=false",
        # One run in which a process alone mixes weights while the other waits.
        f"kept_gain={0.9 if (processes, optimiser) == (2, 'muon') else 1}",
        f'optimiser="{optimiser}"',
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["EXCHANGES"] = str(exchanges_of(out))
    done = subprocess.run(
        list(map(str, command)), cwd=str(ROOT), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out


def exchanges_of(out):
    """The file that tells what the processes of a run exchanged, a line each time."""
    return out.with_name(f"{out.name}-exchanges")


def parameters(path):
    """All parameters of a weights file in one vector."""
    network, _ = weights.load(path)
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def log(out):
    with (out / "log.csv").open() as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module", params=["adamw", "muon"])
def optimiser(request):
    return request.param


@pytest.fixture(scope="module")
def alone(folder, optimiser):
    return train(folder, 1, 4, optimiser)


@pytest.fixture(scope="module")
def together(folder, optimiser):
    return train(folder, 2, 2, optimiser)


def test_two_processes_take_the_steps_of_one_with_twice_the_batch(
    folder, alone, together, optimiser
):
    rows = list(zip(log(alone), log(together)))
    assert len(rows) == STEPS // 20
    for one, two in rows:
        assert one["step"] == two["step"]
        for term in ("loss", "object", "contour", "uncertainty", "boundary", "gradient"):
            assert float(two[term]) == pytest.approx(float(one[term]), rel=0.01, abs=0.002), term
    begun = parameters(folder / "start.safetensors")
    moved = parameters(alone / "weights.safetensors") - begun
    apart = parameters(alone / "weights.safetensors") - parameters(together / "weights.safetensors")
    assert apart.norm() < 0.1 * moved.norm()


def test_the_processes_exchange_numbers_once_a_step(together):
    """Beside the gradients; packing, validations and checkpoints wait a few times more."""
    exchanges = exchanges_of(together).read_text().split()
    assert exchanges.count("all_reduce") == STEPS
    assert 0 < len(exchanges) - STEPS < STEPS / 2


def test_alone_nothing_is_waited_for(alone):
    assert not exchanges_of(alone).exists()


def test_the_two_did_learn(folder, alone):
    """Else the comparison above would hold of two that stand still."""
    begun, _ = weights.load(folder / "start.safetensors")
    trained, _ = weights.load(alone / "weights.safetensors")
    moved = [
        (a - b).abs().max()
        for (name, a), b in zip(begun.state_dict().items(), trained.state_dict().values())
        if name.endswith("weight")
    ]
    assert min(moved) > 0
    rows = log(alone)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_alone_nothing_is_exchanged_or_wrapped():
    network = CPN(TINY)
    assert distributed.parallel(network) is network
    assert distributed.processes() == 1
    assert distributed.is_first()
    assert distributed.total(torch.tensor([7.0])).tolist() == [7]
    assert distributed.own_part(6) == slice(0, 6)
    assert distributed.from_first(0.25, "cpu") == 0.25


def test_the_learning_rate_grows_with_the_root_of_the_whole_batch():
    recipe = Recipe(minutes=1, crops=((64, 10),), learning_rate=1e-3, reference_batch=40)
    assert peak_rate(recipe, processes=4) == pytest.approx(1e-3)
    assert peak_rate(recipe, processes=16) == pytest.approx(2e-3)
