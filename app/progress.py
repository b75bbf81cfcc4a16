"""How far a run is, on the last line of a terminal."""

import sys
from typing import Callable, Optional

FORMAT = "{percentage:3.0f} %|{bar}| {elapsed} passed, {remaining} left"


class Progress:
    """A bar with the time left while an image is being done; nothing where there is no terminal.

    Used as `with progress as windows:`, once for each of so many images; windows(done, total)
    says how much of this one is done. In between, lines can be written to the screen.
    """

    def __init__(self, images: int, shown: bool = True):
        self._bar = None
        self._before = 0  # images done
        if shown and sys.stderr.isatty():
            from tqdm import tqdm  # late: it is for terminals alone

            tqdm.monitor_interval = 0  # no thread of its own
            self._bar = tqdm(total=images, bar_format=FORMAT, file=sys.stderr, leave=False)

    def __enter__(self) -> Optional[Callable[[int, int], None]]:
        if self._bar is None:
            return None
        self._bar.refresh()
        return self._windows

    def __exit__(self, *failure: object) -> None:
        self._before += 1
        if self._bar is not None:
            self._bar.n = self._before
            self._bar.clear()

    def _windows(self, done: int, total: int) -> None:
        # An image is looked at several times where its scale is sought: no step back.
        self._bar.n = max(self._bar.n, self._before + done / total)
        self._bar.refresh()
