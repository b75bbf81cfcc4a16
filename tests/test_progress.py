"""What a run shows: nothing but failures, tracebacks, the version, a bar with the time left."""

import io
import sys

import pytest
from test_predict import noise  # noqa: F401 (a fixture)

from app import __version__, predict
from app.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_quiet_says_only_what_went_wrong(noise, tmp_path, capsys):  # noqa: F811
    noise("--quiet")
    assert capsys.readouterr() == ("", "")
    (tmp_path / "inputs" / "c.png").write_bytes(b"")
    noise("--quiet", status=1)
    out, err = capsys.readouterr()
    assert out == "" and err == "3/3 c.png: failed, the file is empty\n"


def test_verbose_shows_where_a_failure_comes_from(noise, tmp_path, capsys):  # noqa: F811
    (tmp_path / "inputs" / "c.png").write_bytes(b"")
    noise(status=1)
    assert "Traceback" not in capsys.readouterr().err
    noise("--verbose", status=1)
    err = capsys.readouterr().err
    assert err.count("Traceback") == 1 and "_kind(file" in err and "c.png: failed" in err


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"cpn {__version__}\n"


def test_a_terminal_shows_a_bar_with_the_time_left(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    progress = Progress(4)
    with progress as windows:
        windows(1, 2)
        windows(1, 4)  # at another scale, the share done is less
    assert " 12 %|" in screen.getvalue() and " left" in screen.getvalue()
    with pytest.raises(ValueError), progress as windows:
        windows(1, 2)
        raise ValueError
    assert " 38 %|" in screen.getvalue()
    assert screen.getvalue().endswith("\r"), "the line is free for what is said of the image"
    with progress as windows:
        windows(1, 2)
        with progress.hidden():
            assert screen.getvalue().endswith("\r"), "and so it is for what another thread says"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_without_a_terminal_or_where_it_shall_not_there_is_no_bar(monkeypatch, stream):
    screen = stream()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress(4, shown=stream is io.StringIO) as windows:
        assert windows is None
    assert screen.getvalue() == ""
