"""The environments that the first runs of predict.sh and tests/run make: environment.sh."""

import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = {"PIP_TARGET": "elsewhere", "PIP_PREFIX": "elsewhere", "PIP_USER": "1"}
HOSTILE.update(PIP_root="elsewhere", PIP_PYTHON="/nowhere/python")


@pytest.fixture
def programs(tmp_path):
    """A folder of the few programs that a machine has even without Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cat", "cksum", "dirname", "readlink", "sh"):
        (folder / name).symlink_to(shutil.which(name))
    return folder


@pytest.fixture
def making(programs, tmp_path):
    """A function that starts environment.sh, of these requirements, in tmp_path; the folder.

    The only index is a folder with the packages `good`, `bad`, which cannot be imported, and
    `listed`, which names a file that it does not install.
    """
    (programs / "python3").symlink_to(sys.executable)
    for name, content in (("good", "value = 1\n"), ("bad", "import missing_library\n")):
        write_wheel(tmp_path / "index", name, content)
    write_wheel(tmp_path / "index", "listed", "value = 1\n", also_named="setup.py")
    folder = tmp_path / "an environment"

    def start(requirements, shown=subprocess.PIPE, **variables):
        (tmp_path / "requirements.txt").write_text(requirements)
        index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index")}
        return subprocess.Popen(
            ["sh", str(ROOT / "environment.sh"), str(folder), "requirements.txt"],
            env={"PATH": str(programs), "HOME": str(tmp_path), **index, **variables},
            cwd=str(tmp_path),
            stderr=shown,
            encoding="utf-8",
        )

    return start, folder


def write_wheel(folder, name, content, also_named=""):
    """A package of one module; also_named: a file that its list has and that is not in it."""
    folder.mkdir(exist_ok=True)
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": content,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD", also_named] if path)
    with zipfile.ZipFile(str(folder / f"{name}-1.0-py3-none-any.whl"), "w") as wheel:
        for path, text in {**files, f"{about}/RECORD": record}.items():
            wheel.writestr(path, text)


def ended(process):
    """(exit status, what it said) of a process at its end."""
    said = process.communicate()[1]
    return process.returncode, said


def works(folder):
    script = [str(folder / "bin" / "python"), "-c", "import good"]
    return subprocess.call(script, env={}, stderr=subprocess.DEVNULL) == 0


def test_the_environment_is_made_once_and_again_when_incomplete(making):
    start, folder = making
    interrupted = folder / "bin" / "python"
    interrupted.parent.mkdir(parents=True)
    interrupted.symlink_to(sys.executable)
    for requirements, made in (("", True), ("", False), ("# others\n", True)):
        status, said = ended(start(requirements))
        assert status == 0, said
        assert ("Making" in said) == made and (made or not said)
    assert len(list(folder.parent.glob("an environment.*"))) == 2, "the one in use, and its lock"


@pytest.mark.parametrize("way", ["variables", "pip.conf"])
def test_settings_of_pip_put_no_package_elsewhere(making, tmp_path, way):
    start, folder = making
    variables = HOSTILE
    if way == "pip.conf":
        find = f"no-index = true\nfind-links = {tmp_path / 'index'}\n"
        config = f"[global]\npython = /nowhere/python\n{find}"
        config += "[install]\ntarget = elsewhere\nuser = true\n"
        (tmp_path / "pip.conf").write_text(config)
        nothing = {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}
        variables = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), **nothing}
    status, said = ended(start("good==1.0  # of the index\n", **variables))
    assert status == 0, said
    assert works(folder) and not (tmp_path / "elsewhere").exists()


def test_settings_that_pip_cannot_read_are_one_sentence(making, tmp_path):
    start, folder = making
    (tmp_path / "pip.conf").write_text("target = elsewhere\n")
    status, said = ended(start("good==1.0\n", PIP_CONFIG_FILE=str(tmp_path / "pip.conf")))
    assert status == 2 and "Traceback" not in said and "pip.conf" in said
    assert "pip cannot read its own settings" in said.splitlines()[-1]


def test_the_environment_is_made_where_nothing_can_be_shown(making):
    start, folder = making
    with open("/dev/full", "w") as full:
        assert start("good==1.0\n", shown=full).wait() == 0
    assert works(folder)


def test_two_first_runs_at_once_make_one_environment(making):
    start, folder = making
    results = [ended(process) for process in [start("good==1.0\n"), start("good==1.0\n")]]
    assert [status for status, _ in results] == [0, 0], results
    assert sum(said.count("Making") for _, said in results) == 1
    assert works(folder)


def test_what_cannot_be_imported_leaves_the_environment_as_it_was(making):
    start, folder = making
    assert ended(start("good==1.0\n"))[0] == 0
    for requirements in ("good==1.0\nbad==1.0\n", "good==1.0\nabsent==1.0\n"):
        status, said = ended(start(requirements))
        assert status == 2 and "Traceback" not in said
        assert works(folder)
    status, said = ended(start("bad==1.0\n"))
    assert "bad: ModuleNotFoundError" in said and "missing_library" in said


def test_files_that_a_package_names_but_does_not_install_are_not_imported(making):
    start, folder = making  # pip before 23.1 installs fvcore, which has no wheel, like that
    status, said = ended(start("good==1.0\nlisted==1.0\n"))
    assert status == 0, said
    assert works(folder)


def test_an_environment_whose_python_cannot_be_executed_is_made_anew(making):
    start, folder = making
    assert ended(start("good==1.0\n"))[0] == 0
    python = folder / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert ended(start("good==1.0\n"))[0] == 0
    assert works(folder)


def test_an_environment_keeps_its_python_when_python3_becomes_another(making, programs):
    start, folder = making
    python3 = programs / "python3"
    python3.unlink()
    python3.symlink_to(os.path.realpath(sys.executable))
    assert ended(start("good==1.0\n"))[0] == 0
    python3.unlink()
    python3.symlink_to("/bin/false")
    assert works(folder)


def test_a_run_waits_for_what_a_killed_one_has_started(making, tmp_path):
    start, folder = making
    begun, go_on = tmp_path / "begun", tmp_path / "go on"
    content = f"""import os, time
