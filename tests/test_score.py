"""python -m evaluate score: two folders → tables, scores.csv, scores.json, an exit status."""

import csv
import json
import math
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from drawn import drawn, save, with_counts

from evaluate import official, strict
from evaluate.matching import Score, rate
from evaluate.score import (
    ImageScores,
    aggregates,
    group_table,
    image_table,
    paper_table,
    screen,
    write_json,
)

ROOT = Path(__file__).resolve().parents[1]

OFFICIAL_HEADER = (
    "names,true_num,pred_num,correct_num(TP),missed_num(FN),wrong_num(FP),precision,recall,dice,F1"
)
CELLS = drawn((20, 20), (3, 3, 7, 7), (3, 10, 7, 14), (10, 3, 14, 7))
FIRST = np.where(CELLS == 1, CELLS, 0)


@pytest.fixture
def folders(tmp_path):
    """Two empty folders, of true and of predicted labels."""
    truth, labels = tmp_path / "truth", tmp_path / "labels"
    truth.mkdir()
    labels.mkdir()
    return truth, labels


@pytest.fixture
def troubled(folders):
    """A folder with one good pair, `a`, one found in part, `b`, and all that can be wrong."""
    truth, labels = folders
    for name in ("a", "b", "missing", "broken", "shape", "fraction"):
        save(truth / f"{name}_label.png", CELLS)
    save(labels / "a_label.tiff", CELLS)
    save(labels / "b_label.tiff", FIRST)
    (labels / "broken_label.tiff").write_bytes(b"not an image")
    save(labels / "shape_label.tiff", CELLS[1:])
    save(labels / "fraction_label.tiff", CELLS / 2)
    (truth / "broken_truth_label.png").write_bytes(b"not an image")
    save(labels / "broken_truth_label.tiff", CELLS)
    save(labels / "alone_label.tiff", CELLS)
    return folders


