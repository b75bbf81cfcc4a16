"""Which label images belong together, what is read from them, and which group they are of."""

import re
import warnings

import numpy as np
import pytest
import tifffile
from drawn import drawn, save

from evaluate.folders import (
    EvaluationError,
    LabelError,
    group_of,
    list_images,
    list_labels,
    list_truth,
    only,
    paired,
    pairs,
    read_groups,
    read_labels,
)


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def names(found):
    return {stem: [path.name for path in paths] for stem, paths in found.items()}


def test_images_and_labels_side_by_side_are_told_apart(tmp_path):
    touch(tmp_path, "b.PNG", "a.tif", "a_label.png", "b_LABEL.TIFF", "c.x.jpg", "notes.txt")
    touch(tmp_path, ".hidden.png", "._a_label.png", "_label.png", "d_cells.csv")
    touch(tmp_path, "a_preview.png", "b_preview.jpg")
    (tmp_path / "folder.png").mkdir()
    assert names(list_images(tmp_path)) == {"a": ["a.tif"], "b": ["b.PNG"], "c.x": ["c.x.jpg"]}
    assert names(list_labels(tmp_path)) == {"a": ["a_label.png"], "b": ["b_LABEL.TIFF"]}
    assert list(list_images(tmp_path)) == ["a", "b", "c.x"], "sorted"


def test_images_have_the_stems_that_prediction_names_labels_by(tmp_path):
    images = touch(tmp_path / "images", "x.tif", "x.jpg", "c.1.ome.tif", "c.2.ome.tif", "p.a.png")
    labels = touch(tmp_path / "labels", "x_tif_label.tiff", "x_jpg_label.tiff", "p_label.tiff")
    touch(labels, "c.1_label.tiff", "c.2_label.tiff")
    found = paired(list_images(images), list_labels(labels))
    alike = ["c.1", "c.2", "x_jpg", "x_tif"]
    assert sorted(found) == [*((stem, stem) for stem in alike[:2]), ("p.a", "p")] + [
        (stem, stem) for stem in alike[2:]
    ]


def test_truth_is_named_label_or_as_the_image_in_a_folder_without_any_label(tmp_path):
    assert names(list_truth(touch(tmp_path / "bare", "a.png", "b.tif", "c.jpg"))) == {
        "a": ["a.png"],
        "b": ["b.tif"],
    }
    assert names(list_truth(touch(tmp_path / "both", "a.png", "a_label.tif", "b.png"))) == {
        "a": ["a_label.tif"]
    }


def test_other_suffixes_and_other_folders(tmp_path):
    touch(tmp_path, "a.png", "a_cp_masks.tif", "b_CP_masks.TIF", "a_label.tiff")
    assert names(list_labels(tmp_path, "_cp_masks.tif")) == {
        "a": ["a_cp_masks.tif"],
        "b": ["b_CP_masks.TIF"],
    }
    assert list_truth(tmp_path, "_mask.png") == {}
    with pytest.raises(EvaluationError, match="nowhere cannot be listed: No such file"):
        list_labels(tmp_path / "nowhere")


def test_equal_stems_pair_else_the_only_ones_of_a_name():
    assert paired(["a", "b"], ["b", "c"]) == [("a", None), ("b", "b"), (None, "c")]
    # app.predict writes a_label.tiff for a.b.tif
    assert paired(["a.b"], ["a"]) == [("a.b", "a")]
    assert paired(["a"], ["a.b"]) == [("a", "a.b")]
    assert paired(["a.1", "a.2"], ["a.2", "a.1"]) == [("a.1", "a.1"), ("a.2", "a.2")]
    # which of the two it is, the name does not say
    assert paired(["a.1", "a.2"], ["a"]) == [("a.1", None), ("a.2", None), (None, "a")]
    assert paired(["a.1"], ["a.1", "a.2"]) == [("a.1", "a.1"), (None, "a.2")]
    assert paired([], ["a"]) == [(None, "a")]


def test_pairs_are_of_all_truths_and_all_predictions(tmp_path):
    truth = touch(tmp_path / "truth", "a.x_label.png", "b_label.png", "d_label.tif", "d_label.png")
    labels = touch(tmp_path / "labels", "a_label.tiff", "c_label.tif", "d_label.tiff")
    found = pairs(truth, labels)
    assert [(pair.stem, pair.name) for pair in found] == [
        ("a", "a_label.tiff"),
        ("b", "b_label.tiff"),
        ("c", "c_label.tif"),
        ("d", "d_label.tiff"),
    ]
    a, b, c, d = found
    assert only(a.truth, "truth").name == "a.x_label.png" and only(a.labels, "").is_file()
    assert not b.labels and not c.truth
    with pytest.raises(LabelError, match="no prediction"):
        only(b.labels, "prediction")
    with pytest.raises(LabelError, match=r"than one truth: d_label.png and d_label.tif; keep one"):
        only(d.truth, "truth")
    assert pairs(truth, labels, label_suffix="_masks.tif")[0].name == "a.x_masks.tif"
    with pytest.raises(EvaluationError, match="no label images"):
        pairs(touch(tmp_path / "empty"), tmp_path / "empty")


