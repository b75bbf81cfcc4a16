"""Makes the Python environment that environment.sh was asked for; started by environment.sh alone.

It is made aside, under a lock, and takes its name when all of its packages can be imported. Its
own place is FOLDER.HASH, which is never renamed since scripts in it name it, and FOLDER is a
symbolic link to that.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from ast import literal_eval
from contextlib import contextmanager
from pathlib import Path

from app.screen import screen

# Settings of pip that put packages elsewhere, or none anywhere.
ELSEWHERE = ("target", "prefix", "root", "user", "python", "dry-run")
# Run by the new Python, with the lines of the requirements: imports what they installed. (pip's own
# reader of them knows which are for another version of Python.)
IMPORT_ALL = """
import sys
from importlib import import_module
from pip._vendor.packaging.requirements import Requirement
try:
    from importlib import metadata
except ImportError:  # Python 3.7
    metadata = import_module("importlib_metadata")
for pin in map(Requirement, sys.argv[1:]):
    if pin.marker is None or pin.marker.evaluate():
        try:
            for path in metadata.files(pin.name) or ():
                parts = path.parts
                is_module = len(parts) == 1 and path.suffix == ".py"
                is_there = path.locate().is_file()  # a list of sources names more than that
                if is_there and (is_module or parts[1:] == ("__init__.py",)):
                    import_module(parts[0].split(".")[0])
        except Exception as error:
            sys.exit(f"{pin.name}: {type(error).__name__}: {error}")
"""


class Failed(Exception):
    """Why there is no environment: one sentence, to follow what the programs have said."""


def main(folder, wanted, *requirements):
    """Make the environment `folder` of these files of requirements; returns the exit status.

    wanted: what its marker has to say, by which environment.sh knows that it is complete.
    """
    folder = Path(folder)
    made_by = f"{wanted} {os.path.realpath(sys.executable)} {sys.version}"
    place = folder.with_name(f"{folder.name}.{hashlib.sha256(made_by.encode()).hexdigest()[:8]}")
    try:
        with locked(folder):
            if not is_complete(folder, wanted):  # else another run has made it meanwhile
                if not is_complete(place, wanted):
                    make(place, requirements)
                    (place / "complete").write_text(wanted + "\n")
                switch(folder, place)
    except Failed as error:
        print(f"The environment {folder} {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"The environment {folder} could not be made: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"Stopped: the environment {folder} is as it was before", file=sys.stderr)
        return 130
    return 0


@contextmanager
def locked(folder):
    """Be the only one who makes this environment; the lock ends with this process and its own."""
    with open(f"{folder}.lock", "w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another run is making {folder}: waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_complete(place, wanted):
    """Whether there is a whole environment, whose Python this user may execute."""
    marker = place / "complete"
    python = os.access(str(place / "bin" / "python"), os.X_OK)
    return python and marker.is_file() and marker.read_text().strip() == wanted


def make(place, requirements):
    """Make an environment and install the packages; whatever is there is replaced."""
    says = "(once; this downloads PyTorch and takes minutes)"
    print(f"Making the Python environment {place} {says}", file=sys.stderr)
    base = os.path.realpath(sys.executable)  # `python3` may become another version
    if call([base, "-m", "venv", "--clear", str(place)], stdout=sys.stderr):
        raise Failed("could not be made: the lines above say why.")
    python = str(place / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    files = [word for file in requirements for word in ("-r", file)]
    environment = pip_environment(python)
    if call([*install, "--no-input", *files], env=environment, stdout=sys.stderr):
        raise Failed("is not complete: the lines above say why; start again when that is mended.")
    if call([python, "-c", IMPORT_ALL, *pins(requirements)]):
        raise Failed("does not work: the line above says what cannot be imported.")


def call(command, **how):
    """Run a command, which holds the lock as well: it may outlive this process."""
    return subprocess.call(command, close_fds=False, **how)


def pip_environment(python):
    """The environment variables for pip: the user's settings of it but for those of ELSEWHERE.

    Those of its files are given as variables, and the files are left out.
    """
    given = {name: value for name, value in os.environ.items() if value}  # as pip has it
    # Its way to say that it need not start itself again, by the Python of its settings.
    how = {"env": {**given, "_PIP_RUNNING_IN_SUBPROCESS": "1"}, "encoding": "utf-8"}
    try:
        listed = subprocess.check_output([python, "-m", "pip", "config", "list"], **how)
    except subprocess.CalledProcessError as error:
        raise Failed("could not be made: pip cannot read its own settings (see above).") from error
    found = {"global": {}, "install": {}}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, setting = name.partition(".")
        if section in found:
            found[section]["PIP_" + setting.upper().replace("-", "_")] = literal_eval(value)
    variables = {**found["global"], **found["install"], **given}
    kept = {name: value for name, value in variables.items() if not is_elsewhere(name)}
    return {**kept, "PIP_CONFIG_FILE": os.devnull}


def is_elsewhere(variable):
    """Whether an environment variable is one of pip's for the settings ELSEWHERE, in any case."""
    return variable[:4] == "PIP_" and variable[4:].lower().replace("_", "-") in ELSEWHERE


def pins(requirements):
    """The lines of files of requirements, without their remarks."""
    lines = [line for file in requirements for line in Path(file).read_text().splitlines()]
    bare = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
    return [line for line in bare if line]


def switch(folder, place):
    """Let `folder` be the environment at `place`; the one that it was before goes."""
    link = folder.with_name(f"{folder.name}.link")
    if os.path.lexists(str(link)):  # of a run that was killed here
        link.unlink()
    link.symlink_to(place.name)
    if folder.is_dir() and not folder.is_symlink():  # as earlier versions made it
        folder.rename(folder.with_name(f"{folder.name}.{'0' * 8}"))
    os.replace(str(link), str(folder))
    for other in folder.parent.glob(f"{folder.name}.{'[0-9a-f]' * 8}"):
        if other != place:
            shutil.rmtree(str(other), ignore_errors=True)


if __name__ == "__main__":
    with screen():
        sys.exit(main(*sys.argv[1:]))
