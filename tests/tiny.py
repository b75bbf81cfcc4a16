"""A network of the shipped kind that is small enough for tests."""

from dataclasses import replace

from app.network.config import PRESETS

# Not below 16 channels: the backward pass of bfloat16 convolutions (torch 2.13, oneDNN, CPU)
# corrupts memory there.
TINY = replace(
    PRESETS["compact"],
    depths=(1, 1, 1, 1),
    encoder_widths=(16,) * 5,
    decoder_widths=(16,) * 5,
    pyramid_width=16,
    order=3,
    samples=16,
)
