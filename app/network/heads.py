"""The prediction heads (paper, section 2.2; reference.md, section 1)."""

import torch
from torch import nn
from torch.nn import functional as F

from app.network.config import Architecture


class Head(nn.Module):
    """conv k x k - BatchNorm - ReLU - Dropout2d - conv1x1; optionally on a finer grid.

    With `upsampling` r > 1 the last convolution predicts r x r positions from each one
    (pixel shuffle), so that a grid finer than the features costs no convolution at that size.
    """

    def __init__(self, width: int, channels: int, architecture: Architecture, upsampling: int = 1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(
                width, width, architecture.head_kernel, padding=architecture.head_kernel // 2
            ),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout2d(architecture.dropout),
            nn.Conv2d(width, channels * upsampling**2, 1),
        )
        self.upsampling = upsampling

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, width, h, w) -> (B, channels, h * r, w * r)."""
        x = self.layers(x)
        return F.pixel_shuffle(x, self.upsampling) if self.upsampling > 1 else x
