"""How a run is trained: one dataclass, kept beside its checkpoints and in the weights' record."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Optional

from training.policies import POLICIES

PSEUDO_SIDES = 0.2  # weight of the box sides where pseudo-labels may teach single ones
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


# What the fields of a Recipe may be. Numbers are from 0 on but where another is the least one.
LEAST = {"uncertainty_margin": -1}
# These are above 0, and those at most 1.
POSITIVE = {"minutes", "steps", "turning_size", "subsample", "learning_rate", "reference_batch"}
POSITIVE |= {"clip", "positions", "samples", "patience"}
SHARES = {"subsample", "mixed_share", "aimed_share", "warm_up", "ema", "freeze_norms"}
SHARES |= {"foreground_depth", "background_depth", "teacher_foreground", "teacher_background"}
SHARES |= {"gap_share", "negatives", "student_uncertainty", "uncertainty_margin", "teacher_from"}
SHARES |= {"kept_gain", "synthetic_share"}
CHOICES = {
    "policy": tuple(POLICIES),
    "optimiser": ("muon", "adamw", "adam"),  # schedule.make_optimiser
    "decay": ("cosine", "milestones"),  # schedule.rate_factor
    "quality_of": ("contour", "box"),  # whose IoU the score's target is
    "schedule": ("fast", "paper", "tune", "select"),  # SCHEDULES
    "boundary_of": ("contours", "refined"),  # GIoU of the contours before or after refinement
}


def are_numbers(values, kind=float, least=0):
    """Whether all values are finite numbers from `least` on, whole ones if their kind is int."""
    good = (v for v in values if isinstance(v, (int, kind)) and not isinstance(v, bool))
    return len(values) == sum(least <= value < math.inf for value in good)


def is_pair(values, kind=float):
    """Whether this is a list or tuple of two such numbers."""
    return isinstance(values, (list, tuple)) and len(values) == 2 and are_numbers(values, kind)


def is_crop(crop):
    """Whether this is a pair (side, number) of which a batch can consist. Sides are multiples of 4
    pixels: the network's grid of proposals and that of the targets have one size then."""
    return is_pair(crop, int) and min(crop) > 0 and crop[0] % 4 == 0


