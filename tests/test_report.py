"""python -m evaluate report: what the file holds. How it behaves is in browser/."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn import drawn, random_labels, save
from report_example import HOSTILE, PLAIN, SHAPE, report_options, write_cell_file, write_example

from evaluate import strict
from evaluate.__main__ import main
from evaluate.report import Entry, Report
from evaluate.report_page import overlay
from evaluate.report_page.page import page as page_text

BLOCK = np.ones((3, 3), np.uint8)
ROOT = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    """The parts of a page: `tags`, [(name, attributes)]; `texts` of table cells, row by row;
    `data`, the JSON blocks by id; `scripts` and `styles`, what is run."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.rows, self.data, self.scripts, self.styles = [], [], {}, [], []
        self.inside = None
        self.feed(path.read_text(encoding="utf-8"))
        self.rows = [[text.strip() for text in row] for row in self.rows]

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = (tag, dict(attributes))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in ("script", "style", "tr"):
            self.inside = None

    def handle_data(self, text):
        tag, attributes = self.inside or (None, {})
        if tag == "style":
            self.styles.append(text)
        elif tag == "script" and attributes.get("type") == "application/json":
            self.data[attributes["id"]] = json.loads(text)
        elif tag == "script":
            self.scripts.append(text)
        elif self.rows and self.rows[-1] and tag:
            self.rows[-1][-1] += text

    def row(self, name):
        """{head: text} of the row of the table of images that begins with a name."""
        heads = next(row for row in self.rows if row[:1] == ["Image"])
        found = [row for row in self.rows if row and row[0].startswith(name)]
        assert len(found) == 1
        return dict(zip(heads, found[0]))

    def image(self, name):
        """What the viewer draws of an image."""
        found = [d for key, d in self.data.items() if key != "settings" and d["name"] == name]
        assert len(found) == 1
        return found[0]


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
    return np.cumsum(np.reshape(ring, (-1, 2)), axis=0)


# Outlines


def test_outlines_drawn_filled_are_the_cells_again():
    rng = np.random.default_rng(3)
    for _ in range(30):
        height, width = rng.integers(20, 120, 2)
        noise = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), rng.uniform(1.5, 5))
        _, labels = cv2.connectedComponents((noise > 0.2 * noise.std()).astype(np.uint8))
        found = overlay.cells(labels)
        assert found["labels"] == list(range(1, labels.max() + 1))
        for label, area, rings in zip(found["labels"], found["areas"], found["outlines"]):
            mask = (labels == label).astype(np.uint8)
            assert area == mask.sum()
            again = np.zeros_like(mask)
            cv2.fillPoly(again, [points(ring).astype(np.int32) for ring in rings], 1)
            near = cv2.dilate(mask, BLOCK) - cv2.erode(mask, BLOCK, borderValue=0)
            assert not ((mask != again) & (near == 0)).any()


def test_outlines_of_small_and_odd_cells():
    one_pixel = drawn((5, 7), (2, 4, 3, 5))
    assert overlay.cells(one_pixel)["outlines"] == [[[4, 2]]]
    line = overlay.cells(drawn((5, 7), (2, 1, 3, 6)))["outlines"][0]
    assert sorted(map(tuple, points(line[0]))) == [(1, 2), (5, 2)]
    ring = drawn((12, 12), (1, 1, 11, 11)) - drawn((12, 12), (4, 4, 8, 8))
    assert len(overlay.cells(ring)["outlines"][0]) == 2
    two_pieces = drawn((9, 9), (0, 0, 3, 3)) + drawn((9, 9), (5, 5, 9, 9))
    assert len(overlay.cells(two_pieces)["outlines"][0]) == 2
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


def decoded(text):
    data = np.frombuffer(base64.b64decode(text), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def test_pictures_keep_colours_and_are_reduced_to_a_side():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :30] = (200, 30, 90)
    again = decoded(overlay.picture(image))
    assert again.shape == image.shape
    assert np.abs(again[20, 10].astype(int) - (200, 30, 90)).max() < 12
    assert decoded(overlay.picture(np.zeros((3000, 1500, 3), np.uint8))).shape == (1024, 512, 3)
    assert decoded(overlay.picture(np.zeros((1, 5000, 3), np.uint8), 96)).shape == (1, 96, 3)


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
        assert decoded(shown["picture"]).std() > 5
        assert set(shown["prediction"]["match_status"]) <= {overlay.MATCHED, overlay.UNSCORED}
        assert page.row(name)["F1"] == "1.000"


