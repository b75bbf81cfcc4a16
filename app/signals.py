"""Ctrl-C and SIGTERM as an exception, by which whatever is being done cleans up on its way out."""

import signal
from types import FrameType
from typing import Callable, Optional, Union

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The process was asked to stop, by the signal of this number."""


def stop(number: int, frame: Optional[FrameType]) -> None:
    """Handle a signal: leave, cleaning up on the way out, which no second one interrupts."""
    on_signals(signal.SIG_IGN)
    raise Stopped(number)


def on_signals(handler: Union[Callable, int]) -> None:
    """What is to be done when Ctrl-C or SIGTERM comes."""
    for number in NUMBERS:
        signal.signal(number, handler)
