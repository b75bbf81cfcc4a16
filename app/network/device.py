"""Where the network runs, and in which precision."""

import warnings
from contextlib import nullcontext
from typing import Callable, ContextManager, Optional, Tuple, TypeVar

import cv2
import torch

from app import memory, threads

# The base image whose torch has kernels for today's GPUs (see the Dockerfile).
NEW_IMAGE = "pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime"
NO_GPU = "torch finds no GPU"
T = TypeVar("T")


class DeviceWarning(UserWarning):
    """There is a GPU that is not used; the message is for the user."""


def pick_device(name: str = "auto") -> torch.device:
    """The torch.device of "auto", "cpu" or "cuda"; "auto" is a GPU where one works.

    Raises ValueError when "cuda" is asked for and no GPU works: there is none, or this torch has
    no kernels for it (CUDA 11.3 knows nothing of Hopper and later). Where "auto" passes over a
    GPU that does not work it says why, as a DeviceWarning.
    """
    if name == "cpu":
        return torch.device("cpu")
    reason = cuda_failure()
    if reason is None:
        return torch.device("cuda")
    if name == "cuda":
        raise ValueError(f"The device cuda cannot be used: {reason}.")
    if reason != NO_GPU:
        warnings.warn(f"The CPU is used: {reason}.", DeviceWarning, stacklevel=2)
    return torch.device("cpu")


def set_up_cpu(number: Optional[int] = None) -> None:
    """Compute with so many threads of the CPU; unless told, with as many as it is worth.

    That is torch's own number (of cores, or what OMP_NUM_THREADS says), but not more than this
    process may use: torch knows nothing of a container's limits. Memory that is free again stays
    with the process.
    """
    memory.keep_freed()
    torch.set_num_threads(number or min(torch.get_num_threads(), threads.available()))
    cv2.setNumThreads(torch.get_num_threads())


def cuda_failure() -> Optional[str]:
    """Why no GPU can be used, or None: it is tried with one small convolution."""
    with warnings.catch_warnings(record=True) as caught:  # torch's own take several lines
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
        if available:
            return _kernel_failure()
    return _first_line(caught[0].message) if caught else NO_GPU


def _kernel_failure():
    """Why the GPU that torch has found does not work, or None."""
    try:
        torch.nn.functional.conv2d(*(torch.ones(1, 1, 3, 3, device="cuda") for _ in range(2)))
        torch.cuda.synchronize()
    except RuntimeError as error:
        reason = f"the GPU {_gpu()} does not work with this torch ({_first_line(error)})"
        if "no kernel image" in reason:
            reason += f"; an image built with --build-arg BASE_IMAGE={NEW_IMAGE} can drive it"
        return reason
    return None


def _gpu():
    """Name and compute capability of the GPU, as far as the driver tells."""
    try:
        major, minor = torch.cuda.get_device_capability()
        return f"{torch.cuda.get_device_name()} (compute capability {major}.{minor})"
    except RuntimeError:
        return "0"


def _first_line(message):
    return str(message).strip().splitlines()[0].rstrip(".")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether this RuntimeError says that the GPU's memory is full."""
    kinds = getattr(torch.cuda, "OutOfMemoryError", ())  # torch 1.13 and newer
    return isinstance(error, kinds) or "CUDA out of memory" in str(error)


def times_in_memory(device: torch.device, work: Callable[[], T]) -> Tuple[T, float]:
    """(what `work` returns, how many times what it takes fits into half of a GPU's free memory).

    Half: what is done next may take more, and others may use the GPU, too.
    """
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = work()
    taken = torch.cuda.max_memory_allocated(device) - before
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    # Of the current device: torch 1.12 takes none without an index. What torch keeps is for us.
    free = torch.cuda.mem_get_info()[0] + kept
    return result, free / 2 / max(taken, 1)


def reduced_precision(device: torch.device, training: bool = False) -> Optional[torch.dtype]:
    """The dtype of mixed precision on a device that computes in it, else None.

    bfloat16 on CPUs that have it; on a GPU float16, as the paper, or in training bfloat16, which
    needs no scaling of the loss.
    """
    if device.type == "cpu":
        return torch.bfloat16 if cpu_has_bfloat16() else None
    if not training:
        return torch.float16
    # Not torch.cuda.is_bf16_supported(), which counts the slow emulation before Ampere as well.
    return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else None


def autocast(device: torch.device, training: bool = False) -> ContextManager:
    """Mixed precision in the dtype of `reduced_precision`, else a context that does nothing."""
    dtype = reduced_precision(device, training)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def computing(device: torch.device, amp: bool) -> ContextManager:
    """The context of a network's prediction: mixed precision, or without `amp` float32.

    On a GPU that is float32 throughout: not TF32, in which cuDNN would compute convolutions.
    """
    if amp:
        return autocast(device)
    if device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return nullcontext()


def cpu_has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16, and this torch (2 or newer) uses it."""
    if int(torch.__version__.split(".")[0]) < 2:
        return False
    try:
        with open("/proc/cpuinfo") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "").split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))
