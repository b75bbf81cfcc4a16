"""The page at the end of a training run: before, after, the curve, pictures, what to do next."""

import base64
import csv
import re
import shutil

import cv2
import numpy as np
import pytest
from tiny import tiny_config
from training_data import draw_image

from app.images import write_labels
from app.network import weights
from app.network.cpn import CPN
from evaluate.report_page import overlay
from training import __main__ as command
from training import catalog, mixing, outcome
from training.catalog import Entry

GREEN, RED, YELLOW = (np.array(colour) for colour in outcome.COLOURS[:3])


@pytest.fixture
def own(tmp_path):
    """A folder of six drawn images with labels, of which one has a name that looks like HTML."""
    rng, folder = np.random.default_rng(1), tmp_path / "mine"
    folder.mkdir()
    for name in ("<b>a", "b", "c", "d", "e", "f"):
        image, label = draw_image(rng, 100, 120)
        cv2.imwrite(str(folder / f"{name}.png"), image)
        cv2.imwrite(str(folder / f"{name}_label.png"), label)
    return folder


@pytest.fixture(autouse=True)
def few_means(monkeypatch):
    """Each mean of what was learned and the start takes a validation."""
    monkeypatch.setattr(mixing, "SHARES", (0.0, 0.5))


def train(folder, out, *more):
    given = ["--data", folder, "--out", out, "--device", "cpu", "--steps", "2", *more]
    given += ["--set", "crops=[[64,2]]", "synthetic=0"]
    assert command.main([str(word) for word in given]) == 0
    return (out / outcome.PAGE).read_text(encoding="utf-8")


