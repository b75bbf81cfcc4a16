"""A network of the shipped kind that is small enough for tests."""

from dataclasses import replace

import torch

from app.network.config import PRESETS, Config
from app.network.cpn import CPN

COMPACT = PRESETS["compact"]

# Not below 16 channels: the backward pass of bfloat16 convolutions (torch 2.13, oneDNN, CPU)
# corrupts memory there.
TINY = Config(
    replace(
        COMPACT.architecture,
        depths=(1, 1, 1, 1),
        encoder_widths=(16,) * 5,
        decoder_widths=(16,) * 5,
        pyramid_width=16,
        order=3,
    ),
    replace(COMPACT.inference, samples=16),
)


def tiny_config(**changes):
    """TINY with other values for some fields, wherever in it they are."""
    of_layers = vars(TINY.architecture)
    layers = {name: value for name, value in changes.items() if name in of_layers}
    others = {name: value for name, value in changes.items() if name not in of_layers}
    changed = replace(TINY.architecture, **layers)
    return replace(TINY, architecture=changed).with_inference(**others)


def blind_network():
    """A TINY network that finds no cell. (Untrained ones find hundreds, all over one another, which
    takes most of the time of what is tried with them.)"""
    network = CPN(TINY)
    with torch.no_grad():
        network.score.layers[-1].weight.zero_()
        network.score.layers[-1].bias.fill_(-6.0)
    return network
