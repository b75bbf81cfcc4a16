"""What `bench` starts, draws, measures and promises, by a clock of its own."""

from types import SimpleNamespace

import numpy as np
import pytest

from evaluate.folders import EvaluationError
from evaluate.matching import frame_labels
from evaluate.strict import scores
from experiments import bench
from experiments.__main__ import main


@pytest.fixture
def clock(monkeypatch):
    """Hands of the clock that `bench` reads: `clock.seconds`, which tests move on."""
    clock = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock.seconds)
    return clock


@pytest.fixture
def catalog(tmp_path):
    """A folder of data: two images of 1000 x 1000, twenty-one of 512 x 512, and another."""
    sizes = [(1000, 1000)] * 2 + [(512, 512)] * 21 + [(512, 1000)]
    rows = [f"source,{number}.png,{h},{w}" for number, (h, w) in enumerate(sizes)]
    (tmp_path / "catalog.csv").write_text("\n".join(["source,image,height,width", *rows]))
    (tmp_path / "source").mkdir()
    for number in range(len(sizes)):
        (tmp_path / "source" / f"{number}.png").write_text(f"image {number}")
    return tmp_path


def test_the_command_is_given_one_image_then_twenty(catalog, tmp_path):
    seen = tmp_path / "seen"
    command = ["sh", "-c", f'cat "$1"/* >> {seen}; [ ! -e "$2" ]', "-"]
    assert len(list(bench.bench(catalog, command))) == 2
    given = [0, *range(2, 22)]
    assert sorted(seen.read_text().split("image")[1:]) == sorted(f" {k}" for k in given)
    with pytest.raises(EvaluationError, match="no such thing"):
        list(bench.bench(catalog, ["sh", "-c", "echo no such thing >&2; exit 1"]))


def test_the_time_is_that_of_the_command_from_its_start_to_its_end(clock, monkeypatch):
    def run(command, **options):
        clock.seconds += 7 if command == ["slow"] else 2
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(bench.subprocess, "run", run)
    assert [bench.timed([command]) for command in ("slow", "quick")] == [7, 2]


@pytest.mark.parametrize("seconds, status", [((10, 30), 0), ((10, 30.1), 1), ((10.1, 30), 1)])
def test_a_prediction_beyond_its_promise_fails(catalog, monkeypatch, capsys, seconds, status):
    times = iter([seconds[0], 2.0, seconds[1], 4.0])  # the command, a bare import, and again
    monkeypatch.setattr(bench, "timed", lambda command: next(times))
    assert main(["bench", "--data", str(catalog)]) == status
    one, twenty = capsys.readouterr().out.splitlines()
    assert one.startswith(
        f"one: 1 images in {seconds[0]:.1f} s of 10 s, {seconds[0] / 2:.1f} times"
    )
    assert twenty.startswith(f"twenty: 20 images in {seconds[1]:.1f} s of 30 s, 7.5 times")
    for line, took, promised in ((one, seconds[0], 10), (twenty, seconds[1], 30)):
        assert line.endswith("(passed)" if took <= promised else "(FAILED)")


@pytest.mark.parametrize(
    "most_seconds, most_bytes, status", [(6, 5e6, 0), (5.9, 5e6, 1), (6, 4e6, 1)]
)
def test_a_scorer_beyond_its_promise_fails(
    clock, monkeypatch, capsys, most_seconds, most_bytes, status
):
    def takes(seconds):
        def function(*arguments):
            clock.seconds += seconds

        return function

    monkeypatch.setattr(bench.strict, "scores", takes(6))
    monkeypatch.setattr(bench.np, "unique", takes(1))  # of each of the two images
    used = SimpleNamespace(ru_maxrss=4500)  # KiB
    monkeypatch.setattr(bench.resource, "getrusage", lambda who: used)
    monkeypatch.setattr(bench, "PAIRS", ((300, 90, most_seconds, most_bytes),))
    assert main(["bench", "--scorer"]) == status
    assert capsys.readouterr().out == (
        "90 cells on 300 x 300 pixels: 6.00 s, 3.0 times numpy.unique, peak memory 0.00 GB "
        f"({'FAILED' if status else 'passed'})\n"
    )


def test_the_drawn_pairs_hold_all_their_cells_and_most_match():
    pair = bench.drawn_pair(300, 90)
    for labels in pair:
        assert np.array_equal(np.unique(labels), np.arange(91))
        assert not len(frame_labels(labels))
    (score,) = scores(*pair, [0.5])
    assert score.true_num == score.pred_num == 90 and 45 < score.correct_num <= 90
    assert np.array_equal(pair, bench.drawn_pair(300, 90)), "the same every time"