def run_score(folders, *more, stdout=subprocess.PIPE):
    truth, labels = folders
    command = [sys.executable, "-m", "evaluate", "score", "--truth", str(truth)]
    return subprocess.run(
        [*command, "--labels", str(labels), *map(str, more)],
        cwd=str(ROOT),
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_one_tau_by_the_official_rules_is_the_organisers_file(folders):
    truth, labels = folders
    for name in ("a", "b", "c"):
        save(truth / f"{name}.png", CELLS)
    save(labels / "a_label.tiff", CELLS)
    save(labels / "b_label.tiff", FIRST)
    out = truth.parent / "new" / "folder"
    done = run_score(folders, "--rules", "official", "--out", out)
    assert done.returncode == 0
    assert done.stderr == "evaluate: left out, not predicted: c_label.tiff\n"
    assert (out / "scores.csv").read_bytes().decode() == (
        f"{OFFICIAL_HEADER}\n"
        "a_label.tiff,3,3,3,0,0,1.0,1.0,1.0,1.0\n"
        "b_label.tiff,3,1,1,2,0,1.0,0.3333,0.5,0.5\n"
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["Median", "0.7500"] in lines and ["Mean", "0.7500"] in lines

    run_score(folders, "--rules", "official", "--out", out, "--tau", "0.5", "0.75")
    header, *rows = read_table(out / "scores.csv")
    assert ",".join(header) == OFFICIAL_HEADER + ",tau"
    assert [(row[0], row[-1]) for row in rows] == [
        (name, tau) for name in ("a_label.tiff", "b_label.tiff") for tau in ("0.5", "0.75")
    ]


def test_strict_rules_score_what_is_missing_or_broken_0_and_name_it(troubled):
    out = troubled[0].parent / "out"
    done = run_score(troubled, "--out", out)
    assert done.returncode == 1
    header, *rows = read_table(out / "scores.csv")
    assert header == ["name", "group", *(f.name for f in fields(Score)), "problem"]
    table = {row[0]: dict(zip(header, row)) for row in rows}
    assert list(table) == sorted(table) and len(table) == 8
    assert table["b_label.tiff"]["f1"] == "0.5" and not table["b_label.tiff"]["problem"]
    assert table["b_label.tiff"]["recall"] == str(1 / 3), "not rounded"
    scored_0 = {
        "missing": "no prediction",
        "broken": "cannot be read",
        "shape": "its shape is (19, 20), that of its truth (20, 20)",
        "fraction": "holds fractions",
    }
    for name, said in scored_0.items():
        row = table[f"{name}_label.tiff"]
        assert (row["f1"], row["true_num"], row["missed_num"]) == ("0.0", "3", "3")
        assert row["mean_matched_iou"] == "" and said in row["problem"]
        assert f"evaluate: {name}_label.tiff: scored 0, {row['problem']}\n" in done.stderr
    for name, said in {"broken_truth": "cannot be read", "alone": "no truth"}.items():
        row = table[f"{name}_label.tiff"]
        assert row["f1"] == row["true_num"] == "" and said in row["problem"]
        assert f"evaluate: {name}_label.tiff: not scored, {row['problem']}\n" in done.stderr
    assert len(done.stderr.splitlines()) == 6
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["Mean", "0.2500"] in lines and ["Median", "0.0000"] in lines, "of six images"


def test_official_rules_leave_them_out_but_say_so(troubled):
    out = troubled[0].parent / "out"
    done = run_score(troubled, "--rules", "official", "--out", out)
    assert done.returncode == 1
    assert [row[0] for row in read_table(out / "scores.csv")[1:]] == [
        "a_label.tiff",
        "b_label.tiff",
    ]
    for name in ("broken", "shape", "fraction", "broken_truth", "alone"):
        assert f"evaluate: {name}_label.tiff: not scored, " in done.stderr
    assert ["Mean", "0.7500"] in [line.split() for line in done.stdout.splitlines()]


def test_scores_json_holds_all_that_was_found_and_asked(troubled):
    out = troubled[0].parent / "out"
    groups = troubled[0].parent / "groups.csv"
    names = ("a", "b", "missing", "broken", "shape", "fraction", "broken_truth")
    groups.write_text("name,group\n" + "".join(f"{n}.png,{n[0].upper()}\n" for n in names))
    taus = ("0.75", "0.5", "0.5")
    run_score(troubled, "--out", out, "--groups", groups, "--tau", *taus)
    found = json.loads((out / "scores.json").read_text())
    assert set(found) == {
        *("rules", "taus", "arguments", "versions", "images", "aggregates", "unscorable")
    }
    assert (found["rules"], found["taus"], found["unscorable"]) == ("strict", [0.5, 0.75], 6)
    assert found["arguments"]["groups"] == str(groups)
    versions = found["versions"]
    assert set(versions) == {"python", "numpy", "scipy", "tifffile", "opencv", "program"}
    assert versions["numpy"] == np.__version__ and all(versions.values())

    images = {image["stem"]: image for image in found["images"]}
    assert len(images) == 8
    b = images["b"]
    scores = b.pop("scores")
    assert b == {
        "name": "b_label.tiff",
        "stem": "b",
        "group": "B",
        "truth": "b_label.png",
        "height": 20,
        "width": 20,
        "problem": None,
        "remarks": [],
    }
    assert scores[0] == {
        "tau": 0.5,
        "true_num": 3,
        "pred_num": 1,
        "correct_num": 1,
        "missed_num": 2,
        "wrong_num": 0,
        "precision": 1.0,
        "recall": 1 / 3,
        "f1": 0.5,
        "mean_matched_iou": 1.0,
        "panoptic_quality": 0.5,
        "average_precision": 1 / 3,
        "dice": 0.5,
    }
    assert images["missing"]["scores"][1]["mean_matched_iou"] is None
    assert images["alone"]["scores"] == [] and images["alone"]["truth"] is None
    assert images["broken_truth"]["height"] is None

    groups_found = {(a["tau"], a["group"]): a for a in found["aggregates"]}
    assert list(groups_found)[:6] == [(0.5, g) for g in (None, "A", "B", "F", "M", "S")]
    assert groups_found[0.75, None]["images"] == 6
    b = groups_found[0.5, "B"]
    pooled = b.pop("pooled")
    assert b == {"group": "B", "tau": 0.5, "images": 2, "mean_f1": 0.25, "median_f1": 0.25}
    assert set(pooled) == {f.name for f in fields(Score)} - {"tau", "dice"}
    assert (pooled["true_num"], pooled["missed_num"], pooled["recall"]) == (6, 5, 1 / 6)


def test_an_id_used_for_two_cells_is_remarked_and_no_failure(folders):
    truth, labels = folders
    twice = np.tile(FIRST, (1, 2))
    save(truth / "a_label.png", twice)
    save(labels / "a_label.tiff", twice)
    done = run_score(folders)
    assert done.returncode == 0
    assert "a_label.tiff: truth: label 1 in pieces far apart" in done.stderr
    assert "a_label.tiff: prediction: label 1 in pieces far apart" in done.stderr


def test_other_suffixes_names_with_dots_and_capitals(folders):
    truth, labels = folders
    save(truth / "a.x_MASK.PNG", CELLS)
    save(truth / "a.x.png", CELLS)  # the image beside it
    save(labels / "a_cp_masks.tif", CELLS)
    save(labels / "a_label.tiff", FIRST)
    suffixes = ["--truth-suffix", "_mask.png", "--label-suffix", "_cp_masks.tif"]
    done = run_score(folders, *suffixes)
    assert done.returncode == 0
    assert "a_cp_masks.tif     3     3   3   0   0     1.0000" in done.stdout


def test_the_command_says_what_keeps_it_from_starting(folders):
    truth, labels = folders
    groups = truth.parent / "groups.csv"
    groups.write_text("name,group\nb.png,Fluo\n")
    cases = [
        ((truth, labels / "nowhere"), [], "nowhere cannot be listed: No such file"),
        (folders, [], "hold no label images"),
        (folders, ["--groups", groups], "gives a no group"),
        (folders, ["--groups", truth / "x.csv"], "x.csv: No such file"),
        (folders, ["--tau", "0"], "0 is not above 0 and up to 1"),
        (folders, ["--tau", "0.5", "1.1"], "1.1 is not"),
        (folders, ["--tau", "nan"], "nan is not"),
    ]
    for given, more, said in cases:
        if "--groups" in more:
            save(truth / "a_label.png", CELLS)
        done = run_score(given, *more)
        assert done.returncode == 2 and said in done.stderr and not done.stdout, said
        assert "Traceback" not in done.stderr


def test_pooled_counts_are_sums_and_means_are_of_images():
    rng = np.random.default_rng(1)
    images = []
    for number in range(12):
        n, m = rng.integers(1, 50, 2)
        tp = int(rng.integers(0, min(n, m) + 1))
        score = rate(0.5, (int(n), int(m), tp), tp * rng.random(), dice=0.5, empty=1.0)
        images.append(ImageScores(f"{number}", f"{number}", "xyz"[number % 3], scores=[score]))
    whole, *groups = aggregates(images, [0.5])
    assert [g.group for g in groups] == ["x", "y", "z"] and whole.images == 12
    for found, members in ((whole, images), (groups[1], images[1::3])):
        scores = [image.scores[0] for image in members]
        assert found.images == len(scores)
        assert found.mean_f1 == pytest.approx(np.mean([s.f1 for s in scores]))
        assert found.median_f1 == pytest.approx(np.median([s.f1 for s in scores]))
        tp = sum(s.correct_num for s in scores)
        total = sum(s.true_num + s.pred_num for s in scores)
        assert found.pooled.correct_num == tp
        assert found.pooled.f1 == pytest.approx(2 * tp / total)
        iou = sum(s.mean_matched_iou * s.correct_num for s in scores if s.correct_num)
        assert found.pooled.mean_matched_iou == pytest.approx(iou / tp)
        assert found.pooled.panoptic_quality == pytest.approx(2 * iou / total)


def test_the_group_columns_are_laid_out_as_the_papers_table_5():
    f1 = {"a": ("Fluo", 0.1), "b": ("Fluo", 0.6), "c": ("Fluo", 0.3), "d": ("BF", 1.0)}
    nan = float("nan")
    images = [
        ImageScores(f"{name}_label.tiff", name, group, scores=[
            Score(0.5, 2, 2, 1, 1, 1, 0.5, 0.5, value, nan, 0.25, 0.3, 0.9)
        ])
        for name, (group, value) in f1.items()
    ]  # fmt: skip
    groups = aggregates(images, [0.5])
    assert [line.split() for line in paper_table(groups).splitlines()] == [
        ["Reduction", "F1-All", "F1-BF", "F1-Fluo"],
        ["Median", "0.4500", "1.0000", "0.3000"],
        ["Mean", "0.5000", "1.0000", "0.3333"],
    ]
    assert group_table(groups).splitlines()[1].split()[:7] == [
        *("All", "4", "0.5000", "0.4500", "8", "8", "4")
    ]
    line = image_table(images, [0.5]).splitlines()[1].split()
    assert line[0] == "a_label.tiff" and line[-4:] == ["-", "0.2500", "0.3000", "0.9000"]
    assert paper_table(groups) in screen(images, groups, [0.5])


def test_several_tau_are_columns_and_tables_of_their_own(folders):
    truth, labels = folders
    pair = with_counts(np.random.default_rng(3), 9, 1, 0)
    save(truth / "a.tif", pair[0])
    save(labels / "a_label.tif", pair[1])
    printed = run_score(folders, "--tau", 0.5, 0.9).stdout
    assert run_score(folders, "--tau", 0.9, "--tau", 0.5).stdout == printed
    lines = printed.splitlines()
    assert lines[0].split() == ["name", "F1@0.5", "F1@0.9"]
    first, second = map(float, lines[1].split()[1:])
    assert first == 0.9474 > second
    assert [line for line in lines if line.startswith("IoU")] == ["IoU 0.5", "IoU 0.9"]
    assert sum(line.startswith("Reduction") for line in lines) == 2


def test_pooled_images_without_any_cell_are_as_good_as_each_alone():
    empty = np.zeros((9, 9), int)
    right, absent = strict.scores(empty, empty, [0.5]), strict.missing(empty, [0.5])
    images = [ImageScores(name, name, name, scores=s) for name, s in zip("ab", (right, absent))]
    whole, a, b = aggregates(images, [0.5])
    assert (a.pooled.f1, b.pooled.f1, b.pooled.recall) == (1, 0, 0), "nothing was predicted for b"
    assert whole.pooled.f1 == whole.mean_f1 == 0.5
    (theirs,) = aggregates(
        [ImageScores("a", "a", scores=official.scores(empty, empty, [0.5]))], [0.5]
    )
    assert theirs.pooled.f1 == 0


def test_names_of_several_lines_stay_on_one_line_of_the_tables(folders):
    truth, labels = folders
    for folder in folders:
        save(folder / "a\nb\t\x1b[2J_label.png", CELLS)
    save(labels / "c\nd_label.png", CELLS)
    done = run_score(folders)
    assert done.stdout.splitlines()[1].split()[:3] == ["a\\nb\\t\\x1b[2J_label.png", "3", "3"]
    assert done.stderr == "evaluate: c\\nd_label.png: not scored, no truth\n"


def test_scoring_imports_nothing_that_only_other_commands_need(folders):
    for folder in folders:
        save(folder / "a_label.png", CELLS)
    truth, labels = map(str, folders)
    code = (
        "import sys; from evaluate.__main__ import main; "
        f"main(['score', '--truth', {truth!r}, '--labels', {labels!r}]); "
        "print('imported:', *{'jinja2', 'matplotlib', 'psutil', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), stdout=subprocess.PIPE)
    assert done.stdout.decode().splitlines()[-1] == "imported:"


def test_a_full_screen_is_no_error(folders):
    for folder in folders:
        save(folder / "a_label.png", CELLS)
    with open("/dev/full", "w") as full:
        done = run_score(folders, stdout=full)
    assert done.returncode == 0 and done.stderr == ""


def test_without_any_score_there_are_no_means():
    (whole,) = aggregates([ImageScores("a", "a", problem="no truth")], [0.5])
    assert whole.images == 0 and math.isnan(whole.mean_f1) and math.isnan(whole.pooled.f1)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "scores.json"
    write_json(path, {"a": [1, None]})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": [1, None]}
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]
