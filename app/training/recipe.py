"""How a run is trained: one dataclass, kept beside its checkpoints and in the weights' record."""

from dataclasses import dataclass, field


def loss_weights():
    """Weights of the terms of equation 5 (losses.total_loss).

    The paper's (1 each, contour 1.5) let the terms in pixels drown the score in a run of hours:
    here every term contributes about as much as the score.
    """
    return {
        "object": 2.0,
        "uncertainty": 0.1,
        "contour": 0.5,
        "refinement": 0.5,
        "fourier": 0.4,
        "location": 0.2,
        "boundary": 1.0,
    }


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a run; times in minutes, lengths in pixels."""

    minutes: float
    seed: int = 0
    crops: tuple = ((256, 12), (512, 3))  # (side, number) of a batch, drawn in turn at random
    turning_size: float = 48.0  # images of typically larger objects prefer the larger crops
    source_power: float = 0.5  # a source is drawn with its number of images to this power
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warm_up: float = 0.02  # share of the run
    freeze_norms: float = 0.7  # share of the run after which BatchNorm uses running statistics
    clip: float = 5.0  # largest norm of the gradient
    ema: float = 0.998  # decay per step of the averaged weights
    foreground_depth: float = 0.6  # relative distance from the border above which a cell is fg
    background_depth: float = 0.4  # and up to which it is background; ignored between
    background_weight: float = 2.0
    cells: int = 1024  # foreground cells of a batch that learn contours
    samples: int = 48  # contour points in training
    weights: dict = field(default_factory=loss_weights)
    checkpoint_minutes: float = 4.0
    validation_minutes: float = 20.0
