"""A Docker Engine, and the images that the Dockerfile builds in it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from app.network.device import NEW_IMAGE

ROOT = Path(__file__).resolve().parents[2]
ENGINE_SCRIPT = ROOT.parent / "shared" / "container" / "engine.sh"
ENGINE_FOLDER = "/tmp/container-engine"
ENGINE_HOST = f"unix://{ENGINE_FOLDER}/docker.sock"
LEGACY_BASE = re.search("^ARG BASE_IMAGE=(.+)", (ROOT / "Dockerfile").read_text(), re.M).group(1)


def pytest_collection_modifyitems(items):
    """Containers last: what fails quickly shall show first."""
    items.sort(key=lambda item: item.path.parent == Path(__file__).parent)


@pytest.fixture(scope="session")
def engine():
    """The environment (dict) of processes in which `docker` reaches an engine.

    That is a Docker that runs already, else one that ENGINE_SCRIPT installs, whose data are removed
    at the end (that takes minutes on some disks). Without either the tests are skipped; in CI they
    fail.
    """
    for candidate in (dict(os.environ), dict(os.environ, DOCKER_HOST=ENGINE_HOST)):
        if runs(["docker", "info"], candidate):
            yield candidate
            return
    if not ENGINE_SCRIPT.is_file() or os.geteuid():
        unavailable("no Docker is running here")
    if not runs(["bash", ENGINE_SCRIPT, "start", ENGINE_FOLDER], candidate):
        unavailable(f"{ENGINE_SCRIPT} start failed: see the logs in {ENGINE_FOLDER}")
    yield candidate
    if not os.environ.get("CI"):  # where the machine is removed with it, which is faster
        subprocess.run(["bash", ENGINE_SCRIPT, "stop", ENGINE_FOLDER], check=True)


@pytest.fixture(scope="session")
def legacy_image(engine):
    """The tag of the image on the default base: Python 3.7, torch 1.12.1, CUDA 11.3."""
    return build(engine, "cpn-test:legacy", "legacy", LEGACY_BASE)


@pytest.fixture(scope="session")
def current_image(engine):
    """The tag of the image for the GPUs of today."""
    return build(engine, "cpn-test:current", "current", NEW_IMAGE)


def build(engine, tag, kind, base):
    """Build the image on this base, which ENGINE_SCRIPT stands in for in its own engine."""
    if engine.get("DOCKER_HOST") == ENGINE_HOST:
        subprocess.run(["bash", ENGINE_SCRIPT, "base", kind, ENGINE_FOLDER], env=engine, check=True)
    elif not (runs(["docker", "image", "inspect", base], engine) or pull(engine, base)):
        unavailable(f"the image {base} cannot be pulled")
    default = [] if kind == "legacy" else ["--build-arg", f"BASE_IMAGE={base}"]
    command = ["docker", "build", "--network", "host", "-t", tag, *default, str(ROOT)]
    subprocess.run(command, env=engine, check=True)
    return tag


def pull(engine, image):
    """Whether the image could be pulled from its registry."""
    return runs(["docker", "pull", "--quiet", image], engine)


def runs(command, environment):
    """Whether a command is there and succeeds."""
    try:
        return subprocess.run(command, env=environment, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def unavailable(reason):
    """Skip for this reason, or fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
