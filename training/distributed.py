"""Several processes that train one network, as torchrun starts them; alone, all of it does nothing.

Every process draws the whole batch with the same generator and computes its own part of the crops.
Losses are averaged over the cells and pixels of the whole batch, so that n processes with batch b
take the steps of one process with batch n * b.
"""

import os
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed, nn

from app.network.device import pick_device

PATIENCE = timedelta(hours=3)  # the others wait while the first process packs and validates


@contextmanager
def group(device_name):
    """Join the processes that torchrun started, if it did, for as long as the context lasts.

    Gives the torch.device of a name (network.device.pick_device): with several GPUs in a machine,
    each process has its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield pick_device(device_name)
        return
    if device_name != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # before anything touches the first
    device = pick_device(device_name)
    on_gpu = device.type == "cuda"
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield torch.device("cuda", torch.cuda.current_device()) if on_gpu else device
    finally:
        distributed.destroy_process_group()


def processes():
    """How many train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank():
    """Which of them this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first():
    """Whether this process writes files and talks to the user."""
    return rank() == 0


def own_part(count):
    """The slice of a batch of `count` crops (a multiple of the processes) that is this one's."""
    each = count // processes()
    return slice(rank() * each, (rank() + 1) * each)


def total(values):
    """A tensor summed over all processes."""
    if processes() > 1:
        distributed.all_reduce(values)
    return values


def from_first(value, device):
    """A number as the first process has it, in all of them: what clocks and files tell."""
    if processes() == 1:
        return value
    shared = torch.tensor(float(value), dtype=torch.float64, device=device)
    distributed.broadcast(shared, 0)
    return shared.item()


def wait():
    """Until all processes are here."""
    if processes() > 1:
        distributed.barrier()


def parallel(network):
    """The module whose forward and backward average the gradients over the processes.

    On GPUs BatchNorm takes its statistics from the whole batch; on CPUs, where torch has no such
    layer, from the process's own part.
    """
    if processes() == 1:
        return network
    device = next(network.parameters()).device
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return nn.parallel.DistributedDataParallel(network, [device.index])
    return nn.parallel.DistributedDataParallel(network)
