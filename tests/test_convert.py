"""python -m training.convert: the published layouts, exactly, and what is wrong with them."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from app import images
from training import catalog, packing
from training.convert import __main__ as command
from training.convert import coco, instances, patches
from training.convert.datasets import DATASETS

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (12, 16)


def draw(*boxes, shape=SHAPE):
    """A label image: box k, (top, left, bottom, right), half-open, has the value k + 1."""
    label = np.zeros(shape, np.uint16)
    for k, (top, left, bottom, right) in enumerate(boxes):
        label[top:bottom, left:right] = k + 1
    return label


LABEL = draw((1, 1, 4, 5), (5, 2, 9, 8), (2, 9, 11, 15))


def picture(number=0, shape=SHAPE, dtype=np.uint8):
    """An image of its own for each number."""
    return np.random.default_rng(number).integers(0, 200, shape).astype(dtype)


def save(path, array):
    """Write an array as the file that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.startswith(".tif"):
        tifffile.imwrite(str(path), array)
    else:
        cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)
    return path


def damage(path):
    """Cut a file in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def run(name, source, target):
    """The exit status, and the rows of the catalogue by the image's name without ending."""
    status = command.main([name, str(source), str(target)])
    if not (target / "catalog.csv").exists():
        return status, None
    with (target / "catalog.csv").open(newline="") as lines:
        return status, {row["image"].rpartition(".")[0]: row for row in csv.DictReader(lines)}


def label_of(target, row):
    """The label image of a row of the catalogue."""
    return images.read(target / row["source"] / row["label"])[0]


def splits(rows):
    """{name: split} of rows."""
    return {name: row["split"] for name, row in rows.items()}


def make_neurips(source):
    for number in range(12):
        name = f"cell_{number:05d}"
        ending = (".png", ".bmp", ".tif")[number % 3]
        save(source / "Training-labeled" / "images" / (name + ending), picture(number))
        save(source / "Training-labeled" / "labels" / f"{name}_label.tiff", LABEL)


def make_beside(source):
    for part in ("train", "test"):
        save(source / part / "000_img.png", picture(shape=(*SHAPE, 3)))
        save(source / part / "000_masks.png", LABEL)


def make_omnipose(source):
    for part in ("bact_phase/train_sorted/A22", "bact_phase/test_sorted/A22"):
        save(source / part / "cells_1.tif", picture(dtype=np.uint16))
        save(source / part / "cells_1_masks.tif", LABEL)
        save(source / part / "cells_1_flows.tif", np.zeros((5, *SHAPE), np.float32))


def make_livecell(source, as_dict=False):
    square = {"image_id": 7, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]}
    for part, cell in (("train", "A172"), ("val", "BV2"), ("test", "MCF7")):
        folder = "livecell_test_images" if part == "test" else "livecell_train_val_images"
        save(source / "images" / folder / cell / f"{cell}_1.tif", picture())
        annotations = {"3": square} if as_dict else [square]
        write_coco(source, part, [(7, f"{cell}_1.tif")], annotations)


def write_coco(source, part, pictures, annotations):
    content = {
        "images": [{"id": number, "file_name": name} for number, name in pictures],
        "annotations": annotations,
    }
    (source / f"livecell_coco_{part}.json").write_text(json.dumps(content))


def make_sartorius(source, rows=("1 3 17 3", "40 2")):
    save(source / "train" / "a1.png", picture(1))
    save(source / "train" / "b2.png", picture(2))
    lines = [("a1", text, 16, 12, "cort") for text in rows] + [("b2", "5 4", 16, 12, "astro")]
    with (source / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "annotation", "width", "height", "cell_type"))
        writer.writerows(lines)


def make_bbbc038(source):
    for number in range(2):
        place = source / "stage1_train" / f"id{number}"
        save(place / "images" / f"id{number}.png", picture(number, (*SHAPE, 3)))
        for k in (1, 2, 3):
            save(place / "masks" / f"{k}.png", np.equal(LABEL, k) * np.uint8(255))


