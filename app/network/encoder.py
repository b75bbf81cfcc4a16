"""The encoder: a ResNet or ResNeXt in torchvision's layout, and pyramid pooling above it."""

from typing import List, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from app.network.config import Architecture


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias (padding keeps size / stride) and BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class ResidualBlock(nn.Module):
    """Base of both encoder blocks: relu(layers(x) + shortcut(x))."""

    def __init__(self, layers: nn.Module, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.layers = layers
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, h, w) -> (B, outputs, ceil(h / stride), ceil(w / stride))."""
        return F.relu(self.layers(x) + self.shortcut(x))


def bottleneck(inputs: int, outputs: int, stride: int, groups: int) -> nn.Module:
    """ResNeXt block whose inner width equals its output width (32x8d); stride in the 3x3."""
    layers = nn.Sequential(
        *conv_norm(inputs, outputs, 1),
        nn.ReLU(),
        *conv_norm(outputs, outputs, 3, stride, groups),
        nn.ReLU(),
        *conv_norm(outputs, outputs, 1),
    )
    return ResidualBlock(layers, inputs, outputs, stride)


def basic(inputs: int, outputs: int, stride: int, groups: int) -> nn.Module:
    """ResNet-18 block: two 3x3 convolutions."""
    layers = nn.Sequential(
        *conv_norm(inputs, outputs, 3, stride, groups),
        nn.ReLU(),
        *conv_norm(outputs, outputs, 3, 1, groups),
    )
    return ResidualBlock(layers, inputs, outputs, stride)


BLOCKS = {"bottleneck": bottleneck, "basic": basic}


class PyramidPooling(nn.Module):
    """Context of the whole window: the map pooled to b x b for each bin size b (paper, 2.2.8)."""

    def __init__(self, inputs: int, width: int, bins: Sequence[int]):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(side), nn.Conv2d(inputs, width, 1), nn.BatchNorm2d(width)
            )
            for side in bins
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, h, w) -> (B, len(bins) * width, h, w)."""
        pooled = [F.relu(branch(x)) for branch in self.branches]
        size = x.shape[-2:]
        return torch.cat(
            [F.interpolate(p, size, mode="bilinear", align_corners=False) for p in pooled], 1
        )


class Encoder(nn.Module):
    """Image -> feature maps of levels 0 to 4 at strides 2, 4, 8, 16, 32, and level 5: pooling."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        widths = architecture.encoder_widths
        self.stem = nn.Sequential(*conv_norm(3, widths[0], architecture.stem_kernel, 2), nn.ReLU())
        self.levels = nn.ModuleList()
        for level, depth in enumerate(architecture.depths, start=1):
            # Level 1 halves by max-pooling, the others by the stride of their first block.
            first = BLOCKS[architecture.block](
                widths[level - 1], widths[level], 1 if level == 1 else 2, architecture.groups
            )
            rest = [
                BLOCKS[architecture.block](widths[level], widths[level], 1, architecture.groups)
                for _ in range(depth - 1)
            ]
            pool = [nn.MaxPool2d(3, 2, 1)] if level == 1 else []
            self.levels.append(nn.Sequential(*pool, first, *rest))
        self.pyramid = PyramidPooling(
            widths[-1], architecture.pyramid_width, architecture.pyramid_bins
        )

    def forward(self, x: torch.Tensor) -> List[torch.Tensor]:
        """(B, 3, H, W) normalised -> list of six maps (B, C, ceil(H / s), ceil(W / s))."""
        maps = [self.stem(x)]
        for level in self.levels:
            maps.append(level(maps[-1]))
        maps.append(self.pyramid(maps[-1]))
        return maps
