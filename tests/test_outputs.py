"""The outputs folder: a table is always that of the label image beside it; what can be skipped."""

import csv
import os
import time

import numpy as np
import pytest
import tifffile

from app import images, outputs
from app.cells import COLUMNS, Cells
from app.names import table_path

LABELS = np.array([[1, 1, 0], [0, 2, 2]], np.int32)
RECORD = '{"program": "of a test"}'


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    contours = rng.uniform(0, 3, (2, 5, 2)).astype(np.float32)
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    return Cells(
        contours, boxes, rng.random(2, dtype=np.float32), rng.random((2, 4), dtype=np.float32)
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a_label.tiff"


def names(path):
    return sorted(found.name for found in path.parent.iterdir())


def test_the_table_has_a_row_for_each_label(path, cells):
    outputs.save(path, LABELS, RECORD, cells)
    assert names(path) == ["a_cells.csv", "a_label.tiff"]
    with open(table_path(path), newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert [row[0] for row in rows] == ["1", "2"] and [row[5] for row in rows] == ["2", "2"]
    assert np.array(rows, float)[:, 1:5] == pytest.approx(cells.boxes, abs=6e-4)
    assert np.array(rows, float)[:, 8:] == pytest.approx(
        np.column_stack([cells.scores, cells.uncertainties]), abs=6e-6
    )
    outputs.save(path, LABELS * 0, RECORD, cells.filter([]))
    with open(table_path(path)) as file:
        assert file.read() == ",".join(COLUMNS) + "\n"


def test_a_table_never_stands_beside_the_labels_of_another_run(path, cells, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    outputs.save(path, LABELS, RECORD, cells)
    outputs.save(path, LABELS, RECORD)
    assert names(path) == ["a_label.tiff"]
    outputs.save(path, LABELS, RECORD, cells)
    for step in ("app.outputs.write_table", "app.images.write_labels", "os.replace"):
        for with_table in (cells, None):
            outputs.save(path, LABELS, RECORD, cells)
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(step, killed)
                outputs.save(path, LABELS, RECORD, with_table)
                raise KeyboardInterrupt  # without a table, the first step is none
            assert names(path) in (["a_cells.csv"], ["a_label.tiff"], [])


def test_a_table_that_cannot_be_written_is_one_sentence(path, cells, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savetxt", lambda *arguments, **options: full())
    with pytest.raises(images.ImageError, match="the table of cells .*No space left"):
        outputs.save(path, LABELS, RECORD, cells)
    assert names(path) == []


def test_labels_count_as_done_if_newer_and_made_the_same_way(path, cells):
    image = path.parent / "a.png"
    image.touch()
    assert not outputs.is_done(image, path, RECORD, False)
    outputs.save(path, LABELS, RECORD)
    assert outputs.is_done(image, path, RECORD, False)
    assert not outputs.is_done(image, path, "{}", False)
    assert not outputs.is_done(image, path, RECORD, True)
    outputs.save(path, LABELS, RECORD, cells)
    assert outputs.is_done(image, path, RECORD, True)
    assert outputs.is_done(image, path, RECORD, False)
    later = path.stat().st_mtime + 1
    os.utime(image, (later, later))
    assert not outputs.is_done(image, path, RECORD, False)
    os.utime(image, (0, 0))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert not outputs.is_done(image, path, RECORD, False)
    tifffile.imwrite(str(path), LABELS.astype(np.uint16))  # of another program
    assert not outputs.is_done(image, path, RECORD, False)


def test_only_old_temporary_files_of_ours_are_tidied_away(tmp_path):
    old = time.time() - 2 * outputs.ABANDONED
    ours, new, others = ".0123456789abcdef.tmp", ".fedcba9876543210.tmp", ".notes.tmp"
    for name in (ours, new, others):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, None if name == new else (old, old))
    outputs.prepare(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {new, others}