def make_bbbc039(source):
    mask = np.zeros((*SHAPE, 4), np.uint8)
    mask[1:4, 1:5, 2] = 1  # OpenCV's order: the third is red
    mask[1:4, 5:9, 2] = 2  # touches the first
    mask[6:9, 1:5, 2] = 1  # the first one's value, apart
    mask[6:9, 8:12, 1] = 9  # not in the red channel
    mask[..., 3] = 255
    (source / "metadata").mkdir(parents=True)
    for name, file in (("a", "training"), ("b", "validation"), ("c", "test")):
        save(source / "images" / f"{name}.tif", picture(dtype=np.uint16))
        save(source / "masks" / f"{name}.png", np.ones(1))
        cv2.imwrite(str(source / "masks" / f"{name}.png"), mask)
        (source / "metadata" / f"{file}.txt").write_text(f"{name}.png\n")


MAKERS = {
    "neurips": make_neurips,
    "cellpose": make_beside,
    "omnipose": make_omnipose,
    "livecell": make_livecell,
    "sartorius": make_sartorius,
    "bbbc038": make_bbbc038,
    "bbbc039": make_bbbc039,
}


def make(name, tmp_path, *options):
    """Make a small data set in the published layout; returns its folder."""
    source = tmp_path / "source"
    source.mkdir()
    MAKERS[name](source, *options)
    return source


@pytest.fixture(params=sorted(MAKERS))
def made(request, tmp_path):
    """(name, source, target) of each published data set."""
    return request.param, make(request.param, tmp_path), tmp_path / "target"


def test_there_is_a_test_of_every_data_set():
    assert MAKERS.keys() == DATASETS.keys()


def test_training_reads_what_was_converted(made):
    name, source, target = made
    assert command.main([name, str(source), str(target)]) == 0
    for split in ("train", "val"):
        listing = catalog.entries(target, split)
        assert {entry.source for entry in listing} == {name}
        pack = packing.pack(listing, target / "pack")
        assert (pack.heights == SHAPE[0]).all() and (pack.widths == SHAPE[1]).all()


def test_images_are_copied_byte_by_byte_and_described(made):
    name, source, target = made
    status, rows = run(name, source, target)
    originals = {path.read_bytes() for path in source.rglob("*") if path.is_file()}
    for row in rows.values():
        path = target / name / row["image"]
        image, label = images.read(path)[0], label_of(target, row)
        assert path.read_bytes() in originals
        assert (int(row["height"]), int(row["width"])) == image.shape[:2] == label.shape
        assert int(row["channels"]) == (image.shape[2] if image.ndim == 3 else 1)
        assert row["dtype"] == image.dtype.name
        assert int(row["instances"]) == len(np.unique(label[label > 0]))
        assert row["licence"] == DATASETS[name].licence


def test_the_catalogue_has_the_columns_of_the_shared_one(made, data):
    name, source, target = made
    run(name, source, target)
    with (data / "catalog.csv").open(newline="") as theirs:
        known = next(csv.reader(theirs))
    with (target / "catalog.csv").open(newline="") as ours:
        columns = next(csv.reader(ours))
    assert sorted(columns) == sorted([*known, "percentile", "gamma_floor", "largest"])


@pytest.mark.parametrize(
    "name, percentile, gamma_floor, largest",
    [
        ("bbbc039", 99.9, 0.6, None),
        ("omnipose", 99.9, 0.6, 92),
        ("bbbc038", None, 0.4, None),
        ("cellpose", None, 0.6, 256),
        ("livecell", None, 0.6, None),
    ],
)
def test_training_gets_the_conversion_rule_of_each_set(
    name, percentile, gamma_floor, largest, tmp_path
):
    run(name, make(name, tmp_path), tmp_path / "target")
    for entry in catalog.entries(tmp_path / "target", "train"):
        found = (entry.percentile, entry.gamma_floor, entry.largest)
        assert found == (percentile, gamma_floor, largest)


