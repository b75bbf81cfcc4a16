"""The organisers' scoring (reference.md, section 5), rule by rule, and the command around it."""

import csv
import os
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from scipy.optimize import linear_sum_assignment

from evaluate import bench
from evaluate.matching import Score, matched, overlaps, remove_frame, score_pair
from evaluate.score import (
    COLUMNS,
    LabelError,
    find_truth,
    group_table,
    grouped,
    read_labels,
    score_folder,
    summary,
)

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


def drawn(shape, *boxes, dtype=np.uint16):
    """A label image with cell k + 1 as box k: top, left, bottom, right (ends excluded)."""
    labels = np.zeros(shape, dtype)
    for label, (top, left, bottom, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = label
    return labels


def counts(score):
    """true, predicted, correct, missed, wrong."""
    return astuple(score)[:5]


def random_labels(rng, height, width, boxes=30):
    """Overlapping boxes of even sides at even places; labels leave gaps and may come twice."""
    labels = np.zeros((height, width), np.uint16)
    for _ in range(boxes):
        top, left = 2 * rng.integers(0, (height + 1) // 2), 2 * rng.integers(0, (width + 1) // 2)
        size = 2 * rng.integers(1, 6, 2)
        labels[top : top + size[0], left : left + size[1]] = rng.integers(1, 3 * boxes)
    return labels


def disturbed(rng, labels):
    """The labels with some cells in two exact halves, perhaps moved by a pixel or with holes."""
    halved = rng.random(100) < 0.3
    labels = labels + 100 * (halved[labels] & (np.arange(labels.shape[1]) % 2 == 1))
    if rng.random() < 0.5:
        labels = np.roll(labels, tuple(rng.integers(-1, 2, 2)), axis=(0, 1))
    labels[rng.random(labels.shape) < rng.choice([0, 0.1, 0.3])] = 0
    return labels


# An independent, slow statement of the rules: every cell a mask, every pair in one dense matrix.


def slow_cells(labels):
    """The masks of the cells that keep 2 pixels off every edge (images of sides above 4)."""
    masks = [labels == label for label in np.unique(labels) if label]
    return [mask for mask in masks if mask.sum() == mask[2:-2, 2:-2].sum()]


def slow_iou(truth, prediction):
    pairs = [[((a & b).sum(), (a | b).sum()) for b in prediction] for a in truth]
    return np.array([[i / u for i, u in row] for row in pairs]).reshape(len(truth), len(prediction))


def slow_correct(iou, tau):
    """TP by the organisers' assignment over all pairs."""
    if not iou.size:
        return 0
    found = linear_sum_assignment(-(iou >= tau).astype(float) - iou / (2 * min(iou.shape)))
    return int((iou[found] >= tau).sum())


def slow_score(truth, prediction, tau):
    a, b = slow_cells(truth), slow_cells(prediction)
    tp = slow_correct(slow_iou(a, b), tau)
    precision, recall = (tp / len(b), tp / len(a)) if tp else (0, 0)
    f1 = 2 * precision * recall / (precision + recall) if tp else 0
    both = (truth > 0).sum() + (prediction > 0).sum()
    dice = 2 * ((truth > 0) & (prediction > 0)).sum() / both if both else 1
    missed = len(a) - tp if b else 0
    return (len(a), len(b), tp, missed, len(b) - tp), (precision, recall, dice, f1)


def test_a_small_image_counted_by_hand():
    truth = drawn((20, 20), (3, 3, 7, 7), (3, 10, 7, 14), (10, 3, 14, 7))
    prediction = drawn((20, 20), (3, 3, 7, 6), (3, 13, 7, 17))
    # cell 1: 12 of 16 pixels, correct; cell 2: 4 shared of 28, wrong; cell 3: missed
    assert score_pair(truth, prediction) == Score(
        3, 2, 1, 2, 1, precision=0.5, recall=0.3333, dice=0.4211, f1=0.4
    )  # dice = 2 * 16 / (48 + 28)


def test_iou_of_exactly_tau_is_correct_and_a_cell_is_correct_once():
    truth = drawn((12, 12), (3, 3, 7, 9))
    halves = drawn((12, 12), (3, 3, 7, 6), (3, 6, 7, 9))
    assert counts(score_pair(truth, halves)) == (1, 2, 1, 0, 1)
    assert counts(score_pair(halves, truth)) == (2, 1, 1, 1, 0)
    assert counts(score_pair(truth, halves, tau=0.51)) == (1, 2, 0, 1, 2)
    tenths = drawn((16, 16), (3, 3, 4, 13)), drawn((16, 16), (3, 3, 4, 6))
    assert score_pair(*tenths, tau=0.3).correct_num == 1


def test_two_correct_pairs_go_before_one_of_larger_iou():
    truth = drawn((8, 24), (3, 3, 4, 15), (3, 15, 4, 18))
    prediction = drawn((8, 24), (3, 3, 4, 6), (3, 6, 4, 18))
    # IoU: 3/12 and 9/15 for the first true cell, 0 and 3/12 for the second
    assert score_pair(truth, prediction, tau=0.25).correct_num == 2
    assert score_pair(truth, prediction, tau=0.5).correct_num == 1


def test_cells_within_two_pixels_of_an_edge_are_no_cells_but_count_for_dice():
    at_the_edge = [(1, 5, 6, 8), (5, 0, 8, 4), (8, 15, 11, 19), (14, 8, 19, 11)]
    truth = drawn((20, 20), (2, 2, 4, 4), (16, 16, 18, 18), *at_the_edge)
    cleaned = remove_frame(truth)
    assert set(np.unique(cleaned)) == {0, 1, 2}
    assert np.array_equal(cleaned > 0, (truth == 1) | (truth == 2))
    assert cleaned.dtype == truth.dtype and truth.max() == 6, "the input is left as it was"

    score = score_pair(truth, drawn((20, 20), (2, 2, 4, 4), (16, 16, 18, 18)))
    assert counts(score) == (2, 2, 2, 0, 0) and score.f1 == 1
    assert score.dice == round(2 * 8 / (8 + int((truth > 0).sum())), 4)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (3, 3), (1, 7), (1, 1)])