def test_a_run_ends_with_a_page_that_needs_no_other_file(own, tmp_path, capsys):
    page = train(own, tmp_path / "run")
    told = capsys.readouterr().out
    with (tmp_path / "run" / "validation.csv").open() as lines:
        before, after = (float(row["mean"]) for row in csv.DictReader(lines))
    assert f"Mean F1 {before:.3f} → {max(before, after):.3f}" in page
    assert "that training learned from as well" in page
    assert str(tmp_path / "run" / "best.safetensors") in page
    assert "<svg" in page
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 2 * page.count("<h3>") == 2 * outcome.SHOWN
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    for picture in pictures:
        data = np.frombuffer(base64.b64decode(picture), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (200, 240, 3)
    assert outcome.PAGE in told and "sh predict.sh INPUTS OUTPUTS --weights" in told


def test_names_are_text_on_the_page(own, tmp_path):
    for name in "bcdef":
        (own / f"{name}.png").unlink()
        (own / f"{name}_label.png").unlink()
    page = train(own, tmp_path / "a run")
    assert "&lt;b&gt;a.png" in page and "<b>" not in page
    assert "/a run/best.safetensors&#39;</code>" in page, "the command takes the path as one word"
    assert page.count("<h3>") == 1


def test_the_page_says_whether_the_images_are_new_to_the_network(own, tmp_path):
    for split, names in (("val", "b"), ("train", "cdef")):
        (own / split).mkdir()
        for name in names:
            for end in ("", "_label"):
                (own / f"{name}{end}.png").rename(own / split / f"{name}{end}.png")
    page = train(own, tmp_path / "run")
    assert "that training did not learn from: few" in page
    assert "b.png" in page and "c.png" not in page


def test_a_network_that_finds_nothing_is_said_to_and_the_start_is_kept(own, tmp_path, capsys):
    """No score is above 1."""
    start = tmp_path / "start.safetensors"
    network = CPN(tiny_config(window=128, window_stride=96, score_threshold=1.0))
    weights.save(start, network.state_dict(), network.config, {"steps": 0})
    page = train(own, tmp_path / "run", "--init", start)
    told = capsys.readouterr().out
    assert "No cell is found" in page and "No cell is found" in told
    assert "sh predict.sh" not in page + told
    kept, _ = weights.load(tmp_path / "run" / "best.safetensors")
    for one, other in zip(kept.parameters(), weights.load(start)[0].parameters()):
        assert one.equal(other)


def test_what_to_do_next_depends_on_what_training_brought():
    def advice(before, after, found, steps=None, is_silent=False):
        image = outcome.Scored(None, before, after, true=3, found=found)
        curve = [(0.0, before), (10.0, after)]
        return outcome.Outcome((), curve, [image], True, is_silent, 0.1, steps).advice

    assert "No cell is found" in advice(0.0, 0.0, 0)[0]
    assert "brought nothing" in advice(0.5, 0.5, 3)[0]
    assert "What was learned finds no cell" in advice(0.5, 0.5, 3, is_silent=True)[0]
    assert "correct a few" in advice(0.5, 0.6, 3, is_silent=True)[0]
    slow, then = advice(0.5, 0.5, 3, steps=40)
    assert "Only 40 steps" in slow and "--minutes 50" in slow and "brought nothing" in then


def test_a_run_from_scratch_began_with_nothing(tmp_path):
    """Its only validation used to be its own "before", so that it "brought nothing"."""
    entry = Entry("own", tmp_path / "a.png", tmp_path / "a_label.tiff")
    labels = np.zeros((60, 60), np.uint16)
    labels[20:40, 20:40] = 1
    cv2.imwrite(str(entry.image), labels.astype(np.uint8))
    write_labels(entry.label, labels)
    folder = outcome.labels_folder(tmp_path, 7)
    folder.mkdir(parents=True)
    write_labels(folder / "own__a_label.tiff", labels)
    (tmp_path / "validation.csv").write_text("step,minutes,mean\n7,3.0,1.0\n")
    best = CPN(tiny_config())
    weights.save(
        tmp_path / "best.safetensors", best.state_dict(), best.config, {"start_share": 0.2}
    )
    brought = outcome.gather(tmp_path, [entry], [], best_step=7, steps=None)
    assert brought.means == (0.0, 1.0)
    assert "correct a few" in brought.advice[0]
    page = outcome.write(brought, tmp_path).read_text(encoding="utf-8")
    assert "F1 0.000 → 1.000" in page
    assert "mixed with 20 % of those" in page


def test_weights_that_were_kept_are_not_said_to_be_mixed(own, tmp_path):
    """Those that we ship came out of a mixture themselves; that is no news of this run."""
    start = tmp_path / "start.safetensors"
    network = CPN(tiny_config(window=128, window_stride=96, score_threshold=1.0))
    weights.save(start, network.state_dict(), network.config, {"start_share": 0.5})
    train(own, tmp_path / "run", "--init", start)
    shutil.copyfile(start, tmp_path / "run" / "best.safetensors")
    listing = catalog.entries(own, "val")
    assert outcome.gather(tmp_path / "run", listing, [], best_step=0, steps=None).start_share == 0


def test_labels_of_any_number_can_be_shown(tmp_path):
    """Pictures of cells numbered around a thousand million used to need as many bytes."""
    labels = np.zeros((60, 60), np.uint32)
    labels[20:40, 20:40] = 2 * 10**9
    entry = Entry("own", tmp_path / "a.png", tmp_path / "a_label.tiff")
    cv2.imwrite(str(entry.image), np.zeros(labels.shape, np.uint8))
    write_labels(entry.label, labels)
    (picture,) = outcome.pictures(entry, [None])
    assert picture.startswith("data:image/jpeg")


def test_a_run_that_was_too_short_goes_on_as_it_says(own, tmp_path, capsys):
    given = ["--data", own, "--out", tmp_path / "run", "--device", "cpu", "--set"]
    given = [str(word) for word in [*given, "crops=[[64,2]]", "synthetic=0", "--minutes"]]
    assert command.main([*given, "0.001", "--init", "research"]) == 0
    assert re.search(r"Only \d+ steps were done", capsys.readouterr().out)
    assert command.main([*given, "0.1"]) == 0
    assert "Going on from step" in capsys.readouterr().out


def test_outlines_say_what_is_found_wrong_and_missed(tmp_path):
    truth, labels = np.zeros((2, 90, 200), np.uint16)
    for place, (left, is_true, is_found) in enumerate([(20, 1, 1), (80, 0, 1), (140, 1, 0)], 1):
        truth[30:60, left : left + 30] = place * is_true
        labels[30:60, left : left + 30] = place * is_found
    entry = Entry("own", tmp_path / "a.png", tmp_path / "a_label.tiff")
    cv2.imwrite(str(entry.image), np.zeros(truth.shape, np.uint8))
    write_labels(entry.label, truth)
    (tmp_path / "after").mkdir()
    write_labels(tmp_path / "after" / "own__a_label.tiff", labels)
    (uri,) = outcome.pictures(entry, [tmp_path / "after"])
    data = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)[::2, ::2, ::-1].astype(int)
    for left, colour in ((20, GREEN), (80, RED), (140, YELLOW)):
        edge = picture[35:55, left : left + 2].max(axis=1).mean(axis=0)
        nearest = min((GREEN, RED, YELLOW), key=lambda one: np.abs(one - edge).sum())
        assert (nearest == colour).all()
        assert picture[40:50, left + 10 : left + 20].max() < 40


def test_outlines_stand_out_from_cells_of_their_colour():
    """Green ones on green cells could hardly be seen."""
    labels = np.zeros((90, 90), np.int32)
    labels[30:60, 30:60] = 1
    picture = np.full((90, 90, 3), GREEN, np.uint8)
    outcome.outline(picture, [(labels, {1: (overlay.MATCHED, None)}, False)])
    assert (picture[30, 45] == GREEN).all()
    assert (picture[29, 45] == GREEN // 2).all() and (picture[31, 45] == GREEN // 2).all()
    assert (picture[40:50, 40:50] == GREEN).all()


def test_pictures_of_large_images_show_the_part_where_the_cells_are():
    where = np.arange(3000, 3100)
    part = outcome.middle(where, 4000)
    assert part.stop - part.start == outcome.SIDE
    assert part.start < 3000 and part.stop > 3100
    assert outcome.middle(np.array([3999]), 4000) == slice(4000 - outcome.SIDE, 4000)
    assert outcome.middle(np.array([]), 100) == slice(0, 100)


def test_the_images_shown_reach_from_the_worst_to_the_best():
    images = [outcome.Scored(None, 0, after, 1, 1) for after in (0.9, 0.1, 0.5, 0.4, 0.6)]
    assert [image.after for image in outcome.chosen(images)] == [0.1, 0.5, 0.9]
    assert len(outcome.chosen(images[:2])) == 2
