"""What a few labelled images of new cells bring: the command, as a user would train."""

import csv
import shutil
import subprocess

import pytest
from tiny import blind_network
from training_data import make_data

from app.network import weights
from experiments import __main__ as command
from experiments import left_out, own_cells
from training import catalog

# One step on small crops of these images alone, and nothing mixed afterwards.
OPTIONS = ("--steps", "1", "--set", "crops=[[64,2]]", "synthetic=0", "kept_gain=1")
QUICK = [f"--options={option}" for option in OPTIONS]


@pytest.fixture
def data(tmp_path):
    """A data folder of the sources drawn and new, three images each of train and val."""
    folder = make_data(tmp_path / "data")
    shutil.copytree(str(folder / "drawn"), str(folder / "new"))
    with (folder / "catalog.csv").open() as file:
        header, *rows = csv.reader(file)
    with (folder / "catalog.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows, *(["new", *row[1:]] for row in rows)])
    return folder


def save_network(path, sources):
    network = blind_network()
    record = {"data": {"sources": sources}}
    weights.save(path, network.state_dict(), network.config, record)
    return path


def arguments(data, tmp_path, *more):
    start = save_network(tmp_path / "start.safetensors", ["drawn"])
    aim = save_network(tmp_path / "aim.safetensors", ["drawn", "new"])
    given = ["own-cells", "--data", data, "--init", start, "--aim", aim, "--source", "new"]
    return [str(word) for word in [*given, "--out", tmp_path / "out", *more]]


def test_each_seed_trains_on_its_own_images_and_is_scored_on_the_others(data, tmp_path, capsys):
    given = arguments(data, tmp_path, "--count", "2", "--seeds", "0", "1", *QUICK)
    assert command.main(given) == 0
    header, *rows = [line.split() for line in capsys.readouterr().out.splitlines()[-4:]]
    assert header[:3] == ["source", "seed", "minutes"]
    assert [row[:2] for row in rows] == [["new", "0"], ["new", "1"], ["new", "mean"]]
    for seed in (0, 1):
        folder = tmp_path / "out" / f"seed_{seed}"
        learned = {path.name for path in (folder / "data").glob("*_label.png")}
        scored = {path.name for path in (folder / "rest").glob("*_label.tiff")}
        assert len(learned) == 2 and len(scored) == 4
        assert not {name[:-10] for name in learned} & {name[:-11] for name in scored}
        others = list((folder / "others").glob("*_label.tiff"))
        assert len(others) == 3 and all(path.name.startswith("drawn__") for path in others)
    before = (tmp_path / "out" / "seed_0" / "run" / "best.safetensors").stat().st_mtime_ns
    assert command.main(given) == 0, "what is done is not done again"
    after = (tmp_path / "out" / "seed_0" / "run" / "best.safetensors").stat().st_mtime_ns
    assert before == after


def test_adapting_learns_from_drawn_labels_and_from_the_images_without_theirs(
    data, tmp_path, monkeypatch
):
    monkeypatch.setattr(own_cells, "DRAWN", 3)
    given = arguments(data, tmp_path, "--adapt", "--count", "2", "--seeds", "0")
    given += [*QUICK[:4], "--options=teacher_foreground=0"]
    assert command.main(given) == 0
    folder = tmp_path / "out" / "seed_0"
    assert len(list((folder / "data").iterdir())) == 2, "no label images"
    record = weights.load(folder / "run" / "weights.safetensors")[1]
    assert record["data"]["sources"] == ["drawn"] and record["data"]["unlabelled"] == ["data"]
    assert record["recipe"]["kept_gain"] == 1 and record["recipe"]["synthetic"] == 0
    assert len(list((folder / "rest").glob("*_label.tiff"))) == 4
    with pytest.raises(ValueError, match="was trained on data"):
        left_out.check_unseen(folder / "run" / "weights.safetensors", ["data"])


def test_an_experiment_goes_on_but_not_with_other_arguments(data, tmp_path, monkeypatch, capsys):
    """What it keeps is of one start, one aim and one number of images."""
    given = arguments(data, tmp_path, "--count", "2", "--seeds", "0", *QUICK)
    trained = subprocess.run

    def interrupted(command):
        trained(command, check=True)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", interrupted)
        assert command.main(given) == 130
    assert not (tmp_path / "out" / "seed_0" / "minutes.csv").exists()
    (tmp_path / "out" / "seed_0" / "run" / "outcome.html").unlink()
    assert command.main(given) == 0
    capsys.readouterr()
    assert command.main([*given, "--count", "1"]) == 2
    assert "other settings (count)" in capsys.readouterr().err


def test_weights_that_know_the_source_or_a_source_that_is_not_there_are_refused(
    data, tmp_path, capsys
):
    given = arguments(data, tmp_path)
    given[given.index("--init") + 1] = str(tmp_path / "aim.safetensors")
    assert command.main(given) == 2
    assert "trained on new" in capsys.readouterr().err
    given = arguments(data, tmp_path)
    given[given.index("new")] = "other"
    assert command.main(given) == 2
    assert "no source 'other'" in capsys.readouterr().err


def test_the_mean_over_sources_is_of_their_own_means(data, tmp_path):
    listing = catalog.entries(data, "val")
    out = tmp_path / "scored"
    out.mkdir()
    f1 = [1.0, 1.0, 1.0, 0.0, 0.0, 0.3]
    (out / "scores.csv").write_text("\n".join(map(str, f1)))
    assert own_cells.macro(None, listing, out) == pytest.approx(0.55)
