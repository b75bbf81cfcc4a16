"""One start of a command or of a container: how long it takes, how it ends, its peak memory.

What is started is a `Command` or a `Container`; both can `check` that there is something to start
(before the clock runs), spell out its `arguments`, and `follow` a started process, which gives the
memory of all that belongs to it and ends it.
"""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Callable, Collection, List, Optional, Set, Tuple, Union

import psutil

from .folders import EvaluationError

CGROUPS = Path("/sys/fs/cgroup")
MEMORY_PAUSE = 0.2  # seconds between two looks at the memory: each takes some of a core
GPU_PAUSE = 0.5  # asking nvidia-smi takes a good part of a second of a core
NO_AMP = "--no-amp"  # the switch of app.predict


Program = Union["Command", "Container"]


@dataclass(frozen=True)
class Run:
    """How one start went. Peaks are bytes, None where they could not be seen."""

    seconds: float  # from its start to its exit
    exit_status: int  # -9: ended by signal 9
    hung: bool  # it was ended here, at the bound
    message: str  # the line of its output that says most about a failure
    peak_memory_bytes: Optional[int]
    peak_gpu_memory_bytes: Optional[int]


def run_once(program: Program, inputs: Path, outputs: Path, amp: bool, bound: float) -> Run:
    """Start a program on a folder of inputs and wait for its end: a `Run`.

    program: Command or Container. amp: False adds --no-amp. bound: seconds after which it is ended.
    Nothing of it is left running, also when this is interrupted.
    """
    arguments = program.arguments(inputs, outputs, amp)
    hung = threading.Event()
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we end it
        )
        tree = program.follow(process.pid)
        alarm = threading.Timer(bound, lambda: (hung.set(), tree.kill()))
        memory = Peak(tree.memory, MEMORY_PAUSE)
        on_gpu = Peak(lambda: gpu_memory(tree.pids()), GPU_PAUSE)
        try:
            for thread in (alarm, memory, on_gpu):
                thread.start()
            status = process.wait()
            seconds = time.perf_counter() - start
        finally:
            for thread in (alarm, memory, on_gpu):
                thread.cancel()
            tree.kill()  # also what it left behind in the background
        memory.join()
        on_gpu.join()
        message = telling_line(log, status)
    return Run(seconds, status, hung.is_set(), message, memory.value, on_gpu.value)


class Peak(threading.Thread):
    """The largest `probe()`, asked every `pause` seconds until `cancel`; None is passed over."""

    def __init__(self, probe: Callable[[], Optional[int]], pause: float):
        super().__init__(daemon=True)
        self.probe, self.pause, self.value = probe, pause, None
        self.cancelled = threading.Event()

    def run(self) -> None:
        """Ask until `cancel`; a thread's own work."""
        while not self.cancelled.is_set():
            value = self.probe()
            if value is not None:
                self.value = max(value, self.value or 0)
            self.cancelled.wait(self.pause)

    def cancel(self) -> None:
        """Ask no more."""
        self.cancelled.set()


class Command:
    """A command line with the placeholders {inputs} and {outputs}; no shell reads it."""

    kind = "command"

    def __init__(self, text: str):
        """EvaluationError: the text cannot be split, or lacks a placeholder."""
        try:
            self.words = shlex.split(text)
        except ValueError as error:
            raise EvaluationError(f"--command {text!r} cannot be read: {error}") from error
        for placeholder in ("{inputs}", "{outputs}"):
            if not any(placeholder in word for word in self.words):
                raise EvaluationError(
                    f"--command {text!r} has no {placeholder}: write {{inputs}} and {{outputs}} "
                    "where the folders belong, as in 'sh predict.sh {inputs} {outputs}'"
                )

    def check(self) -> None:
        """EvaluationError: there is no such program."""
        if shutil.which(self.words[0]) is None:
            raise EvaluationError(f"--command: there is no program {self.words[0]}")

    def arguments(self, inputs: Path, outputs: Path, amp: bool) -> List[str]:
        """The words to start, the folders (absolute paths) filled in."""
        words = [word.replace("{inputs}", str(inputs)) for word in self.words]
        words = [word.replace("{outputs}", str(outputs)) for word in words]
        return words if amp else words + [NO_AMP]

    def follow(self, pid: int) -> "Tree":
        """What the started process `pid` belongs to: its memory, and how to end it."""
        return Tree(pid)


class Tree:
    """A started process and all that it starts."""

    def __init__(self, pid: int):
        """pid: of the first process."""
        self.root = psutil.Process(pid)
        self.seen = set()  # also what later leaves the tree, because its parent ends
        self.lock = threading.Lock()  # several threads look

    def members(self) -> List[psutil.Process]:
        """The processes that run now."""
        with self.lock:
            with suppress(psutil.NoSuchProcess):
                self.seen.update([self.root] + self.root.children(recursive=True))
            return [process for process in self.seen if process.is_running()]

    def pids(self) -> Set[int]:
        """The numbers of all its processes that run now."""
        return {process.pid for process in self.members()}

    def memory(self) -> Optional[int]:
        """Bytes that the processes hold: resident, a page that n of them share counted 1/n each."""
        return sum(map(resident, self.members())) or None

    def kill(self) -> None:
        """End them all; the root must lead its process group."""
        members = self.members()
        with suppress(ProcessLookupError):
            os.killpg(self.root.pid, signal.SIGKILL)
        for process in members:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def resident(process: psutil.Process) -> int:
    """Proportional set size of a process in bytes; 0 if it has ended."""
    try:
        with suppress(psutil.AccessDenied):  # it runs as another user
            return process.memory_full_info().pss
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


