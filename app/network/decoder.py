"""The U-Net decoder of residual blocks (paper, section 2.2.8)."""

from typing import List

import torch
from torch import nn
from torch.nn import functional as F

from app.network.config import Architecture


def norm(kind: str, channels: int) -> nn.Module:
    """The decoder's normalisation: "group" (32 groups) or "batch"."""
    return nn.GroupNorm(32, channels) if kind == "group" else nn.BatchNorm2d(channels)


class DecoderBlock(nn.Module):
    """conv3x3 - norm - LeakyReLU - conv3x3 - norm, projection shortcut, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, norm_kind: str):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            norm(norm_kind, outputs),
            nn.LeakyReLU(0.01),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            norm(norm_kind, outputs),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), norm(norm_kind, outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, h, w) -> (B, outputs, h, w)."""
        return F.leaky_relu(self.layers(x) + self.shortcut(x), 0.01)


class DecoderStep(nn.Module):
    """What came from below, brought to this level's size and width, joined with the encoder."""

    def __init__(self, below: int, skip: int, outputs: int, norm_kind: str):
        super().__init__()
        # Only narrowing needs a projection: the few pooled channels join as they are.
        self.reduce = nn.Conv2d(below, skip, 1) if below > skip else nn.Identity()
        self.block = DecoderBlock(min(below, skip) + skip, outputs, norm_kind)

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(B, below, h', w') and (B, skip, h, w) -> (B, outputs, h, w)."""
        # The 1x1 convolution and the nearest upsampling commute; small maps are cheaper, but the
        # paper's operations are counted (443.60 G) with the convolution after the upsampling.
        below = self.reduce(F.interpolate(below, skip.shape[-2:], mode="nearest"))
        return self.block(torch.cat([below, skip], 1))


class Decoder(nn.Module):
    """Top-down over the levels: pooling joins level 4, then 3, 2, 1, 0."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        below = architecture.pyramid_width * len(architecture.pyramid_bins)
        self.steps = nn.ModuleList()
        for level in range(4, -1, -1):
            skip, outputs = architecture.encoder_widths[level], architecture.decoder_widths[level]
            self.steps.append(DecoderStep(below, skip, outputs, architecture.decoder_norm))
            below = outputs

    def forward(self, encoded: List[torch.Tensor]) -> List[torch.Tensor]:
        """Six encoder maps, finest first -> five decoder maps, finest (level 0) first."""
        below, decoded = encoded[-1], []
        for step, skip in zip(self.steps, reversed(encoded[:-1])):
            below = step(below, skip)
            decoded.append(below)
        return decoded[::-1]
