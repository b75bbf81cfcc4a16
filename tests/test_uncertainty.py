"""python -m evaluate uncertainty: its statistics, which cells it compares, and the command."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from drawn import drawn
from scipy.stats import mannwhitneyu, spearmanr

from app.cells import Cells
from evaluate import bootstrap, matching
from evaluate.folders import LabelError
from evaluate.uncertainty import CellFile, Compared, analyse, compare

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("label", "x0", "y0", "x1", "y1", "area", "centroid_x", "centroid_y", "score")
COLUMNS += tuple(f"uncertainty_{side}" for side in ("top", "right", "bottom", "left"))


def cells_of(labels, scores, uncertainties, shift=0):
    """The CellFile of drawn labels whose sides are `shift` pixels further down and right."""
    values, boxes = matching.boxes(labels)
    return cell_file(values, boxes - (0, 0, 1, 1) + shift, scores, uncertainties)


def cell_file(labels, boxes, scores, uncertainties):
    """A CellFile of these rows; boxes (n, 4): x0, y0, x1, y1 of pixel centres."""
    columns = map(np.array, (np.zeros((len(labels), 0, 2)), boxes, scores, uncertainties))
    return CellFile(labels, Cells(*columns))


def some_cells(rng, n=400, images=12):
    """n Compared cells of random figures, all with known sides."""
    iou, score, certainty = rng.uniform(0.3, 1, n), rng.random(n), rng.random(n)
    delta, error = rng.uniform(0, 7, (n, 4)), rng.exponential(2, (n, 4))
    return Compared(rng.integers(0, images, n), iou, delta, error, score, certainty)


# Statistics


def test_the_statistics_are_those_of_scipy_also_with_ties():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a, b = rng.integers(0, 12, (2, 60)) / 4
        positive = rng.random(60) < 0.3
        ones = np.ones(60)
        assert bootstrap.spearman(a, b)(ones) == pytest.approx(spearmanr(a, b)[0])
        u = mannwhitneyu(a[positive], a[~positive], alternative="two-sided").statistic
        auroc = u / (positive.sum() * (~positive).sum())
        assert bootstrap.auroc(a, positive)(ones) == pytest.approx(auroc)


def test_a_weight_is_how_often_a_cell_stands_there():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 9, (2, 40)).astype(float)
    positive = rng.random(40) < 0.5
    weights = rng.integers(0, 4, (5, 40))
    for make, second in (
        (bootstrap.spearman, b),
        (bootstrap.auroc, positive),
        (lambda x, _: bootstrap.mean(x), b),
    ):
        for times in weights:
            often = make(np.repeat(a, times), np.repeat(second, times))
            expected = often(np.ones(times.sum()))
            assert make(a, second)(times.astype(float)) == pytest.approx(expected)


def test_an_interval_is_of_images_not_of_cells():
    """Cells that repeat their image's one value tell no more than that value."""
    rng = np.random.default_rng(2)
    of_image = rng.random(30)
    few = bootstrap.estimate(bootstrap.mean(of_image), np.arange(30))
    many = bootstrap.estimate(bootstrap.mean(np.repeat(of_image, 50)), np.repeat(np.arange(30), 50))
    assert many == pytest.approx(few)
    assert few["value"] == pytest.approx(of_image.mean())
    assert few["low"] < few["value"] < few["high"]
    width = few["high"] - few["low"]
    assert width == pytest.approx(2 * 1.96 * of_image.std() / np.sqrt(30), rel=0.1)
    alone = bootstrap.estimate(bootstrap.mean(of_image), np.zeros(30))
    assert alone == {"value": pytest.approx(of_image.mean()), "low": None, "high": None}


# What is told of cells


def flat(told):
    """All numbers of a nested result."""
    if isinstance(told, dict):
        told = [told[key] for key in sorted(told)]
    return [number for item in told for number in flat(item)] if isinstance(told, list) else [told]


