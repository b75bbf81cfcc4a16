"""One item is made ahead by a thread, and never more."""

import itertools
import threading

import pytest

from app.ahead import ahead


def test_all_items_in_their_order():
    assert list(ahead(range(5))) == [0, 1, 2, 3, 4]
    assert list(ahead([])) == [] and list(ahead([None, None])) == [None, None]


def test_the_next_is_made_by_another_thread_while_one_is_used():
    """Making the second waits for what only the user of the first does."""
    used = threading.Event()

    def items():
        yield 1
        assert used.wait(60)
        yield threading.current_thread()

    made = ahead(items())
    assert next(made) == 1
    used.set()
    assert next(made) is not threading.current_thread()


def test_no_more_than_one_is_made_ahead():
    made = []
    items = ahead(made.append(k) or k for k in itertools.count())
    for k in range(4):
        assert next(items) == k
    items.close()
    assert made == [0, 1, 2, 3, 4]


def test_what_making_an_item_raises_comes_after_those_before():
    def items():
        yield 1
        raise OSError("full")

    made = ahead(items())
    assert next(made) == 1
    with pytest.raises(OSError, match="full"):
        next(made)
