"""The pins: one version of each package per Python, and for Python 3.7 such as an old image takes.

That image is the Dockerfile's default base: Ubuntu 18.04, glibc 2.27, no compiler.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
IMAGE_FILES = ("requirements.txt", "evaluate/requirements.txt")  # what the Dockerfile installs
OTHER_FILES = ("training/requirements.txt", "tests/requirements.txt")
EXTRA_FILES = [path.relative_to(ROOT) for path in (ROOT / "app/extras").glob("*.txt")]
OLD_PLATFORMS = ["manylinux2014_x86_64", *(f"manylinux_2_{n}_x86_64" for n in range(5, 28))]
WITHOUT_WHEEL = {"fvcore", "iopath"}


def pins(python, *files):
    """The requirements in these files that hold for a Python version such as "3.7"."""
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    here = {"python_version": python}
    return [pin for pin in found if pin.marker is None or pin.marker.evaluate(here)]


def pip(*arguments, **environment):
    subprocess.run(
        [sys.executable, "-m", "pip", *arguments], env=dict(os.environ, **environment), check=True
    )


@pytest.fixture
def index():
    """The package index, which may not be within reach everywhere."""
    if not os.environ.get("CI"):
        pytest.skip("only CI asks the package index about the pins")


@pytest.mark.parametrize("python", ["3.7", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_each_package_has_one_exact_version_for_each_python(python):
    for files in (IMAGE_FILES, OTHER_FILES, EXTRA_FILES):
        found = pins(python, *files)
        names = [pin.name.lower() for pin in found]
        assert names or files == EXTRA_FILES and python in ("3.7", "3.9", "3.10")
        assert len(names) == len(set(names))
        assert all([part.operator for part in pin.specifier] == ["=="] for pin in found)


def test_the_pins_for_python_3_7_have_wheels_for_an_old_image(index, tmp_path):
    wheels = {pin.name: str(pin.specifier) for pin in pins("3.7", *IMAGE_FILES)}
    del wheels["torch"]  # the image's own stays
    wheels = [name + version for name, version in wheels.items() if name not in WITHOUT_WHEEL]
    target = ["--python-version=3.7", "--implementation=cp"]
    target += [f"--abi={abi}" for abi in ("cp37m", "abi3", "none")]
    target += [f"--platform={platform}" for platform in OLD_PLATFORMS]
    options = ["--quiet", "--only-binary=:all:", "--no-deps", f"--dest={tmp_path}"]
    pip("download", *options, *target, *wheels)
    assert len(list(tmp_path.iterdir())) == len(wheels)


@pytest.mark.parametrize("python", ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_the_pins_have_wheels_for_each_python(index, tmp_path, python):
    wheels = [
        pin.name + str(pin.specifier)
        for pin in pins(python, *IMAGE_FILES)
        if pin.name not in (*WITHOUT_WHEEL, "torch")  # torch is large, and its name varies
    ]
    options = ["--dry-run", "--only-binary=:all:", "--no-deps", f"--target={tmp_path}"]
    pip("install", *options, f"--python-version={python}", *wheels)


def test_packages_without_a_wheel_are_pure_python(index, tmp_path):
    sources = [
        f"{p.name}{p.specifier}" for p in pins("3.7", *IMAGE_FILES) if p.name in WITHOUT_WHEEL
    ]
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), *sources, CC="false")
    assert [path.name.endswith("-none-any.whl") for path in tmp_path.iterdir()] == [True, True]
