"""The screen is not the result: what cannot be shown costs nothing but itself."""

import os
import sys
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Iterator, TextIO


class Screen:
    """A text stream that falls silent where it cannot be written to, instead of failing.

    That is a pipe whose reader has gone (`| head`), a full disk, a terminal that was closed.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text and see that it gets out."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._silence()
        return len(text)

    def flush(self) -> None:
        """Nothing is left to be done: `write` has."""

    def _silence(self):
        """Let what is written from now on go nowhere, and what waits in the stream's buffer too."""
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
        except (OSError, ValueError):  # the stream is closed, and writes nothing when Python ends
            self._stream = open(os.devnull, "w")  # noqa: SIM115

    def __getattr__(self, name):
        return getattr(self._stream, name)


@contextmanager
def quiet() -> Iterator[None]:
    """Show nothing of what goes to the standard output, as long as this lasts."""
    with open(os.devnull, "w", errors="backslashreplace") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def screen() -> Iterator[None]:
    """Show on the screen what can be shown, as long as this lasts."""
    for number in (0, 1, 2):  # a closed one would be given to the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    with ExitStack() as stack:
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            # None: closed before Python started.
            stream = stream or stack.enter_context(open(os.devnull, "w"))
            if hasattr(stream, "reconfigure"):  # file names may hold what the terminal cannot show
                stream.reconfigure(errors="backslashreplace")
            stack.enter_context(redirect(Screen(stream)))
        yield