open({str(begun)!r}, "w").close()
while not os.path.exists({str(go_on)!r}):
    time.sleep(0.01)
"""
    write_wheel(tmp_path / "index", "slow", content)
    killed = start("slow==1.0\n")
    while not begun.exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    second = start("good==1.0\n")
    assert "waiting" in second.stderr.readline()
    go_on.touch()
    assert ended(second)[0] == 0
    assert works(folder)


def test_one_sentence_where_python_or_venv_is_missing(programs, tmp_path):
    command = ["sh", str(ROOT / "environment.sh"), str(tmp_path / "environment")]
    command.append(str(ROOT / "requirements.txt"))

    def says():
        process = subprocess.Popen(
            command, env={"PATH": str(programs)}, stderr=subprocess.PIPE, encoding="utf-8"
        )
        status, said = ended(process)
        assert (status, said.count("\n")) == (2, 1)
        return said

    def write(name, cases):
        (programs / name).write_text(f"#!/bin/sh\ncase $2 in {cases} esac\n")
        (programs / name).chmod(0o755)

    assert "No Python 3.7 or 3.9 to 3.14 was found: " in says()
    write("python3", '*print*) echo " (python3 is Python 3.8)" ;; *) exit 1 ;;')
    assert "found (python3 is Python 3.8): " in says()
    write("python3.11", "*ensurepip*) exit 1 ;;")
    said = says()
    assert "python3.11" in said and "venv" in said


# What needs no environment


@pytest.fixture
def checkout(tmp_path):
    """A checkout without an environment, which cannot make one either."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(str(ROOT / "predict.sh"), str(folder))
    (folder / "environment.sh").write_text("echo an environment is made; exit 9\n")
    (folder / "app").symlink_to(ROOT / "app")
    return folder


def predict_sh(path, *arguments):
    """Run predict.sh with a Python that has no packages."""
    bare = path.parent / "bare"
    bare.mkdir(exist_ok=True)
    (bare / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    (bare / "python3").chmod(0o755)
    environment = {"PATH": f"{bare}:{os.environ['PATH']}"}
    command = ["sh", str(path), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")


def test_help_and_wrong_arguments_need_no_environment(checkout):
    script = checkout / "predict.sh"
    result = predict_sh(script, "--help")
    assert result.returncode == 0 and "--resume" in result.stdout and not result.stderr
    for wrong in (["--resum"], [checkout / "nowhere"], ["--device", "tpu"], ["a", "b", "c"]):
        result = predict_sh(script, *wrong)
        assert result.returncode == 2 and not result.stdout and "Traceback" not in result.stderr
    assert predict_sh(script, checkout).returncode == 9


@pytest.mark.parametrize("way", ["{} >&-", "{} >/dev/full 2>/dev/full", "{{ {}; }} | true"])
def test_samples_are_written_whatever_becomes_of_the_screen(checkout, way):
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'''#!/bin/sh
case "$*" in *app.predict*) touch "{checkout}/begun"; exit ;; esac
exec "{sys.executable}" "$@"
''')
    python.chmod(0o755)
    (checkout / "environment.sh").write_text("")
    subprocess.run(["sh", "-c", way.format(f"sh '{checkout}/predict.sh'")], cwd=str(checkout))
    assert len(list((checkout / "samples" / "inputs").iterdir())) == 5
    assert (checkout / "begun").exists()


def test_a_missing_python3_is_not_complained_of_before_others_are_looked_for(checkout, programs):
    command = [str(programs / "sh"), str(checkout / "predict.sh"), str(checkout)]
    result = subprocess.run(command, env={"PATH": str(programs)}, capture_output=True)
    assert (result.returncode, result.stderr) == (9, b"")


def test_a_checkout_can_be_started_through_a_symbolic_link(checkout, tmp_path):
    (tmp_path / "links").mkdir()
    links = {
        tmp_path / "linked": checkout,
        tmp_path / "links" / "segment": Path("..", "checkout", "predict.sh"),
        tmp_path / "links" / "again": Path("segment"),
    }
    for link, target in links.items():
        link.symlink_to(target)
    for script in (tmp_path / "linked" / "predict.sh", *list(links)[1:]):
        assert predict_sh(script, "--help").returncode == 0
        assert predict_sh(script, checkout).stdout == "an environment is made\n"
