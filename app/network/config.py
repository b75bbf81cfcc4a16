"""What a network is, and how its predictions become cells; a preset is a value of both."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Optional, Tuple

# What the fields of this name may be.
CHOICES = {
    "block": ("bottleneck", "basic"),
    "decoder_norm": ("group", "batch"),
    "window_plan": ("exact", "even"),
    "certainty": ("absolute", "relative"),
    "conversion": ("paper", "channels"),
}


class _Checked:
    """Settings that are checked where they are made: ValueError names the field."""

    def __post_init__(self):
        for each in fields(self):
            value = getattr(self, each.name)
            # JSON (the weights' metadata) knows lists only; equal settings compare equal.
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, each.name, value)
            if each.name in CHOICES and value not in CHOICES[each.name]:
                known = ", ".join(CHOICES[each.name])
                raise ValueError(f"{each.name} is one of {known}, not {value!r}")
            numbers = value if isinstance(value, tuple) else (value,)
            kind, *optional = getattr(each.type, "__args__", (each.type,))
            fitting = all(_is_of(kind, number) for number in numbers)
            if not fitting and not (value is None and type(None) in optional):
                raise ValueError(f"{each.name} must not be {value!r}")


def _is_of(kind, value):
    """Whether a value is of a type; numbers are finite and from 0 on, and whole ones do for all."""
    if kind not in (int, float):
        return isinstance(value, kind)
    if isinstance(value, bool) or not isinstance(value, (int, kind)):
        return False
    return 0 <= value < float("inf")


@dataclass(frozen=True)
class Architecture(_Checked):
    """Everything that decides the layers of a CPN and what their outputs mean.

    Levels count from the stem: level l has stride 2 ** (l + 1) input pixels. The defaults are
    the paper's network (reference.md, sections 1 and 2).
    """

    block: str = "bottleneck"  # of the encoder: "bottleneck" (ResNeXt) or "basic" (ResNet-18)
    depths: Tuple[int, ...] = (3, 4, 23, 3)  # residual blocks of the encoder levels 1 to 4
    encoder_widths: Tuple[int, ...] = (64, 256, 512, 1024, 2048)  # channels of levels 0 to 4
    groups: int = 32  # of the 3x3 convolutions in a block
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
    contour_scale: float = 4.0  # pixels per unit of the location and Fourier maps
    refinement_buckets: int = 6  # displacement fields along t
    refinement_limit: float = 3.0  # pixels a point moves at most per iteration

    def __post_init__(self):
        super().__post_init__()
        level_stride = 2 ** (self.head_level + 1)
        if self.grid_stride < 1 or level_stride % self.grid_stride:
            raise ValueError(
                f"grid_stride {self.grid_stride} does not divide the stride {level_stride} "
                f"of head_level {self.head_level}"
            )


@dataclass(frozen=True)
class Inference(_Checked):
    """How the cells of an image are read off the network's maps.

    The defaults are the paper's (reference.md, section 3); what `compact` does otherwise was found
    on images (experiments/EXPERIMENTS.md).
    """

    conversion: str = "paper"  # of intensities to 8 bit (app/intensity.py)
    window: int = 768  # side of a sliding window in pixels
    window_stride: int = 384
    window_plan: str = "exact"  # windows of just this side and stride, or "even" (app/windows.py)
    batch: int = 4  # windows at a time
    samples: int = 224  # S, contour points
    refinement_iterations: int = 4
    score_threshold: float = 0.891415  # that cells have to exceed; with a score_share the surest
    # ones of their image, the others that share of its best scores (suppression.convincing)
    score_share: float = 0.0
    thinning: Optional[float] = None  # IoU of boxes from which only the better of two proposals is
    # refined and goes on to the suppression; None: all are
    certainty: str = "absolute"  # in the suppression's weight: of all cells, or "relative" to the
    # cell's size (Cells.certainties)
    # The lesser cell goes above this IoU of boxes, or by outlines above this covered share of it.
    nms_threshold: float = 0.3141592653589793
    nms_by_outlines: bool = False
    recovery: bool = False  # of cells that no window shows whole, else dropped (design, decision 5)

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.window_stride <= self.window:
            raise ValueError(
                f"the stride of windows must be in 1..{self.window} (their size), "
                f"not {self.window_stride}"
            )
        if self.batch < 1 or self.samples < 1:
            raise ValueError("batch and samples are at least 1")


@dataclass(frozen=True)
class Config:
    """A network and how it predicts, as a weights file keeps them."""

    architecture: Architecture = field(default_factory=Architecture)
    inference: Inference = field(default_factory=Inference)

    def with_inference(self, **changes: Any) -> "Config":
        """The same with other values for some fields of Inference."""
        return replace(self, inference=replace(self.inference, **changes))


PRESETS = {
    "paper": Config(),
    "compact": Config(
        Architecture(
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
            contour_scale=16.0,
        ),
        Inference(
            conversion="channels",
            window=512,
            window_stride=384,
            window_plan="even",
            batch=1,
            samples=64,
            score_threshold=0.5,
            score_share=0.725,
            thinning=0.7,
            certainty="relative",
            nms_threshold=0.4,
            nms_by_outlines=True,
            recovery=True,
        ),
    ),
}

# How everything was predicted before the fields were there: not the paper's values, but these.
BEFORE_FORMAT_2 = {
    "conversion": "paper",
    "window_plan": "even",
    "batch": 1,
    "thinning": 0.7,
    "certainty": "relative",
    "recovery": True,
}


def from_json(content: dict) -> Config:
    """The Config of `dataclasses.asdict`. TypeError, ValueError: it is none."""
    parts = {"architecture": Architecture, "inference": Inference}
    if set(content) != set(parts):
        raise ValueError(f"expected are {' and '.join(parts)}")
    return Config(**{name: kind(**content[name]) for name, kind in parts.items()})


def from_format_1(content: dict) -> Config:
    """The Config of the flat one of files of format 1. TypeError, ValueError: it is none."""
    layers = {each.name for each in fields(Architecture)}
    inference = {name: value for name, value in content.items() if name not in layers}
    return Config(
        Architecture(**{name: value for name, value in content.items() if name in layers}),
        Inference(**{**BEFORE_FORMAT_2, **inference}),
    )
