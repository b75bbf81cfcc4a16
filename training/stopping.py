"""Ctrl-C and SIGTERM end a run after the step that is being done, with a checkpoint."""

import signal
from contextlib import contextmanager


class Stopped(Exception):
    """A run was asked to stop, and can go on: the signal's number, the step, the run's folder."""

    def __init__(self, number, step, out):
        super().__init__(
            f"Stopped by {signal.Signals(number).name} after step {step}, which is kept in "
            f"{out / 'checkpoint.safetensors'}"
        )
        self.number = number


@contextmanager
def ending(step, out):
    """Ctrl-C in what follows the last step of a run raises Stopped: its checkpoint has it all."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(signal.SIGINT, step, out) from None


@contextmanager
def signals_noted():
    """The numbers of the signals that came, a list; a second one ends the process as ever."""
    asked = []

    def note(number, frame):
        asked.append(number)
        restore()

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        restore()
