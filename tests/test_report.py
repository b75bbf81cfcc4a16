"""python -m evaluate report: what the page and its files hold. How it behaves is in browser/."""

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import tifffile
from drawn import drawn, random_labels, save
from report_example import HOSTILE, PLAIN, SHAPE, report_options, write_cell_file, write_example

from app import images
from app.exports import preview
from evaluate import strict
from evaluate.__main__ import main
from evaluate.report import times_by_stem
from evaluate.report_page import overlay, pictures
from evaluate.report_page.contents import Entry, Report
from evaluate.report_page.image import write_data
from evaluate.report_page.page import page as page_text

BLOCK = np.ones((3, 3), np.uint8)
ROOT = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    """The parts of a page: `tags`, [(name, attributes)]; `rows`, texts of the cells of its tables;
    `titles`, texts of the marks of charts; `data`, the JSON blocks by id; `scripts` and `styles`,
    what is run; `files`, its folder."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.rows, self.data, self.scripts, self.styles = [], [], {}, [], []
        self.titles = []
        self.inside = None
        self.feed(path.read_text(encoding="utf-8"))
        self.rows = [[text.strip() for text in row] for row in self.rows if row]
        del self.titles[0]  # the page's own
        self.files = path.parent / unquote(self.data["settings"]["files"])

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = (tag, dict(attributes))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in ("script", "style", "title", "tr"):
            self.inside = None

    def handle_data(self, text):
        tag, attributes = self.inside or (None, {})
        if tag == "title":
            self.titles.append(text)
        elif tag == "style":
            self.styles.append(text)
        elif tag == "script" and attributes.get("type") == "application/json":
            self.data[attributes["id"]] = json.loads(text)
        elif tag == "script":
            self.scripts.append(text)
        elif self.rows and self.rows[-1] and tag:
            self.rows[-1][-1] += text

    def names(self):
        """Of the table of images, as it is sorted."""
        return [row["values"][0] for row in self.data["table"]["rows"]]

    def _row(self, name):
        rows = [row for row in self.data["table"]["rows"] if row["values"][0].startswith(name)]
        assert len(rows) == 1
        return rows[0]

    def row(self, name):
        """{head: value} of the image whose name begins so, and what is said of it."""
        row, columns = self._row(name), self.data["table"]["columns"]
        said = {"problems": row["problems"], "remarks": row["remarks"]}
        return {**dict(zip((column["title"] for column in columns), row["values"])), **said}

    def folder(self, name):
        """The folder of files of an image."""
        return self.files / str(self._row(name)["image"])

    def image(self, name):
        """What the viewer draws of an image: it comes as a script."""
        text = (self.folder(name) / "cells.js").read_text(encoding="ascii")
        number, data = re.fullmatch(r"receive\((\d+),(.*)\);\n", text).groups()
        assert number == self.folder(name).name
        return json.loads(data)

    def picture(self, name, tile="0_0_0"):
        """A tile of an image as RGB."""
        return decoded(self.folder(name) / f"{tile}.webp")


def decoded(path):
    return cv2.imread(str(path))[..., ::-1]


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("report") / "example")


@pytest.fixture(scope="module")
def page(example):
    """The report on everything in the example."""
    assert main(report_options(example, "--truth", "--scores", "--times")) == 1
    return Page(example / "report.html")


@pytest.fixture
def folders(tmp_path):
    """Empty folders of images, truth and labels."""
    for name in ("images", "truth", "labels"):
        (tmp_path / name).mkdir()
    return tmp_path


def points(ring):
    """A ring of an outline as points (n, 2)."""
    steps = np.zeros((len(ring) - 2, 2), int)
    steps[::2, 0], steps[1::2, 1] = ring[2::2], ring[3::2]
    return np.cumsum([ring[:2], *steps[:-1]], axis=0)


# Outlines


def inside(rings, shape):
    """Which pixels (H, W) lie inside the rings of an outline, by the even-odd rule."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for ring in rings:
        for (x, y), (next_x, next_y) in zip(points(ring), np.roll(points(ring), -1, 0)):
            assert (x == next_x) != (y == next_y), "a step along an edge, and each is one"
            crossings[min(y, next_y) : max(y, next_y), x] += 1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


