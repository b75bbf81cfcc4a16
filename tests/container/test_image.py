"""The images of the Dockerfile: what is in them, and that they work as the organisers start them.

Each test on "image" runs with both: the default (Python 3.7) and the one for the GPUs of today.
"""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from packaging.requirements import Requirement

import app
from app import images
from evaluate import strict
from tests.container.conftest import ROOT
from tests.container.make_images import draw, write_png, write_tiles

# Of several modalities, 450 to 1100 pixels wide; the last becomes a TIFF of 16 bits.
SOURCES = (
    "dsb2018/3f9fc8e63f87.png",
    "tnbc/07_1.webp",
    "ctc_psc_cc/01_t137.png",
    "scellseg/Kc167_102.webp",
    "pecot_e2f/training_E2F3A_E2F8_mouse1_image1.png",
    "ctc_fluohela_st/01_t000.png",
)
HARDENED = ("--read-only", "--tmpfs=/tmp", "--security-opt=no-new-privileges")
# Who owns the outputs folder, which is open to nobody else, and how the container is started.
WAYS = {
    "root": (0, ()),
    "root, hardened": (0, HARDENED),
    "root, without capabilities": (0, (*HARDENED, "--cap-drop=ALL")),
    "root for a user": (1000, ()),
    "root for a user, hardened": (1000, HARDENED),
    "a user": (1234, ("--user=1234",)),
    "a user, without capabilities": (1234, (*HARDENED, "--user=1234", "--cap-drop=ALL")),
}


@pytest.fixture(params=["legacy_image", "current_image"])
def image(request):
    """The tag of an image."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def inputs(data, tmp_path_factory):
    """A folder with the images of SOURCES."""
    folder = tmp_path_factory.mktemp("container") / "inputs"
    folder.mkdir()
    for source in SOURCES[:-1]:
        shutil.copy(str(data / source), str(folder))
    pixels, _ = images.read(data / SOURCES[-1])
    assert pixels.dtype == np.uint16
    tifffile.imwrite(str(folder / "16bit.tif"), pixels)
    return folder


@pytest.fixture(scope="module")
def host_labels(inputs):
    """The folder of their labels by this machine's Python, in float32."""
    folder = inputs.parent / "host"
    command = [sys.executable, "-m", "app.predict", inputs, folder, "--no-amp", "--device", "cpu"]
    subprocess.run(command, cwd=str(ROOT), check=True)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with one small image."""
    folder = tmp_path_factory.mktemp("small") / "inputs"
    folder.mkdir()
    write_png(folder / "small.png", draw(200, 300, np.uint8))
    return folder


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


def docker(engine, *words, **options):
    """The finished `docker WORDS`; its output is kept as text."""
    command = ["docker", *map(str, words)]
    return subprocess.run(command, env=engine, stdout=subprocess.PIPE, encoding="utf-8", **options)


def mounted(inputs, outputs):
    """The organisers' options for the two folders."""
    return "-v", f"{inputs}/:/workspace/inputs/", "-v", f"{outputs}/:/workspace/outputs/"


def inside(engine, image, *words):
    """What a command in the image prints."""
    return docker(engine, "run", "--rm", "--network=none", image, *words, check=True).stdout


def pooled_f1(truth, prediction):
    """F1 at IoU 0.5 over the label images of two folders, which have the same names."""
    names = sorted(path.name for path in truth.glob("*.tiff"))
    assert sorted(path.name for path in prediction.glob("*.tiff")) == names
    pairs = (
        [tifffile.imread(str(folder / name)) for folder in (truth, prediction)] for name in names
    )
    scores = [strict.scores(*pair, [0.5])[0] for pair in pairs]
    cells = sum(score.true_num + score.pred_num for score in scores)
    assert cells > 500
    return 2 * sum(score.correct_num for score in scores) / cells


@pytest.mark.parametrize("kind, least", [("legacy", 0.99), ("current", 0.98)])
def test_the_organisers_command_labels_as_this_machine_does(
    kind, least, engine, inputs, host_labels, outputs, request
):
    image = request.getfixturevalue(f"{kind}_image")
    options = ["-m", "28g", "--network", "none", "--name", f"cpn-test-{os.getpid()}", "--rm"]
    folders = mounted(inputs, outputs)
    script = ["/bin/bash", "-c", "sh predict.sh"]
    docker(engine, "container", "run", *options, *folders, image, *script, check=True)
    assert pooled_f1(host_labels, outputs) >= least