def test_a_side_of_four_pixels_is_all_frame_but_without_background_the_smallest_label_stays(shape):
    full = np.full(shape, 8, np.uint16)
    full[:, -1] = 5
    assert np.array_equal(remove_frame(full), np.where(full == 5, 5, 0))
    assert counts(score_pair(full, full)) == (1, 1, 1, 0, 0)
    holed = full.copy()
    holed[0, 0] = 0
    assert not remove_frame(holed).any()


def test_from_five_pixels_on_only_the_frame_is_removed():
    labels = drawn((5, 5), (2, 2, 3, 3))
    assert np.array_equal(remove_frame(labels), labels)
    assert not remove_frame(np.ones((5, 5), int)).any()


def test_nothing_predicted_misses_nothing_and_nothing_true_scores_zero():
    empty, cells = np.zeros((20, 20), int), drawn((20, 20), (3, 3, 7, 7), (9, 9, 14, 14))
    at_the_edge = drawn((20, 20), (0, 0, 5, 5))
    for nothing in (empty, at_the_edge):
        score = score_pair(cells, nothing)
        assert counts(score) == (2, 0, 0, 0, 0) and score.recall == score.f1 == 0
    assert astuple(score_pair(empty, cells)) == (0, 2, 0, 0, 2, 0, 0, 0, 0)
    assert astuple(score_pair(empty, empty)) == (0, 0, 0, 0, 0, 0, 0, 1, 0)


@pytest.mark.parametrize("tau", [0.5, 0.3, 0.1, 1 / 3, 0.75])
def test_random_images_agree_with_the_dense_statement_of_the_rules(tau):
    rng = np.random.default_rng(int(tau * 100))
    correct = contested = 0
    for _ in range(60):
        truth = random_labels(rng, *rng.integers(5, 40, 2))
        prediction = disturbed(rng, truth)
        score = score_pair(truth, prediction, tau)
        expected_counts, expected_ratios = slow_score(truth, prediction, tau)
        assert counts(score) == expected_counts
        assert astuple(score)[5:] == pytest.approx(expected_ratios, abs=0.5001e-4)
        correct += score.correct_num
        hits = slow_iou(slow_cells(truth), slow_cells(prediction)) >= tau
        contested += int(hits.sum()) > score.correct_num
    assert correct > 50
    assert contested > 5 or tau > 0.5, "above one half, no two cells compete"