def test_inside_the_outlines_are_just_the_pixels_of_the_cells():
    rng = np.random.default_rng(3)
    for _ in range(30):
        height, width = rng.integers(20, 120, 2)
        noise = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), rng.uniform(0.5, 5))
        _, labels = cv2.connectedComponents((noise > 0.2 * noise.std()).astype(np.uint8))
        found = overlay.cells(labels)
        assert found["labels"] == list(range(1, labels.max() + 1))
        for label, area, rings in zip(found["labels"], found["areas"], found["outlines"]):
            assert area == (labels == label).sum()
            assert np.array_equal(inside(rings, labels.shape), labels == label)


def test_outlines_of_small_and_odd_cells():
    def outline(*boxes, shape=(12, 12)):
        return overlay.cells((drawn(shape, *boxes) > 0).astype(np.uint8))["outlines"][0]

    def corners(ring):
        return sorted(map(tuple, points(ring).tolist()))

    assert corners(*outline((2, 4, 3, 5))) == [(4, 2), (4, 3), (5, 2), (5, 3)]
    assert corners(*outline((2, 4, 4, 6))) == [(4, 2), (4, 4), (6, 2), (6, 4)]  # two pixels wide
    assert len(outline((0, 0, 3, 3), (5, 5, 9, 9))) == 2  # two pieces
    ring = drawn((12, 12), (1, 1, 11, 11)) - drawn((12, 12), (4, 4, 8, 8))
    assert len(overlay.cells(ring)["outlines"][0]) == 2
    assert overlay.cells(np.zeros((3, 3), np.uint8))["labels"] == []


def test_labels_may_be_huge_and_have_gaps():
    labels = drawn((10, 10), (0, 0, 4, 4), (5, 5, 9, 9), dtype=np.uint64)
    labels = np.array([0, 7, 2**63 + 1], np.uint64)[labels]
    found = overlay.cells(labels)
    assert found["labels"] == [7, 2**63 + 1]
    assert found["outlines"] == overlay.cells((labels > 7) * 2 + (labels == 7))["outlines"]


def test_matched_and_missed_cells_are_those_that_are_scored():
    rng = np.random.default_rng(4)
    seen = set()
    for _ in range(60):
        truth, labels = (random_labels(rng, 40, 50) for _ in range(2))
        tau = rng.choice([0.1, 0.3, 0.5])
        score = strict.scores(truth, labels, [tau])[0]
        sides = [overlay.cells(truth), overlay.cells(labels)]
        for columns, found in zip(sides, overlay.compare(truth, labels, tau)):
            overlay.add_match_status(columns, found)
            seen.update(columns["match_status"])
        true, predicted = (np.array(columns["match_status"]) for columns in sides)
        ious = np.array(sides[0]["ious"], float)[true == overlay.MATCHED]
        assert (true == overlay.MATCHED).sum() == score.correct_num
        assert (predicted == overlay.MATCHED).sum() == score.correct_num
        assert (true == overlay.MISSED).sum() == score.missed_num
        assert (predicted == overlay.FALSE_POSITIVE).sum() == score.wrong_num
        if score.correct_num:
            assert ious.mean() == pytest.approx(score.mean_matched_iou, abs=1e-3)
        assert (np.array(sides[1]["ious"])[predicted == overlay.UNSCORED] == None).all()  # noqa: E711
    assert seen == {overlay.MATCHED, overlay.MISSED, overlay.FALSE_POSITIVE, overlay.UNSCORED}


# Pictures


