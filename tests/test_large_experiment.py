"""The command that measures large images, on small ones."""

import re
import sys

import pytest
import tifffile

from experiments import __main__ as command
from experiments import large


def test_all_cells_that_windows_show_are_merged_and_drawn(tmp_path, capsys):
    """Each cell once, though neighbouring windows show many of them twice or cut."""
    given = ["large", "--merge", "3600", "--folder", str(tmp_path)]
    assert command.main(given) == 0
    found, drawn = re.match(
        r"(\d+) cells in .* (\d+) of 3600 drawn", capsys.readouterr().out
    ).groups()
    assert int(found) > int(drawn) == 3600
    assert int(tifffile.imread(str(tmp_path / "merge_label.tiff")).max()) == 3600


def test_slides_are_segmented_and_told_in_a_row_each(tmp_path, capsys):
    assert command.main(["large", "--sides", "300", "400", "--folder", str(tmp_path)]) == 0
    head, *rows = capsys.readouterr().out.strip().splitlines()
    assert head.startswith("side, workers, cells, seconds")
    assert [row.split(",")[0] for row in rows] == ["300", "400"]
    nuclei = [(side / large.SPACING) ** 2 for side in (300, 400)]
    for row, expected in zip(rows, nuclei):
        assert int(row.split(",")[2]) == pytest.approx(expected, rel=0.35)


def test_workers_are_told_by_their_number(tmp_path, capsys, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(large, "PREDICT", [sys.executable, "-m", "app.predict"])  # has dask
    given = ["large", "--sides", "300", "--workers", "1", "--folder", str(tmp_path)]
    assert command.main(given) == 0
    row = capsys.readouterr().out.strip().splitlines()[-1]
    side, workers, cells, seconds, *_ = map(float, row.split(","))
    assert (side, workers) == (300, 1)
    assert cells > 0 and seconds > 0
