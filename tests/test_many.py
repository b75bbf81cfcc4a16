"""Many small images in one run: what the command tells."""

import re

import numpy as np

from experiments import __main__ as command
from experiments import many


def test_images_a_second_are_told_beside_those_of_the_bare_network(capfd):
    assert command.main(["many", "--count", "3", "--side", "64"]) == 0
    header, few, whole, told = capfd.readouterr().out.splitlines()[-4:]
    assert header.split() == ["images", "seconds", "peak", "GB"]
    assert [row.split()[0] for row in (few, whole)] == ["1", "3"]
    assert re.fullmatch(r"-?[\d.]+ images a second, the bare network [\d.]+: -?[\d.]+ of it", told)


def test_the_images_differ_and_are_the_same_each_time():
    images, again = (list(many.drawn(3, 64)) for _ in range(2))
    assert all(image.shape == (64, 64) and image.dtype == np.uint8 for image in images)
    assert not np.array_equal(images[0], images[1])
    assert all(np.array_equal(*pair) for pair in zip(images, again))
