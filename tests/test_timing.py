"""`python -m evaluate time`: one start per image, its limit, what has failed, memory, the files.

What is timed are real processes of a small worker script, which behaves as its first word says.
"""

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import psutil
import pytest
import tifffile

from evaluate import processes, protocol
from evaluate.__main__ import main
from evaluate.folders import EvaluationError
from evaluate.plots import plot_times, svg_text
from evaluate.processes import Command, Container
from evaluate.protocol import ImageTime, limit_seconds, time_image
from evaluate.timing import Table

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1000.0  # seconds
NAME = "an image.v2.png"  # 20 high, 30 wide
WORKER = r"""
import json, os, subprocess, sys, time
from pathlib import Path

here = Path(__file__).parent
word, inputs, outputs = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
with open(here / "starts", "a") as log:
    files = {str(path): path.read_bytes().hex() for path in inputs.iterdir()}
    log.write(json.dumps([sys.argv[4:], files, sorted(map(str, outputs.iterdir()))]) + "\n")

def leave(kind):
    for path in inputs.iterdir():
        name = path.name.split(".")[0] + "_label.tiff"
        (outputs / name).write_bytes((here / kind).read_bytes())

def children(*sessions):
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    found = [subprocess.Popen(sleep, start_new_session=own) for own in sessions]
    (here / "new").write_text(" ".join(str(child.pid) for child in found))
    (here / "new").rename(here / "children")

if word in ("right", "wrong", "garbage"):
    leave(word)
elif word == "two":
    leave("right")
    (outputs / "an image_label.png").write_bytes(b"")
elif word == "status":
    leave("right")
    print("all went well,")
    sys.exit("or did it?")
elif word == "unsteady":
    leave("right")
    sys.exit(7 if len((here / "starts").read_text().splitlines()) == 2 else 0)
elif word == "signal":
    leave("right")
    os.kill(os.getpid(), 9)
elif word == "slow":
    leave("right")
    time.sleep(0.3)
elif word == "background":
    leave("right")
    children(False)
elif word == "memory":
    leave("right")
    hold = "import os, sys, time; x = bytearray(b'x') * 200_000_000"
    hold += "\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)"
    subprocess.run([sys.executable, "-c", hold, str(here / "seen")])
elif word == "gpu":
    leave("right")
    while not (here / "asked").exists():
        time.sleep(0.01)
elif word == "hang":
    children(False, True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with images (one), the worker, and the label images that it may leave.

    The time limit is one that a busy machine keeps, too.
    """
    monkeypatch.setattr(protocol, "LEAST_LIMIT", LIMIT)
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)
    cv2.imwrite(str(tmp_path / "images" / NAME), pixels)
    tifffile.imwrite(tmp_path / "right", np.zeros((20, 30), np.uint16))
    tifffile.imwrite(tmp_path / "wrong", np.zeros((30, 20), np.uint16))
    (tmp_path / "garbage").write_bytes(b"II*\0 and nothing more")
    (tmp_path / "worker.py").write_text(WORKER)
    return tmp_path


def command(folder, word):
    return f"'{sys.executable}' '{folder}/worker.py' {word} {{inputs}} {{outputs}}"


def timed(folder, word, repeat=1):
    return time_image(Command(command(folder, word)), folder / "images" / NAME, True, repeat)


def starts(folder):
    """What the worker was given at each start: further arguments, {input: bytes}, outputs."""
    return [json.loads(line) for line in (folder / "starts").read_text().splitlines()]


