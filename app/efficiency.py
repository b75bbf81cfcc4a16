"""python -m app.efficiency: learned parameters and multiply-adds of a preset (paper, table 2)."""

import argparse
import logging

import torch

from app.network.config import PRESETS
from app.network.cpn import CPN


def count_parameters(network):
    """Number of learned parameters."""
    return sum(p.numel() for p in network.parameters())


def count_flops(network, size):
    """fvcore's multiply-adds of one forward pass (evaluation mode) at 1 x 3 x size x size."""
    from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    return FlopCountAnalysis(network.eval(), torch.zeros(1, 3, size, size)).total()


def main():
    parser = argparse.ArgumentParser(prog="python -m app.efficiency", description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="compact")
    parser.add_argument("--size", type=int, default=512, help="side of the image in pixels")
    arguments = parser.parse_args()
    network = CPN(PRESETS[arguments.preset])
    print(f"preset        {arguments.preset}")
    print(f"parameters    {count_parameters(network):,}")
    flops = count_flops(network, arguments.size) / 1e9
    print(f"multiply-adds {flops:.3f} G at 1x3x{arguments.size}x{arguments.size}")


if __name__ == "__main__":
    main()
