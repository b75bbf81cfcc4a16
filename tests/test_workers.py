"""--dask: what one process does, by workers, whatever becomes of one of them."""

import csv
import json
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from tiny import tiny_config

from app import predict, workers
from app.jobs import find_jobs
from app.large.stages import EVERYTHING
from app.network import weights
from app.network.cpn import CPN

pytest.importorskip("distributed")

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ("--scale", "1", "--no-amp", "--threads", "1", "--device", "cpu", "--cells")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder of a large image, with things in a few places, small ones, and a broken one."""
    folder = tmp_path_factory.mktemp("inputs")
    image, rng = np.zeros((8192, 8200), np.uint8), np.random.default_rng(0)
    for _ in range(12):
        y, x = rng.integers(0, 8000, 2)
        image[y : y + 150, x : x + 150] = rng.integers(0, 255, (150, 150))
    tifffile.imwrite(str(folder / "large.tif"), image, tile=(512, 512), compression="zlib")
    for number in range(3):
        tifffile.imwrite(str(folder / f"{number}.tif"), rng.integers(0, 255, (90, 80), np.uint8))
    (folder / "broken.tif").write_bytes(b"II*\0 nothing")
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    config = tiny_config(window=512, window_stride=448, score_threshold=0.45)
    weights.save(path, CPN(config).state_dict(), config)
    return path


def start(*arguments):
    """A process of this environment, in the checkout."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, cwd=str(ROOT), stderr=subprocess.PIPE, encoding="utf-8")


def run(inputs, out, network, *more):
    """The command, as a process of its own."""
    return start("-m", "app.predict", inputs, out, "--weights", network, *OPTIONS, *more)


@pytest.fixture(scope="module")
def alone(inputs, network, tmp_path_factory):
    """The outputs of one process."""
    out = tmp_path_factory.mktemp("alone")
    assert run(inputs, out, network).wait() == 1
    return out


def outputs(folder):
    """All files but the summary, and what the summary says but for seconds."""
    with open(folder / "summary.csv", newline="") as file:
        rows = [{**row, "seconds": ""} for row in csv.DictReader(file)]
    names = sorted(path.name for path in folder.iterdir() if path.name != "summary.csv")
    contents = [
        tifffile.imread(str(folder / name)).tolist()
        if "label" in name
        else (folder / name).read_text()
        for name in names
        if "large_label" not in name
    ]
    large = tifffile.imread(str(folder / "large_label.tiff"))
    assert large.max() > 20
    return rows, names, contents, large.tobytes()


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(inputs, network, alone, tmp_path):
    """A scheduler and two workers, one of which does not live to see the end."""
    place, out = tmp_path / "scheduler.json", tmp_path / "out"
    quiet = ("--scheduler-file", place, "--no-dashboard")
    processes = [start("-m", "distributed.cli.dask_scheduler", "--port", "0", *quiet)]
    try:
        while not place.exists():
            time.sleep(0.05)
        worker = ("-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", *quiet)
        processes += [start(*worker), start(*worker)]
        address = json.loads(place.read_text())["address"]
        command = run(inputs, out, network, "--dask", address)
        windows = out / "large_windows"
        while command.poll() is None and len(list(windows.glob("window*"))) < 3:
            time.sleep(0.01)
        processes[1].send_signal(signal.SIGKILL)
        _, said = command.communicate()
        assert command.returncode == 1 and "broken.tif: failed" in said
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert outputs(out) == outputs(alone)


def test_local_workers_come_and_go_with_the_command(inputs, network, alone, tmp_path):
    out = tmp_path / "out"
    command = run(inputs, out, network, "--dask", "local:2")
    assert command.communicate() and command.returncode == 1
    assert outputs(out) == outputs(alone)


def test_a_worker_of_other_weights_is_refused(network):
    """The labels of a run are of one kind."""
    options = predict.parse(["here", "there", "--weights", str(network), *OPTIONS])
    _, settings = predict.load_segmenter(options)
    same = workers._ready(pickle.dumps((options, settings)))
    assert same[1] == settings
    with pytest.raises(workers.OtherProgram, match="weights"):
        workers._ready(pickle.dumps((options, {**settings, "weights": ["other"]})))


def test_the_last_task_of_an_image_tells_the_seconds_of_all(network, tmp_path):
    tifffile.imwrite(str(tmp_path / "image.tif"), np.zeros((64, 64), np.uint8))
    command = [str(tmp_path), str(tmp_path / "out"), "--weights", str(network), *OPTIONS]
    options = predict.parse(command)
    _, settings = predict.load_segmenter(options)
    (job,) = find_jobs([tmp_path], options.outputs).jobs
    options.outputs.mkdir()
    given = pickle.dumps((options, settings))
    row, windows, said, complaints = workers.attempt(given, "image.tif", job, EVERYTHING, 1000.0)
    assert (row.status, row.reason, complaints) == ("done", "", "")
    assert 1000 <= float(row.seconds) < 1060 and f"{row.seconds} s" in said


@pytest.mark.parametrize("wrong", ["local:0", "local:x", "nowhere", "local"])
def test_what_is_no_address_is_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        predict.main(["here", "there", "--dask", wrong])
    assert "address" in capsys.readouterr().err


def test_a_scheduler_that_does_not_answer_is_named(inputs, network, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("app.workers.WAIT", 0.5)
    given = [str(inputs), str(tmp_path / "out"), "--weights", str(network), *OPTIONS]
    assert predict.main([*given, "--dask", "tcp://127.0.0.1:9"]) == 2
    assert "tcp://127.0.0.1:9" in capsys.readouterr().err