def test_the_matched_pairs_are_one_to_one_as_many_as_can_be_and_of_largest_iou():
    rng = np.random.default_rng(5)
    for _ in range(60):
        truth = random_labels(rng, *rng.integers(5, 40, 2))
        prediction = disturbed(rng, truth)
        table = overlaps(truth, prediction)
        pairs = matched(table, 0.2)
        for cells in (table.rows[pairs], table.columns[pairs]):
            assert len(np.unique(cells)) == len(cells)
        masks = [[labels == k for k in np.unique(labels) if k] for labels in (truth, prediction)]
        iou = slow_iou(*masks)
        assert len(pairs) == slow_correct(iou, 0.2)
        iou[iou < 0.2] = 0
        best = iou[linear_sum_assignment(-np.sign(iou) - iou / (2 * min(iou.shape)))].sum()
        assert table.iou()[pairs].sum() == pytest.approx(best)
        assert (table.iou()[pairs] >= 0.2).all()


def test_the_overlap_table_holds_every_pixel_of_every_cell_once():
    rng = np.random.default_rng(6)
    truth, prediction = random_labels(rng, 50, 30), random_labels(rng, 50, 30)
    table = overlaps(truth, prediction)
    assert table.truth_pixels.sum() == (truth > 0).sum()
    assert table.prediction_pixels.sum() == (prediction > 0).sum()
    assert table.pixels.sum() == ((truth > 0) & (prediction > 0)).sum()
    labels, predicted = np.unique(truth)[1:], np.unique(prediction)[1:]
    for row, column, pixels in zip(table.rows, table.columns, table.pixels):
        assert pixels == ((truth == labels[row]) & (prediction == predicted[column])).sum() > 0


def test_other_ids_and_other_orientations_give_the_same_score():
    rng = np.random.default_rng(7)
    for _ in range(20):
        truth = random_labels(rng, 40, 30)
        prediction = disturbed(rng, truth)
        score = score_pair(truth, prediction)
        ids = np.concatenate([[0], 1 + rng.permutation(2**31 - 2 - np.arange(200))])
        assert score_pair(truth, ids[prediction]) == score
        assert score_pair(ids[truth], prediction) == score
        assert score_pair(truth.T, prediction.T) == score
        assert score_pair(truth[::-1], prediction[::-1]) == score


def test_from_25_million_pixels_on_tiles_of_2000_count_each_as_an_image():
    shape = (5000, 5000)
    truth = drawn(
        shape,
        (100, 100, 110, 110),
        (1990, 500, 2010, 520),  # crosses a seam
        (500, 2001, 510, 2011),  # within 2 px of a seam
        (2500, 4990, 2510, 5000),  # at the right edge, where the tile goes on with padding
        (4400, 100, 4410, 110),  # in a tile without any predicted cell
        (4400, 200, 4410, 210),
    )
    prediction = truth.copy()
    prediction[4400:4410] = 0
    # scored are cells 1, 4, 5, 6; 5 and 6 are not found, yet none is missed in an empty tile
    tiled = score_pair(truth, prediction)
    assert counts(tiled) == (4, 2, 2, 0, 0)
    assert (tiled.precision, tiled.recall, tiled.f1) == (1, 0.5, 0.6667)
    whole = score_pair(truth[:-1], prediction[:-1])
    assert counts(whole) == (5, 3, 3, 2, 0), "one row less: all but the cell at the edge count"


def test_a_label_in_two_tiles_is_two_cells():
    labels = drawn((5000, 5000), (100, 100, 120, 120))
    labels[3000:3010, 3000:3010] = 1
    assert counts(score_pair(labels, labels)) == (2, 2, 2, 0, 0)
    assert counts(score_pair(labels[:-1], labels[:-1])) == (1, 1, 1, 0, 0)


def test_large_images_cast_the_predicted_labels_to_the_type_of_the_truth():
    truth = drawn((5000, 5000), (10, 10, 20, 20), (30, 30, 40, 40), (50, 50, 60, 60))
    prediction = truth.astype(np.uint32)
    prediction[prediction == 2] = 65536  # becomes background
    prediction[prediction == 3] = 65537  # becomes one with cell 1
    score = score_pair(truth, prediction)
    assert counts(score) == (3, 1, 1, 2, 0), "200 pixels, half of them cell 1"
    assert score.dice == 1
    assert score_pair(truth[:-1], prediction[:-1]).f1 == 1


