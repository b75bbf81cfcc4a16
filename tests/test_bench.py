"""What `bench` starts, draws and measures (how long it takes is for the machine to say)."""

import numpy as np
import pytest

from evaluate.folders import EvaluationError
from evaluate.matching import frame_labels
from evaluate.strict import scores
from experiments.bench import bench, bench_scorer, drawn_pair


def test_bench_times_a_command_on_both_folders(data, tmp_path):
    """With a command that only lists what it was given: one image, then twenty."""
    seen = tmp_path / "seen"
    command = ["sh", "-c", f'ls "$1" | wc -l >> {seen}', "-"]
    rows = list(bench(data, command))
    assert seen.read_text().split() == ["1", "20"]
    assert [row[1] for row in rows] == [1, 20]
    assert all(seconds > 0 and ratio > 0 for _, _, seconds, _, ratio in rows)
    with pytest.raises(EvaluationError, match="failed"):
        list(bench(data, ["false"]))


def test_the_drawn_pairs_hold_all_their_cells_and_most_match():
    pair = drawn_pair(300, 90)
    for labels in pair:
        assert np.array_equal(np.unique(labels), np.arange(91))
        assert not len(frame_labels(labels))
    (score,) = scores(*pair, [0.5])
    assert score.true_num == score.pred_num == 90 and 45 < score.correct_num <= 90
    assert np.array_equal(pair, drawn_pair(300, 90)), "the same every time"


def test_the_scorer_is_measured():
    seconds, peak, ratio = bench_scorer(300, 90)
    assert seconds > 0 and ratio > 0 and peak > 1e7
