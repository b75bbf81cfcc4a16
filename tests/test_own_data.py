"""Folders of one's own labelled images: which files belong together, and labels that look wrong."""

import warnings

import cv2
import numpy as np
import pytest
from drawn import drawn, save

from app.names import output_names
from training import catalog, own_data, train

SHAPE = (60, 70)


def write(folder, *names):
    """Small files of these names, of which only the names matter."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((5, 5), np.uint8))


def paths(folder, *splits):
    """The (image, label) of the splits, as texts relative to the folder."""
    listing = [entry for split in splits for entry in catalog.entries(folder, split)]
    return [
        (str(entry.image.relative_to(folder)), str(entry.label.relative_to(folder)))
        for entry in listing
    ]


@pytest.mark.parametrize(
    "image, label",
    [
        ("a.tif", "a_label.tiff"),
        ("a.PNG", "a_LABEL.tif"),
        ("a.jpg", "a_label.png"),
        ("a.png", "a_masks.tif"),
        ("a.tif", "a_cp_masks.png"),
        ("a.bmp", "a_mask.png"),
        ("a.b.tif", "a.b_label.tif"),
        ("a.b.tif", "a_label.tiff"),  # as prediction names it
        ("images/a.tif", "labels/a_label.tiff"),
        ("images/a.tif", "labels/a.png"),
        ("mine/a.tif", "mine/a_label.tif"),
        ("mine/images/a.tif", "mine/labels/a.tif"),
    ],
)
def test_an_image_and_its_label_image_are_found_by_their_names(tmp_path, image, label):
    write(tmp_path, image, label)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paths(tmp_path, "train") == [(image, label)]


def test_prediction_writes_labels_that_training_finds(tmp_path):
    write(tmp_path, "a.b.tif")
    write(tmp_path, *output_names([tmp_path / "a.b.tif"]).values())
    assert len(paths(tmp_path, "train")) == 1


def test_previews_beside_images_are_no_images(tmp_path):
    write(tmp_path, "a.png", "a_label.png", "a_preview.png", "b_preview.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paths(tmp_path, "train") == [("a.png", "a_label.png")]
    assert [entry.image.name for entry in catalog.unlabelled(tmp_path)] == ["a.png"]


def test_sub_folders_are_sources_and_the_folder_itself_is_one_of_its_name(tmp_path):
    write(tmp_path / "cells", "a.tif", "a_label.tif", ".hidden/b.tif", ".hidden/b_label.tif")
    write(tmp_path / "cells", "worms/a.tif", "worms/a_label.tif", "worms/deep/c.tif")
    listing = catalog.entries(tmp_path / "cells", "train")
    assert sorted(entry.flat_name for entry in listing) == ["cells__a", "worms__a"]
    assert {entry.source for entry in listing} == {"cells", "worms"}


def test_files_without_partner_are_named_and_left_out(tmp_path):
    write(tmp_path, "a.tif", "a_label.tif", "b.tif", "c_label.tif", "notes.txt.png")
    write(tmp_path, "d.tif", "d_label.tif", "d_masks.tif")
    with pytest.warns(UserWarning) as caught:
        assert paths(tmp_path, "train") == [("a.tif", "a_label.tif")]
    told = [str(warning.message).partition("left out, ")[2] for warning in caught]
    assert told == [
        "no label image for b.tif, notes.txt.png",
        "no image for c_label.tif",
        "several files of one name: d.tif, d_label.tif, d_masks.tif",
    ]


def test_a_warning_names_no_more_files_than_can_be_read(tmp_path):
    write(tmp_path, "a.tif", "a_label.tif", *(f"x{number:02}.tif" for number in range(30)))
    with pytest.warns(UserWarning, match="x00.tif, .*x09.tif and 20 more$"):
        catalog.entries(tmp_path, "train")


@pytest.mark.parametrize("names", [(), ("a.tif",), ("a_label.tif",), ("deep/er/a.tif",)])
@pytest.mark.filterwarnings("ignore:.*left out")
def test_a_folder_without_labelled_images_is_told_what_was_expected(tmp_path, names):
    write(tmp_path, *names)
    with pytest.raises(ValueError, match="catalog.csv.*NAME.tif.*NAME_label.tif"):
        catalog.entries(tmp_path, "train")


def test_a_folder_val_is_the_validation_split_and_train_beside_it_the_other(tmp_path):
    write(tmp_path, "val/a.tif", "val/a_label.tif", "train/worms/b.tif", "train/worms/b_label.tif")
    write(tmp_path, "other/c.tif", "other/c_label.tif")
    assert paths(tmp_path, "val") == [("val/a.tif", "val/a_label.tif")]
    assert paths(tmp_path, "train") == [("train/worms/b.tif", "train/worms/b_label.tif")]
    assert catalog.entries(tmp_path, "val")[0].source == tmp_path.name
    assert catalog.entries(tmp_path, "train")[0].source == "worms"


def test_a_folder_val_without_train_beside_it_is_told(tmp_path):
    write(tmp_path, "val/a.tif", "val/a_label.tif")
    with pytest.raises(ValueError, match="train has no .*labelled images"):
        catalog.entries(tmp_path, "val")


@pytest.mark.parametrize("count", [15, 16, 19, 20, 53])
def test_without_val_one_image_in_five_is_for_validation(tmp_path, count):
    """Spread over the names, none of both splits, the same every time."""
    names = [f"{number:02}" for number in range(count)]
    dealt = own_data.share(names)
    assert sorted(dealt["train"] + dealt["val"]) == names
    assert len(dealt["val"]) == count // 5
    places = [0, *map(int, dealt["val"]), count]
    assert max(np.diff(places)) <= 10
    assert own_data.share(names) == dealt


@pytest.mark.parametrize("count", [1, 5, 14])
def test_few_images_serve_for_both_splits(tmp_path, count):
    """One or two held out could not tell which weights are better."""
    write(tmp_path, *(f"{k}{end}.tif" for k in range(count) for end in ("", "_label")))
    assert paths(tmp_path, "train") == paths(tmp_path, "val")
    assert len(paths(tmp_path, "val")) == count


def test_sources_of_own_images_can_be_left_out_but_their_licence_is_unknown(tmp_path):
    for source in "ab":
        write(tmp_path, *(f"{source}/{k}{end}.tif" for k in range(5) for end in ("", "_label")))
    assert {entry.source for entry in catalog.entries(tmp_path, "train", without=["a"])} == {"b"}
    with pytest.raises(ValueError, match="licence"):
        catalog.entries(tmp_path, "train", commercial=True)


def discs(count, radius=6, thickness=-1, value=None):
    """A label image with round cells 1..count in a row, or all of one value."""
    labels = np.zeros((40, 20 * count), np.uint16)
    for number in range(count):
        colour = value or number + 1
        cv2.circle(labels, (10 + 20 * number, 20), radius, colour, thickness)
    return labels


GOOD = {
    "round cells": discs(4),
    "one round cell": discs(1),
    "one cell of any number": discs(1, value=255),
    "two cells that touch": drawn(SHAPE, (5, 5, 20, 20), (5, 20, 20, 40)),
    "tissue without background": drawn(SHAPE, (0, 0, 60, 30), (0, 30, 60, 50), (0, 50, 60, 70)),
    "a few cells in two pieces": np.maximum(discs(8), 8 * (drawn((40, 160), (0, 0, 2, 2)) > 0)),
    "a cell that curls up": np.hstack([discs(1, 8, thickness=2), discs(5)]),
    "very large numbers": discs(3).astype(np.uint32) * 10**9,
    "numbers of 64 bits": np.where(discs(3) > 0, discs(3) + np.uint64(2**63), 0),
}

BAD = {
    "two numbers for six cells": (discs(6, value=1) + (discs(6) > 3), "several pieces"),
    "a binary mask": (discs(3, value=255), "only label, 255, comes in 3 pieces"),
    "one object everywhere": (np.ones(SHAPE, np.uint8), "nearly all of the image"),
    "no object": (np.zeros(SHAPE, np.uint16), "no object"),
    "outlines with numbers": (discs(4, thickness=1), "outlines"),
    "outlines of one value": (discs(4, thickness=1, value=255), "outlines"),
    "outlines that touch": (discs(4, radius=10, thickness=1, value=255), "outlines"),
    "cells in pieces": (discs(4) * (np.arange(40) % 9 != 0)[:, None], "4 of its 4 objects"),
}


@pytest.mark.parametrize("label", GOOD.values(), ids=GOOD.keys())
def test_good_labels_raise_no_alarm(label):
    assert own_data.problem(label) is None


@pytest.mark.parametrize("label, said", BAD.values(), ids=BAD.keys())
def test_labels_that_look_wrong_are_told(label, said):
    assert said in own_data.problem(label)


def test_what_cannot_be_used_is_left_out_and_what_looks_wrong_is_told(tmp_path):
    labels = {"a": discs(2), "b": discs(2, value=9), "c": discs(2), "d": discs(2)[:-1]}
    for name, label in labels.items():
        save(tmp_path / f"{name}_label.png", label)
        save(tmp_path / f"{name}.tif", np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "c_label.png").write_bytes(b"damaged")
    listing = catalog.entries(tmp_path, "train")
    lines = []
    kept = own_data.usable(listing, lines.append)
    assert sorted(entry.image.name for entry in kept) == ["a.tif", "b.tif"]
    looks, damaged, other = sorted(lines, key=lambda line: line.split("_label")[0])
    assert looks.startswith(str(tmp_path / "b_label.png")) and "pieces" in looks
    assert "c_label.png cannot be read" in damaged and "left out" in damaged
    assert "(39, 40)" in other and "(40, 40)" in other and "left out" in other


def test_images_whose_cells_all_touch_the_border_are_learned_from_but_judge_nothing(tmp_path):
    """By the rules of the score none of them counts, so that nothing would be better than that."""
    cut, whole = drawn(SHAPE, (0, 0, 20, 20), (40, 60, 60, 70)), drawn(SHAPE, (5, 5, 20, 20))
    for name, label in (("cut", cut), ("empty", 0 * cut), ("whole", whole)):
        save(tmp_path / f"{name}_label.png", label)
        save(tmp_path / f"{name}.tif", np.zeros((*SHAPE, 3), np.uint8))
    listing = catalog.entries(tmp_path, "train")
    training, judging = train.usable_parts(listing, listing, tmp_path)
    assert len(training) == 3 and [entry.image.name for entry in judging] == ["whole.tif"]
    with pytest.raises(ValueError, match="cut larger parts"):
        train.usable_parts(listing[:2], listing[:2], tmp_path)


def test_images_whose_labels_would_be_written_to_one_file_are_refused(tmp_path):
    for name in ("a.b", "a_b"):
        save(tmp_path / f"{name}_label.png", drawn(SHAPE, (5, 5, 20, 20)))
        save(tmp_path / f"{name}.tif", np.zeros((*SHAPE, 3), np.uint8))
    listing = catalog.entries(tmp_path, "train")
    with pytest.raises(ValueError, match="a.b.tif and .*a_b.tif"):
        own_data.check_names(listing)


def test_the_labels_that_we_were_given_raise_no_alarm(data):
    """Two images of each source, among them single cells, crossing worms and crowded tissue."""
    by_source = {}
    for entry in catalog.entries(data, "train"):
        by_source.setdefault(entry.source, []).append(entry)
    listing = [entry for entries in by_source.values() for entry in entries[:2]]
    assert len(listing) > 20
    lines = []
    assert own_data.usable(listing, lines.append) == listing
    assert lines == []
