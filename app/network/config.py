"""The one description of a network; a preset is a value of it."""

from dataclasses import dataclass, fields
from typing import Tuple


@dataclass(frozen=True)
class Config:
    """Everything that decides the layers of a CPN and how its maps become contours.

    Levels count from the stem: level l has stride 2 ** (l + 1) input pixels. The defaults are
    the paper's network (reference.md, sections 1 and 2).
    """

    block: str = "bottleneck"  # of the encoder: "bottleneck" (ResNeXt) or "basic" (ResNet-18)
    depths: Tuple[int, ...] = (3, 4, 23, 3)  # residual blocks of the encoder levels 1 to 4
    encoder_widths: Tuple[int, ...] = (64, 256, 512, 1024, 2048)  # channels of levels 0 to 4
    groups: int = 32  # of the 3x3 convolution in a bottleneck
    stem_kernel: int = 7
    pyramid_bins: Tuple[int, ...] = (1, 2, 3, 6)  # sides of the pooled maps on level 4
    pyramid_width: int = 64  # channels of each pooled map
    decoder_widths: Tuple[int, ...] = (64, 256, 512, 1024, 2048)  # channels of levels 0 to 4
    decoder_norm: str = "group"  # "group" (32 groups) or "batch"
    head_kernel: int = 7
    head_level: int = 1  # the decoder level that score, location, Fourier and uncertainty read
    grid_stride: int = 4  # pixels between proposals; below the level's stride heads shuffle up
    dropout: float = 0.1  # of whole channels, inside every head
    head_gain: float = 1.0  # of the He-normal start of each head's last convolution
    order: int = 25  # N of equation 2
    samples: int = 224  # S, contour points at inference
    contour_scale: float = 4.0  # pixels per unit of the location and Fourier maps
    refinement_buckets: int = 6  # displacement fields along t
    refinement_limit: float = 3.0  # pixels a point moves at most per iteration
    refinement_iterations: int = 4
    window: int = 768  # side of a sliding window in pixels
    window_stride: int = 384
    score_threshold: float = 0.891415
    score_share: float = 0.0  # of its image's best scores that a cell must reach (suppression.py)
    # The lesser cell goes above this IoU of boxes, or by outlines above this covered share of it.
    nms_threshold: float = 0.3141592653589793
    nms_by_outlines: bool = False

    def __post_init__(self):
        # JSON (the weights' metadata) knows lists only; equal configurations compare equal.
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        level_stride = 2 ** (self.head_level + 1)
        if level_stride % self.grid_stride:
            raise ValueError(
                f"grid_stride {self.grid_stride} does not divide the stride {level_stride} "
                f"of head_level {self.head_level}"
            )


PRESETS = {
    "paper": Config(),
    "compact": Config(
        block="basic",
        depths=(2, 2, 2, 2),
        encoder_widths=(32, 64, 128, 256, 320),
        groups=1,
        stem_kernel=5,
        pyramid_width=32,
        decoder_widths=(32, 64, 128, 192, 256),
        decoder_norm="batch",
        head_kernel=3,
        head_level=1,
        grid_stride=2,
        dropout=0.0,
        head_gain=0.1,
        order=10,
        samples=64,
        contour_scale=16.0,
        window=512,
        window_stride=384,
        score_threshold=0.5,
        score_share=0.725,
        nms_threshold=0.4,
        nms_by_outlines=True,
    ),
}