def noisy(height, width):
    """A smooth image (H, W) uint8 in which places can be told apart."""
    noise = np.random.default_rng(7).normal(size=(height // 40 + 2, width // 40 + 2))
    noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def seen(pixels):
    return preview.as_seen(images.Loaded(pixels, [], None, None))


def test_tiles_are_the_image_at_full_resolution_and_ever_smaller():
    rgb, step = seen(noisy(1500, 2100))
    assert step == 1 and rgb.shape == (1500, 2100, 3)
    tiles = dict(pictures.tiles(rgb))
    full = [np.concatenate([tiles[f"0_{x}_{y}"] for x in range(3)], axis=1) for y in range(2)]
    assert np.array_equal(np.concatenate(full), rgb)
    half = np.concatenate([tiles["1_0_0"], tiles["1_1_0"]], axis=1)
    assert np.abs(half.astype(int) - cv2.resize(rgb, (1050, 750))).max() <= 3
    assert tiles["2_0_0"].shape == (375, 525, 3) and len(tiles) == 6 + 2 + 1
    assert list(dict(pictures.tiles(rgb[:1024, :1024]))) == ["0_0_0"]


def test_pictures_have_the_contrast_that_people_need():
    dark = noisy(60, 80).astype(np.uint16) * 3 + 500
    rgb, _ = seen(dark)
    assert rgb.min() < 20 and rgb.max() > 235


def test_larger_images_are_reduced_and_that_is_said(folders, monkeypatch):
    monkeypatch.setattr(preview, "MOST_PIXELS", 30 * 40)
    write_pair(folders, "a", image=noisy(*SHAPE))  # 64 x 80 pixels
    assert main(report_options(folders)) == 0
    page = Page(folders / "report.html")
    assert page.image("a")["step"] == 3
    assert page.picture("a").shape == (22, 27, 3)
    rgb, step = seen(noisy(*SHAPE))
    assert rgb.shape == (22, 27, 3) and rgb[1, 1].max() > 0


def test_thumbnails_have_the_outlines(folders):
    write_pair(folders, "a", labels=drawn(SHAPE, (10, 10, 20, 20)))
    (folders / "images" / "a.png").unlink()
    for truth, (red, _, blue) in (([], (86, 180, 233)), (["--truth"], (240, 228, 66))):
        main(report_options(folders, *truth))
        thumbnail = decoded(Page(folders / "report.html").folder("a") / "thumbnail.webp")
        assert thumbnail.shape == (*SHAPE, 3)
        place = 30 if truth else 10  # of the missed cell, of the predicted one
        found = thumbnail[place, place : place + 10].mean(axis=0)
        assert found.max() > 150 and (found[0] > found[2]) == (red > blue)
    rgb, labels = np.zeros((3000, 1500, 3), np.uint8), drawn((3000, 1500), (1000, 500, 2000, 1000))
    small = pictures.thumbnail(labels.shape, rgb, [(labels, [1], np.array([[9, 8, 7]]))])
    assert small.shape == (144, 72, 3) and (small[48, 30] == (9, 8, 7)).all()


def test_real_images_of_all_kinds_are_shown(data, folders):
    names = []
    for source in ("dsb2018", "scellseg", "pecot_e2f", "usiigaci"):
        path = next(p for p in sorted((data / source).iterdir()) if "_label" not in p.name)
        label = path.with_name(path.stem + "_label.png")
        names.append(path.name)
        (folders / "images" / path.name).symlink_to(path)
        for folder in ("truth", "labels"):
            (folders / folder / label.name).symlink_to(label)
    assert main(report_options(folders, "--truth")) == 0
    page = Page(folders / "report.html")
    for name in names:
        shown = page.image(name)
        assert page.picture(name).std() > 5
        assert set(shown["prediction"]["match_status"]) <= {overlay.MATCHED, overlay.UNSCORED}
        assert page.row(name)["F1"] == 1


def test_the_page_itself_stays_small(folders):
    """So that 100,000 images are some 40 MB: what is shown of each lies in files of its own."""
    sizes = []
    for count in (5, 25):
        for k in range(count):
            write_pair(folders, f"image {k:05}")
        assert main(report_options(folders, "--truth")) == 0
        sizes.append((folders / "report.html").stat().st_size)
    assert (sizes[1] - sizes[0]) / 20 < 400


# What is in the page


def test_page_needs_nothing_but_its_own_files(page, example):
    text = (example / "report.html").read_text(encoding="utf-8")
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
        assert not {"src", "srcset", "action", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in "".join(page.styles) and "@import" not in "".join(page.styles)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for code in (*page.scripts, *page.styles):
        digest = base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert len(page.scripts) == len(page.styles) == 1
    assert not re.search(r"https?://", text)
    assert page.files.parent == example / "report_files" and page.files.name[0] == "."


def test_numbers_are_those_of_the_scores(page, example):
    scores = json.loads((example / "scores.json").read_text())
    everything = next(a for a in scores["aggregates"] if a["group"] is None and a["tau"] == 0.5)
    text = (example / "report.html").read_text(encoding="utf-8")
    assert f'<dd class="value">{everything["mean_f1"]:.3f}</dd>' in text
    for image in scores["images"]:
        row, score = page.row(image["stem"] + "."), image["scores"][0]
        assert score["tau"] == 0.5
        assert row["F1"] == pytest.approx(score["f1"], abs=1e-6)
        assert [row[n] for n in ("TP", "FP", "FN")] == [
            score[n] for n in ("correct_num", "wrong_num", "missed_num")
        ]
    group = next(a for a in scores["aggregates"] if a["group"] == "PC" and a["tau"] == 0.5)
    row = next(row for row in page.rows if row and row[0] == "PC")
    assert row[1] == str(group["images"]) and row[3] == f"{group['mean_f1']:.3f}"
    by_tau = [row[:2] for row in page.rows if row and row[0] in ("0.5", "0.75", "0.9")]
    means = {a["tau"]: a["mean_f1"] for a in scores["aggregates"] if a["group"] is None}
    assert by_tau == [[f"{tau:g}", f"{mean:.3f}"] for tau, mean in sorted(means.items())]


def test_times_are_shown_beside_the_images(page):
    row = page.row("plain1.png")
    assert row["Seconds"] == 12.5 and row["Of limit"] == 1.25
    assert row["Seconds, AMP off"] == 0.25 * 2 and page.row("a.png")["Seconds"] is None
    assert row["problems"] == ["Time: 2.50 s over the limit"], "and not with AMP off"
    assert page.row("plain2.png")["problems"] == ["Time, AMP off: 2.50 s over the limit"]


def test_charts_have_a_mark_for_each_image_and_each_bin(page):
    assert {"plain1.png: 12.50 s", "plain1.png: 0.50 s"} <= set(page.titles)
    assert sum(text.endswith(" s") for text in page.titles) == 2 * PLAIN
    assert "All images: 0.565 at τ = 0.75" in page.titles
    cells = [text for text in page.titles if text.endswith(" cells")]
    by_size = [int(text.split(": ")[1].split()[0]) for text in cells[:-2]]
    shown = [page.image(name) for name in page.names() if name != "broken.png"]
    assert sum(by_size) == sum(
        len(one["prediction"]["labels"]) for one in shown if "prediction" in one
    )
    assert cells[-2:] == ["0.875 to 0.9: 603 cells", "0.4 to 0.425: 603 cells"]


def test_uncertainties_of_the_four_sides_reach_the_viewer(page):
    prediction = page.image("a.png")["prediction"]
    assert prediction["uncertainties"] == [[0.1, 0.3, 0.5, 0.7]] * 3
    assert prediction["scores"] == [0.875] * 3
    assert page.data["settings"]["mostUncertainty"] == 0.7
    assert "uncertainties" not in page.image("plain0.png")["prediction"]


def test_names_are_text_wherever_they_come_from(page, example):
    text = (example / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert page.row(HOSTILE + ".png")["Group"] == HOSTILE
    assert [row for row in page.rows if row[0] == HOSTILE], "the group's row"


def written(folder, *options, status=0):
    """The Page of a report on a folder's images and labels, with these options."""
    assert main([*report_options(folder), *map(str, options)]) == status
    return Page(folder / "report.html")


def test_without_scores_they_are_found_by_the_strict_rules(folders):
    for stem in "abc":
        write_pair(folders, stem, labels=drawn(SHAPE, (10, 10, 20, 18), (30, 30, 40, 40)))
    (folders / "labels" / "c_label.tiff").unlink()
    page = written(folders, "--truth", folders / "truth", status=1)
    assert [page.row(name)["F1"] for name in "abc"] == [1, 1, 0]
    assert page.row("c")["FN"] == 2 and "Group" not in page.row("a")


def test_tau_and_groups_are_those_of_the_scoring(folders):
    for stem in "ab":
        write_pair(folders, stem, labels=drawn(SHAPE, (10, 10, 20, 18), (30, 30, 40, 40)))
    (folders / "groups.csv").write_text("name,group\na,one\nb,two\n")
    options = ("--groups", folders / "groups.csv")
    page = written(folders, "--truth", folders / "truth", "--tau", 0.9, 0.75, *options)
    assert [row[:4] for row in page.rows if row[0] == "one"] == [["one", "1", "", "1.000"]]
    assert [row[:2] for row in page.rows if row[0] in ("0.75", "0.9")] == [
        ["0.75", "1.000"],
        ["0.9", "0.500"],
    ]
    assert page.row("a")["Group"] == "one"
    assert page.row("b")["F1"] == 1, "outlines and rows are at the least tau where 0.5 is none"
    assert written(folders, *options).row("b")["Group"] == "two", "also without truth"
    write_pair(folders, "c")
    (folders / "truth" / "c_label.png").unlink()
    page = written(folders, "--truth", folders / "truth", *options, status=1)
    assert page.row("c")["Group"] is None, "what is not scored needs no group"


def test_without_truth_there_are_predictions_only(folders):
    write_pair(folders, "a")
    write_cell_file(folders / "labels" / "a_cells.csv", [1, 2])
    page = written(folders)
    shown = page.image("a")
    assert "truth" not in shown and "match_status" not in shown["prediction"]
    row = page.row("a")
    assert [row[name] for name in ("Cells", "Score", "Uncertainty")] == [2, 0.875, 0.4]
    assert "F1" not in row
    assert page.titles == [
        "9.51 to 11.3: 2 cells",
        "0.875 to 0.9: 2 cells",
        "0.4 to 0.425: 2 cells",
    ], "size, score, uncertainty"


def test_scores_by_other_rules_and_taus_are_shown_as_they_are(folders):
    write_pair(folders, "a")
    options = ["--truth", folders / "truth", "--labels", folders / "labels", "--out", folders]
    options += ["--rules", "official", "--tau", 0.8, 0.9]
    assert main(["score", *map(str, options)]) == 0
    assert main(report_options(folders, "--truth", "--scores")) == 0
    text = (folders / "report.html").read_text(encoding="utf-8")
    assert "organisers" in text and "at τ = 0.8" in text and "at τ = 0.5" not in text


def test_a_table_of_pairs_stands_for_the_folders(folders, monkeypatch):
    """As predict.sh --report gives it: of images in many folders, under any names."""
    for name in ("x", "y"):
        (folders / name).mkdir()
        save(folders / name / "a.png", noisy(*SHAPE))
        save(folders / name / "labels.tiff", drawn(SHAPE, (10, 10, 20, 20)))
    rows = [[f"{n}/a.png", folders / n / "a.png", folders / n / "labels.tiff"] for n in "xy"]
    rows.append(["z/a.png", folders / "x" / "a.png", folders / "none.tiff"])
    text = io.StringIO()
    csv.writer(text).writerows([["name", "image", "labels"], *rows])
    (folders / "pairs.csv").write_text(text.getvalue())
    options = ["report", "--pairs", folders / "pairs.csv", "--out", folders / "report.html"]
    assert main([*map(str, options)]) == 1
    page = Page(folders / "report.html")
    assert page.names() == ["x/a.png", "y/a.png", "z/a.png"]
    assert page.row("y/a")["Cells"] == 1 and page.row("z/a")["problems"] == ["no prediction"]


def test_channels_and_planes_are_shown_as_they_were_segmented(folders):
    stack = np.stack([np.zeros(SHAPE, np.uint8), noisy(*SHAPE)])
    tifffile.imwrite(str(folders / "images" / "a.tif"), stack, metadata={"axes": "ZYX"})
    save(folders / "labels" / "a_label.tiff", drawn(SHAPE, (10, 10, 20, 20)))
    assert written(folders).picture("a").max() == 0
    assert written(folders, "--plane", "max").picture("a").max() > 200


# What can be wrong


def write_pair(folder, stem, labels=None, truth=None, image=None):
    cells = drawn(SHAPE, (10, 10, 20, 20), (30, 30, 40, 40))
    save(folder / "truth" / f"{stem}_label.png", cells if truth is None else truth)
    save(folder / "labels" / f"{stem}_label.tiff", cells if labels is None else labels)
    save(folder / "images" / f"{stem}.png", cells.astype(np.uint8) if image is None else image)


def test_everything_that_fails_is_listed_with_its_reason(folders, capsys):
    small = drawn((20, 20), (5, 5, 9, 9))
    write_pair(folders, "good")
    write_pair(folders, "noimage")
    (folders / "images" / "noimage.png").unlink()
    write_pair(folders, "badimage")
    (folders / "images" / "badimage.png").write_bytes(b"not an image")
    write_pair(folders, "nolabels")
    (folders / "labels" / "nolabels_label.tiff").unlink()
    write_pair(folders, "badlabels")
    (folders / "labels" / "badlabels_label.tiff").write_bytes(b"no labels")
    write_pair(folders, "shape", labels=small)
    write_pair(folders, "imageshape", image=np.zeros((9, 9), np.uint8))
    write_pair(folders, "notruth")
    (folders / "truth" / "notruth_label.png").unlink()
    write_pair(folders, "twice")
    save(folders / "images" / "twice.bmp", np.zeros(SHAPE, np.uint8))
    write_pair(folders, "cells")
    (folders / "labels" / "cells_cells.csv").write_text("label,x0\n1,2\n")
    write_pair(folders, "othercells")
    write_cell_file(folders / "labels" / "othercells_cells.csv", [1, 2, 3])
    assert main(report_options(folders, "--truth")) == 1
    page, said = Page(folders / "report.html"), capsys.readouterr().err
    reasons = {
        "noimage": "no image of this name",
        "badimage": "the image cannot be read",
        "nolabels": "no prediction",
        "badlabels": "cannot be read",
        "shape": "its shape is (20, 20), that of its truth (64, 80)",
        "imageshape": "the prediction is 64 × 80 pixels, not 9 × 9",
        "notruth": "no truth",
        "cells": "cells_cells.csv is not as app.predict --cells writes it",
        "othercells": "they come of other runs",
    }
    for name, reason in reasons.items():
        row = page.row(name)
        assert reason in "; ".join(row["problems"]) and row["State"] == "problem"
        assert re.search(rf"evaluate: {name}\S*: .*{re.escape(reason)}", said)
    # Labels of two images of one stem would be twice_png_label.tiff and twice_bmp_label.tiff.
    assert re.search(r"evaluate: twice_label\S*: .*no image of this name", said)
    assert page.row("good")["State"] is None and "good" not in said
    assert page.row("nolabels")["F1"] == 0 and page.row("nolabels")["FN"] == 2
    assert page.image("nolabels.png")["truth"]["match_status"] == [overlay.MISSED] * 2
    assert "prediction" not in page.image("shape.png")
    assert page.image("noimage_label.tiff")["prediction"]["match_status"] == [overlay.MATCHED] * 2


def test_times_belong_to_images_by_the_stems_of_their_labels():
    names = ("x.tif", "x.jpg", "p.A01.ome.tif", "p.A02.ome.tif")
    images = [{"name": name} for name in names]
    found = times_by_stem({"AMP": {"images": images}})
    assert list(found) == ["x_tif", "x_jpg", "p.A01", "p.A02"]
    assert [times["AMP"] for times in found.values()] == images


def test_images_of_scores_and_times_alone_are_listed(example, folders):
    for name in ("scores.json", "times.json"):
        (folders / name).write_text((example / name).read_text())
    assert main(report_options(folders, "--scores", "--times")) == 1
    page = Page(folders / "report.html")
    assert page.row("plain2_label.tiff")["F1"] == pytest.approx(2 * (2 / 6) / (1 + 2 / 6))
    assert list(page.files.iterdir()) == []  # there is nothing to look at
    assert len([name for name in page.names() if "plain" in name]) == PLAIN


@pytest.mark.parametrize("given", ["", "{", "[]", '{"rules": "strict"}'])
def test_files_of_another_kind_are_refused(folders, capsys, given):
    write_pair(folders, "a")
    for name in ("scores", "times"):
        (folders / f"{name}.json").write_text(given)
        assert main(report_options(folders, f"--{name}")) == 2
        assert f"{name}.json is n" in capsys.readouterr().err
    assert not (folders / "report.html").exists()


def test_nothing_to_show_is_said(folders, capsys):
    assert main(report_options(folders)) == 2
    assert "hold no images" in capsys.readouterr().err
    write_pair(folders, "a")
    assert main([*report_options(folders)[:-1], str(folders)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_page_is_complete_or_as_it_was(folders, monkeypatch):
    write_pair(folders, "a")
    assert main(report_options(folders)) == 0
    before = (folders / "report.html").read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr("app.atomic.os.replace", full)
    assert main(report_options(folders)) == 2
    assert (folders / "report.html").read_bytes() == before
    page = Page(folders / "report.html")
    assert page.image("a") and list(page.files.parent.iterdir()) == [page.files]
    (folders / "report.html").unlink()
    shutil.rmtree(page.files.parent)
    assert main(report_options(folders)) == 2
    assert sorted(p.name for p in folders.iterdir()) == ["images", "labels", "truth"]


def test_a_new_report_takes_the_place_of_the_one_before(folders):
    write_pair(folders, "a")
    before = written(folders).files
    write_pair(folders, "b")
    (folders / "report_files" / "mine.txt").write_text("notes")
    page = written(folders)
    assert page.names() == ["a.png", "b.png"]
    left = sorted(p.name for p in (folders / "report_files").iterdir())
    assert left == [page.files.name, "mine.txt"] and page.files != before


def test_what_killed_runs_left_goes_after_an_hour(folders):
    write_pair(folders, "a")
    for name, age in ((".00000000000000aa", 2), (".00000000000000bb", 0)):
        (folders / "report_files" / name / "0").mkdir(parents=True)
        then = time.time() - 3600 * age
        os.utime(str(folders / "report_files" / name), (then, then))
    page = written(folders)
    left = {p.name for p in (folders / "report_files").iterdir()}
    assert left == {page.files.name, ".00000000000000bb"}


@pytest.mark.parametrize("name", ["report.html", "scores.csv", "new"])
def test_a_file_that_is_no_report_is_not_replaced(folders, capsys, name):
    write_pair(folders, "a")
    options = report_options(folders)
    options[-1] = str(folders / name)
    if name != "new":
        (folders / name).write_text("<html>mine</html>")
    assert main(options) == 2
    assert name in capsys.readouterr().err
    assert name == "new" or (folders / name).read_text() == "<html>mine</html>"


def test_options_that_do_not_go_together_are_refused(folders, capsys):
    write_pair(folders, "a")
    (folders / "scores.json").write_text("{}")
    for options, reason in (
        (["--tau", "0.7"], "--tau needs --truth"),
        (["--scores", folders / "scores.json", "--tau", "0.7"], "its own --tau and --groups"),
        (["--pairs", folders / "pairs.csv"], "--pairs replaces"),
    ):
        assert main([*report_options(folders), *map(str, options)]) == 2
        assert reason in capsys.readouterr().err
    assert main(["report", "--images", "x", "--out", str(folders / "report.html")]) == 2
    assert "--labels are needed" in capsys.readouterr().err
    assert not (folders / "report.html").exists()


def test_the_command_says_what_it_wrote(folders):
    write_pair(folders, "a")
    options = report_options(folders)
    options[-1] = str(folders / "new" / "report.html")
    command = [sys.executable, "-m", "evaluate", *options]
    done = subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r".*new/report.html: 1 image, 0\.\d MB\n", done.stdout)


# Text that looks like HTML


@pytest.mark.parametrize(
    "name", ["</script><script>alert(1)//", '" onclick="x', "{{ 7 * 7 }}", "a&amp;b"]
)
def test_what_looks_like_html_or_a_template_is_text(tmp_path, name):
    entry = Entry(name, 0, name, group=name, problems=[name], remarks=[name], size=(1, 1))
    report = Report(name, [entry], origin=[(name, name)])
    text = page_text(report, tmp_path / name.replace("/", "") / ".files")
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    page = Page(tmp_path / "report.html")
    assert page.row(name) == {
        **{"Image": name, "Group": name, "problems": [name], "remarks": [name]},
        **{"State": "problem", "Cells": None, "Pixels": [1, 1]},
    }
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]


def test_names_of_files_that_are_no_text_are_shown(folders):
    write_pair(folders, "a")
    for folder in ("images", "labels"):
        for path in (folders / folder).iterdir():
            os.rename(
                path, os.path.join(os.fsencode(folders / folder), b"\xff" + os.fsencode(path.name))
            )
    page = written(folders)
    assert page.names() == ["\\udcffa.png"] and page.row("\\udcffa")["Cells"] == 2


def test_data_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_data(tmp_path / "cells.js", 0, {"width": float("nan")})
