"""Work on several items at a time, by threads that share the cores of the CPU.

Two small pieces of work, each by one core, take less time than one after another by both: cores
wait for one another at every layer of a network, and much around it is done by one core alone.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Iterable, Iterator, TypeVar

import torch

MOST = 4  # items at a time: each takes memory
A = TypeVar("A")
B = TypeVar("B")


def lanes(items: int) -> int:
    """How many of so many items are worked on at a time, by all cores that torch may use here."""
    return max(min(items, torch.get_num_threads(), MOST), 1)


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
    cores = max(torch.get_num_threads() // number, 1)
    pool = ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(cores,))
    pending = deque()
    with pool:
        try:
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
            for one in pending:
                one.cancel()
