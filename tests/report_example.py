"""A small folder of everything that a report shows: images, truth, predictions, scores, times."""

import csv
import json

import cv2
import numpy as np
from drawn import drawn, save

from evaluate.__main__ import main

HOSTILE = "<img src=x onerror=alert(1)>"  # the stem of an image, and the name of a group
PLAIN = 30  # more images, so that not all are on the screen
SHAPE = (64, 80)

# The cells of the image `a`: top, left, bottom, right.
MATCHED, MISSED, FALSE_POSITIVE = (10, 10, 30, 30), (40, 10, 60, 30), (10, 50, 30, 70)
AT_FRAME = (40, 70, 50, 80)
UNCERTAINTIES = {"top": 0.1, "right": 0.3, "bottom": 0.5, "left": 0.7}  # of all its cells


def write_example(folder):
    """Write the example below `folder`, scored at three taus; returns it."""
    for name in ("images", "truth", "labels"):
        (folder / name).mkdir(parents=True)
    _write_a(folder)
    for k in range(PLAIN):
        write_cells(folder, f"plain{k}", found=k % 7)
    write_cells(folder, HOSTILE, found=6)
    _write_crowd(folder)
    write_cells(folder, "missing", found=3)
    (folder / "labels" / "missing_label.tiff").unlink()
    (folder / "images" / "broken.png").write_bytes(b"no image")
    _write_groups(folder)
    _score(folder)
    _write_times(folder)
    return folder


def report_options(folder, *names):
    """The arguments of a report on an example; names: of what else is given, as --truth."""
    given = {"--scores": "scores.json", "--times": "times.json", "--truth": "truth"}
    options = ["report", "--images", folder / "images", "--labels", folder / "labels"]
    for name in names:
        options += [name, folder / given[name]]
    return list(map(str, [*options, "--out", folder / "report.html"]))


def write_cells(folder, stem, found):
    """An image of six cells, `found` of which are predicted."""
    boxes = [
        (10 + 30 * (k // 3), 6 + 24 * (k % 3), 26 + 30 * (k // 3), 22 + 24 * (k % 3))
        for k in range(6)
    ]
    truth = drawn(SHAPE, *boxes)
    save(folder / "truth" / f"{stem}_label.png", truth)
    save(folder / "labels" / f"{stem}_label.tiff", np.where(truth <= found, truth, 0))
    save(folder / "images" / f"{stem}.png", (40 + 150 * (truth > 0)).astype(np.uint8))


def _write_a(folder):
    """The image `a`: a cell of each match status; uncertainties that differ between the sides."""
    save(folder / "truth" / "a_label.png", drawn(SHAPE, MATCHED, MISSED, AT_FRAME))
    save(folder / "labels" / "a_label.tiff", drawn(SHAPE, MATCHED, FALSE_POSITIVE, AT_FRAME))
    save(
        folder / "images" / "a.png",
        np.tile(np.linspace(20, 220, SHAPE[1]).astype(np.uint8), (SHAPE[0], 1)),
    )
    write_cell_file(folder / "labels" / "a_cells.csv", range(1, 4))


def write_cell_file(path, labels):
    """What app.predict --cells writes beside a label image with these labels."""
    header = "label,x0,y0,x1,y1,area,centroid_x,centroid_y,score"
    sides = [f"uncertainty_{side}" for side in UNCERTAINTIES]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(header.split(",") + sides)
        rows.writerows([k, 0, 0, 9, 9, 100, 5, 5, 0.875, *UNCERTAINTIES.values()] for k in labels)


def _write_crowd(folder):
    """The image `crowd`: so many cells that only those on the screen are drawn."""
    boxes = [(5 * i + 1, 5 * j + 1, 5 * i + 4, 5 * j + 4) for i in range(30) for j in range(30)]
    truth = drawn((151, 151), *boxes)
    save(folder / "truth" / "crowd_label.png", truth)
    save(folder / "labels" / "crowd_label.tiff", np.where(truth % 3, truth, 0))
    save(folder / "images" / "crowd.png", (truth > 0).astype(np.uint8))
    write_cell_file(folder / "labels" / "crowd_cells.csv", [k for k in range(1, 901) if k % 3])


def _write_groups(folder):
    with (folder / "groups.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "group"])
        for path in sorted((folder / "truth").iterdir()):
            rows.writerow([path.name, HOSTILE if path.name < "b" else "PC"])


def _score(folder):
    options = ["--truth", folder / "truth", "--labels", folder / "labels", "--out", folder]
    options += ["--groups", folder / "groups.csv", "--tau", 0.5, 0.75, 0.9]
    assert main(["score", *map(str, options)]) == 1  # one prediction is missing


def _write_times(folder):
    """times.json of two runs; `plain1` was too slow in the first, `plain2` in the second."""
    runs = []
    for amp, factor in ((True, 1), (False, 2)):
        images = []
        for k, path in enumerate(sorted((folder / "images").glob("plain*"))):
            seconds, slow = (
                factor * (k + 1) / 8,
                path.name == ("plain1.png" if amp else "plain2.png"),
            )
            images.append(_time(path, 12.5 if slow else seconds, "2.50 s over the limit"))
        runs.append({"amp": amp, "images": images})
    machine = {"processor": "abacus", "cores": 2, "memory_bytes": 2**34, "gpu": None}
    document = {"kind": "command", "command": "sh predict.sh", "repeat": 1}
    document.update(machine=machine, runs=runs)
    (folder / "times.json").write_text(json.dumps(document))


def _time(path, seconds, reason):
    height, width = cv2.imread(str(path)).shape[:2]
    return {
        "name": path.name,
        "height": height,
        "width": width,
        "pixels": height * width,
        "seconds": [seconds],
        "median_seconds": seconds,
        "limit_seconds": 10.0,
        "share": seconds / 10,
        "rank_seconds": max(0, seconds - 10),
        "passed": seconds <= 10,
        "reason": reason if seconds > 10 else None,
        "exit_status": 0,
        "peak_memory_bytes": None,
        "peak_gpu_memory_bytes": None,
    }
