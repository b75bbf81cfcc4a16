"""The outputs folder: whose a file is, what can be skipped, and that a table fits its labels."""

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
RECORD = {"program": "of a test"}


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


def rows_of(path):
    with open(table_path(path), newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_for_each_label(path, cells):
    outputs.save(path, LABELS, RECORD, cells)
    assert names(path) == ["a_cells.csv", "a_label.tiff"]
    rows = rows_of(path)
    assert tuple(rows[0]) == COLUMNS
    assert [row["label"] for row in rows] == ["1", "2"]
    assert [row["area"] for row in rows] == ["2", "2"]
    columns = {
        ("x0", "y0", "x1", "y1"): (cells.boxes, 6e-4),
        ("score",): (cells.scores[:, None], 6e-6),
        COLUMNS[-8:-4]: (cells.uncertainties, 6e-6),
    }
    for wanted, (values, accuracy) in columns.items():
        found = [[float(row[name]) for name in wanted] for row in rows]
        assert np.array(found) == pytest.approx(values, abs=accuracy)
    outputs.save(path, LABELS * 0, RECORD, cells.filter([]))
    assert table_path(path).read_text() == ",".join(COLUMNS) + "\n"


def test_a_table_never_stands_beside_the_labels_of_another_run(path, cells, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    outputs.save(path, LABELS, RECORD, cells)
    outputs.save(path, LABELS, RECORD)
    assert names(path) == ["a_label.tiff"]
    for step in ("app.outputs.replacing", "app.images.write_labels", "os.replace"):
        for with_table in (cells, None):
            outputs.save(path, LABELS, RECORD, cells)
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(step, killed)
                outputs.save(path, LABELS * 0, RECORD, with_table)
                raise KeyboardInterrupt  # without a table, the first step is none
            assert names(path) in (["a_cells.csv", "a_label.tiff"], ["a_label.tiff"])
            assert (
                not table_path(path).exists() or len(rows_of(path)) == tifffile.imread(path).max()
            )
            assert outputs.users_file(path, True) is None, "what a killed run left is ours"


def test_a_table_that_cannot_be_written_is_one_sentence(path, cells, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.outputs.replacing", full)
    with pytest.raises(images.ImageError, match="the table of cells .*No space left"):
        outputs.save(path, LABELS, RECORD, cells)
    assert names(path) == []


def test_labels_are_ours_as_long_as_their_pixels_are(path):
    assert outputs.existing(path) is None
    outputs.save(path, LABELS, RECORD)
    found = outputs.existing(path)
    assert found.is_ours and (found.shape, found.cells) == ((2, 3), 2)
    assert found.is_of(RECORD) and not found.is_of({**RECORD, "input": "another"})
    kept = images.read_description(path)
    changed = LABELS.astype(np.uint16)
    changed[0, 2] = 7
    for labels, record in ((changed, kept), (LABELS.astype(np.uint16), None)):
        tifffile.imwrite(str(path), labels, description=record, metadata=None)
        found = outputs.existing(path)
        assert not found.is_ours and not found.is_of(RECORD) and found.shape == (2, 3)
        assert outputs.users_file(path, False) == path
    for kind in (np.uint32, np.float32):
        tifffile.imwrite(str(path), LABELS.astype(kind), description=kept, metadata=None)
        assert outputs.existing(path).is_ours, "the same labels, saved again"
    half, none = LABELS + 0.5, np.where(LABELS == 0, np.nan, LABELS)
    for labels in (half, none, LABELS + (LABELS == 2) * 2**32):
        tifffile.imwrite(str(path), labels, description=kept, metadata=None)
        assert not outputs.existing(path).is_ours, "what is no such label is another"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert outputs.existing(path) == ({}, False, None, 0)


def test_a_table_that_changed_is_the_users(path, cells):
    outputs.save(path, LABELS, RECORD, cells)
    assert outputs.users_file(path, True) is None
    with open(table_path(path), "a") as file:
        file.write("a remark\n")
    assert outputs.users_file(path, True) == table_path(path)
    assert outputs.users_file(path, False) is None
    outputs.save(path, LABELS, RECORD)
    outputs.remove(path)
    assert names(path) == ["a_cells.csv"], "it is not removed either"
    assert outputs.users_file(path, True) == table_path(path), "nor is it ours without labels"


@pytest.mark.parametrize("large", [False, True])
def test_an_image_is_known_by_its_name_size_and_content(tmp_path, monkeypatch, large):
    if large:
        monkeypatch.setattr("app.digests.LARGE", 1000)
        monkeypatch.setattr("app.digests.PART", 100)
    image = tmp_path / "a.png"
    content = bytearray(np.random.default_rng(0).bytes(5000))
    image.write_bytes(content)
    record = outputs.record_for(image, RECORD)
    os.utime(str(image), (0, 0))
    assert outputs.record_for(image, RECORD) == record and record["program"] == "of a test"
    for place in (0, 2500, 4999):
        content[place] ^= 1
        image.write_bytes(content)
        assert outputs.record_for(image, RECORD) != record
        content[place] ^= 1
    image.write_bytes(content)
    image.rename(tmp_path / "b.png")
    assert outputs.record_for(tmp_path / "b.png", RECORD) != record


def test_only_old_temporary_files_of_ours_are_tidied_away(tmp_path):
    old = time.time() - 2 * outputs.ABANDONED
    ours, table = ".0123456789abcdef.tmp", ".0123456789abcdef.tmp_cells.csv"
    new, others = ".fedcba9876543210.tmp", ".notes.tmp"
    for name in (ours, table, new, others):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, None if name == new else (old, old))
    outputs.prepare(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {new, others}