def test_neurips_label_images_come_as_they_are_and_one_in_ten_is_for_validation(tmp_path):
    make("neurips", tmp_path)
    status, rows = run("neurips", tmp_path / "source", tmp_path / "target")
    assert status == 0
    assert len(rows) == 12
    assert [name for name, split in splits(rows).items() if split == "val"] == [
        "cell_00001",
        "cell_00011",
    ]
    assert all((label_of(tmp_path / "target", row) == LABEL).all() for row in rows.values())


def test_neurips_takes_images_and_labels_right_in_the_folder(tmp_path):
    save(tmp_path / "source" / "images" / "cell.tif", picture())
    save(tmp_path / "source" / "labels" / "cell_label.tiff", LABEL)
    assert splits(run("neurips", tmp_path / "source", tmp_path / "target")[1]) == {"cell": "train"}


def test_neurips_validates_on_the_tuning_set_and_leaves_the_test_set_alone(tmp_path):
    for part in ("Training-labeled/Training-labeled", "Tuning", "Testing/Hidden"):
        save(tmp_path / "source" / part / "images" / "cell.png", picture())
        save(tmp_path / "source" / part / "labels" / "cell_label.tiff", LABEL)
    _, rows = run("neurips", tmp_path / "source", tmp_path / "target")
    assert sorted(splits(rows).values()) == ["train", "val"]


@pytest.mark.parametrize("folder", ["unlabeled", "Train-Unlabeled", "Train_Unlabeled/part1/a"])
def test_unlabelled_images_are_found_by_the_name_of_their_folder(folder, tmp_path):
    make("neurips", tmp_path)
    small = save(tmp_path / "source" / folder / "small.png", picture())
    assert run("neurips", tmp_path / "source", tmp_path / "target")[0] == 0
    (copy,) = (tmp_path / "target" / "unlabelled").iterdir()
    assert copy.read_bytes() == small.read_bytes()
    (entry,) = catalog.unlabelled(tmp_path / "target" / "unlabelled")
    assert entry.image == copy


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)])
def test_patches_are_the_pixels_of_the_slide(channels, dtype, tmp_path):
    slide = picture(0, (1030, 2000, *channels), dtype)
    options = {"photometric": "rgb" if channels == (3,) else "minisblack"}
    if channels:
        options["planarconfig"] = "contig"
    tifffile.imwrite(str(tmp_path / "slide.tif"), slide, **options)
    patches.write_patches(tmp_path / "slide.tif", tmp_path / "out", set())
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    tops, lefts = (0, 6), (0, 896, 976)
    assert found == sorted(f"slide_{top}_{left}.tif" for top in tops for left in lefts)
    for name in found:
        top, left = map(int, Path(name).stem.split("_")[1:])
        patch = images.read(tmp_path / "out" / name)[0]
        assert patch.dtype == dtype
        assert np.array_equal(patch, slide[top : top + 1024, left : left + 1024])


@pytest.mark.parametrize("length", [1, 1023, 1024, 1025, 1920, 1921, 9398])
def test_patches_cover_a_side_without_leaving_it(length):
    starts = patches.starts(length)
    covered = np.zeros(length, int)
    for start in starts:
        covered[start : start + patches.SIZE] += 1
    assert covered.min() == 1
    assert starts[0] == 0 and len(set(starts)) == len(starts)
    assert starts[-1] == max(length - patches.SIZE, 0)
    assert (np.diff(starts)[:-1] == patches.STRIDE).all()


def test_a_damaged_slide_is_named_and_leaves_no_patch(tmp_path, capsys):
    make("neurips", tmp_path)
    slide = tmp_path / "source" / "unlabeled" / "slide.tif"
    slide.parent.mkdir()
    # Above 64 MB, so that it is read in parts; the damage is in the last of them.
    noise = np.random.default_rng(0).integers(0, 255, (8300, 8300), np.uint8)
    tifffile.imwrite(str(slide), noise, compression="zlib", rowsperstrip=64)
    with tifffile.TiffFile(str(slide)) as tif:
        offset, size = tif.pages[0].dataoffsets[-1], tif.pages[0].databytecounts[-1]
    with slide.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(size))
    save(slide.parent / "whole.png", picture())
    status, rows = run("neurips", tmp_path / "source", tmp_path / "target")
    assert status == 1
    assert len(rows) == 12
    assert "slide.tif is left out" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "target" / "unlabelled").iterdir()] == ["whole.png"]


