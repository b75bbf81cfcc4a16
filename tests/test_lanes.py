"""Several items are worked on at a time, by threads that share the cores."""

import threading

import numpy as np
import pytest
import torch
from tiny import tiny_config

from app import lanes
from app.lanes import in_lanes
from app.network.cpn import CPN
from app.segmenter import Segmenter


@pytest.fixture
def four_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(number, four_cores):
    assert list(in_lanes(lambda k: 2 * k, range(20), number)) == list(range(0, 40, 2))
    assert list(in_lanes(lambda k: k, [], number)) == []


def test_so_many_are_worked_on_at_a_time_each_with_its_share_of_the_cores(four_cores):
    together, seen = threading.Barrier(2, timeout=60), set()

    def work(item):
        together.wait()  # breaks where one waits for the other
        seen.add(threading.current_thread())
        return torch.get_num_threads()

    assert list(in_lanes(work, range(4), 2)) == [2] * 4
    assert len(seen) == 2 and threading.current_thread() not in seen
    assert torch.get_num_threads() == 4, "the caller keeps all cores"


def test_an_item_to_be_done_alone_is_done_after_those_before_by_the_caller(four_cores):
    running, most = set(), {}
    here = threading.current_thread()

    def work(item):
        running.add(item)
        most[item] = set(running), threading.current_thread(), torch.get_num_threads()
        running.remove(item)
        return item

    found = list(in_lanes(work, range(5), 2, alone=lambda item: item == 3))
    assert found == list(range(5))
    assert most[3] == ({3}, here, 4)
    assert all(most[item][1] is not here for item in (0, 1, 2, 4))


def test_no_more_items_are_taken_than_are_worked_on_and_one(four_cores):
    taken = []
    results = in_lanes(lambda k: k, (taken.append(k) or k for k in range(9)), 2)
    assert next(results) == 0
    assert taken == [0, 1, 2]
    results.close()
    assert taken == [0, 1, 2]


def test_what_an_item_raises_comes_at_its_turn_and_ends_the_work(four_cores):
    done = []

    def work(item):
        if item == 1:
            raise OSError("full")
        done.append(item)
        return item

    results = in_lanes(work, range(100), 2)
    assert next(results) == 0
    with pytest.raises(OSError, match="full"):
        next(results)
    assert len(done) < 5


def test_there_are_no_more_lanes_than_items_or_cores(four_cores):
    assert [lanes.lanes(items) for items in (0, 1, 2, 4, 100)] == [1, 1, 2, 4, lanes.MOST]
    torch.set_num_threads(2)
    assert lanes.lanes(100) == 2


@pytest.mark.parametrize("cores, number", [(1, 1), (2, 2), (5, 1), (6, 3), (8, 4), (9, 3)])
def test_no_core_is_left_over(cores, number, four_cores):
    torch.set_num_threads(cores)
    assert lanes.lanes(100) == number


def test_few_items_do_not_leave_lanes_empty_in_the_end(four_cores):
    torch.set_num_threads(2)
    assert [lanes.lanes(items) for items in (2, 3, 4, 5, 6, 7)] == [2, 1, 2, 1, 2, 2]


def test_threads_that_begin_later_have_all_cores(four_cores):
    for item in in_lanes(lambda k: k, range(9), 2):
        if item == 5:
            break
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [4]


def test_windows_in_lanes_give_the_cells_of_one_after_another(four_cores, monkeypatch):
    torch.manual_seed(0)
    wanted = {"window": 64, "window_stride": 32, "score_threshold": 0.45}
    segmenter = Segmenter(CPN(tiny_config(**wanted)), "cpu", amp=False)
    image = np.random.default_rng(4).integers(0, 255, (300, 280, 3)).astype(np.uint8)
    told = []
    together, _ = segmenter.segment(image, lambda *progress: told.append(progress))
    assert segmenter.lanes(len(segmenter.plan(image.shape))) == 4
    monkeypatch.setattr(Segmenter, "lanes", lambda self, items: 1)
    expected, _ = segmenter.segment(image)
    assert len(together) == len(expected) > 0
    assert np.allclose(together.boxes, expected.boxes, atol=0.01)
    assert np.allclose(together.scores, expected.scores, atol=1e-5)
    count = len(segmenter.plan(image.shape))
    assert [(done, count) for done in range(1, count + 1)] == [t for t in told if t[1] == count]
