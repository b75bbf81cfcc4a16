"""How far a run is, on the last line of a terminal."""

import sys
from contextlib import contextmanager
from threading import Lock
from typing import Callable, Iterator, Optional

FORMAT = "{percentage:3.0f} %|{bar}| {elapsed} passed, {remaining} left"


class Progress:
    """A bar with the time left while an image is being done; nothing where there is no terminal.

    Used as `with progress as windows:`, once for each of so many images; windows(done, total)
    says how much of this one is done. Lines are written to the screen while it is `hidden`, which
    may be in another thread.
    """

    def __init__(self, images: int, shown: bool = True):
        self._bar, self._lock = None, Lock()
        self._before = 0  # images done
        if shown and sys.stderr.isatty():
            from tqdm import tqdm  # late: it is for terminals alone

            tqdm.monitor_interval = 0  # no thread of its own
            self._bar = tqdm(total=images, bar_format=FORMAT, file=sys.stderr, leave=False)

    def __enter__(self) -> Optional[Callable[[int, int], None]]:
        if self._bar is None:
            return None
        self._show(self._before)
        return self._windows

    def __exit__(self, *failure: object) -> None:
        with self.hidden():
            self._before += 1
            if self._bar is not None:
                self._bar.n = self._before

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """No bar is on the screen, as long as this lasts."""
        with self._lock:
            if self._bar is not None:
                self._bar.clear()
            yield

    def _windows(self, done: int, total: int) -> None:
        self._show(self._before + done / total)

    def _show(self, images):
        # No step back: an image is looked at several times where its scale is sought, and several
        # images may be done at a time.
        with self._lock:
            self._bar.n = max(self._bar.n, images)
            self._bar.refresh()
