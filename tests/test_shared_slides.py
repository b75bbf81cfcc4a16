"""Images of one slide are found, by name, by overlap and by their edges; others are not."""

import csv

import cv2
import numpy as np
import pytest

from experiments import __main__ as command
from experiments import shared_slides
from training.catalog import read_image


def draw_tissue(seed, height=400, width=400):
    """Dark nuclei of all shapes on mottled pink: (height, width, 3) uint8, RGB."""
    rng = np.random.default_rng(seed)
    mottle = cv2.GaussianBlur(rng.normal(0, 60, (height, width, 3)), (0, 0), 3)
    image = np.array([220.0, 150, 200]) + 3 * mottle
    for _ in range(height * width // 800):
        centre = rng.integers(0, (width, height)).tolist()
        colour = rng.uniform((40, 20, 80), (110, 70, 150)).tolist()
        axes, angle = rng.integers(4, 11, 2).tolist(), rng.uniform(0, 180)
        cv2.ellipse(image, centre, axes, angle, 0, 360, colour, -1)
    image += rng.normal(0, 4, image.shape)
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1), 0, 255).astype(np.uint8)


def as_jpeg(image, quality):
    """What is left of an image (H, W, 3) after compression."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


def disguise(image):
    """A moved piece of an image, half its side, at half the size, in other colours, as a JPEG."""
    height, width = image.shape[:2]
    piece = image[height // 3 : height // 3 + height // 2, width // 5 : width // 5 + width // 2]
    piece = cv2.resize(piece, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    gammas, gains, offsets = (0.75, 1.3, 0.9), (1.05, 0.85, 0.95), (5, 20, -10)
    piece = 255 * (piece / 255) ** gammas * gains + offsets
    return as_jpeg(np.clip(piece, 0, 255).astype(np.uint8), 60)


def crop_of(image):
    return shared_slides.crop_of({"source": "any", "image": "any", "split": "val"}, image)


def make_data(folder, *rows):
    """A data folder of rows (source, image, split, origin, RGB array)."""
    table = [("source", "image", "label", "split", "origin")]
    for source, name, split, origin, image in rows:
        (folder / source).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / source / name), image[..., ::-1])
        table.append((source, name, "none", split, origin))
    with (folder / "catalog.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table)
    return folder


def told(capsys, data, *sources):
    """The two tables of the command and its last line, as lists of words for each line."""
    assert command.main(["shared-slides", "--data", str(data), "--sources", *sources]) == 0
    cases, pairs, (last,) = (
        part.splitlines() for part in capsys.readouterr().out.strip().split("\n\n")
    )
    assert cases[0].split() == ["case", "in", "both", "splits", "split", "image"]
    return [line.split() for line in cases[1:]], [line.split() for line in pairs[1:]], last


def test_a_disguised_piece_is_found_in_whatever_source_it_is(tmp_path, capsys):
    field = draw_tissue(0)
    data = make_data(
        tmp_path,
        ("a", "whole.png", "val", "", field),
        ("a", "unrelated.png", "train", "", draw_tissue(1)),
        ("a", "other.png", "val", "", draw_tissue(2)),
        ("b", "piece.png", "train", "", disguise(field)),
        ("c", "again.png", "train", "", np.rot90(field)[50:, 80:]),
    )
    cases, pairs, last = told(capsys, data, "a", "b", "c")
    assert not cases
    assert [row[:3] for row in pairs] == [
        ["a/whole.png", "val", "b/piece.png"],
        ["a/whole.png", "val", "c/again.png"],
        ["b/piece.png", "train", "c/again.png"],
    ]
    assert last.startswith("1 of 2 val images ")
    _, pairs, last = told(capsys, data, "a")
    assert not pairs and last.startswith("0 of 2 ")


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("val_is_first", [False, True])
def test_tiles_that_touch_are_found_and_those_with_a_gap_are_not(
    tmp_path, capsys, vertical, val_is_first
):
    field = draw_tissue(3, 300, 900)
    tiles = [field[:, left : left + 300] for left in (0, 300, 600)]
    tiles = [as_jpeg(tile.swapaxes(0, 1) if vertical else tile, 90) for tile in tiles]
    tiles = tiles if val_is_first else tiles[::-1]
    names, splits = ("one.png", "next.png", "far.png"), ("val", "train", "train")
    rows = [("a", name, split, "", tile) for name, split, tile in zip(names, splits, tiles)]
    cases, pairs, last = told(capsys, make_data(tmp_path, *rows), "a")
    assert [row[:3] for row in pairs] == [["a/one.png", "val", "a/next.png"]]
    assert last.startswith("1 of 1 ")


def test_a_tcga_case_of_both_splits_is_found_in_names_and_in_columns(tmp_path, capsys):
    data = make_data(
        tmp_path,
        ("a", "train_TCGA-AA-0001-01Z-00-DX1.png", "val", "", draw_tissue(4, 99, 90)),
        ("a", "TCGA-AA-0002.png", "train", "", draw_tissue(5, 99, 80)),
        ("a", "TCGA-AA-0002_2.png", "train", "", draw_tissue(6, 99, 70)),
        ("b", "1.png", "train", "slide TCGA-AA-0001-R01", draw_tissue(7, 99, 60)),
        ("b", "2.png", "val", "TCGA", draw_tissue(8, 99, 50)),
    )
    cases, pairs, last = told(capsys, data, "a", "b")
    assert cases == [
        ["TCGA-AA-0001", "train", "b/1.png"],
        ["TCGA-AA-0001", "val", "a/train_TCGA-AA-0001-01Z-00-DX1.png"],
    ]
    assert not pairs and last.startswith("1 of 2 ")


def test_blank_images_are_like_nothing(tmp_path, capsys):
    blank = np.full((64, 64, 3), 240, np.uint8)
    rows = [("a", f"{split}.png", split, "", blank) for split in ("train", "val")]
    rows.append(("a", "tissue.png", "val", "", draw_tissue(9, 64, 64)))
    cases, pairs, _ = told(capsys, make_data(tmp_path, *rows), "a")
    assert not cases and not pairs


def test_what_cannot_be_read_is_named(tmp_path, capsys):
    data = make_data(tmp_path, ("a", "1.png", "val", "", draw_tissue(10, 64, 64)))
    call = ["shared-slides", "--data", str(data), "--sources", "a"]
    assert command.main([*call, "--sources", "b"]) == 2
    assert "has no source b" in capsys.readouterr().err
    (data / "a" / "1.png").write_bytes(b"no image")
    assert command.main(call) == 2
    assert "1.png" in capsys.readouterr().err


def test_real_tissue_is_found_again_and_not_in_other_tissue(data):
    """One image of each kind of H&E; the control of the thresholds."""
    names = (
        "monuseg/train_TCGA-A7-A13E-01Z-00-DX1.webp",
        "miccai15_cpm/image08.webp",
        "tcga_glioma/TCGA-FG-A4MU-R01.webp",
        "pannuke_uterus/Uterus_2618.webp",
        "tnbc/07_1.webp",
        "gbm40/14.webp",
    )
    images = [read_image(data / name) for name in names]
    crops = [crop_of(image) for image in images]
    for k, image in enumerate(images):
        piece = crop_of(disguise(image))
        alike = [shared_slides.common_points(piece, crop) for crop in crops]
        found = [points >= shared_slides.LEAST_POINTS for points in alike]
        assert found == [other == k for other in range(len(crops))], (names[k], alike)


def test_real_tiles_of_one_field_touch(data):
    """Seen by eye: 2614 lies above 2618, which is left of 2619; 2620 comes after a gap."""
    numbers = (2614, 2618, 2619, 2620)
    paths = [next(data.glob(f"pannuke_uterus/Uterus_{n}.[jw]*")) for n in numbers]
    tiles = {n: crop_of(read_image(path)) for n, path in zip(numbers, paths)}
    seams = {n: shared_slides.seam_of(tiles[2618], tile) for n, tile in tiles.items() if n != 2618}
    touching = {n for n, seam in seams.items() if seam >= shared_slides.LEAST_CORRELATION}
    assert touching == {2614, 2619}
