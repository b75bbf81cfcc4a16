"""A network of the shipped kind that is small enough for tests."""

from dataclasses import replace

from app.network.config import PRESETS

TINY = replace(
    PRESETS["compact"],
    depths=(1, 1, 1, 1),
    encoder_widths=(8, 8, 8, 8, 8),
    decoder_widths=(8, 8, 8, 8, 8),
    pyramid_width=4,
    order=3,
    samples=16,
)