def check_field(name, kind, value):
    """ValueError unless a Recipe's field of this name and type (its annotation) may be `value`."""
    kind, *optional = getattr(kind, "__args__", (kind,))
    if name in CHOICES:
        good, wanted = value in CHOICES[name], f"one of {', '.join(CHOICES[name])}"
    elif name == "crops":
        good = isinstance(value, (list, tuple)) and len(value) > 0 and all(map(is_crop, value))
        wanted = "pairs of a side in pixels, which is a multiple of 4, and a number of crops"
    elif kind is tuple:  # Adam itself sees to it that betas are below 1
        good = is_pair(value) and value[0] < value[1]
        wanted = "two numbers from 0 on, the lower first"
    elif kind is dict:
        terms = balanced_weights() if name == "weights" else None
        good = isinstance(value, dict) and are_numbers(value.values())
        good = good and (terms is None or set(value) == set(terms))
        wanted = f"numbers from 0 on of {', '.join(terms or ['sources'])}"
    elif kind is bool:
        good, wanted = isinstance(value, bool), "true or false"
    else:
        least = LEAST.get(name, 0)
        good = are_numbers([value], kind, least) and (value > 0 or name not in POSITIVE)
        good = (good and (value <= 1 or name not in SHARES)) or (optional and value is None)
        wanted = f"a {'whole ' * (kind is int)}number "
        wanted += "above 0" if name in POSITIVE else f"from {least} on"
        wanted += ", at most 1" * (name in SHARES) + ", or null" * bool(optional)
    if not good:
        raise ValueError(f"{name} is {value!r}, not {wanted}")


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of a run; lengths in pixels, numbers of crops for each process.

    The defaults are the `fast` schedule. A run ends after `minutes` of training or after `steps`,
    whichever is given.
    """

    minutes: Optional[float] = None
    steps: Optional[int] = None
    seed: int = 0
    schedule: str = "fast"  # of SCHEDULES, from which the fields are that nobody gave
    # Data
    # (side, number) of crops of which a batch consists, one kind at random
    crops: tuple = ((128, 24), (256, 8), (512, 2))
    turning_size: Optional[float] = 48.0  # images of typically larger objects prefer the largest
    # crops, those of smaller ones the others; None: all alike
    source_power: float = 0.5  # a source is drawn with its number of images to this power, and so
    # is, within it, each look (sampler.image_chances)
    oversample: dict = field(default_factory=dict)  # source -> how many times as often
    subsample: float = 1.0  # share of the images that the run draws for itself, with replacement
    policy: str = "strong"  # of augmentation (policies.py)
    mixed_share: float = 0.3  # of the crops with a random mix of the two 8-bit conversions
    aimed_share: float = 0.7  # of the crops that look near an object; the others look anywhere,
    gap_share: float = 0.0  # but this one, which looks where its image has no objects
    negatives: float = 0.0  # share of the crops that are drawn frames without cells (negatives.py)
    synthetic: int = 0  # images of cells of any kind that are drawn for the run (synthetic.py)
    synthetic_share: float = 0.0  # of the crops that are of these
    # Optimiser
    optimiser: str = "muon"
    betas: tuple = (0.9, 0.98)
    weight_decay: float = 0.02
    learning_rate: float = 8e-3  # peak, for a batch of `reference_batch` crops
    learning_rate_std: float = 0.0  # each run draws its own around it
    reference_batch: int = 24  # the rate grows with the square root of (all crops / this)
    decay: str = "cosine"
    warm_up: float = 0.02  # share of the run
    warm_up_steps: int = 0  # the warm-up lasts at least these
    clip: Optional[float] = 5.0  # largest norm of the gradient
    ema: float = 0.998  # decay per step of the averaged weights; 0: no average
    freeze_norms: float = 0.6  # share of the run after which BatchNorm uses running statistics
    freeze_encoder: bool = False  # the encoder stays as it was: what it sees serves all cells
    kept_gain: float = 1.0  # share of what the run gains in validation that its result keeps, to be
    # as near to the weights that it began with as that allows (mixing.mix); 1: they count no more
    # Targets and losses
    foreground_depth: float = 0.6  # relative distance from the border above which a cell is fg
    background_depth: float = 0.4  # and up to which it is background; ignored between
    background_weight: float = 2.0
    quality: tuple = (0.3, 0.8)  # IoU between which the score's target rises to 1
    quality_of: str = "contour"
    positions: int = 1024  # of the foreground that learn contours in a process's part of a batch
    samples: int = 48  # contour points in training
    boundary_of: str = "contours"
    detached_boxes: bool = True  # uncertainties learn the boxes' error without moving the boxes
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
            raise ValueError("a run's length is given by --minutes or by --steps, one of the two")
        for each in fields(self):
            check_field(each.name, each.type, getattr(self, each.name))
        if self.background_depth > self.foreground_depth:
            depths = f"{self.background_depth}, not at most foreground_depth"
            raise ValueError(f"background_depth is {depths} ({self.foreground_depth})")

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
        "detached_boxes": False,
        "weights": paper_weights(),
    },
    "tune": {
        "minutes": 8,  # ten with all that goes with it, on two cores
        "crops": ((256, 6), (512, 2)),  # twice as many learn no more in 1.7 times the time
        "learning_rate": 2.1e-3,
        "reference_batch": 6,
        "warm_up": 0.1,
        "ema": 0.98,
        "freeze_norms": 0.0,
        "freeze_encoder": True,
        "kept_gain": 0.9,
        # What a few images teach about their cells costs others less with these beside.
        "synthetic": 60,
        "synthetic_share": 0.35,
        # As the weights that we ship were trained (weights/details.md): targets of another kind
        # would have them learn all cells anew.
        "foreground_depth": 0.45,
        "background_depth": 0.25,
        "weights": {**balanced_weights(), "uncertainty": 0.5, "boundary": 0.0},
        "teacher_from": 0.0,
        "validation_minutes": 2.0,
    },
}
# Where the weights outline all cells and only some of them count (diagnosis.py): of drawn cells all
# count, so they are left out, and what tells the ones from the others the encoder may not see yet.
SCHEDULES["select"] = {
    **SCHEDULES["tune"],
    "crops": ((256, 12), (512, 3)),
    "optimiser": "adamw",
    "learning_rate": 3e-4,
    "reference_batch": 12,
    "freeze_encoder": False,
    "kept_gain": 0.6,
    "synthetic": 0,
    "synthetic_share": 0.0,
}


def make_recipe(schedule, **fields):
    """The Recipe of a schedule's name with other values for some of its fields.

    ValueError: the length of the run is not given (`paper` has none of its own).
    """
    return Recipe(**{"schedule": schedule, **SCHEDULES[schedule], **fields})


def with_teacher(recipe, share):
    """The same recipe with `share` unlabelled crops for each labelled one (Listen2Student).

    The sides' own loss, by which a box is learned in part, then has a weight in any schedule, and
    the teacher is an average of the student.
    """
    weights = {**recipe.weights, "sides": recipe.weights["sides"] or PSEUDO_SIDES}
    return replace(recipe, unlabelled=share, weights=weights, ema=recipe.ema or TEACHER_EMA)


def without_losses(recipe, *names):
    """The same recipe whose loss terms `names` count nothing (the switches of table 3)."""
    return replace(recipe, weights={**recipe.weights, **dict.fromkeys(names, 0.0)})
