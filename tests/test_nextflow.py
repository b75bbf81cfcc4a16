"""docs/cpn.nf: its script with the real command, in a folder as Nextflow makes it for a task."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import tifffile
import yaml

from app import __version__, samples

ROOT = Path(__file__).resolve().parents[1]
PROCESS = (ROOT / "docs" / "cpn.nf").read_text()


def script_with(**values):
    """The script of the process as Nextflow gives it to bash; the container is the checkout."""
    script = textwrap.dedent(re.search(r'"""\n(.*?)"""', PROCESS, re.DOTALL).group(1))
    script = re.sub(r"(?<!\\)\$([\w.]+)", lambda found: values[found.group(1)], script)
    return script.replace("\\$", "$").replace("/workspace/", f"{ROOT}/")


def test_the_script_leaves_what_the_process_puts_out(tmp_path):
    tifffile.imwrite(str(tmp_path / "image.tif"), samples.fluorescence(seed=1)[:256, :256])
    task = tmp_path / "task"
    (task / "inputs").mkdir(parents=True)
    (task / "inputs" / "image.tif").symlink_to(tmp_path / "image.tif")  # as it stages files
    script = script_with(**{"task.cpus": "1", "task.process": "LAB:CPN", "args": "--device cpu"})
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = dict(os.environ, CPN_CONTAINER="1", PATH=path)
    environment.pop("PYTHONPATH", None)
    subprocess.run(["bash", "-ue", "-c", script], cwd=str(task), env=environment, check=True)
    for pattern in re.findall(r"path\(?\s*'([^']+)'", PROCESS.split("output:")[1]):
        assert len(list(task.glob(pattern))) == 1, pattern
    labels = tifffile.imread(str(task / "labels" / "image_label.tiff"))
    assert labels.shape == (256, 256) and len(np.unique(labels)) > 10
    assert yaml.safe_load((task / "versions.yml").read_text()) == {"LAB:CPN": {"cpn": __version__}}