def test_label_files_keep_their_type_whatever_their_extension(tmp_path):
    cells = drawn((20, 20), (3, 3, 7, 7))
    files = {
        "a.png": np.uint8,
        "b.PNG": np.uint16,
        "c.tif": np.uint16,
        "d.tiff": np.uint32,
        "e.tif": np.int32,
        "f.tif": np.uint64,
    }
    for name, dtype in files.items():
        save(tmp_path / name, cells.astype(dtype))
        labels = read_labels(tmp_path / name)
        assert labels.dtype == dtype and np.array_equal(labels, cells)
    (tmp_path / "a.png").rename(tmp_path / "really_png.tif")
    assert np.array_equal(read_labels(tmp_path / "really_png.tif"), cells)
    largest = cells * np.uint64(2**64 - 1)
    save(tmp_path / "g.tif", largest)
    assert read_labels(tmp_path / "g.tif").max() == 2**64 - 1


def test_floats_of_whole_numbers_are_labels(tmp_path):
    path = tmp_path / "a.tif"
    for most, dtype in ((7, np.uint32), (2.0**31, np.uint32), (2.0**40, np.uint64)):
        save(path, np.array([[0, 1, most]], np.float64))
        labels = read_labels(path)
        assert labels.dtype == dtype and labels.tolist() == [[0, 1, most]]
    for dtype in (np.float16, np.float32, bool):
        save(path, np.array([[0, 1]], dtype))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_labels(path).tolist() == [[0, 1]]
    refused = (
        ([[0, 0.5]], "fractions"),
        ([[0, np.nan]], "fractions"),
        ([[0, -2.0]], "negative label, -2"),
        ([[0, 2.0**64]], "beyond 64 bits"),
    )
    for values, reason in refused:
        save(path, np.array(values))
        with pytest.raises(LabelError, match=reason):
            read_labels(path)


def test_what_is_no_label_image_is_refused_by_name(tmp_path):
    arrays = {
        "rgb.png": (np.arange(192, dtype=np.uint8).reshape(8, 8, 3), r"has the shape \(8, 8, 3\)"),
        "stack.tif": (np.zeros((2, 8, 8), np.uint16), r"has the shape \(2, 8, 8\)"),
        "minus.tif": (np.full((8, 8), -3, np.int16), "has a negative label, -3"),
        "complex.tif": (np.zeros((8, 8), np.complex64), "holds complex64"),
    }
    for name, (array, reason) in arrays.items():
        save(tmp_path / name, array)
        with pytest.raises(LabelError, match=f"{name} {reason}"):
            read_labels(tmp_path / name)
    (tmp_path / "none.tif").write_bytes(b"II*\0\0\0\0\0")  # a header, and nothing that it leads to
    with pytest.raises(LabelError, match="none.tif cannot be read: there is no image in it"):
        read_labels(tmp_path / "none.tif")
    with pytest.raises(LabelError, match="nowhere.tif cannot be read: .*No such file"):
        read_labels(tmp_path / "nowhere.tif")


@pytest.mark.parametrize("compression", [None, "zlib", "lzma"])  # lzma makes do without its end
def test_a_tiff_file_that_is_cut_anywhere_is_refused(tmp_path, compression):
    labels = np.random.default_rng(1).integers(0, 99, (90, 80))
    tifffile.imwrite(str(tmp_path / "a.tif"), labels, compression=compression)
    check_cut(tmp_path / "a.tif")


def test_a_png_file_that_is_cut_anywhere_is_refused(tmp_path):
    save(tmp_path / "a.png", np.random.default_rng(1).integers(0, 99, (90, 80)).astype(np.uint16))
    check_cut(tmp_path / "a.png")


def check_cut(path):
    whole = path.read_bytes()
    for part in (0, 4, 8, 50, len(whole) // 2, len(whole) - 200, len(whole) - 1):
        path.write_bytes(whole[:part])
        with pytest.raises(LabelError, match=f"{re.escape(str(path))} cannot be read"):
            read_labels(path)


def test_groups_are_known_by_image_label_or_name(tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text(
        "\ufeffimage,extra,modality\nsub/a.b.png,1,Fluo\nc_label.tiff,2,BF\nd_masks.tif,3,PC\ne,4,PC"
    )
    groups = read_groups(table, ["_masks.tif"])
    stems = {"a.b": "Fluo", "a": "Fluo", "c": "BF", "d": "PC", "e": "PC", "e.tile": "PC"}
    assert {stem: group_of(groups, stem) for stem in stems} == stems
    with pytest.raises(EvaluationError, match="gives x no group"):
        group_of(groups, "x")


def test_a_table_of_groups_that_does_not_say_is_refused(tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("name,group\na.png,Fluo\na.tif,BF\nb.1.png,BF\nb.2.png,PC\nempty.png,\n")
    groups = read_groups(table)
    assert group_of(groups, "b.1") == "BF"
    for stem, said in (("a", "gives a BF and Fluo"), ("b", "BF and PC"), ("empty", "no group")):
        with pytest.raises(EvaluationError, match=said):
            group_of(groups, stem)
    for content in (b"", b"a.png,Fluo\n", b"name,modalities\n", b"\xff\xfe\x00name"):
        table.write_bytes(content)
        with pytest.raises(EvaluationError, match="groups.csv"):
            read_groups(table)