def is_gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_until(condition):
    """Wait for what must come sooner or later."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come within a minute")


@pytest.mark.parametrize(
    "height, width, seconds",
    [(1, 1, 10), (1000, 1000, 10), (1024, 1200, 12), (1200, 1200, 14), (2048, 2048, 42)]
    + [(2208, 2208, 49), (3000, 3000, 90), (9398, 9398, 883)],
)
def test_the_limit_is_ten_seconds_then_ten_per_million_pixels(height, width, seconds):
    assert round(limit_seconds(height * width)) == seconds


@pytest.mark.parametrize(
    "word, status, reason",
    [
        ("right", 0, None),
        ("wrong", 0, "the labels are 20×30, the image is 30×20"),
        ("garbage", 0, "an image_label.tiff cannot be read"),
        ("nothing", 0, "no label image an image_label.tiff"),
        ("two", 0, "more than one label image"),
        ("status", 1, "exit status 1: or did it?"),
        ("signal", -9, "ended by signal 9"),
    ],
)
def test_a_run_passes_only_with_good_labels_and_exit_status_0(folder, word, status, reason):
    result = timed(folder, word)
    assert result.passed == (reason is None)
    assert (result.reason or "").startswith(reason or "")
    assert result.exit_status == status
    assert (result.height, result.width, result.pixels) == (20, 30, 600)
    assert result.limit_seconds == LIMIT
    assert result.rank_seconds == 0
    assert result.share == result.median_seconds / LIMIT


def test_the_clock_runs_to_the_exit_and_above_the_limit_is_failed(folder, monkeypatch):
    monkeypatch.setattr(protocol, "LEAST_LIMIT", 0.25)
    monkeypatch.setattr(protocol, "PATIENCE", 1000)
    result = timed(folder, "slow")
    assert result.median_seconds >= 0.3
    assert result.rank_seconds == result.median_seconds - 0.25
    assert result.share > 1
    assert not result.passed
    assert "over the limit" in result.reason
    assert result.exit_status == 0


def test_each_start_has_one_image_alone_in_folders_of_its_own(folder):
    second = folder / "images" / "b.png"
    second.write_bytes((folder / "images" / NAME).read_bytes())
    (folder / "images" / "b_label.png").write_bytes(b"no image")
    arguments = ["time", "--images", str(folder / "images"), "--repeat", "3"]
    assert main([*arguments, "--command", command(folder, "right")]) == 0
    seen = starts(folder)
    assert all(outputs == [] and len(files) == 1 for _, files, outputs in seen)
    paths = [Path(path) for _, files, _ in seen for path in files]
    assert [path.name for path in paths] == [NAME] * 3 + ["b.png"] * 3
    assert len({path.parent for path in paths}) == 6
    assert not any(path.parent.parent.exists() for path in paths)
    assert all(bytes.fromhex(*files.values()) == second.read_bytes() for _, files, _ in seen)


def test_of_several_starts_the_median_counts_and_none_may_fail(folder):
    result = timed(folder, "right", repeat=3)
    assert len(result.seconds) == 3
    assert result.median_seconds == statistics.median(result.seconds)
    (folder / "starts").unlink()
    result = timed(folder, "unsteady", repeat=3)
    assert len(starts(folder)) == 3
    assert result.reason == "exit status 7"
    assert result.exit_status == 7


def test_peak_memory_is_that_of_the_whole_tree(folder, monkeypatch):
    def resident(process):
        """As it is; a child that holds so much may end once it has been seen."""
        memory = real(process)
        if memory > 200e6:
            (folder / "seen").touch()
        return memory

    real = processes.resident
    monkeypatch.setattr(processes, "resident", resident)
    assert 200e6 < timed(folder, "memory").peak_memory_bytes < 600e6
    assert timed(folder, "slow").peak_memory_bytes < 150e6


def test_gpu_memory_is_what_nvidia_smi_tells_of_these_processes(folder, monkeypatch):
    tools = folder / "tools"
    tools.mkdir()
    fake = tools / "nvidia-smi"  # each process of this machine holds 3 MiB
    fake.write_text(
        "#!/bin/sh\n"
        f"[ $1 = --query-gpu=name ] && echo A GPU\n"
        f"[ $1 = --query-compute-apps=pid,used_memory ] || exit 0\n"
        "for process in /proc/[0-9]*; do echo ${process#/proc/}, 3; done\n"
        f": >'{folder}/asked'\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    assert timed(folder, "gpu").peak_gpu_memory_bytes == 3 * 2**20
    assert "--gpus device=0" in " ".join(Container("x").arguments("in", "out", True))


def test_a_run_that_hangs_is_ended(folder, monkeypatch):
    monkeypatch.setattr(protocol, "LEAST_LIMIT", 0.05)
    result = timed(folder, "hang")
    assert 0.5 <= result.median_seconds < 500
    assert result.reason.startswith("ended after")
    assert result.exit_status == -9


def test_what_a_run_leaves_in_the_background_is_ended(folder):
    assert timed(folder, "background").passed
    child = int((folder / "children").read_text())
    wait_until(lambda: is_gone(child))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_it_ends_all_and_leaves_no_folders(folder, number):
    temporary, out = folder / "temporary", folder / "out"
    temporary.mkdir()
    arguments = ["--images", folder / "images", "--command", command(folder, "hang")]
    process = subprocess.Popen(
        [sys.executable, "-m", "evaluate", "time", *arguments, "--out", out],
        cwd=ROOT,
        env=dict(os.environ, TMPDIR=str(temporary)),
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    wait_until((folder / "children").exists)
    process.send_signal(number)
    message = process.communicate()[1]
    assert process.returncode == 128 + number
    assert message == f"Stopped by {number.name}: nothing is left running, nothing was written.\n"
    for pid in map(int, (folder / "children").read_text().split()):
        wait_until(lambda pid=pid: is_gone(pid))
    assert not list(temporary.iterdir())
    assert not list(out.iterdir())


FIELDS = {
    "name": str,
    "height": int,
    "width": int,
    "pixels": int,
    "seconds": list,
    "median_seconds": float,
    "limit_seconds": float,
    "share": float,
    "rank_seconds": float,
    "passed": bool,
    "reason": (str, type(None)),
    "exit_status": int,
    "peak_memory_bytes": (int, type(None)),
    "peak_gpu_memory_bytes": (int, type(None)),
}


def test_the_files_tell_all_with_and_without_amp(folder, capsys):
    (folder / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    arguments = ["time", "--images", str(folder / "images"), "--without-amp"]
    out = folder / "some" / "out"
    program = command(folder, "right")
    assert main([*arguments, "--command", program, "--out", str(out)]) == 1
    assert [further for further, _, _ in starts(folder)] == [[], ["--no-amp"]]

    times = json.loads((out / "times.json").read_text())
    assert sorted(times) == ["command", "kind", "machine", "repeat", "runs"]
    assert (times["kind"], times["repeat"]) == ("command", 1)
    assert "{inputs}" in times["command"]
    assert sorted(times["machine"]) == ["cores", "gpu", "memory_bytes", "processor"]
    assert [run["amp"] for run in times["runs"]] == [True, False]
    for run in times["runs"]:
        good, broken = run["images"]
        assert list(good) == list(broken) == list(FIELDS)
        assert all(isinstance(good[key], kind) for key, kind in FIELDS.items())
        assert good["passed"] and not broken["passed"]
        assert broken["seconds"] == [] and broken["height"] is None
        assert broken["reason"].startswith("the image cannot be read: ")

    with open(out / "times.csv", newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["amp"], row["name"]) for row in rows] == [
        (amp, name) for amp in ("on", "off") for name in (NAME, "broken.png")
    ]
    assert float(rows[2]["seconds"]) == times["runs"][1]["images"][0]["median_seconds"]
    assert (out / "times.png").read_bytes().startswith(b"\x89PNG")
    assert {"amp-on", "amp-off", "limit"} <= ids((out / "times.svg").read_text(encoding="utf-8"))

    screen = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in screen[1:5]] == [NAME] * 2 + ["broken.png"] * 2
    assert "30×20" in screen[1] and screen[1].endswith("passed")
    assert "FAILED: the image cannot be read" in screen[3]
    assert screen[5].startswith("AMP on: 1 of 2 passed;")


def test_what_names_and_programs_say_stays_on_one_line(capsys):
    table = Table([Path("a\nb.png"), Path("c.png")], with_amp=False)
    for name, reason in (("a\nb.png", "exit status 1: \x1b[2Jpassed"), ("c.png", "no")):
        table.show(ImageTime(name, reason=reason), True)
    _, odd, plain = capsys.readouterr().out.splitlines()
    assert odd.startswith("a\\nb.png ") and odd.endswith("FAILED: exit status 1: \\x1b[2Jpassed")
    assert plain.index("FAILED") == odd.index("FAILED")


def ids(svg):
    return {element.get("id") for element in ElementTree.fromstring(svg).iter()}


def test_the_plot_draws_amp_solid_and_dashed_and_the_limit_dotted():
    def run(amp, *images):
        keys = ("pixels", "seconds", "median_seconds", "passed")
        return {"amp": amp, "images": [dict(zip(keys, image)) for image in images]}

    runs = [
        run(True, (512**2, [3.0], 3.0, True), (2000**2, [30.0], 30.0, False), (None, [], None, 0)),
        run(False, (512**2, [5.0], 5.0, True), (2000**2, [70.0], 70.0, False)),
    ]
    svg = svg_text(plot_times(runs))
    lines = {e.get("id"): e[0].get("style") for e in ElementTree.fromstring(svg).iter() if len(e)}
    assert "dasharray" not in lines["amp-on"]
    assert "dasharray" in lines["amp-off"]
    assert "dasharray" in lines["limit"]
    assert lines["limit"] != lines["amp-off"]
    for word in ("AMP on", "AMP off", "time limit", "passed", "failed"):
        assert f">{word}</text>" in svg
    alone = svg_text(plot_times(runs[:1]))
    assert "AMP" not in alone
    assert "amp-off" not in ids(alone)
    assert "limit" in ids(svg_text(plot_times([run(True)])))


def test_docker_is_started_as_the_organisers_do(monkeypatch):
    monkeypatch.setenv("PATH", "")  # no GPU
    container = Container("team:latest")
    words = container.arguments("/i", "/o", True)
    assert words == (
        ["docker", "container", "run", "-m", "28g", "--network", "none", "--name"]
        + [container.name, "--rm", "-v", "/i:/workspace/inputs/", "-v", "/o:/workspace/outputs/"]
        + ["team:latest", "/bin/bash", "-c", "sh predict.sh"]
    )
    assert container.arguments("/i", "/o", False) == words[:-1] + ["sh predict.sh --no-amp"]
    with pytest.raises(EvaluationError, match="no program docker"):
        container.check()


@pytest.mark.parametrize(
    "groups, files, expected",
    [
        ("4:memory:/docker/1\n0::/docker/1", ["memory/docker/1/memory.max_usage_in_bytes"], 0),
        ("0::/a.slice/1", ["a.slice/1/memory.peak", "a.slice/1/memory.current"], 0),
        ("0::/a.slice/1", ["a.slice/1/memory.current"], 0),  # before Linux 5.19
        ("3:cpuset:/docker/1\n0::/docker/1", ["cpuset/docker/1/memory.peak"], None),
    ],
)
def test_the_memory_of_a_container_is_found_in_both_versions_of_control_groups(
    tmp_path, monkeypatch, groups, files, expected
):
    monkeypatch.setattr(processes, "CGROUPS", tmp_path)
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found = processes.memory_file(groups)
    assert found == (None if expected is None else tmp_path / files[expected])


@pytest.mark.parametrize(
    "program, reason",
    [
        ("sh predict.sh {inputs}", "has no {outputs}"),
        ("sh predict.sh {outputs}", "has no {inputs}"),
        ("sh 'predict.sh {inputs} {outputs}", "cannot be read"),
        ("no-such-program {inputs} {outputs}", "no program no-such-program"),
        ("sh predict.sh {inputs} {outputs}", "holds no images"),
    ],
)
def test_what_cannot_be_started_is_said_in_a_sentence(tmp_path, capsys, program, reason):
    assert main(["time", "--images", str(tmp_path), "--command", program]) == 2
    assert reason in capsys.readouterr().err