def test_cellpose_images_of_one_name_do_not_clash(tmp_path):
    make("cellpose", tmp_path)
    status, rows = run("cellpose", tmp_path / "source", tmp_path / "target")
    assert status == 0
    assert splits(rows) == {"train_000": "train", "test_000": "val"}
    assert all((label_of(tmp_path / "target", row) == LABEL).all() for row in rows.values())


def test_omnipose_is_found_in_nested_folders_and_flow_fields_are_no_images(tmp_path, capsys):
    make("omnipose", tmp_path)
    status, rows = run("omnipose", tmp_path / "source", tmp_path / "target")
    assert status == 0
    assert splits(rows) == {
        "bact_phase_train_sorted_A22_cells_1": "train",
        "bact_phase_test_sorted_A22_cells_1": "val",
    }
    assert "flows" not in capsys.readouterr().err


def test_names_that_become_one_get_a_number(tmp_path):
    for name in ("a_b/c", "a/b_c", "A/b.c"):
        save(tmp_path / "source" / f"{name}.png", picture())
        save(tmp_path / "source" / f"{name}_masks.png", LABEL)
    save(tmp_path / "source" / "a_b_c_label_img.png", picture())
    save(tmp_path / "source" / "a_b_c_label_masks.png", LABEL)
    status, rows = run("omnipose", tmp_path / "source", tmp_path / "target")
    assert status == 0
    files = [path.name.split(".")[0].lower() for path in (tmp_path / "target/omnipose").iterdir()]
    assert len(rows) == 4 and len(set(files)) == 8
    names = [entry.flat_name for entry in catalog.list_catalogue(tmp_path / "target")["train"]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("as_dict", [False, True])
def test_livecell_polygons_count_from_the_corner_of_the_first_pixel(as_dict, tmp_path):
    source, target = make("livecell", tmp_path, as_dict), tmp_path / "target"
    status, rows = run("livecell", source, target)
    assert status == 0
    assert splits(rows) == {"A172_1": "train", "BV2_1": "val", "MCF7_1": "test"}
    for row in rows.values():
        assert (label_of(target, row) == draw((1, 1, 4, 5))).all()


def test_an_object_of_several_polygons_is_one(tmp_path):
    square, other = [1, 1, 3, 1, 3, 3, 1, 3], [6, 6, 9, 6, 9, 8, 6, 8]
    label = coco.draw_cells([[square, other]], SHAPE)
    assert (label == (draw((1, 1, 3, 3), (6, 6, 8, 9)) > 0)).all()


def test_a_polygon_takes_the_pixels_whose_centres_are_inside():
    within = [1.4, 1.4, 3.4, 1.4, 3.4, 3.6, 1.4, 3.6]
    beyond = [-5, -5, 99, -5, 99, 2, -5, 2]
    assert (coco.draw_cells([[within]], SHAPE) == draw((1, 1, 4, 3))).all()
    assert (coco.draw_cells([[beyond]], SHAPE) == draw((0, 0, 2, 16))).all()


def test_a_polygon_without_a_centre_inside_is_no_object():
    for points in ([1, 1, 2, 2], [3.6, 3.6, 3.9, 3.6, 3.9, 3.9], [90, 90, 99, 90, 99, 99]):
        assert (coco.draw_cells([[points]], SHAPE) == 0).all()


COMPRESSED = "c2k0=0W5WObK000000000000000000000l00TO0000000R5"


@pytest.mark.parametrize(
    "shape, boxes, counts",
    [
        ((9, 7), [(2, 1, 5, 6)], [11, 3, 6, 3, 6, 3, 6, 3, 6, 3, 13]),
        ((9, 7), [(0, 0, 9, 2)], [0, 18, 45]),
        ((9, 7), [(2, 1, 5, 6)], [11, 3, 6, 3, 6, 0, 0, 3, 6, 3, 6, 3, 13, 0]),
        # As pycocotools 2.0.11 compresses them.
        ((9, 7), [(2, 1, 5, 6)], ";3600000007"),
        ((40, 30), [(3, 2, 30, 4), (10, 8, 12, 20), (38, 20, 40, 25)], COMPRESSED),
    ],
)
def test_run_length_masks_are_read_column_by_column(shape, boxes, counts):
    label = coco.draw_cells([{"size": list(shape), "counts": counts}], shape)
    assert (label == (draw(*boxes, shape=shape) > 0)).all()


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[1, 1, 5, 1, 5]],
        [["a", "b"]],
        [[1, 1, float("nan"), 1, 5, 5]],
        {"size": [12, 16], "counts": [1, 2]},
        {"size": [16, 12], "counts": [192]},
        {"size": [12, 16], "counts": [200, -8]},
        {"size": [12, 16]},
    ],
)
def test_a_damaged_annotation_leaves_its_image_out(segmentation, tmp_path, capsys):
    source = make("livecell", tmp_path)
    save(source / "images" / "other.tif", picture())
    annotations = [
        {"image_id": 1, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]},
        {"image_id": 2, "segmentation": segmentation},
    ]
    write_coco(source, "train", [(1, "A172_1.tif"), (2, "other.tif")], annotations)
    status, rows = run("livecell", source, tmp_path / "target")
    assert status == 1
    assert rows.keys() == {"A172_1", "BV2_1", "MCF7_1"}
    assert "other.tif is left out: its annotation 0 is damaged" in capsys.readouterr().err


