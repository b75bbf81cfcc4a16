"""python -m training in float32 on any processor: in bfloat16 one batch and its two halves
differ by more than a comparison can tell from a mistake.

What the processes exchange is counted: the file that EXCHANGES names gets a line for each time that
the first process waits for the others.
"""

import os
import sys

from torch import distributed

from app.network import device
from training.__main__ import main

EXCHANGES = ("all_reduce", "broadcast", "barrier", "all_gather", "reduce", "all_gather_object")


def counted(name):
    """The function of torch.distributed, which tells that it was called."""
    exchange = getattr(distributed, name)

    def call(*arguments, **options):
        if distributed.get_rank() == 0:
            with open(os.environ["EXCHANGES"], "a") as file:
                file.write(f"{name}\n")
        return exchange(*arguments, **options)

    return call


for name in EXCHANGES:
    setattr(distributed, name, counted(name))
device.cpu_has_bfloat16 = lambda: False
sys.exit(main(sys.argv[1:]))