class Container:
    """A local Docker image, started as the organisers do."""

    kind = "docker"

    def __init__(self, image: str):
        self.image = image
        self.name = f"evaluate-time-{uuid.uuid4().hex[:12]}"
        self.gpus = ["--gpus", "device=0"] if gpu_name() else []

    def check(self) -> None:
        """EvaluationError: no docker, no engine, or no such image here (none is pulled)."""
        try:
            output("docker", "image", "inspect", self.image)
        except FileNotFoundError as error:
            raise EvaluationError("--docker: there is no program docker") from error
        except subprocess.CalledProcessError as error:
            raise EvaluationError(f"--docker {self.image}: {error.stderr.strip()}") from error

    def arguments(self, inputs: Path, outputs: Path, amp: bool) -> List[str]:
        """The organisers' words; a GPU where there is one, and no network."""
        script = "sh predict.sh" if amp else f"sh predict.sh {NO_AMP}"
        return (
            ["docker", "container", "run", *self.gpus, "-m", "28g", "--network", "none"]
            + ["--name", self.name, "--rm"]
            + ["-v", f"{inputs}:/workspace/inputs/", "-v", f"{outputs}:/workspace/outputs/"]
            + [self.image, "/bin/bash", "-c", script]
        )

    def follow(self, pid: int) -> "ContainerTree":
        """What the started process `pid` belongs to: its memory, and how to end it."""
        return ContainerTree(pid, self.name)


class ContainerTree:
    """A started container, by the docker command that waits for its end."""

    def __init__(self, pid: int, name: str):
        self.client, self.name = Tree(pid), name
        self.lock = threading.Lock()  # two threads look for it
        self.inside = self.memory_file = None

    def found(self) -> bool:
        """Whether the container's processes are known: once it runs, if the engine is local."""
        with self.lock:
            if not self.inside:
                self.inside, self.memory_file = locate(self.name)
            return bool(self.inside)

    def pids(self) -> Set[int]:
        """The numbers of all its processes that run now."""
        return self.inside.pids() if self.found() else set()

    def memory(self) -> Optional[int]:
        """The kernel's peak in bytes of what counts against -m 28g, the files read included."""
        if not self.found() or not self.memory_file:
            return None
        try:
            return int(self.memory_file.read_text())
        except OSError:  # gone with the container
            return None

    def kill(self) -> None:
        """End the docker command and remove the container."""
        self.client.kill()
        with suppress(subprocess.CalledProcessError):
            output("docker", "container", "rm", "--force", self.name)


def output(*command: str, timeout: Optional[float] = None) -> str:
    """What a command prints. FileNotFoundError; CalledProcessError; TimeoutExpired, in seconds."""
    options = {"check": True, "capture_output": True, "encoding": "utf-8"}
    return subprocess.run(command, timeout=timeout, **options).stdout


def locate(name: str) -> Tuple[Optional["Tree"], Optional[Path]]:
    """The Tree of a container's first process, and its memory file; None where not to be found."""
    try:
        state = output("docker", "container", "inspect", "--format", "{{.Id}} {{.State.Pid}}", name)
        identifier, pid = state.split()
        groups = Path("/proc", pid, "cgroup").read_text()
        if identifier not in groups:  # a process of this number, but another machine's container
            return None, None
        return Tree(int(pid)), memory_file(groups)
    except (subprocess.CalledProcessError, OSError, psutil.NoSuchProcess):
        return None, None


def memory_file(groups: str) -> Optional[Path]:
    """The kernel's file with the peak memory of a process's control group; None: there is none.

    groups: the text of /proc/PID/cgroup.
    """
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            candidates = ["memory" + path + "/memory.max_usage_in_bytes"]
        elif not controllers:  # version 2; before Linux 5.19 it tells the present only
            candidates = [path[1:] + "/memory.peak", path[1:] + "/memory.current"]
        else:
            continue
        for candidate in candidates:
            file = CGROUPS / candidate
            if file.is_file():
                return file
    return None


def gpu_name() -> Optional[str]:
    """The name of the first GPU that nvidia-smi shows, or None."""
    rows = nvidia_smi("--query-gpu=name")
    return rows[0] if rows else None


def gpu_memory(pids: Collection[int]) -> Optional[int]:
    """Bytes of GPU memory that these processes hold; None where nvidia-smi tells of none."""
    rows = [row.split(",") for row in nvidia_smi("--query-compute-apps=pid,used_memory")]
    held = [memory for pid, memory in rows if int(pid) in pids and memory.strip().isdigit()]
    return sum(map(int, held)) * 2**20 if held else None


def nvidia_smi(query: str) -> List[str]:
    """The lines of an answer of nvidia-smi; none where it cannot answer."""
    try:
        return output("nvidia-smi", query, "--format=csv,noheader,nounits", timeout=10).splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def telling_line(log: BinaryIO, status: int) -> str:
    """The line of a program's output that says most about its failure, at most 200 characters."""
    log.seek(0)
    text = log.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    # Docker says why it could not start a container in the first, then how to get help.
    return lines[0 if status == 125 else -1][:200]