def test_200_images_of_512_pixels_stay_under_60_MB(folders):
    rng = np.random.default_rng(5)
    count = 6
    for k in range(count):
        grid = [
            (8 + 32 * i, 8 + 32 * j, 30 + 32 * i, 30 + 32 * j) for i in range(15) for j in range(15)
        ]
        cells = drawn((512, 512), *grid)
        noise = rng.normal(scale=25, size=cells.shape)  # which no codec can make small
        save(folders / "images" / f"{k}.png", np.clip(60 + 90 * (cells > 0) + noise, 0, 255))
        save(folders / "truth" / f"{k}_label.png", cells)
        save(folders / "labels" / f"{k}_label.tiff", np.roll(cells, 3, 1))
        write_cell_file(folders / "labels" / f"{k}_cells.csv", range(1, 226))
    assert main(report_options(folders, "--truth")) == 0
    page = folders / "report.html"
    fixed = sum(path.stat().st_size for path in (ROOT / "evaluate" / "report_page").iterdir())
    assert page.stat().st_size < 60e6 * count / 200 + fixed


# What is in the page


def test_page_needs_nothing_but_itself(page, example):
    text = (example / "report.html").read_text(encoding="utf-8")
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "action", "style"):
            assert attributes.get(name, "data:").startswith("data:")
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in "".join(page.styles) and "@import" not in "".join(page.styles)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for code in (*page.scripts, *page.styles):
        digest = base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert len(page.scripts) == len(page.styles) == 1
    assert not re.search(r"https?://(?!www\.w3\.org)", re.sub(r'src="data:[^"]*"', "", text))


def test_numbers_are_those_of_the_scores(page, example):
    scores = json.loads((example / "scores.json").read_text())
    everything = next(a for a in scores["aggregates"] if a["group"] is None and a["tau"] == 0.5)
    text = (example / "report.html").read_text(encoding="utf-8")
    assert f'<dd class="value">{everything["mean_f1"]:.3f}</dd>' in text
    for image in scores["images"]:
        row, score = page.row(image["stem"] + "."), image["scores"][0]
        assert score["tau"] == 0.5
        assert row["F1"] == f"{score['f1']:.3f}"
        assert [row[n] for n in ("TP", "FP", "FN")] == [
            str(score[n]) for n in ("correct_num", "wrong_num", "missed_num")
        ]
    group = next(a for a in scores["aggregates"] if a["group"] == "PC" and a["tau"] == 0.5)
    row = next(row for row in page.rows if row and row[0] == "PC")
    assert row[1] == str(group["images"]) and row[3] == f"{group['mean_f1']:.3f}"
    by_tau = [row[:2] for row in page.rows if row and row[0] in ("0.5", "0.75", "0.9")]
    means = {a["tau"]: a["mean_f1"] for a in scores["aggregates"] if a["group"] is None}
    assert by_tau == [[f"{tau:g}", f"{mean:.3f}"] for tau, mean in sorted(means.items())]


def test_times_are_shown_beside_the_images(page):
    row = page.row("plain1.png")
    assert row["Seconds"] == "12.50" and row["Of limit"] == "1.25"
    assert row["Seconds, AMP off"] != "–" and page.row("a.png")["Seconds"] == "–"
    assert "Time: 2.50 s over the limit" in row["Image"], "and not with AMP off"
    assert "Time, AMP off: 2.50 s over the limit" in page.row("plain2.png")["Image"]
    plots = [a for tag, a in page.tags if tag == "img" and a["src"].startswith("data:image/svg")]
    assert len(plots) == 1
    assert b"<svg" in base64.b64decode(plots[0]["src"].split(",")[1])


def test_uncertainties_of_the_four_sides_reach_the_viewer(page):
    prediction = page.image("a.png")["prediction"]
    assert prediction["uncertainties"] == [[0.1, 0.3, 0.5, 0.7]] * 3
    assert prediction["scores"] == [0.875] * 3
    assert page.data["settings"]["mostUncertainty"] == 0.7
    assert "uncertainties" not in page.image("plain0.png")["prediction"]


