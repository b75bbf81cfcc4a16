"""Parameters, multiply-adds, speed and memory of a preset, beside the paper's network.

Speed and memory are those of the network's forward pass, for one image that is on the device: the
median of several passes after a warm-up. Reading files, proposals, suppression and label images
are not in it (python -m evaluate time measures the whole). Each precision is measured in a process
of its own. Peak memory: on a GPU torch.cuda.max_memory_allocated, as in the paper; on a CPU the
largest resident size of the process, Python and torch included.
"""

import argparse
import logging
import multiprocessing
import statistics
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Iterator, NamedTuple

import torch

from app.network.config import PRESETS, Config
from app.network.cpn import CPN
from app.network.device import (
    DeviceWarning,
    computing,
    cuda_failure,
    pick_device,
    reduced_precision,
)
from app.segmenter import Segmenter
from evaluate.folders import EvaluationError

PAPER = {"parameters": "228.24 M", "flops": "443.60 G", "amp": ("20.23", "2.25 GiB")}

WARM_UP = 2  # passes
LEAST_PASSES, LEAST_SECONDS = 5, 3.0  # both at least


class Speed(NamedTuple):
    """Frames per second, and peak memory in bytes."""

    fps: float
    peak_memory: int


def count_parameters(network: CPN) -> int:
    """Number of learned parameters."""
    return sum(p.numel() for p in network.parameters())


def count_flops(network: CPN, size: int) -> float:
    """fvcore's multiply-adds of one forward pass (evaluation mode) at 1 x 3 x size x size."""
    from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    return FlopCountAnalysis(network.eval(), torch.zeros(1, 3, size, size)).total()


def measure(config: Config, size: int, device: str, amp: bool) -> Speed:
    """The Speed of a forward pass at 1 x 3 x size x size, in a new process.

    config: Config. device: "cpu" or "cuda". amp: mixed precision, where the device computes in it.
    RuntimeError: it does not fit into the memory, for one.
    """
    context = multiprocessing.get_context("spawn")  # a forked process would inherit memory
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure_here, config, size, device, amp).result()


@torch.no_grad()
def measure_here(config: Config, size: int, device: str, amp: bool) -> Speed:
    """As `measure`, in this process; its peak memory includes what it did before."""
    segmenter = Segmenter(CPN(config), device)
    network, device = segmenter.network, segmenter.device
    image = torch.rand(1, 3, size, size, device=device)
    image = image.contiguous(memory_format=torch.channels_last)

    def forward():
        start = time.perf_counter()
        with computing(device, amp):
            network(image)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for _ in range(WARM_UP):
        forward()
    seconds = []
    while len(seconds) < LEAST_PASSES or sum(seconds) < LEAST_SECONDS:
        seconds.append(forward())
    return Speed(1 / statistics.median(seconds), peak_memory(device))


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that torch has allocated on a GPU, or that this process has had resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return int(fields["VmHWM"].split()[0]) * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--preset", choices=sorted(PRESETS), default="compact")
    parser.add_argument("--size", type=int, default=512, help="side of the image in pixels")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit status. EvaluationError: it cannot be measured."""
    if options.size < 1:
        raise EvaluationError(f"--size {options.size}: an image has at least one pixel")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeviceWarning)  # `remarks` says it
            device = pick_device(options.device)
    except ValueError as error:
        raise EvaluationError(error) from error
    network = CPN(PRESETS[options.preset])
    row("", "here", "in the paper")
    row("parameters", f"{count_parameters(network):,}", PAPER["parameters"])
    row("multiply-adds", f"{count_flops(network, options.size) / 1e9:.2f} G", PAPER["flops"])
    for amp, name in ((True, "AMP on"), (False, "AMP off")):
        try:
            speed = measure(network.config, options.size, device.type, amp)
        except RuntimeError as error:
            raise EvaluationError(f"the forward pass with {name} failed: {error}") from error
        fps, memory = PAPER["amp"] if amp else ("-", "-")
        row(f"frames per second, {name}", f"{speed.fps:.2f}", fps)
        row(f"peak memory, {name}", f"{speed.peak_memory / 2**30:.2f} GiB", memory)
    for remark in remarks(options, device):
        print(remark)
    return 0


def row(name: str, ours: str, paper: str) -> None:
    """Print a line of the table, as soon as it is known."""
    print(f"{name:26}{ours:>14}{paper:>15}")


def remarks(options: argparse.Namespace, device: torch.device) -> Iterator[str]:
    """Sentences on what the figures are."""
    size = f"1x3x{options.size}x{options.size}"
    yield f"Here: the preset {options.preset} at {size}, on {device_name(device)}."
    yield "In the paper (table 2 and section 3.2.1): at 1x3x512x512, on an NVIDIA RTX 2080 Ti."
    if device.type == "cuda":
        return
    if options.device == "auto":
        yield f"No GPU can be used, {cuda_failure()}: speed and memory are the CPU's."
    if reduced_precision(device) is None:
        yield "This processor, or this torch, has no bfloat16: AMP changes nothing."


def device_name(device: torch.device) -> str:
    """What the figures were measured on, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"a CPU (threads: {torch.get_num_threads()})"
