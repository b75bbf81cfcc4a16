"""The command that tells the stages of a prediction, on a small image."""

import re
import time

import numpy as np
import pytest

from experiments import __main__ as command
from experiments import stages


def test_all_stages_of_an_image_are_told_and_sum_up(capsys):
    assert command.main(["stages", "--side", "96", "--runs", "1"]) == 0
    told = dict(re.findall(r"^(\w+) +(\d+\.\d\d) +\d+\.\d$", capsys.readouterr().out, re.M))
    assert set(told) == {*stages.STAGES, "all"}
    assert float(told["network"]) > 0
    seconds = {stage: float(value) for stage, value in told.items()}
    assert sum(seconds.values()) == pytest.approx(2 * seconds["all"], abs=0.1)


def test_time_within_another_stage_is_no_part_of_this_one():
    class Work:
        def outer(self):
            time.sleep(0.05)
            self.inner()

        def inner(self):
            time.sleep(0.2)

    watch = stages.Stopwatch()
    with watch.on({"out": [(Work, "outer")], "in": [(Work, "inner")]}):
        Work().outer()
    assert 0.05 <= watch.seconds["out"] < 0.2 <= watch.seconds["in"]


def test_another_checkout_is_timed_beside_this_one(tmp_path, capsys):
    """One whose command takes a second for each image."""
    (tmp_path / "predict.sh").write_text('[ "$1" = --help ] || sleep 0.5; exit 0')
    given = ["stages", "--side", "64", "--runs", "1", "--beside", str(tmp_path)]
    assert command.main(given) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"^(this|other) +([\d.]+) +([\d.]+)", out, re.M)
    (_, ours, _), (_, others, spent) = rows
    assert float(others) == pytest.approx(0.5, abs=0.4) and float(ours) > 0.5 > float(spent)


def test_the_drawn_image_has_as_many_nuclei_as_it_says():
    assert (2048 // stages.SPACING) ** 2 == 5329
    pixels = stages.drawn_nuclei(56)
    middles = pixels[14::28, 14::28]
    assert pixels.dtype == np.uint8 and middles.shape == (2, 2) and middles.min() > 60
