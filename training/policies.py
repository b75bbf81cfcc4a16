"""Augmentation policies: how often and how much views and intensities of crops are changed.

A policy is a value of `Policy`; a recipe names one of `POLICIES`.
"""

from dataclasses import astuple, dataclass, replace

import torch

from training import packing


@dataclass(frozen=True)
class Chance:
    """A number between `low` and `high`, for a `share` of the crops."""

    share: float = 0.0
    low: float = 1.0
    high: float = 1.0


@dataclass(frozen=True)
class Blurs:
    """Shares of the crops that get one of the blurs; together at most 1.

    motion: along a line of 3 to 7 pixels; median, box: of 3 x 3 pixels; gaussian: with a standard
    deviation between the two of `sigma`, in pixels.
    """

    motion: float = 0.0
    median: float = 0.0
    box: float = 0.0
    gaussian: float = 0.0
    sigma: tuple = (0.4, 1.5)


@dataclass(frozen=True)
class Colours:
    """Shares of the crops whose colours change, and by how much.

    invert: dark becomes bright; bone: a grey crop gets OpenCV's colour map of that name;
    shift: hue, saturation and value move by at most `hue`, `saturation` and `value`, as fractions
    of their range; mix: every channel takes `mixing` (standard deviation) of the others;
    shuffle: the channels change places; dim: each becomes darker, down to `least_gain`; drop: each
    is lost or not, but not all; company: a grey crop becomes one channel beside a glow and noise.
    """

    invert: float = 0.0
    bone: float = 0.0
    shift: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    value: float = 0.0
    mix: float = 0.0
    mixing: float = 0.0
    shuffle: float = 0.0
    dim: float = 0.0
    least_gain: float = 1.0
    drop: float = 0.0
    company: float = 0.0


@dataclass(frozen=True)
class Policy:
    """What may happen to a crop, in this order. Quarter turns and flips always may.

    Sizes are in pixels, intensities in 0..1.
    """

    # Views. A rescaled crop's scale lies between the one that makes its image's least object
    # `least_size` large and the one that makes the largest `largest_size` large.
    free_rotation: float = 0.0  # share of crops turned by any angle
    rescaled: float = 0.0  # share; the others keep the scale that prediction will see
    least_size: float = 4.0
    largest_size: float = 192.0
    least_scale: float = 0.0
    largest_scale: float = 4.0  # the authors let images of 512 pixels grow to 2048
    log_scale: bool = False  # halving is as likely as doubling
    typical_size: bool = False  # an image's median object stands for its least and largest
    aspect_std: float = 0.0  # of the logarithm of one axis; the other shrinks as it grows
    # Intensities
    blurs: Blurs = Blurs()
    exposure: Chance = Chance()  # factor by which dark crops become brighter; highlights are lost
    gamma: Chance = Chance()
    contrast: Chance = Chance()
    brightness: Chance = Chance()
    gradient: Chance = Chance()  # of the illumination: change from a crop's middle to its edge
    vignette: Chance = Chance()  # darkening from the middle to the corners
    noise: Chance = Chance()  # standard deviation; the channels' own, or one if the crop is grey
    common_noise: Chance = Chance()  # the same in all channels; a crop has at most one of the two
    grey: Colours = Colours()  # of one-channel images
    rgb: Colours = Colours()  # of photographs
    composite: Colours = Colours()  # of images whose channels are stains

    def bounds(self, pack):
        """Sizes in pixels of the least and the largest object, each (I,), of a Pack's images."""
        if self.typical_size:
            typical = packing.typical_sizes(pack)
            return typical, typical
        return packing.size_range(pack)

    def colours(self, grey, photograph):
        """The Colours of crops, some of which are grey or photographs, each (B,) bool: every field
        is a tensor (B,)."""
        kinds = torch.stack([grey, photograph, ~(grey | photograph)], 1).int().argmax(1)
        table = torch.tensor([astuple(each) for each in (self.grey, self.rgb, self.composite)])
        return Colours(*table[kinds].unbind(1))


# `mild` is the paper's (reference.md, section 4; hue in OpenCV's 180, the rest in 255 levels).
POLICIES = {
    "none": Policy(),
    "mild": Policy(
        rescaled=0.2,
        aspect_std=0.025,  # the ratio of the axes has twice that
        blurs=Blurs(motion=0.08, median=0.12, box=0.2),
        gamma=Chance(0.66, 0.8, 1.2),
        noise=Chance(0.07, 0.012, 0.028),
        common_noise=Chance(0.03, 0.01, 0.05),
        grey=Colours(
            bone=0.1, shift=0.1, hue=20 / 180, saturation=3 / 255, value=10 / 255, shuffle=0.2
        ),
        rgb=Colours(shift=0.1, hue=20 / 180, saturation=30 / 255, value=20 / 255, shuffle=0.1),
        composite=Colours(
            shift=0.1, hue=20 / 180, saturation=30 / 255, value=20 / 255, shuffle=0.1
        ),
    ),
    "strong": Policy(
        free_rotation=0.5,
        rescaled=0.5,
        least_size=6.0,
        largest_size=160.0,
        least_scale=0.4,
        largest_scale=2.5,
        log_scale=True,
        typical_size=True,
        aspect_std=0.05,
        blurs=Blurs(motion=0.05, box=0.05, gaussian=0.2),
        gamma=Chance(0.5, 0.6, 1.6),
        contrast=Chance(0.5, 0.5, 2.0),
        brightness=Chance(0.3, -0.1, 0.1),
        gradient=Chance(0.1, 0.1, 0.4),
        vignette=Chance(0.05, 0.1, 0.4),
        noise=Chance(0.25, 0.005, 0.05),
        grey=Colours(invert=0.05, bone=0.05, shuffle=0.1),
        rgb=Colours(mix=0.25, mixing=0.08, shuffle=0.1),
        composite=Colours(mix=0.25, mixing=0.08, shuffle=0.1),
    ),
}

# As `strong`, over all that users bring: an image's typical object becomes 8 to 400 pixels, a stain
# lies in any channel, dim or bright or beside others, and highlights are lost.
POLICIES["wide"] = replace(
    POLICIES["strong"],
    least_size=8.0,
    largest_size=400.0,
    least_scale=0.2,
    largest_scale=4.0,
    exposure=Chance(0.1, 1.5, 12.0),
    grey=replace(
        POLICIES["strong"].grey, dim=0.15, least_gain=0.2, drop=0.1, company=0.06, shuffle=0.1
    ),
    composite=replace(
        POLICIES["strong"].composite, dim=0.3, least_gain=0.2, drop=0.05, shuffle=0.3
    ),
)