@pytest.mark.parametrize("way", WAYS)
def test_it_runs_without_what_it_does_not_need(engine, image, way, small, outputs):
    owner, options = WAYS[way]
    if os.geteuid():
        pytest.skip("only root can give the outputs folder to somebody")
    os.chown(str(outputs), owner, owner)
    folders = ("-v", f"{small}:/workspace/inputs:ro", "-v", f"{outputs}:/workspace/outputs")
    docker(engine, "run", "--rm", "--network=none", *options, *folders, image, check=True)
    (label,) = outputs.glob("*.tiff")
    assert tifffile.imread(str(label)).max() > 20
    assert (label.name, label.stat().st_uid) == ("small_label.tiff", owner)


def test_docker_stop_ends_it_without_half_a_file(engine, current_image, small, tmp_path, outputs):
    folder = tmp_path / "inputs"
    shutil.copytree(str(small), str(folder))
    write_png(folder / "then_a_large_one.png", draw(5000, 5000, np.uint8))
    run = ["run", "--detach", "--network=none", *mounted(folder, outputs), current_image]
    name = docker(engine, *run, check=True).stdout.strip()
    deadline = time.monotonic() + 120
    try:
        while "1/2" not in docker(engine, "logs", name, check=True).stdout:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        docker(engine, "stop", "--time=30", name, check=True)
        state = docker(engine, "inspect", "--format={{.State.ExitCode}}", name, check=True)
    finally:
        docker(engine, "rm", "--force", name, check=True)
    assert state.stdout.strip() == "143"  # by SIGTERM; 137 would be by SIGKILL, after 30 s
    assert [path.name for path in outputs.glob("*.tiff")] == ["small_label.tiff"]


def test_25_million_pixels_need_less_than_4_gb(engine, current_image, tmp_path, outputs):
    folder = tmp_path / "inputs"
    folder.mkdir()
    write_tiles(folder / "large.tif", draw(5000, 5000, np.uint16))
    options = ["--rm", "--network=none", "-m", "4g", *mounted(folder, outputs)]
    docker(engine, "run", *options, current_image, check=True)
    labels = tifffile.imread(str(outputs / "large_label.tiff"))
    assert labels.shape == (5000, 5000) and labels.max() > 10_000


def test_it_says_its_version_and_licence(engine, image):
    form = '{{index .Config.Labels "org.opencontainers.image.%s"}}'
    form = " ".join(form % name for name in ("version", "licenses"))
    found = docker(engine, "image", "inspect", f"--format={form}", image, check=True).stdout
    assert found.strip() == f"{app.__version__} Apache-2.0"


def test_it_holds_the_program_and_no_more(engine, image):
    found = inside(engine, image, "ls", "-A", "/workspace").split()
    assert found == ["LICENSE", "app", "evaluate", "predict.sh", "requirements.txt", "weights"]
    assert "peers" not in inside(engine, image, "ls", "evaluate").split()


def test_all_modules_import_and_torch_is_the_bases_own(engine, image):
    """But three exports, whose libraries are extras."""
    script = """
import importlib, pkgutil, app, evaluate, torch
for package in app, evaluate:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        extra = "exports.coco", "exports.roi", "exports.ome_zarr"
        if not module.name.endswith(("__main__", *extra)):
            importlib.import_module(module.name)
print(torch.__file__)
"""
    assert not inside(engine, image, "python3", "-c", script).startswith("/opt/packages")


def test_its_packages_lack_nothing(engine, image):
    """They are installed with --no-deps."""
    files = [ROOT / "requirements.txt", ROOT / "evaluate" / "requirements.txt"]
    lines = [line for file in files for line in file.read_text().splitlines()]
    ours = {Requirement(line).name.lower() for line in lines if line and line[0] != "#"}
    command = ["run", "--rm", "--network=none", image, "python3", "-m", "pip", "check"]
    found = docker(engine, *command).stdout.splitlines()  # the base may lack what it wants
    assert [line for line in found if line.split()[0].lower() in ours] == []
