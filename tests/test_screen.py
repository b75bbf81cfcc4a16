"""The screen is not the result: labels and exit status are the same whoever looks on."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from drawn import drawn, save
from tiny import tiny_config
from training_data import make_data

from app.network import weights
from app.network.cpn import CPN
from app.screen import Screen

ROOT = Path(__file__).resolve().parents[1]
# What becomes of the output; the exit status of the command itself goes to the file `status`.
WAYS = {
    "closed": "{command} >&-; echo $? >status",
    "both closed": "{command} >&- 2>&-; echo $? >status",
    "full": "{command} >/dev/full 2>/dev/full; echo $? >status",
    "broken pipe": "{{ {command}; echo $? >status; }} | true",
    "broken pipes": "{{ {command} 2>&1; echo $? >status; }} | true",
}


@pytest.fixture(params=WAYS)
def shown_so(request, tmp_path):
    """A function that runs a module of Python so; its exit status."""

    def run(*words):
        quoted = " ".join(f"'{word}'" for word in (sys.executable, "-m", *words))
        script = f"cd '{tmp_path}'; PYTHONPATH='{ROOT}'; export PYTHONPATH; "
        script += WAYS[request.param].format(command=quoted)
        errors = subprocess.run(["sh", "-c", script], stderr=subprocess.PIPE).stderr
        assert b"Traceback" not in errors and b"Exception" not in errors
        return int((tmp_path / "status").read_text())

    return run


def test_every_label_is_written(shown_so, tmp_path):
    (tmp_path / "inputs").mkdir()
    for number in range(3):
        tifffile.imwrite(str(tmp_path / "inputs" / f"{number}.tif"), np.zeros((40, 40), np.uint8))
    torch.manual_seed(0)
    network = CPN(tiny_config())
    weights.save(tmp_path / "w.safetensors", network.state_dict(), network.config)
    words = ["inputs", "labels", "--device", "cpu", "--weights", "w.safetensors"]
    assert shown_so("app.predict", *words) == 0
    assert len(list((tmp_path / "labels").glob("*_label.tiff"))) == 3
    for path in (tmp_path / "labels").iterdir():
        assert path.suffix != ".tiff" or tifffile.imread(str(path)).shape == (40, 40)


def test_help_and_what_is_wrong_have_their_exit_status(shown_so):
    assert shown_so("app.predict", "--help") == 0
    assert shown_so("app.predict", "nowhere") == 2


def test_the_evaluator_writes_its_files(shown_so, tmp_path):
    for folder in ("truth", "labels"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "a_label.tif", drawn((30, 30), (5, 5, 15, 15)))
    assert (
        shown_so("evaluate", "score", "--truth", "truth", "--labels", "labels", "--out", "o") == 0
    )
    assert (tmp_path / "o" / "scores.json").is_file()


def test_a_training_goes_on(shown_so, tmp_path):
    make_data(tmp_path / "data", count=1)
    torch.manual_seed(0)
    network = CPN(tiny_config())
    weights.save(tmp_path / "w.safetensors", network.state_dict(), network.config)
    words = ["--data", "data", "--out", "run", "--init", "w.safetensors", "--steps", "1"]
    words += [
        "--device",
        "cpu",
        "--set",
        "crops=[[64,2]]",
        "positions=64",
        "samples=16",
        "synthetic=0",
    ]
    assert shown_so("training", *words) == 0
    assert (tmp_path / "run" / "best.safetensors").is_file()


def test_a_stream_that_cannot_be_written_to_falls_silent():
    with open("/dev/full", "w") as full:
        screen = Screen(full)
        for _ in range(3):
            assert screen.write("a line\n") == 7
        assert not screen.isatty()
