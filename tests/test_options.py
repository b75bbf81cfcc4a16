"""Options of several values, and files that are complete or absent."""

import argparse

import pytest

from app.atomic import replacing
from app.options import Extend


def parsed(*arguments, default=("all",)):
    parser = argparse.ArgumentParser()
    parser.add_argument("--names", nargs="+", action=Extend, default=list(default))
    return parser.parse_args(arguments).names


def test_a_repeated_option_adds_its_values_and_replaces_the_default():
    assert parsed() == ["all"]
    assert parsed("--names", "a", "b", "--names", "c") == ["a", "b", "c"]
    assert parsed("--names", "all", "--names", "a") == ["all", "a"]
    assert parsed() == ["all"], "the default stays as it is"


def test_a_file_takes_the_place_of_the_old_one_when_it_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path, text=True) as file:
        file.write("new\n")
        assert path.read_text() == "old"
    assert path.read_bytes() == b"new\n" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"new\n" and list(tmp_path.iterdir()) == [path]