def test_names_are_text_wherever_they_come_from(page, example):
    text = (example / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert page.image(HOSTILE + ".png")["name"] == HOSTILE + ".png"
    assert page.row(HOSTILE + ".png")["Group"] == HOSTILE
    assert [a for tag, a in page.tags if tag == "img" and a.get("src") == "x"] == []


def test_without_scores_they_are_found_by_the_strict_rules(example, page):
    again = example / "again.html"
    options = report_options(example, "--truth")
    assert main([*options[:-1], str(again)]) == 1
    other = Page(again)
    for name in ("a.png", "missing.png", "plain3.png"):
        heads = ("F1", "Precision", "TP", "FN", "IoU", "Dice")
        assert [page.row(name)[h] for h in heads] == [other.row(name)[h] for h in heads]
    assert "Group" not in other.row("a.png")


def test_without_truth_there_are_predictions_only(example):
    plain = example / "plain.html"
    assert main([*report_options(example)[:-1], str(plain)]) == 1
    page = Page(plain)
    shown = page.image("a.png")
    assert "truth" not in shown and "match_status" not in shown["prediction"]
    assert page.row("a.png")["Cells"] == "3"
    assert "F1" not in page.row("a.png")


def test_scores_by_other_rules_and_taus_are_shown_as_they_are(folders):
    write_pair(folders, "a")
    options = ["--truth", folders / "truth", "--labels", folders / "labels", "--out", folders]
    options += ["--rules", "official", "--tau", 0.8, 0.9]
    assert main(["score", *map(str, options)]) == 0
    assert main(report_options(folders, "--truth", "--scores")) == 0
    text = (folders / "report.html").read_text(encoding="utf-8")
    assert "organisers" in text and "at τ = 0.8" in text and "at τ = 0.5" not in text


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
        assert reason in row["Image"] and row["State"] == "problem"
        assert re.search(rf"evaluate: {name}\S*: .*{re.escape(reason)}", said)
    # Labels of two images of one stem would be twice_png_label.tiff and twice_bmp_label.tiff.
    assert re.search(r"evaluate: twice_label\S*: .*no image of this name", said)
    assert page.row("good")["State"] == "" and "good" not in said
    assert page.row("nolabels")["F1"] == "0.000" and page.row("nolabels")["FN"] == "2"
    assert page.image("nolabels.png")["truth"]["match_status"] == [overlay.MISSED] * 2
    assert "prediction" not in page.image("shape.png")
    assert page.image("noimage_label.tiff")["prediction"]["match_status"] == [overlay.MATCHED] * 2


def test_images_of_scores_and_times_alone_are_listed(example, folders):
    for name in ("scores.json", "times.json"):
        (folders / name).write_text((example / name).read_text())
    assert main(report_options(folders, "--scores", "--times")) == 1
    page = Page(folders / "report.html")
    assert page.row("plain2_label.tiff")["F1"] == f"{2 * 1 * (2 / 6) / (1 + 2 / 6):.3f}"
    assert set(page.data) == {"settings"}  # there is nothing to look at
    assert len([row for row in page.rows if row and "plain" in row[0]]) == PLAIN


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
    assert sorted(p.name for p in folders.iterdir()) == ["images", "labels", "report.html", "truth"]


def test_the_command_says_what_it_wrote(folders):
    write_pair(folders, "a")
    options = report_options(folders)
    options[-1] = str(folders / "new" / "report.html")
    command = [sys.executable, "-m", "evaluate", *options]
    done = subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r".*new/report.html: 1 images, 0\.\d MB\n", done.stdout)


# Text that looks like HTML


def report_on(name, **more):
    """A report on one image of this name, in a group of the same name."""
    entry = Entry(name, 0, name, group=name, problems=[name], remarks=[name])
    entry.overlay = {"name": name, **more}
    return Report(name, [entry], origin=[(name, name)])


@pytest.mark.parametrize(
    "name", ["</script><script>alert(1)//", '" onclick="x', "{{ 7 * 7 }}", "a&amp;b"]
)
def test_what_looks_like_html_or_a_template_is_text(tmp_path, name):
    (tmp_path / "report.html").write_text(page_text(report_on(name)), encoding="utf-8")
    page = Page(tmp_path / "report.html")
    assert page.image(name)["name"] == name
    assert page.row(name)["Image"] == 3 * name  # and its problem and its remark
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]


def test_data_that_is_no_json_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        page_text(report_on("a", area=float("nan")))