def test_delta_in_proportion_to_the_error_ranks_perfectly_and_a_random_one_does_not():
    cells = some_cells(np.random.default_rng(4))
    cells.error = cells.delta / 3
    assert all(s["spearman"]["value"] == pytest.approx(1) for s in analyse(cells)["sides"].values())
    cells.error = np.random.default_rng(5).permutation(cells.error)
    for side in analyse(cells)["sides"].values():
        assert abs(side["spearman"]["value"]) < 0.15
        assert side["spearman"]["low"] < 0 < side["spearman"]["high"]


def test_errors_drawn_with_delta_as_their_width_are_as_large_as_expected(monkeypatch):
    monkeypatch.setattr(bootstrap, "DRAWS", 10)  # no interval is looked at
    rng = np.random.default_rng(6)
    cells = some_cells(rng, n=4000)
    cells.error = np.abs(rng.normal(0, cells.delta))
    side = analyse(cells)["sides"]["all"]
    assert len(side["reliability"]) == 10
    for bin in side["reliability"]:
        assert bin["sides"] == 1600
        assert bin["error"]["value"] == pytest.approx(bin["expected"], rel=0.1)
    assert np.all(np.diff([bin["delta"] for bin in side["reliability"]]) > 0)


def test_errors_drawn_with_delta_as_their_width_rank_as_well_as_normal_errors_can(monkeypatch):
    monkeypatch.setattr(bootstrap, "DRAWS", 10)  # no interval is looked at
    rng = np.random.default_rng(6)
    cells = some_cells(rng, n=4000)
    for spread in (0.2, 0.7, 2.0):
        cells.delta = np.exp(rng.normal(0, spread, cells.delta.shape))
        cells.error = np.abs(rng.normal(0, cells.delta))
        side = analyse(cells)["sides"]["all"]
        assert side["normal_spearman"] == pytest.approx(side["spearman"]["value"], abs=0.02)
    cells.error = cells.delta  # not noise: all is known, and more than of normal errors
    side = analyse(cells)["sides"]["all"]
    assert side["spearman"]["value"] == pytest.approx(1) and side["normal_spearman"] < 0.95


def test_the_order_of_the_cells_tells_nothing():
    rng = np.random.default_rng(7)
    cells = some_cells(rng)
    cells.delta = np.round(cells.delta)  # ties
    shuffled = cells.filter(rng.permutation(len(cells.iou)))
    assert flat(analyse(shuffled)) == pytest.approx(flat(analyse(cells)))


def test_equal_deltas_share_a_bin():
    cells = some_cells(np.random.default_rng(8))
    cells.delta = np.where(cells.delta < 4, 0.0, 7.0)
    bins = analyse(cells)["sides"]["top"]["reliability"]
    assert [bin["delta"] for bin in bins] == [0.0, 7.0]


def test_certainty_may_tell_what_the_score_does_not():
    cells = some_cells(np.random.default_rng(9))
    correct = cells.iou >= 0.5
    cells.score = np.where(correct, 0.8, 0.85)
    cells.certainty = np.where(correct, 0.9, 0.3)
    found = {name: estimate["value"] for name, estimate in analyse(cells)["auroc"].items()}
    assert found == pytest.approx({"score": 0, "certainty": 1, "score_certainty": 1, "gain": 1})


def test_where_nothing_can_be_told_there_is_no_number():
    nothing = {"value": None, "low": None, "high": None}
    cells = some_cells(np.random.default_rng(10))
    none = analyse(cells.filter(np.zeros(400, bool)))
    assert none["cells"] == 0 and none["sides"]["all"]["reliability"] == []
    assert none["auroc"]["score"] == none["sides"]["top"]["spearman"] == nothing
    assert none["sides"]["top"]["delta"] is none["sides"]["top"]["normal_spearman"] is None
    cells.iou[:] = 0.9
    cells.delta[:] = 1
    same = analyse(cells)
    assert same["auroc"]["gain"] == same["sides"]["all"]["spearman"] == nothing
    assert same["sides"]["all"]["delta"] == 1 and same["sides"]["all"]["normal_spearman"] is None


