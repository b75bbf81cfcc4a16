"""Which channels of an image, and which plane of a stack, are wanted: without any library, for the
command line (app.images.selection takes them)."""

from typing import List, Optional, Sequence, Union

MOST_CHANNELS = 3  # that the network sees
PROJECTIONS = ("max", "mean")

Channels = Sequence[Union[int, str]]  # numbers from 1 on, or names
Plane = Union[int, str]  # a number from 1 on, or one of PROJECTIONS


def channel_count(shape: Sequence[int]) -> int:
    """How many channels an image of this shape has, (H, W) or (H, W, C)."""
    return 1 if len(shape) == 2 else shape[2]


def check_channels(channels: Optional[Channels]) -> None:
    """ValueError for what can select no channels of any image; None selects none."""
    if channels is not None and not 1 <= len(channels) <= MOST_CHANNELS:
        raise ValueError(f"from 1 to {MOST_CHANNELS} channels can be taken, not {len(channels)}")
    if any(channel == "" or isinstance(channel, int) and channel < 1 for channel in channels or ()):
        raise ValueError("a channel is a number from 1 on, or a name")


def check_plane(plane: Optional[Plane]) -> None:
    """ValueError for what can be no plane of any stack; None is none in particular."""
    number = isinstance(plane, int) and plane >= 1
    if plane is not None and plane not in PROJECTIONS and not number:
        known = ", ".join(PROJECTIONS)
        raise ValueError(f"a plane is a number from 1 on, or one of {known}, not {plane!r}")


def parse_channels(text: str) -> List[Union[int, str]]:
    """The channels of a text like "3,1" or "DAPI,GFP". Raises ValueError."""
    parts = [part.strip() for part in text.split(",")]
    channels = [int(part) if part.isdecimal() else part for part in parts]
    check_channels(channels)
    return channels


def parse_plane(text: str) -> Plane:
    """The plane of a text like "5" or "max". Raises ValueError."""
    plane = int(text) if text.isdecimal() else text
    check_plane(plane)
    return plane
