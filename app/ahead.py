"""Work that is done by a thread while its last result is used."""

from concurrent.futures import ThreadPoolExecutor
from typing import Iterable, Iterator, TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each made by a thread while the one before is used.

    So there may be two at a time. What making one raises is raised where it is asked for.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, iterator, _END)
        while True:
            item = coming.result()
            if item is _END:
                return
            coming = thread.submit(next, iterator, _END)
            yield item
