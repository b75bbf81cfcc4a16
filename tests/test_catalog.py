"""The catalogue of a data folder."""

import numpy as np
import pytest
from drawn import save
from training_data import COLUMNS, write_catalogue

from training import catalog


def read_entry(folder, columns, values):
    """The Entry of a catalogue of one row with further columns."""
    row = ("s", "a.tif", "a_label.tif", "train", *values)
    return catalog.entries(write_catalogue(folder, [row], (*COLUMNS, *columns)), "train")[0]


def test_what_the_catalogue_does_not_tell_is_none_or_the_default(tmp_path):
    entry = read_entry(tmp_path, (), ())
    assert entry.flat_name == "s__a"
    assert (entry.image, entry.label) == (tmp_path / "s/a.tif", tmp_path / "s/a_label.tif")
    assert (entry.modality, entry.licence) == (None, None)
    assert (entry.percentile, entry.gamma_floor, entry.largest) == (None, 0.6, None)
    empty = read_entry(tmp_path, ("percentile", "gamma_floor", "largest"), ("", "", ""))
    assert empty == entry


def test_a_folder_that_is_not_there_is_not_taken_for_an_empty_one(tmp_path):
    missing = tmp_path / "misspelt"
    for list_images in (catalog.unlabelled, lambda folder: catalog.entries(folder, "train")):
        with pytest.raises(ValueError, match=f"there is no folder {missing}"):
            list_images(missing)


def test_optional_columns_are_read(tmp_path):
    columns = ("modality", "licence", "percentile", "gamma_floor", "largest")
    entry = read_entry(tmp_path, columns, ("PC", "CC0", "99.9", "0.4", "92"))
    assert (entry.modality, entry.licence) == ("PC", "CC0")
    assert (entry.percentile, entry.gamma_floor, entry.largest) == (99.9, 0.4, 92)


@pytest.mark.parametrize(
    "column, value",
    [
        ("percentile", "99,9"),
        ("percentile", "0.999"),
        ("percentile", "nan"),
        ("gamma_floor", "0"),
        ("gamma_floor", "1.5"),
        ("largest", "-1"),
        ("largest", "large"),
    ],
)
def test_a_number_that_is_none_is_named_with_file_row_and_column(tmp_path, column, value):
    rows = [("s", "a.tif", "a_label.tif", "train", ""), ("s", "b.tif", "b", "train", value)]
    write_catalogue(tmp_path, rows, (*COLUMNS, column))
    with pytest.raises(ValueError, match=f"catalog.csv, line 3: the {column} '{value}'"):
        catalog.entries(tmp_path, "train")


def test_a_catalogue_without_a_needed_column_is_told_which(tmp_path):
    write_catalogue(tmp_path, [("s", "a.tif", "train")], ("source", "image", "split"))
    with pytest.raises(ValueError, match="has no column label"):
        catalog.entries(tmp_path, "train")


def test_a_catalogue_from_a_spreadsheet_begins_with_a_mark(tmp_path):
    text = "source,image,label,split\ns,a.tif,a_label.tif,train\n"
    (tmp_path / "catalog.csv").write_text("\ufeff" + text, encoding="utf-8")
    assert catalog.entries(tmp_path, "train")[0].source == "s"


LICENSED = [
    ("free", "a.tif", "a_label.tif", "train", "CC0"),
    ("free", "b.tif", "b_label.tif", "train", ""),
    ("bound", "a.tif", "a_label.tif", "train", "CC BY-NC"),
    ("bound", "b.tif", "b_label.tif", "val", "CC BY-NC"),
]


def test_only_images_for_commercial_use_are_taken_if_asked(tmp_path):
    write_catalogue(tmp_path, LICENSED, (*COLUMNS, "licence"))
    assert len(catalog.entries(tmp_path, "train")) == 3
    (entry,) = catalog.entries(tmp_path, "train", commercial=True)
    assert entry.flat_name == "free__a"
    with pytest.raises(ValueError, match="'val' that may be used"):
        catalog.entries(tmp_path, "val", commercial=True)


def test_without_licences_nothing_is_said_to_be_for_commercial_use(tmp_path):
    write_catalogue(tmp_path, [row[:4] for row in LICENSED])
    with pytest.raises(ValueError, match="column licence"):
        catalog.entries(tmp_path, "train", commercial=True)


def test_sources_can_be_left_out_also_those_of_another_split(tmp_path):
    write_catalogue(tmp_path, LICENSED, (*COLUMNS, "licence"))
    assert [entry.flat_name for entry in catalog.entries(tmp_path, "train", without={"free"})] == [
        "bound__a"
    ]
    assert len(catalog.entries(tmp_path, "val", without=["free"])) == 1
    with pytest.raises(ValueError, match="no source 'fre'; there is bound, free"):
        catalog.entries(tmp_path, "train", without=["fre"])


def test_unlabelled_images_are_those_of_a_folder_and_of_its_sub_folders(tmp_path):
    """Label images among them are not images."""
    (tmp_path / "more").mkdir()
    for name in ("a.tif", "a_label.png", "more/a.tif"):
        save(tmp_path / name, np.zeros((8, 9), np.uint8))
    assert [(entry.source, entry.label) for entry in catalog.unlabelled(tmp_path)] == [
        (tmp_path.name, None),
        ("more", None),
    ]


def test_a_folder_without_images_to_learn_from_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path.name} is no folder with images"):
        catalog.unlabelled(tmp_path)
