"""Work on several items at a time, by threads that share the cores of the CPU.

Two small pieces of work, each by one core, take less time than one after another by both: cores
wait for one another at every layer of a network, and much around it is done by one core alone.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Callable, Iterable, Iterator, TypeVar

import torch

MOST = 4  # items at a time: each takes memory
A = TypeVar("A")
B = TypeVar("B")


def lanes(items: int) -> int:
    """How many of so many items are worked on at a time, by all cores that torch may use here.

    All have as many cores, and but for many items none is without one in the end.
    """
    cores = torch.get_num_threads()
    for number in range(min(items, MOST), 1, -1):
        if cores % number == 0 and (items % number == 0 or items >= 3 * number):
            return number
    return 1


def in_lanes(
    work: Callable[[A], B],
    items: Iterable[A],
    number: int,
    alone: Callable[[A], bool] = lambda item: False,
) -> Iterator[B]:
    """What `work` makes of each item, in their order, by `number` threads at a time.

    Each thread has its share of the cores. Items are taken by the caller's thread, one more than
    there are threads. Those that are to be done `alone` wait for those before, and are done by the
    caller's thread with all cores; with one lane all are. What `work` raises is raised at its turn.
    """
    if number < 2:
        yield from map(work, items)
        return
    cores = torch.get_num_threads()
    share = max(cores // number, 1)
    pool = ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(share,))
    pending = deque()
    try:
        with pool, _cancelled(pending):
            for item in items:
                is_alone = alone(item)
                while len(pending) > (0 if is_alone else number - 1):
                    yield pending.popleft().result()
                if is_alone:
                    yield work(item)
                else:
                    pending.append(pool.submit(work, item))
            while pending:
                yield pending.popleft().result()
    finally:
        torch.set_num_threads(cores)  # or threads that begin later would have a lane's share


@contextmanager
def _cancelled(futures):
    """At the end, those of the futures that have not begun are cancelled."""
    try:
        yield
    finally:
        for future in futures:
            future.cancel()