HOSTILE = """
import random, sys
from training.convert.coco import draw_cells

def is_good(text):
    # The runs of a text cover the image: decoded as pycocotools says, but slowly.
    counts, value, shift = [], 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            return False
        value, shift = value | (bits & 31) << shift, shift + 5
        if not bits & 32:
            value -= (bits & 16 > 0) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return shift == 0 and min(counts, default=-1) >= 0 and sum(counts) == 1200

shape, rng = (40, 30), random.Random(int(sys.argv[1]))
text = "c2k0=0W5WObK000000000000000000000l00TO0000000R5"
texts = [text, "", "o", "0" * 10**6, "o" * 10**6, "o" * 7 + "0", "\\0" + text, text + "\\0"]
texts += [text + "o", text[:-1], text + "0", text + "1", text[:9] + "\u00fc" + text[9:], " " + text]
for _ in range(3000):
    letters = [chr(rng.randrange(40, 120)) if rng.random() < 0.05 else c for c in text]
    texts.append("".join(letters[: rng.choice((len(text), rng.randrange(len(text))))]))
lists = [[], [0], [1200, 1], [1200, 2**32], [-1, 1201], [2**31] * 9, [2**63 - 1, 2**63 - 1, 1202]]
lists += [[10**30], [float("nan")], [[600, 600]], ["a"], [0, 2**32 - 1] * 999, [0] * 10**6]
lists += [None, {}]
masks = [{"size": list(shape), "counts": counts} for counts in texts + lists]
masks += [{"size": size, "counts": text} for size in ([-40, -30], [2**40, 1], [40], 3, ["40", 30])]
far = (1e9, -1e9, 1e300, float("inf"), float("nan"), 2**63)
polygons = [[[0, 0, x, 0, 0, x]] for x in far] + [[[x, x, x + 1, x, x, x + 1]] for x in far]
polygons += [[[0, 0, 9e5, 0] * 10**3], [[1, 1, 5, 1, 5, 5], [1]], [[]], [[1, 1, 5, 1, 5, 5], []]]
good = 0
for segmentation in masks + polygons:
    counts = segmentation["counts"] if isinstance(segmentation, dict) else None
    whole = isinstance(counts, str) and segmentation["size"] == [40, 30] and is_good(counts)
    try:
        label = draw_cells([segmentation], shape)
        assert whole and label.shape == shape and set(label.flat) <= {0, 1}, segmentation
        good += 1
    except ValueError as error:
        assert not whole and "its annotation 0 is damaged" in str(error), segmentation
print(good, len(texts))
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_hostile_annotations_are_refused_and_end_nothing_else(seed):
    """In a process of their own: what pycocotools makes of them unchecked ends the interpreter."""
    command = [sys.executable, "-c", HOSTILE, str(seed)]
    done = subprocess.run(command, cwd=str(ROOT), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    good, tried = map(int, done.stdout.split())
    assert 10 < good < tried / 2


def test_other_data_sets_are_converted_without_pycocotools(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.delitem(sys.modules, "training.convert.coco")
    for name, status in (("bbbc038", 0), ("livecell", 2)):
        (tmp_path / name).mkdir()
        capsys.readouterr()
        assert run(name, make(name, tmp_path / name), tmp_path / name / "target")[0] == status
    assert "training/requirements.txt" in capsys.readouterr().err


def test_an_image_annotated_twice_comes_once_with_more_cells_and_not_for_training(tmp_path):
    source = make("livecell", tmp_path)
    one = {"image_id": 1, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]}
    two = {"image_id": 2, "segmentation": [[8, 8, 12, 8, 12, 11, 8, 11]]}
    pictures = [(1, "BV2_1.tif"), (2, "BV2_1.tif"), (3, "A172_1.tif")]
    both = [one, two, {**two, "segmentation": one["segmentation"]}]
    write_coco(source, "train", pictures, both)
    target = tmp_path / "target"
    status, rows = run("livecell", source, target)
    assert status == 0
    assert splits(rows) == {"A172_1": "train", "BV2_1": "val", "MCF7_1": "test"}
    assert (label_of(target, rows["BV2_1"]) == draw((8, 8, 11, 12), (1, 1, 4, 5))).all()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"images": []}', '{"images": 1, "annotations": []}']
)
def test_a_damaged_part_of_livecell_is_named_and_the_others_converted(content, tmp_path, capsys):
    source = make("livecell", tmp_path)
    (source / "livecell_coco_test.json").write_text(content)
    status, rows = run("livecell", source, tmp_path / "target")
    assert status == 1
    assert splits(rows) == {"A172_1": "train", "BV2_1": "val"}
    assert "livecell_coco_test.json is left out" in capsys.readouterr().err


def test_sartorius_runs_are_row_by_row_from_one(tmp_path):
    make("sartorius", tmp_path)
    status, rows = run("sartorius", tmp_path / "source", tmp_path / "target")
    assert status == 0
    expected = draw((0, 0, 2, 3))
    expected[2, 7:9] = 2
    assert (label_of(tmp_path / "target", rows["a1"]) == expected).all()
    assert (label_of(tmp_path / "target", rows["b2"]) == draw((0, 4, 1, 8))).all()


@pytest.mark.parametrize(
    "text",
    ["", "1", "1 2 3", "0 2", "1 0", "192 2", "a b", "-3 4", "9" * 30 + " 1", f"2 {2**63 - 1}"],
)
def test_damaged_runs_leave_their_image_out(text, tmp_path, capsys):
    make("sartorius", tmp_path, ("1 3", text))
    status, rows = run("sartorius", tmp_path / "source", tmp_path / "target")
    assert status == 1
    assert rows.keys() == {"b2"}
    assert "a1.png is left out" in capsys.readouterr().err


def test_sartorius_rows_of_another_size_leave_their_image_out(tmp_path, capsys):
    make("sartorius", tmp_path)
    save(tmp_path / "source" / "train" / "a1.png", picture(shape=(16, 12)))
    status, rows = run("sartorius", tmp_path / "source", tmp_path / "target")
    assert (status, rows.keys()) == (1, {"b2"})
    assert "12 x 16 pixels" in capsys.readouterr().err


def test_of_overlapping_objects_the_smaller_lies_on_top_in_any_order():
    large, small = np.arange(40), np.arange(10, 15)
    for objects in ([large, small], [small, large]):
        label = instances.paint(objects, SHAPE).ravel()
        inner, outer = label[10], label[0]
        assert (label[10:15] == inner).all() and inner != outer
        assert (np.delete(label[:40], small) == outer).all()
        assert (label[40:] == 0).all()


def test_bbbc038_masks_become_one_label_image(tmp_path):
    make("bbbc038", tmp_path)
    status, rows = run("bbbc038", tmp_path / "source", tmp_path / "target")
    assert status == 0
    assert splits(rows) == {"id0": "train", "id1": "val"}
    assert all((label_of(tmp_path / "target", row) == LABEL).all() for row in rows.values())


def test_bbbc039_touching_nuclei_are_told_apart_by_the_red_channel(tmp_path):
    make("bbbc039", tmp_path)
    status, rows = run("bbbc039", tmp_path / "source", tmp_path / "target")
    assert status == 0
    assert splits(rows) == {"a": "train", "b": "val", "c": "test"}
    expected = draw((1, 1, 4, 5), (1, 5, 4, 9), (6, 1, 9, 5))
    assert all((label_of(tmp_path / "target", row) == expected).all() for row in rows.values())


def test_bbbc039_without_its_lists_is_split_by_name(tmp_path, capsys):
    make("bbbc039", tmp_path)
    (tmp_path / "source" / "metadata" / "test.txt").unlink()
    status, rows = run("bbbc039", tmp_path / "source", tmp_path / "target")
    assert status == 1
    assert splits(rows) == {"a": "train", "b": "val", "c": "train"}
    assert "test.txt" in capsys.readouterr().err


DAMAGED = [
    ("neurips", "Training-labeled/images/cell_00000.png", "cell_00000"),
    ("neurips", "Training-labeled/labels/cell_00000_label.tiff", "cell_00000"),
    ("cellpose", "train/000_img.png", "train_000"),
    ("cellpose", "train/000_masks.png", "train_000"),
    ("omnipose", "bact_phase/test_sorted/A22/cells_1.tif", "bact_phase_test_sorted_A22_cells_1"),
    ("livecell", "images/livecell_train_val_images/BV2/BV2_1.tif", "BV2_1"),
    ("sartorius", "train/a1.png", "a1"),
    ("bbbc038", "stage1_train/id0/images/id0.png", "id0"),
    ("bbbc038", "stage1_train/id0/masks/2.png", "id0"),
    ("bbbc039", "images/a.tif", "a"),
    ("bbbc039", "masks/a.png", "a"),
]


@pytest.mark.parametrize("name, path, lost", DAMAGED)
def test_a_damaged_file_is_named_and_the_others_are_converted(name, path, lost, tmp_path, capsys):
    make(name, tmp_path)
    _, whole = run(name, tmp_path / "source", tmp_path / "whole")
    capsys.readouterr()
    damage(tmp_path / "source" / path)
    status, rows = run(name, tmp_path / "source", tmp_path / "target")
    assert status == 1
    assert whole.keys() - rows.keys() == {lost}
    assert splits(rows).items() <= splits(whole).items()
    assert Path(path).name in capsys.readouterr().err
    assert not [p for p in (tmp_path / "target" / name).iterdir() if p.name.startswith(lost + ".")]


@pytest.mark.parametrize(
    "name, path, lost", [case for case in DAMAGED if case[1] != "stage1_train/id0/masks/2.png"]
)
def test_a_file_without_partner_is_named_with_the_layout(name, path, lost, tmp_path, capsys):
    missing = make(name, tmp_path) / path
    missing.unlink()
    status, rows = run(name, tmp_path / "source", tmp_path / "target")
    assert status == 1
    assert rows and lost not in rows
    error = capsys.readouterr().err
    assert DATASETS[name].layout in error
    assert re.sub("_(img|masks|label)$", "", missing.stem) in error


def test_bbbc038_images_without_masks_are_left_out(tmp_path, capsys):
    shutil.rmtree(str(make("bbbc038", tmp_path) / "stage1_train" / "id0" / "masks"))
    status, rows = run("bbbc038", tmp_path / "source", tmp_path / "target")
    assert (status, rows.keys()) == (1, {"id1"})
    assert "id0" in capsys.readouterr().err


def test_a_missing_part_of_livecell_is_named_and_one_image_in_ten_validates(tmp_path, capsys):
    source = make("livecell", tmp_path)
    for part in ("val", "test"):
        (source / f"livecell_coco_{part}.json").unlink()
    pictures = [(number, f"{number}.tif") for number in range(12)]
    for number, name in pictures:
        save(source / "images" / name, picture(number))
    write_coco(source, "train", pictures, [])
    status, rows = run("livecell", source, tmp_path / "target")
    assert status == 1
    assert list(splits(rows).values()).count("val") == 2
    assert "livecell_coco_val.json is missing" in capsys.readouterr().err


def test_a_label_image_of_another_size_leaves_its_image_out(tmp_path, capsys):
    make("cellpose", tmp_path)
    save(tmp_path / "source" / "train" / "000_masks.png", LABEL[:-1])
    status, rows = run("cellpose", tmp_path / "source", tmp_path / "target")
    assert (status, rows.keys()) == (1, {"test_000"})
    assert "000_img.png is left out" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_folder_without_the_data_set_gives_no_catalogue(name, tmp_path, capsys):
    (tmp_path / "source").mkdir()
    save(tmp_path / "source" / "notes" / "a.txt.png", picture())
    status, rows = run(name, tmp_path / "source", tmp_path / "target")
    assert (status, rows) == (2, None)
    assert DATASETS[name].layout in capsys.readouterr().err
    assert not (tmp_path / "target").exists()


def test_a_source_that_is_no_folder_is_refused(tmp_path, capsys):
    assert run("livecell", tmp_path / "nothing", tmp_path / "target") == (2, None)
    assert "nothing is no folder" in capsys.readouterr().err


def test_a_target_with_a_catalogue_is_refused_and_stays_as_it_is(tmp_path, capsys):
    make("cellpose", tmp_path)
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "catalog.csv").write_text("mine")
    assert command.main(["cellpose", str(tmp_path / "source"), str(tmp_path / "target")]) == 2
    assert "choose another DST" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["catalog.csv"]
    assert (tmp_path / "target" / "catalog.csv").read_text() == "mine"


@pytest.mark.parametrize("inner", [".", "converted/x"])
def test_a_target_within_the_source_is_refused(inner, tmp_path, capsys):
    make("cellpose", tmp_path)
    assert run("cellpose", tmp_path / "source", tmp_path / "source" / inner) == (2, None)
    assert "choose a DST outside" in capsys.readouterr().err


def test_an_interrupted_conversion_leaves_no_catalogue_and_can_be_run_again(tmp_path, monkeypatch):
    make("neurips", tmp_path)
    kept, calls = images.write_labels, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return kept(*arguments)

    monkeypatch.setattr(images, "write_labels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("neurips", tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target" / "neurips").is_dir()
    assert not (tmp_path / "target" / "catalog.csv").exists()
    monkeypatch.undo()
    status, rows = run("neurips", tmp_path / "source", tmp_path / "target")
    assert (status, len(rows)) == (0, 12)
    assert len(list((tmp_path / "target" / "neurips").iterdir())) == 24


def test_labels_above_16_bit_are_kept(tmp_path):
    make("cellpose", tmp_path)
    many = LABEL.astype(np.uint32) * 30_000
    (tmp_path / "source" / "train" / "000_masks.png").unlink()
    save(tmp_path / "source" / "train" / "000_masks.tif", many)
    status, rows = run("cellpose", tmp_path / "source", tmp_path / "target")
    assert status == 0
    wide, narrow = (label_of(tmp_path / "target", rows[n]) for n in ("train_000", "test_000"))
    assert wide.dtype == np.uint32 and (wide == many).all()
    assert narrow.dtype == np.uint16 and (narrow == LABEL).all()


def test_the_help_tells_every_layout(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    for name, dataset in DATASETS.items():
        assert f"{name} {dataset.layout}" in told
