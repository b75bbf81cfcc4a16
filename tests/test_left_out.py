"""evaluate/left_out.sh: what is lost on sources that training never saw."""

import csv
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from training_data import make_data

from app.network import weights

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def data(tmp_path):
    """A data folder of two sources, drawn and strange, with an image each of train and val."""
    folder = make_data(tmp_path / "data", count=1)
    shutil.copytree(folder / "drawn", folder / "strange")
    with (folder / "catalog.csv").open() as file:
        header, *rows = csv.reader(file)
    with (folder / "catalog.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows, *(["strange", *row[1:]] for row in rows)])
    return folder


def test_two_networks_are_trained_and_scored_on_the_sources_that_one_never_saw(data, tmp_path):
    out = tmp_path / "out"
    command = ["sh", str(ROOT / "evaluate" / "left_out.sh"), str(data), str(out), "1", "strange"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}  # would lead astray
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    seen, unseen = done.stdout.split("without:")
    for table in (seen, unseen):
        groups = [line.split("  ")[0] for line in table.splitlines()]
        assert "strange train" in groups and "strange val" in groups
        assert not any(group.startswith("drawn") for group in groups)
    assert sorted(path.name for path in (out / "sources" / "images").iterdir()) == [
        "strange__0.png",
        "strange__1.png",
    ]
    for name, sources in (("with", ["drawn", "strange"]), ("without", ["drawn"])):
        _, record = weights.load(out / name / "weights.safetensors")
        assert record["data"]["sources"] == sources and record["steps"] == 1
        assert len(list((out / "labels" / name).iterdir())) == 2
