"""How a run is trained: one dataclass, kept beside its checkpoints and in the weights' record."""

from dataclasses import dataclass, field, replace
from typing import Optional

OPTIMISERS = ("muon", "adamw", "adam")  # schedule.make_optimiser
TAUGHT_SIDES = 0.2  # weight of the box sides where a teacher may teach single ones
TEACHER_EMA = 0.999  # of a teacher, in schedules without averaged weights


def balanced_weights():
    """Weights of the terms of equation 5 (losses.total_loss) for runs of hours.

    The paper's (1 each, contour 1.5) let the terms in pixels drown the score there: here every
    term contributes about as much as the score.
    """
    return {
        "object": 2.0,
        "uncertainty": 0.1,
        "contour": 0.5,
        "refinement": 0.5,
        "fourier": 0.4,
        "location": 0.2,
        "boundary": 1.0,
        "sides": 0.0,
    }


def paper_weights():
    """The paper's lambda (section 3.2.2), and the two terms that it does not print."""
    ones = ("object", "uncertainty", "refinement", "fourier", "location", "boundary")
    return {**dict.fromkeys(ones, 1.0), "contour": 1.5, "sides": 0.88}


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a run; lengths in pixels, numbers of crops for each process.

    The defaults are the `fast` schedule. A run ends after `minutes` of training or after `steps`,
    whichever is given.
    """

    minutes: Optional[float] = None
    steps: Optional[int] = None
    seed: int = 0
    # Data
    # (side, number) of crops of which a batch consists, one kind at random
    crops: tuple = ((128, 24), (256, 8), (512, 2))
    turning_size: Optional[float] = 48.0  # images of typically larger objects prefer the largest
    # crops, those of smaller ones the others; None: all alike
    source_power: float = 0.5  # a source is drawn with its number of images to this power, and so
    # is, within it, each look (sampler.image_chances)
    oversample: dict = field(default_factory=dict)  # source -> how many times as often
    subsample: float = 1.0  # share of the images that the run draws for itself, with replacement
    policy: str = "strong"  # of augmentation (policies.POLICIES)
    mixed_share: float = 0.3  # of the crops with a random mix of the two 8-bit conversions
    aimed_share: float = 0.7  # of the crops that look near an object; the others look anywhere
    # Optimiser
    optimiser: str = "muon"  # one of OPTIMISERS
    betas: tuple = (0.9, 0.98)
    weight_decay: float = 0.02
    learning_rate: float = 8e-3  # peak, for a batch of `reference_batch` crops
    learning_rate_std: float = 0.0  # each run draws its own around it
    reference_batch: int = 24  # the rate grows with the square root of (all crops / this)
    decay: str = "cosine"  # "cosine" or "milestones" (schedule.rate_factor)
    warm_up: float = 0.02  # share of the run
    warm_up_steps: int = 0  # the warm-up lasts at least these
    clip: Optional[float] = 5.0  # largest norm of the gradient
    ema: float = 0.998  # decay per step of the averaged weights; 0: no average
    freeze_norms: float = 0.6  # share of the run after which BatchNorm uses running statistics
    # Targets and losses
    foreground_depth: float = 0.6  # relative distance from the border above which a cell is fg
    background_depth: float = 0.4  # and up to which it is background; ignored between
    background_weight: float = 2.0
    quality: tuple = (0.3, 0.8)  # IoU between which the score's target rises to 1
    quality_of: str = "contour"  # whose IoU that is: "contour" or "box"
    positions: int = 1024  # of the foreground that learn contours in a process's part of a batch
    samples: int = 48  # contour points in training
    boundary_of: str = "contours"  # GIoU of the contours before refinement, or of the "refined"
    weights: dict = field(default_factory=balanced_weights)
    # Listen2Student (teacher.py); 0 unlabelled crops: off
    unlabelled: float = 0.0  # unlabelled crops for each labelled one
    teacher_foreground: float = 0.9  # score from which the teacher's proposals are labels
    teacher_background: float = 0.1  # and up to which a position is background
    student_uncertainty: float = 0.5  # sigma_s: a side is learned where the student's is above
    uncertainty_margin: float = 0.1  # sigma_m: and the teacher's lower by this
    teacher_from: float = 0.2  # share of the run before which the teacher knows too little
    # Checkpoints and validation
    checkpoint_minutes: float = 4.0
    validation_minutes: float = 20.0
    patience: Optional[int] = None  # validations without a better one that end the run

    def __post_init__(self):
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("the length of a run is given in minutes or in steps, one of the two")
        if (self.minutes if self.steps is None else self.steps) <= 0:
            raise ValueError("the length of a run is more than 0 minutes or steps")
        if not 0 <= self.aimed_share <= 1:
            raise ValueError(f"aimed_share is {self.aimed_share}, not a share from 0 to 1")
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"no optimiser '{self.optimiser}': there is {', '.join(OPTIMISERS)}")

    def progress(self, step, seconds):
        """Share of the run that has passed, 0 to 1, after so many steps and seconds of training."""
        return step / self.steps if self.steps else seconds / (self.minutes * 60)

    def is_over(self, step, seconds, stale):
        """Whether a run ends: its length is over, or so many validations in a row (`stale`) were
        not better than one before."""
        over = self.progress(step, seconds) >= 1
        return over or (self.patience is not None and stale >= self.patience)


# What differs from the defaults. `paper` is its section 3.2.2 and table 2 (reference.md, section
# 4); `tune` starts from trained weights and a small set of images.
SCHEDULES = {
    "fast": {"minutes": 90},
    "paper": {
        "crops": ((512, 10),),
        "turning_size": None,
        "source_power": 1.0,
        "policy": "mild",
        "mixed_share": 1.0,
        "aimed_share": 0.0,
        "optimiser": "adam",
        "betas": (0.9, 0.999),
        "weight_decay": 2e-5,
        "learning_rate": 8e-4,
        "learning_rate_std": 1e-4,
        "reference_batch": 64,
        "decay": "milestones",
        "warm_up": 0.0,
        "warm_up_steps": 1000,
        "clip": None,
        "ema": 0.0,
        "freeze_norms": 1.0,
        "foreground_depth": 0.75,
        "background_depth": 0.75,
        "quality": (0.0, 1.0),
        "quality_of": "box",
        "positions": 2**31,
        "samples": 224,
        "boundary_of": "refined",
        "weights": paper_weights(),
    },
    "tune": {
        "minutes": 30,
        "crops": ((256, 12), (512, 3)),
        "optimiser": "adamw",
        "learning_rate": 3e-4,
        "reference_batch": 12,
        "warm_up": 0.1,
        "ema": 0.98,
        "freeze_norms": 0.0,
        "teacher_from": 0.0,
        "validation_minutes": 2.0,
        "patience": 3,
    },
}


def make_recipe(schedule, **fields):
    """The Recipe of a schedule's name with other values for some of its fields.

    ValueError: the length of the run is not given (`paper` has none of its own).
    """
    return Recipe(**{**SCHEDULES[schedule], **fields})


def with_teacher(recipe, share):
    """The same recipe with `share` unlabelled crops for each labelled one (Listen2Student).

    The sides' own loss, by which a box is learned in part, then has a weight in any schedule, and
    the teacher is an average of the student.
    """
    weights = {**recipe.weights, "sides": recipe.weights["sides"] or TAUGHT_SIDES}
    return replace(recipe, unlabelled=share, weights=weights, ema=recipe.ema or TEACHER_EMA)


def without_losses(recipe, *names):
    """The same recipe whose loss terms `names` count nothing (the switches of table 3)."""
    return replace(recipe, weights={**recipe.weights, **dict.fromkeys(names, 0.0)})