def test_what_is_no_pair_of_label_images_is_refused():
    cells = drawn((20, 20), (3, 3, 7, 7))
    with pytest.raises(ValueError, match=r"\(20, 19\).*\(20, 20\)"):
        score_pair(cells, cells[:, :-1])
    with pytest.raises(ValueError, match="two dimensions"):
        score_pair(cells[None], cells[None])
    with pytest.raises(ValueError, match="prediction has a negative label, -1"):
        score_pair(cells, -cells.astype(int))


def save(path, labels):
    if path.suffix == ".png":
        assert cv2.imwrite(str(path), labels)
    else:
        tifffile.imwrite(str(path), labels)


@pytest.fixture
def folders(tmp_path):
    """Two empty folders, of true and of predicted labels."""
    truth, labels = tmp_path / "truth", tmp_path / "labels"
    truth.mkdir()
    labels.mkdir()
    return truth, labels


def test_label_files_keep_their_type_and_others_are_refused(tmp_path):
    cells = drawn((20, 20), (3, 3, 7, 7))
    files = {"a.png": np.uint8, "b.png": np.uint16, "c.tif": np.uint16, "d.tiff": np.uint32}
    for name, dtype in files.items():
        save(tmp_path / name, cells.astype(dtype))
        labels = read_labels(tmp_path / name)
        assert labels.dtype == dtype and np.array_equal(labels, cells)

    save(tmp_path / "rgb.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(LabelError, match=r"rgb.png has the shape \(8, 8, 3\)"):
        read_labels(tmp_path / "rgb.png")
    for name in ("b.png", "d.tiff"):
        whole = (tmp_path / name).read_bytes()
        for broken in (b"", b"not an image", whole[: len(whole) // 2]):
            (tmp_path / name).write_bytes(broken)
            with pytest.raises(LabelError, match=f"{name} cannot be read"):
                read_labels(tmp_path / name)


def test_truth_is_the_label_of_the_name_else_the_name(folders):
    truth, _ = folders
    order = ["a.b_label.tiff", "a.b_label.tif", "a.b_label.png", "a.b.tiff", "a.b.tif", "a.b.png"]
    for name in reversed(order):
        (truth / name).touch()
        for prediction in order[:3]:
            assert find_truth(truth, prediction).name == name
    with pytest.raises(LabelError, match="no c_label or c "):
        find_truth(truth, "c_label.png")


def test_a_folder_is_scored_sorted_and_what_cannot_be_is_named(folders):
    truth, labels = folders
    cells = drawn((20, 20), (3, 3, 7, 7), (9, 9, 14, 14))
    for name in ("b.tif", "a_label.png", "shape.png"):
        save(truth / name, cells)
    save(labels / "b_label.tiff", np.where(cells == 1, cells, 0))
    save(labels / "a_label.tif", cells)
    save(labels / "shape_label.png", cells[1:])
    save(labels / "alone_label.tiff", cells)
    (labels / "b.txt").touch()
    save(labels / "not-a-result.png", cells)

    rows, problems = score_folder(truth, labels)
    assert [(name, score.f1) for name, score in rows] == [
        ("a_label.tif", 1.0),
        ("b_label.tiff", 0.6667),
    ]
    assert [name for name, _ in problems] == ["alone_label.tiff", "shape_label.png"]
    assert "no truth" in problems[0][1] and "(19, 20)" in problems[1][1]
    with pytest.raises(OSError):
        score_folder(truth, labels / "nowhere")


def test_averages_are_of_the_rounded_f1_over_images_and_groups():
    f1 = {"a": 0.1, "b": 0.6, "c": 0.3, "d": 1.0}
    rows = [(name, Score(1, 1, 1, 0, 0, 1.0, 1.0, 1.0, value)) for name, value in f1.items()]
    assert summary(rows) == (4, pytest.approx(0.5), pytest.approx(0.45))
    groups = {"a": "x", "b": "x", "c": "x", "d": "w", "another": "v"}
    found, macro = grouped(rows, groups)
    assert list(found) == ["w", "x"]
    assert found["w"] == (1, 1, 1)
    assert found["x"] == (3, pytest.approx(1 / 3), 0.3)
    assert macro == pytest.approx(2 / 3)
    assert [line.split() for line in group_table(rows, groups).splitlines()] == [
        ["group", "n", "mean", "F1", "median", "F1"],
        ["w", "1", "1.0000", "1.0000"],
        ["x", "3", "0.3333", "0.3000"],
        ["all", "images", "4", "0.5000", "0.4500"],
        ["macro", "over", "groups", "2", "0.6667"],
    ]
    assert summary([]).images == 0 and np.isnan(summary([]).mean)


def run_score(truth, labels, *more):
    command = [sys.executable, "-m", "evaluate", "score", "--truth", str(truth)]
    return subprocess.run(
        [*command, "--labels", str(labels), *map(str, more)],
        cwd=str(ROOT),
        capture_output=True,
        text=True,
    )


def test_the_command_prints_and_writes_the_table_and_fails_when_an_image_could_not_be_scored(
    folders,
):
    truth, labels = folders
    cells = drawn((20, 20), (3, 3, 7, 7), (3, 10, 7, 14), (10, 3, 14, 7))
    out = truth.parent / "scores.csv"
    for name in ("a", "b"):
        save(truth / f"{name}.png", cells)
        save(labels / f"{name}_label.tiff", cells if name == "a" else np.where(cells < 2, cells, 0))
    done = run_score(truth, labels, "--out", out)
    assert done.returncode == 0 and not done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == list(COLUMNS)
    assert " ".join(lines[2]) == "b_label.tiff 3 1 1 2 0 1.0000 0.3333 0.5000 0.5000"
    assert "2 images: mean F1 0.7500, median F1 0.7500" in done.stdout
    with open(str(out), newline="") as file:
        table = list(csv.reader(file))
    assert ",".join(table[0]) == (
        "names,true_num,pred_num,correct_num(TP),missed_num(FN),wrong_num(FP),"
        "precision,recall,dice,F1"
    )
    assert table[1:] == [
        ["a_label.tiff", "3", "3", "3", "0", "0", "1.0", "1.0", "1.0", "1.0"],
        ["b_label.tiff", "3", "1", "1", "2", "0", "1.0", "0.3333", "0.5", "0.5"],
    ]

    (truth / "a.png").unlink()
    done = run_score(truth, labels)
    assert done.returncode == 1
    assert "a_label.tiff not scored: no truth" in done.stderr
    assert "1 images: mean F1 0.5000" in done.stdout


def test_the_command_says_what_is_wrong_with_a_folder(folders):
    truth, labels = folders
    empty, missing = run_score(truth, labels), run_score(truth, labels / "nowhere")
    for done, said in ((empty, "has no *_label"), (missing, "nowhere: No such file")):
        assert done.returncode == 1 and said in done.stderr and not done.stdout
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(
    not DATA.is_dir() and not os.environ.get("CI"), reason="../shared/data is missing"
)
@pytest.mark.parametrize("source", ["codex_expert", "bbbc010_worms", "tnbc"])
def test_real_truth_scored_against_itself_is_perfect(source):
    files = sorted((DATA / source).glob("*_label.png"))[:3]
    assert files, "the data folder has no labels"
    rng = np.random.default_rng(8)
    for path in files:
        truth = read_labels(find_truth(DATA / source, path.name))
        ids = np.concatenate([[0], 1 + rng.permutation(int(truth.max()))])
        score = score_pair(truth, ids[truth])
        frame = truth.copy()
        frame[2:-2, 2:-2] = 0
        n = len(set(np.unique(truth)) - set(np.unique(frame)))
        assert n > 0 and astuple(score) == (n, n, n, 0, 0, 1, 1, 1, 1)


def test_bench_times_a_command_on_both_folders(data, tmp_path):
    """With a command that only lists what it was given: one image, then twenty."""
    seen = tmp_path / "seen"
    command = ["sh", "-c", f'ls "$1" | wc -l >> {seen}', "-"]
    rows = list(bench.bench(data, command))
    assert seen.read_text().split() == ["1", "20"]
    assert [row[1] for row in rows] == [1, 20]
    assert all(0 < seconds < promised for _, _, seconds, promised, _ in rows)
    with pytest.raises(RuntimeError, match="failed"):
        list(bench.bench(data, ["false"]))
