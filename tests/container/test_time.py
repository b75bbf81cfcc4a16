"""`python -m evaluate time --docker` with a real engine and an image of a few megabytes."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "evaluate-time-test"
SCRIPT = r"""
for image in inputs/*; do name=${image#inputs/}; done
stem=${name%%.*}
case $stem in
passed*) cp right.tiff "outputs/${stem}_label.tiff" ;;
wrong) cp wrong.tiff "outputs/${stem}_label.tiff" ;;
nothing) ;;
status) cp right.tiff "outputs/${stem}_label.tiff"; exit 3 ;;
surroundings) # the only way to tell is the last line of what is printed
    while read device place kind options; do
        if [ "$place" = /dev/shm ]; then shm=$options; fi
    done </proc/mounts
    echo /sys/class/net/* arguments $# "$@" $shm
    exit 1 ;;
memory)
    head -c 50000000 /dev/zero >/dev/shm/held
    sleep 3
    cp right.tiff "outputs/${stem}_label.tiff" ;;
hang) sleep 600 ;;
esac
"""


@pytest.fixture(scope="module")
def image(engine, tmp_path_factory):
    """The name of an image with a few programs of this machine and SCRIPT as its predict.sh."""
    path = tmp_path_factory.mktemp("image") / "image.tar"
    with tarfile.open(path, "w", dereference=True) as tar:
        for name in ("bash", "sh", "cp", "head", "sleep"):
            add_program(tar, shutil.which(name))
        add_file(tar, "workspace/predict.sh", SCRIPT.encode())
        add_file(tar, "workspace/right.tiff", tiff((20, 30)))
        add_file(tar, "workspace/wrong.tiff", tiff((30, 20)))
    options = ["-c", "ENV PATH=/bin", "-c", "WORKDIR /workspace"]
    subprocess.run(["docker", "import", *options, str(path), IMAGE], env=engine, check=True)
    yield IMAGE
    subprocess.run(["docker", "image", "rm", "--force", IMAGE], env=engine, check=True)


def add_program(tar, path):
    """A program as /bin/NAME, with the libraries that it is linked to."""
    tar.add(path, f"bin/{Path(path).name}")
    linked = subprocess.run(["ldd", path], stdout=subprocess.PIPE, encoding="utf-8").stdout
    for library in re.findall(r"/\S+", linked):
        if library.lstrip("/") not in tar.getnames():
            tar.add(library)


def add_file(tar, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def tiff(shape):
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros(shape, np.uint16))
    return file.getvalue()


@pytest.fixture
def images(tmp_path):
    """Makes a folder of images of these names, each 20 high and 30 wide."""

    def make(*names):
        folder = tmp_path / "images"
        folder.mkdir()
        for name in names:
            cv2.imwrite(str(folder / name), np.zeros((20, 30), np.uint8))
        return folder

    return make


def start(engine, image, folder, *options, **keywords):
    arguments = ["time", "--images", folder, "--docker", image, *options]
    command = [sys.executable, "-m", "evaluate", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=engine, encoding="utf-8", **keywords)


def containers(engine):
    """The names of the containers that there are, running or not."""
    command = ["docker", "container", "ls", "--all", "--format", "{{.Names}}"]
    output = subprocess.run(command, env=engine, check=True, stdout=subprocess.PIPE).stdout
    return {name for name in output.decode().split() if name.startswith("evaluate-time-")}


def test_each_image_is_one_container_judged_by_what_it_leaves(engine, image, images, tmp_path):
    names = ["passed it.v2.png", "wrong.png", "nothing.png", "status.png", "memory.png"]
    folder, out = images(*names), tmp_path / "out"
    before = containers(engine)
    assert start(engine, image, folder, "--out", out).wait() == 1
    document = json.loads((out / "times.json").read_text())
    assert document["kind"] == "docker"
    assert document["command"].startswith("docker container run ")
    (timed,) = document["runs"]
    found = {result["name"].split(".")[0]: result for result in timed["images"]}
    reasons = {name: result["reason"] for name, result in found.items()}
    assert reasons == {
        "passed it": None,
        "memory": None,
        "wrong": "the labels are 20×30, the image is 30×20",
        "nothing": "no label image nothing_label.tiff",
        "status": "exit status 3",
    }
    assert found["status"]["exit_status"] == 3
    assert found["memory"]["median_seconds"] > 3
    assert 50e6 < found["memory"]["peak_memory_bytes"] < 500e6
    assert containers(engine) <= before


def test_a_container_has_the_organisers_surroundings(engine, image, images, tmp_path):
    folder, out = images("surroundings.png"), tmp_path / "out"
    assert start(engine, image, folder, "--out", out, "--without-amp").wait() == 1
    runs = json.loads((out / "times.json").read_text())["runs"]
    on, off = (timed["images"][0]["reason"] for timed in runs)
    assert "/sys/class/net/lo arguments 0" in on  # no network
    assert "size=65536k" in on  # Docker's default /dev/shm
    assert "arguments 1 --no-amp" in off


def test_stopped_it_leaves_no_container(engine, image, images):
    before = containers(engine)
    process = start(engine, image, images("hang.png"), stderr=subprocess.PIPE)
    started = wait_for_container(engine, before)
    process.send_signal(signal.SIGINT)
    assert "nothing is left running" in process.communicate()[1]
    assert process.returncode == 130
    assert started not in containers(engine)


def wait_for_container(engine, before):
    """The name of a container that was not there before."""
    for _ in range(600):
        new = containers(engine) - before
        if new:
            return new.pop()
        time.sleep(0.1)
    raise AssertionError("no container came up within a minute")


def test_no_such_image_and_no_engine_are_said_in_a_sentence(engine, images):
    folder = images("a.png")
    nowhere = dict(engine, DOCKER_HOST="unix:///no/engine.sock")
    for environment, reason in ((engine, "no such image"), (nowhere, "Cannot connect")):
        process = start(environment, "no-such-image", folder, stderr=subprocess.PIPE)
        message = process.communicate()[1]
        assert process.returncode == 2
        assert message.startswith("evaluate: --docker no-such-image: ")
        assert reason.lower() in message.lower()
