"""The catalogue of a data folder, and what a pack keeps of its images."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import drawn, save

from app.intensity import Curve, to_rgb8
from training import catalog

DRAW = np.random.default_rng(0)
COLUMNS = ("source", "image", "label", "split")
CELLS = drawn((40, 60), (2, 3, 12, 14), (20, 5, 36, 41))  # 10 x 11 and 16 x 36 pixels
PICTURES = {
    "grey.tif": (DRAW.random((40, 60)) ** 6 * 255).astype(np.uint8),
    "rgb.tif": DRAW.integers(0, 255, (40, 60, 3)).astype(np.uint8),
    "alike.tif": np.repeat(DRAW.integers(0, 255, (40, 60, 1)), 3, axis=2).astype(np.uint8),
    "wide.tif": (DRAW.random((40, 60)) ** 3 * 60000).astype(np.uint16),
    "float.tif": DRAW.random((40, 60)).astype(np.float32),
}


def write_catalogue(folder, rows, columns=COLUMNS):
    """A data folder whose catalogue has these rows; every label image shows CELLS."""
    folder.mkdir(exist_ok=True)
    with (folder / "catalog.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return folder


def write_images(folder, names=tuple(PICTURES), columns=(), values=()):
    """A data folder with PICTURES of these names, all of the split `train`."""
    rows = [("drawn", name, "label.png", "train", *values) for name in names]
    write_catalogue(folder, rows, (*COLUMNS, *columns))
    (folder / "drawn").mkdir()
    save(folder / "drawn" / "label.png", CELLS)
    for name in names:
        save(folder / "drawn" / name, PICTURES[name])
    return folder


def read_entry(folder, columns, values):
    """The Entry of a catalogue of one row with further columns."""
    row = ("s", "a.tif", "a_label.tif", "train", *values)
    return catalog.entries(write_catalogue(folder, [row], (*COLUMNS, *columns)), "train")[0]


def test_what_the_catalogue_does_not_tell_is_none_or_the_default(tmp_path):
    entry = read_entry(tmp_path, (), ())
    assert entry.name == "s__a"
    assert (entry.image, entry.label) == (tmp_path / "s/a.tif", tmp_path / "s/a_label.tif")
    assert (entry.modality, entry.licence) == (None, None)
    assert (entry.percentile, entry.gamma_floor, entry.largest) == (None, 0.6, None)
    empty = read_entry(tmp_path, ("percentile", "gamma_floor", "largest"), ("", "", ""))
    assert empty == entry


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
    assert entry.name == "free__a"
    with pytest.raises(ValueError, match="'val' that may be used"):
        catalog.entries(tmp_path, "val", commercial=True)


def test_without_licences_nothing_is_said_to_be_for_commercial_use(tmp_path):
    write_catalogue(tmp_path, [row[:4] for row in LICENSED])
    with pytest.raises(ValueError, match="column licence"):
        catalog.entries(tmp_path, "train", commercial=True)


def test_sources_can_be_left_out_also_those_of_another_split(tmp_path):
    write_catalogue(tmp_path, LICENSED, (*COLUMNS, "licence"))
    assert [entry.name for entry in catalog.entries(tmp_path, "train", without={"free"})] == [
        "bound__a"
    ]
    assert len(catalog.entries(tmp_path, "val", without=["free"])) == 1
    with pytest.raises(ValueError, match="no source 'fre'; there is bound, free"):
        catalog.entries(tmp_path, "train", without=["fre"])


def levels_of(pack, number):
    """The stored levels (H, W, 3) int64 of an image of a pack."""
    height, width, start = (int(v[number]) for v in (pack.heights, pack.widths, pack.starts))
    colours = pack.colours[start : start + height * width].reshape(height, width)
    return torch.stack([colours >> shift & 255 for shift in (0, 8, 16)], -1).long()


@pytest.mark.parametrize("given", [{}, {"percentile": 99.5, "gamma_floor": 0.4}], ids=str)
def test_any_mix_of_the_conversions_is_read_from_a_pack(tmp_path, given):
    """With the mix of prediction, it is what prediction sees, within 2 levels of 255."""
    folder = write_images(tmp_path / "data", columns=given.keys(), values=given.values())
    pack = catalog.pack(catalog.entries(folder, "train"))
    for number, image in enumerate(PICTURES.values()):
        curve = Curve.fit(image, **given)
        assert pack.mixes[number] == curve.mix
        for mix in (curve.mix, 0.0, 0.4, 1.0):
            table = mix * pack.curves[number, 0] + (1 - mix) * pack.curves[number, 1]
            found = table[levels_of(pack, number)].numpy() * 255
            assert np.abs(found - to_rgb8(image, replace(curve, mix=mix))).max() <= 2


def test_grey_images_are_those_whose_channels_are_alike(tmp_path):
    pack = catalog.pack(catalog.entries(write_images(tmp_path / "data"), "train"))
    assert dict(zip(PICTURES, pack.grey.tolist())) == {
        "grey.tif": True,
        "rgb.tif": False,
        "alike.tif": True,
        "wide.tif": True,
        "float.tif": True,
    }


def test_objects_with_a_longer_side_than_the_largest_are_ignored(tmp_path):
    folder = write_images(tmp_path / "data", ["grey.tif"], ["largest"], [35])
    pack = catalog.pack(catalog.entries(folder, "train"))
    owner = pack.objects.reshape(CELLS.shape).numpy()
    assert (owner[CELLS == 1] == 0).all()
    assert (owner[CELLS == 2] == -2).all()
    assert pack.counts.tolist() == [1]
    owner, _, outlines = catalog.describe_objects(CELLS, largest=36)
    assert len(outlines) == 2
    assert owner.min() == -1


def test_sizes_of_an_image_are_its_smallest_typical_and_largest_object(tmp_path):
    folder = write_images(tmp_path / "data", ["grey.tif", "rgb.tif"])
    listing = catalog.entries(folder, "train")
    pack = catalog.pack([listing[0], replace(listing[1], label=None)])
    least, most = catalog.size_range(pack)
    assert least.tolist() == pytest.approx([110**0.5, catalog.UNKNOWN_SIZE])
    assert most.tolist() == pytest.approx([576**0.5, catalog.UNKNOWN_SIZE])
    typical = catalog.typical_sizes(pack)
    assert (least <= typical).all()
    assert (typical <= most).all()


def test_unlabelled_images_are_ignored_everywhere(tmp_path):
    """Those of a folder and of its sub folders; label images among them are not images."""
    (tmp_path / "more").mkdir()
    for place in (tmp_path, tmp_path / "more"):
        save(place / "a.tif", PICTURES["grey.tif"])
    save(tmp_path / "a_label.png", CELLS)
    listing = catalog.unlabelled(tmp_path)
    assert [(entry.source, entry.label) for entry in listing] == [
        (tmp_path.name, None),
        ("more", None),
    ]
    pack = catalog.pack(listing)
    assert (pack.objects == -2).all()
    assert pack.depths.max() == 0
    assert pack.counts.tolist() == [0, 0]
    pack.save(tmp_path / "pack")
    again = catalog.Pack.load(tmp_path / "pack")
    assert all(torch.equal(a, b) for a, b in zip(vars(pack).values(), vars(again).values()))


def test_a_folder_without_images_to_learn_from_is_named(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match=f"{folder.name} is no folder with images"):
            catalog.unlabelled(folder)


def test_a_file_that_cannot_be_packed_is_named(tmp_path):
    folder = write_images(tmp_path / "data", ["grey.tif"])
    listing = catalog.entries(folder, "train")
    save(listing[0].label, CELLS[1:])
    with pytest.raises(ValueError, match=r"label.png has shape \(39, 60\)"):
        catalog.pack(listing)
    listing[0].image.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="grey.tif: "):
        catalog.pack(listing)


def test_values_below_zero_are_background():
    label = np.full((20, 20), -1, np.int64)
    label[2:9, 2:9] = 3
    label[11:18, 4:12] = 2**31 + 5
    owner, _, outlines = catalog.describe_objects(label)
    assert len(outlines) == 2
    assert (owner[label < 0] == -1).all()