# Which cells are compared, with what


def test_a_case_by_hand():
    """Three predicted cells: one off by known sides, one that misses, one on the frame."""
    truth = drawn((60, 60), (10, 20, 30, 40), (0, 0, 8, 8))
    labels = drawn((60, 60), (12, 20, 30, 39), (40, 40, 50, 50), (1, 1, 8, 8))
    boxes = [[20, 11.5, 38.25, 29], [40, 40, 49, 49], [1, 1, 7, 7]]  # x0, y0, x1, y1
    uncertainties = np.array([[0.1, 0.2, 0.3, 0.4], [0.5] * 4, [0.6] * 4])
    cells = cell_file(np.arange(1, 4), boxes, [0.9, 0.8, 0.7], uncertainties)
    found = compare(truth, labels, cells, image=5)
    assert found.iou.tolist() == pytest.approx([18 * 19 / 400, 0])
    assert found.error[0].tolist() == [1.5, 0.75, 0, 0] and np.isnan(found.error[1]).all()
    assert found.delta[0].tolist() == pytest.approx([0.7, 1.4, 2.1, 2.8])
    assert found.score.tolist() == [0.9, 0.8]
    relative = (0.7 / 17.5 + 1.4 / 18.25 + 2.1 / 17.5 + 2.8 / 18.25) / 4, 3.5 / 9
    assert found.certainty.tolist() == pytest.approx([1 / (1 + mean) for mean in relative])
    assert found.image.tolist() == [5, 5]


def test_a_cell_is_compared_with_the_one_it_fits_best_and_only_from_an_iou_of_three_tenths():
    truth = drawn((40, 80), (10, 10, 20, 20), (10, 20, 20, 40))
    labels = drawn((40, 80), (10, 16, 20, 40), (10, 10, 20, 12))
    found = compare(truth, labels, cells_of(labels, [0.9, 0.8], np.full((2, 4), 0.1)))
    assert found.iou.tolist() == pytest.approx([200 / 240, 0.2])
    assert found.error[0].tolist() == [0, 0, 0, 4]
    assert np.isnan(found.error[1]).all()


def test_the_names_of_the_cells_do_not_matter():
    rng = np.random.default_rng(12)
    truth = drawn((90, 90), *((t, u, t + 9, u + 9) for t in (5, 30, 60) for u in (5, 30, 60)))
    labels = np.roll(truth, (1, 2), (0, 1))
    cells = cells_of(labels, rng.random(9), rng.random((9, 4)))
    names = rng.permutation(9) + 100
    renamed = np.where(labels > 0, names[labels.astype(int) - 1], 0)
    order = np.argsort(names)
    moved = CellFile(names[order], cells.cells.filter(order))
    first, second = compare(truth, labels, cells), compare(truth, renamed, moved)
    assert flat(analyse(first)) == pytest.approx(flat(analyse(second)))
    assert (first.error == [1, 2, 1, 2]).all()


def test_cells_of_another_label_image_are_refused():
    labels = drawn((30, 30), (5, 5, 12, 12), (15, 15, 25, 25))
    cells = cells_of(labels, [0.5, 0.5], np.zeros((2, 4)))
    with pytest.raises(LabelError, match="_cells.csv"):
        compare(labels, np.where(labels == 1, 0, labels), cells)
    with pytest.raises(LabelError, match="shape"):
        compare(labels[:20], labels, cells)


# The command


