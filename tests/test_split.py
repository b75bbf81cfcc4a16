"""python -m training split: the catalogue's images as folders that the evaluator takes."""

import csv

import numpy as np
import pytest
import tifffile

from evaluate.folders import group_of, list_images, pairs, read_groups
from training import __main__ as command
from training import own_data, split


def make_data(folder, rows):
    """A data folder with one drawn pair of files per (source, image, split, modality)."""
    folder.mkdir()
    with (folder / "catalog.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("source", "image", "label", "split", "modality"))
        for number, (source, image, split, modality) in enumerate(rows):
            label = image.rpartition(".")[0] + "_label.tif"
            (folder / source).mkdir(exist_ok=True)
            tifffile.imwrite(str(folder / source / image), np.full((8, 9), number, np.uint8))
            tifffile.imwrite(str(folder / source / label), np.full((8, 9), 100 + number, np.uint8))
            writer.writerow((source, image, label, split, modality))
    return folder


ROWS = (
    ("one", "a.tif", "val", "BF"),
    ("one", "a.b.tif", "train", "BF"),
    ("two", "a.tif", "val", "PC"),
    ("two", "a.b.tif", "val", "DIC/PC"),
    ("two", "a.c.tif", "val", "PC"),
)


def test_images_and_their_own_truth_are_found_by_the_evaluator(tmp_path, capsys):
    data, out = make_data(tmp_path / "data", ROWS), tmp_path / "new" / "val"
    assert command.main(["split", "--data", str(data), "--out", str(out)]) == 0
    assert "4 images" in capsys.readouterr().out
    stems = ["one__a", "two__a", "two__a_b", "two__a_c"]
    assert list(list_images(out / "images")) == stems
    truths = {pair.stem: pair.truth for pair in pairs(out / "truth", out / "truth")}
    for stem, number in zip(stems, (0, 2, 3, 4)):
        (image,), (truth,) = list_images(out / "images")[stem], truths[stem]
        assert (tifffile.imread(str(image)) == number).all()
        assert (tifffile.imread(str(truth)) == 100 + number).all()
    groups = read_groups(out / "groups.csv")
    assert [group_of(groups, stem) for stem in stems] == ["BF", "PC", "DIC/PC", "PC"]


def test_the_source_can_be_the_group(tmp_path):
    data = make_data(tmp_path / "data", ROWS)
    arguments = ["split", "--data", str(data), "--out", str(tmp_path), "--group", "source"]
    assert command.main(arguments) == 0
    with (tmp_path / "groups.csv").open(newline="") as lines:
        assert [row["group"] for row in csv.DictReader(lines)] == ["one", "two", "two", "two"]


@pytest.mark.parametrize(
    ("rows", "arguments", "said"),
    [
        (ROWS, ["--split", "test"], "'test'"),
        ((*ROWS, ("two", "a_b.tif", "val", "PC")), [], "two__a_b"),
        (ROWS, [], "images is there already"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_overwritten(tmp_path, capsys, rows, arguments, said):
    data, out = make_data(tmp_path / "data", rows), tmp_path / "out"
    if "already" in said:
        (out / "images").mkdir(parents=True)
    assert command.main(["split", "--data", str(data), "--out", str(out), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(out.rglob("*.tif"))


def test_a_label_image_that_cannot_be_read_leaves_no_half_of_a_split(tmp_path, capsys):
    data, out = make_data(tmp_path / "data", ROWS), tmp_path / "out"
    last = data / "two" / "a.c_label.tif"
    good = last.read_bytes()
    last.write_bytes(b"damaged")
    words = ["split", "--data", str(data), "--out", str(out)]
    assert command.main(words) == 2
    assert "a.c_label.tif cannot be read" in capsys.readouterr().err and not list(out.iterdir())
    last.write_bytes(good)
    assert command.main(words) == 0


class Name(str):
    """A name that counts how often it is compared with another."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Name.compared += 1
        return str.__eq__(self, other)


@pytest.fixture
def names():
    """20,000 of them, none compared so far."""
    Name.compared = 0
    return [Name(number) for number in range(20_000)]


def test_no_name_of_many_is_compared_with_all_others(names):
    assert split.repeated([*names, Name("7"), Name("9"), Name("7")]) == ["7", "9"]
    dealt = own_data.share(names)
    assert Name.compared < 100
    assert len(dealt["train"]) == 16_000 and len(dealt["val"]) == 4_000


def test_no_file_of_many_is_compared_with_all_others(names, monkeypatch, tmp_path):
    """Images and label images that belong together are found by their names."""
    paths = [tmp_path / f"{name}{end}.png" for name in names for end in ("", "_label")]
    monkeypatch.setattr(own_data, "visible", lambda folder: paths if folder == tmp_path else [])
    monkeypatch.setattr(own_data, "has_ending", lambda path, endings: True)
    found = own_data.pairs(tmp_path, lambda path: Name(path.stem))
    assert len(found) == 20_000
    assert Name.compared < 10 * 20_000


def test_the_split_of_the_real_data(data, tmp_path):
    """Every validation image, with a truth and a modality."""
    assert command.main(["split", "--data", str(data), "--out", str(tmp_path)]) == 0
    stems = list(list_images(tmp_path / "images"))
    groups = read_groups(tmp_path / "groups.csv")
    with (data / "catalog.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == "val"]
    assert len(stems) == len(rows)
    assert {pair.stem for pair in pairs(tmp_path / "truth", tmp_path / "truth")} == set(stems)
    assert {group_of(groups, stem) for stem in stems} == {row["modality"] for row in rows}
