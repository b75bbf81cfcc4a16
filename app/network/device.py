"""Where the network runs, and in which precision."""

from contextlib import nullcontext

import torch


def pick_device(name="auto"):
    """The torch.device of "auto", "cpu" or "cuda"; "auto" is a GPU where one works.

    Raises ValueError when "cuda" is asked for and no GPU works: there is none, or this torch has
    no kernels for it (CUDA 11.3 knows nothing of Hopper and later).
    """
    if name == "cpu":
        return torch.device("cpu")
    reason = cuda_failure()
    if reason is None:
        return torch.device("cuda")
    if name == "cuda":
        raise ValueError(f"The device cuda cannot be used: {reason}.")
    return torch.device("cpu")


def cuda_failure():
    """Why no GPU can be used, or None: it is tried with one small convolution."""
    if not torch.cuda.is_available():
        return "torch finds none"
    try:
        torch.nn.functional.conv2d(*(torch.ones(1, 1, 3, 3, device="cuda") for _ in range(2)))
        torch.cuda.synchronize()
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return None


def autocast(device, training=False):
    """Mixed precision where the hardware computes in it, else a context that does nothing.

    bfloat16 on CPUs that have it; on a GPU float16, as the paper, or in training bfloat16, which
    needs no scaling of the loss.
    """
    if device.type == "cpu":
        return torch.autocast("cpu", torch.bfloat16) if cpu_has_bfloat16() else nullcontext()
    if not training:
        return torch.autocast("cuda", torch.float16)
    fast = torch.cuda.is_bf16_supported()
    return torch.autocast("cuda", torch.bfloat16) if fast else nullcontext()


def cpu_has_bfloat16():
    """Whether this processor computes in bfloat16, and this torch (2 or newer) uses it."""
    if int(torch.__version__.split(".")[0]) < 2:
        return False
    try:
        with open("/proc/cpuinfo") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "").split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))