def write_cells(path, cells):
    """A NAME_cells.csv as app.predict writes it (area and centroid do not matter here)."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        known = cells.cells
        rows = zip(cells.labels, known.boxes, known.scores, known.uncertainties)
        for label, box, score, sigmas in rows:
            writer.writerow((label, *box, 1, 0, 0, score, *sigmas))


@pytest.fixture
def folders(tmp_path):
    """Truth and predictions of four drawn images, moved more where uncertainties are larger."""
    truth_dir, labels_dir = tmp_path / "truth", tmp_path / "labels"
    truth_dir.mkdir()
    labels_dir.mkdir()
    places = [(t, u, t + 14, u + 14) for t in (10, 40, 70) for u in (10, 40, 70)]
    for shift, name in enumerate("abcd"):
        truth = drawn((100, 100), *places)
        labels = np.roll(truth, (shift, shift), (0, 1))
        tifffile.imwrite(str(truth_dir / f"{name}_label.tiff"), truth)
        tifffile.imwrite(str(labels_dir / f"{name}_label.tiff"), labels)
        sigmas = np.full((9, 4), shift / 7)
        write_cells(labels_dir / f"{name}_cells.csv", cells_of(labels, [0.9] * 9, sigmas))
    return tmp_path


def command(folder, *arguments):
    """python -m evaluate uncertainty on the folder's truth and labels."""
    return subprocess.run(
        [sys.executable, "-m", "evaluate", "uncertainty", "--truth", str(folder / "truth")]
        + ["--labels", str(folder / "labels"), *map(str, arguments)],
        cwd=str(ROOT),
        env=dict(os.environ, OMP_NUM_THREADS="1"),
        capture_output=True,
        encoding="utf-8",
    )


def test_the_command_tells_and_writes(folders):
    (folders / "groups.csv").write_text("name,group\na,Fluo\nb,Fluo\nc,PC\nd,PC\n")
    out = folders / "out"
    done = command(folders, "--groups", folders / "groups.csv", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "36 cells of 4 images" in done.stdout and "PC" in done.stdout
    told = json.loads((out / "uncertainty.json").read_text())
    assert told["images"] == list("abcd") and told["problems"] == {}
    for side in told["all"]["sides"].values():
        assert side["spearman"]["value"] == pytest.approx(1)
        assert side["delta"] == side["error"]["value"] == pytest.approx(1.5)
    assert [bin["delta"] for bin in told["all"]["sides"]["top"]["reliability"]] == [0, 1, 2, 3]
    assert told["all"]["auroc"]["score"]["value"] == pytest.approx(0.5)
    assert told["all"]["auroc"]["certainty"]["value"] == pytest.approx(1)
    assert told["groups"]["Fluo"]["auroc"]["score"] == {"value": None, "low": None, "high": None}
    assert told["groups"]["PC"]["sides"]["top"]["error"]["value"] == pytest.approx(2.5)
    assert (out / "reliability.png").read_bytes()[:4] == b"\x89PNG"
    assert "normal distribution" in (out / "reliability.svg").read_text(encoding="utf-8")


def test_predictions_without_cells_are_named_and_left_out(folders):
    cells = sorted((folders / "labels").glob("*_cells.csv"))
    cells[0].unlink()
    cells[1].write_text("label,score\n1,0.5\n")
    done = command(folders)
    assert done.returncode == 1
    assert "a_label.tiff: left out" in done.stderr and "--cells" in done.stderr
    assert "b_label.tiff: left out" in done.stderr
    assert "18 cells of 2 images" in done.stdout
    for path in cells[1:]:
        path.unlink()
    done = command(folders, "--out", folders / "out")
    assert done.returncode == 2 and "--cells" in done.stderr and "Traceback" not in done.stderr
    assert not (folders / "out").exists()


def test_images_without_any_cell_are_no_problem(folders):
    for path in (folders / "labels").glob("*_label.tiff"):
        tifffile.imwrite(str(path), np.zeros((100, 100), np.uint16))
        path.with_name(path.name[0] + "_cells.csv").write_text(",".join(COLUMNS) + "\n")
    done = command(folders, "--out", folders / "out")
    assert done.returncode == 0, done.stderr
    assert "0 cells of 4 images" in done.stdout
    assert json.loads((folders / "out" / "uncertainty.json").read_text())["all"]["cells"] == 0
