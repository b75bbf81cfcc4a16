"""Nothing lost and nothing stale: what the command replaces, keeps, skips, removes and sums up.

With a network that finds one square in every image, and has no memory for a file of one pixel.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_predict import OneSquare

from app import images, predict


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the image inputs/a.b.tif; no weights are needed."""
    settings = {"weights": "first"}
    monkeypatch.setattr(predict, "load_segmenter", lambda options: (OneSquare(), settings))
    write_image(tmp_path / "inputs" / "a.b.tif")
    return tmp_path


def write_image(path, shape=(6, 8), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)
    Image.fromarray(pixels).save(str(path))
    return path


def run(folder, *options, inputs="inputs", outputs="outputs"):
    return predict.main([str(folder / inputs), str(folder / outputs), *map(str, options)])


def summary(folder, outputs="outputs"):
    """{image: its row} of the summary."""
    with open(folder / outputs / "summary.csv", newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def images_of(path):
    """The image of each row of a table of a run."""
    with open(path, newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


def correct(path):
    """What a user does with a label image: other pixels, all else as it was."""
    with tifffile.TiffFile(str(path)) as file:
        labels, description = file.asarray(), file.pages[0].description
    labels[0, 0] = 9
    tifffile.imwrite(str(path), labels, description=description, metadata=None)
    return path.read_bytes()


def test_labels_of_an_image_of_the_same_stem_are_replaced_aloud(folder, capsys):
    """x.tif in one run and x.png in another have one name for their labels."""
    write_image(folder / "others" / "a.b.png", seed=1)
    assert run(folder) == 0 and run(folder) == 0
    assert "held the labels" not in capsys.readouterr().err
    assert run(folder, inputs="others") == 0
    assert "a.b_label.tiff held the labels of a.b.tif" in capsys.readouterr().err
    assert "a.b.tif" in summary(folder)["a.b.png"]["warnings"]


def test_what_goes_with_the_labels_before_is_said(folder, capsys):
    assert run(folder, "--cells", "--preview") == 0
    assert run(folder, "--cells") == 0
    assert "a.b_preview.png of the labels before went with them" in capsys.readouterr().err
    assert run(folder, "--cells") == 0
    assert "went with them" not in capsys.readouterr().err


def test_the_users_labels_are_not_replaced(folder, capsys):
    truth = folder / "inputs" / "a.b_label.tiff"
    tifffile.imwrite(str(truth), np.ones((6, 8), np.uint16))
    before = truth.read_bytes()
    assert run(folder, "--cells", outputs="inputs") == 1
    out, err = capsys.readouterr()
    assert "not done, a.b_label.tiff is not as this program wrote it" in err
    assert "0 of 1 images done, 1 failed" in out
    assert truth.read_bytes() == before and not (folder / "inputs" / "a.b_cells.csv").exists()
    assert summary(folder, "inputs")["a.b.tif"]["status"] == "kept"
    assert run(folder, "--resume", outputs="inputs") == 0
    assert truth.read_bytes() == before
    assert summary(folder, "inputs")["a.b.tif"]["status"] == "corrected"
    assert run(folder, "--overwrite", outputs="inputs") == 0
    assert truth.read_bytes() != before


def test_a_corrected_label_is_kept_and_counts_as_done_by_resume(folder, capsys):
    label, table = (folder / "outputs" / name for name in ("a.b_label.tiff", "a.b_cells.csv"))
    assert run(folder, "--cells") == run(folder, "--cells") == 0, "our own is replaced unasked"
    corrected, cells = correct(label), table.read_bytes()
    assert run(folder) == 1
    assert run(folder, "--cells") == 1
    assert run(folder, "--cells", "--resume") == 0
    assert "a.b_label.tiff" in capsys.readouterr().err
    assert summary(folder)["a.b.tif"]["status"] == "corrected"
    assert summary(folder)["a.b.tif"]["cells"] == "2"
    assert (label.read_bytes(), table.read_bytes()) == (corrected, cells)
    assert run(folder, "--overwrite", "--cells") == 0
    assert label.read_bytes() != corrected


def test_a_table_that_the_user_changed_is_kept(folder):
    table = folder / "outputs" / "a.b_cells.csv"
    assert run(folder, "--cells") == 0
    table.write_text(table.read_text() + "a remark\n")
    assert run(folder, "--cells") == 1
    assert run(folder) == 0
    assert table.read_text().endswith("a remark\n")
    assert run(folder, "--cells", "--overwrite") == 0
    assert "remark" not in table.read_text()


def test_a_preview_that_this_program_did_not_write_is_kept(folder, capsys):
    preview = folder / "outputs" / "a.b_preview.png"
    write_image(preview)
    theirs = preview.read_bytes()
    assert run(folder) == 0, "it is not in the way of what is asked for"
    assert run(folder, "--preview") == 1
    assert "a.b_preview.png is not as this program wrote it" in capsys.readouterr().err
    assert preview.read_bytes() == theirs
    assert run(folder, "--preview", "--overwrite") == run(folder, "--preview") == 0
    assert preview.read_bytes() != theirs
    assert run(folder) == 0
    assert not preview.exists(), "ours goes with the labels of its run"


def test_a_table_that_the_user_changed_outlives_exports(folder):
    table = folder / "outputs" / "a.b_cells.csv"
    assert run(folder, "--cells") == 0
    table.write_text(table.read_text() + "a remark\n")
    assert run(folder, "--preview") == 0
    assert table.read_text().endswith("a remark\n")


def test_no_export_stays_without_its_labels(folder, monkeypatch):
    def full(*arguments):
        raise images.ImageError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(images, "write_labels", full)
        assert run(folder, "--preview") == 1
    assert [path.name for path in (folder / "outputs").iterdir()] == ["summary.csv"]
    assert run(folder, "--preview") == 0


def test_what_is_not_made_of_corrected_labels_is_said(folder, capsys):
    assert run(folder) == 0
    correct(folder / "outputs" / "a.b_label.tiff")
    capsys.readouterr()
    assert run(folder, "--resume", "--preview") == 0
    said = capsys.readouterr().err
    assert "no table, preview or export is made of it" in said and "*_preview.*" not in said
    assert run(folder, "--resume") == 0
    assert "is made of it" not in capsys.readouterr().err


def test_the_table_of_a_run_has_no_cells_of_corrected_labels(folder, capsys):
    write_image(folder / "inputs" / "c.png")
    joined = folder / "all.csv"
    assert run(folder, "--table", joined) == 0
    assert [line.split(",")[0] for line in joined.read_text().split()] == [
        "image",
        "a.b.tif",
        "c.png",
    ]
    correct(folder / "outputs" / "a.b_label.tiff")
    assert run(folder, "--table", joined, "--resume") == 0
    assert "a.b.tif: not in" in capsys.readouterr().err
    assert images_of(joined) == ["c.png"]


def test_resume_does_not_take_the_label_of_another_image(folder, capsys):
    assert run(folder) == 0
    write_image(folder / "others" / "a.b.tif", seed=1)
    assert run(folder, "--resume", inputs="others") == 0
    assert "before" not in capsys.readouterr().out.splitlines()[-1]
    assert run(folder, "--resume", inputs="others") == 0
    assert "1 of them before" in capsys.readouterr().out
    correct(folder / "outputs" / "a.b_label.tiff")
    assert run(folder, "--resume") == 1, "the user's, and of the other image"


def test_resume_looks_at_the_shape_of_labels_without_a_record(folder):
    label = folder / "outputs" / "a.b_label.tiff"
    label.parent.mkdir()
    for shape, wanted in (((6, 8), 0), ((8, 6), 1)):
        tifffile.imwrite(str(label), np.ones(shape, np.uint16))
        assert run(folder, "--resume") == wanted


@pytest.mark.parametrize("names", [("challenge", "full"), ("full", "challenge")])
def test_labels_under_another_name_count_for_resume(folder, capsys, names):
    assert run(folder, "--names", names[0]) == 0
    assert run(folder, "--names", names[1], "--resume") == 0
    assert "1 of them before" in capsys.readouterr().out
    assert len(list((folder / "outputs").glob("*_label.tiff"))) == 1


def test_no_image_is_refused_for_its_name(folder, capsys):
    for name in ("a.c.tif", "a.b.png", "d.png"):
        write_image(folder / "inputs" / name)
    assert run(folder, "--names", "challenge") == 0
    err = capsys.readouterr().err
    names = {path.name for path in (folder / "outputs").glob("*.tiff")}
    assert names == {f"{stem}_label.tiff" for stem in ("a.b_tif", "a.b_png", "a.c", "d")}
    assert err.count("would share names") == 1 and "3 images" in err


@pytest.mark.parametrize("change", ["bytes", "weights", "nothing", "correction"])
def test_what_an_earlier_run_left_of_an_image_that_fails(folder, capsys, monkeypatch, change):
    label, table = (folder / "outputs" / name for name in ("a.b_label.tiff", "a.b_cells.csv"))
    assert run(folder, "--cells") == 0
    if change == "bytes":
        (folder / "inputs" / "a.b.tif").write_bytes(b"II*\0 damaged")
    elif change == "weights":
        settings = {"weights": "second"}
        monkeypatch.setattr(predict, "load_segmenter", lambda options: (OneSquare(), settings))
    elif change == "correction":
        correct(label)

    def fails(*arguments):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(OneSquare, "find", fails)
    assert run(folder, "--cells", "--overwrite") == 1
    kept = change in ("nothing", "correction")
    assert label.exists() == table.exists() == kept
    said = "a.b_label.tiff, which was there before, is kept" if kept else "is removed"
    assert said in capsys.readouterr().err and said in summary(folder)["a.b.tif"]["warnings"]


def test_every_run_sums_up_and_those_that_share_a_folder_are_merged(folder):
    write_image(folder / "inputs" / "pixel.png", (1, 1))
    assert run(folder) == 1
    rows = summary(folder)
    assert list(rows) == ["a.b.tif", "pixel.png"]
    columns = "image,status,cells,mean score,scale,seconds,warnings,reason"
    assert list(rows["a.b.tif"]) == columns.split(",")
    assert (rows["a.b.tif"]["cells"], rows["a.b.tif"]["mean score"]) == ("1", "1.00")
    assert rows["a.b.tif"]["warnings"] == "a note of the segmenter"
    assert rows["pixel.png"]["reason"] == "RuntimeError: out of memory"
    write_image(folder / "others" / "c.png")
    assert run(folder, inputs="others") == 0
    status = {image: row["status"] for image, row in summary(folder).items()}
    assert status == {"a.b.tif": "done", "c.png": "done", "pixel.png": "failed"}
    assert run(folder, "--resume") == 1
    assert summary(folder)["a.b.tif"] == rows["a.b.tif"], "the row of the run that did it"


def test_a_summary_of_the_users_is_not_touched(folder, capsys):
    theirs = folder / "outputs" / "summary.csv"
    theirs.parent.mkdir()
    for text in ("plate,cells\nA,3\n", "", "image,status\n"):
        theirs.write_text(text)
        assert run(folder) == 0
        assert theirs.read_text() == text
        assert "summary.csv is not of this program" in capsys.readouterr().err


# What INPUTS may be


@pytest.mark.parametrize("given", [["", "out"], ["in", ""], ["in", "--out", ""]])
def test_an_empty_argument_is_not_the_current_folder(given, capsys):
    """`sh predict.sh "$UNSET" out` would segment whatever lies here."""
    with pytest.raises(SystemExit) as stop:
        predict.main(given)
    assert stop.value.code == 2 and "an argument is empty" in capsys.readouterr().err


def test_a_single_file_gets_its_labels_beside_it_or_in_a_folder(folder):
    image = folder / "inputs" / "a.b.tif"
    assert predict.main([str(image)]) == 0
    assert (folder / "inputs" / "a.b_label.tiff").is_file()
    assert run(folder, inputs="inputs/a.b.tif") == 0
    assert (folder / "outputs" / "a.b_label.tiff").is_file()


def test_several_files_need_a_folder_for_their_labels(folder, capsys):
    files = [write_image(folder / place / "x.png") for place in ("one", "two")]
    files += [folder / "inputs" / "a.b.tif", files[0]]
    for wrong in (files[:2], files):
        with pytest.raises(SystemExit):
            predict.main([str(path) for path in wrong])
        assert "need --out DIR" in capsys.readouterr().err
    assert predict.main([*map(str, files), "--out", str(folder / "outputs")]) == 0
    names = {path.name for path in (folder / "outputs").glob("*.tiff")}
    assert names == {f"{stem}_label.tiff" for stem in ("a.b", "one_x.png", "two_x.png")}
    assert len(summary(folder)) == 3


def test_recursive_keeps_the_tree_and_leaves_the_outputs_out(folder, capsys):
    for name in ("plate/w.1/x.png", "plate/y.png", ".hidden/z.png"):
        write_image(folder / "inputs" / name)
    assert run(folder) == 0
    assert "plate: passed over, a folder" in capsys.readouterr().err
    labels = folder / "inputs" / "labels"
    for _ in range(2):
        assert run(folder, "--recursive", outputs="inputs/labels") == 0
        names = {path.relative_to(labels).as_posix() for path in labels.rglob("*.tiff")}
        assert names == {f"{stem}_label.tiff" for stem in ("a.b", "plate/w.1/x", "plate/y")}
    assert set(summary(folder, "inputs/labels")) == {"a.b.tif", "plate/w.1/x.png", "plate/y.png"}


def test_a_closed_folder_in_the_inputs_is_named_and_the_others_are_done(
    folder, capsys, monkeypatch
):
    for name in ("a/x.png", "b/y.png"):
        write_image(folder / "inputs" / name)

    def listed(path, iterdir=Path.iterdir):
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", listed)
    assert run(folder, "--recursive") == 1
    out, err = capsys.readouterr()
    assert "a: failed, the folder cannot be listed (Permission denied): user" in err
    assert "2 of 3 images done, 1 failed" in out
    assert (folder / "outputs" / "b" / "y_label.tiff").is_file()


def test_outputs_that_are_lost_with_the_container_are_warned_of(folder, capsys, monkeypatch):
    predict.warn_of_lost_outputs(folder / "outputs")
    monkeypatch.setenv("CPN_CONTAINER", "1")
    assert not capsys.readouterr().err
    monkeypatch.setattr("os.stat", lambda path, stat=predict.os.stat: stat("/"))
    predict.warn_of_lost_outputs(folder / "outputs")
    assert "will be lost with the container" in capsys.readouterr().err
