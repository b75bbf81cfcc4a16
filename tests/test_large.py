"""Large images by stages: the same cells and labels as in memory, whoever does which part."""

import csv
import errno
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from tiny import tiny_config

from app import files, images, predict
from app.images import ImageError
from app.intensity import Curve, Curves
from app.large import stages
from app.large.plan import Plan
from app.large.stages import Share
from app.large.store import Store, folder_of
from app.network import weights
from app.network.cpn import CPN
from app.scale import View
from app.segmenter import Segmenter
from app.windows import Window

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (180, 150)
OUTS = ("whole", "staged")  # folders


@pytest.fixture
def by_stages(monkeypatch):
    """Every TIFF counts as large."""
    monkeypatch.setattr(images, "SMALL", -1)
    monkeypatch.setattr(files, "LARGE", 1)


@pytest.fixture(scope="module")
def network_file(tmp_path_factory):
    """Weights of a tiny random network, which finds cells everywhere, in windows of 64 pixels."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    config = tiny_config(window=64, window_stride=32, score_threshold=0.45, conversion="channels")
    weights.save(path, CPN(config).state_dict(), config)
    return path


@pytest.fixture
def segmenter(network_file):
    return Segmenter.load(network_file, "cpu", amp=False, scale=1)


def noise(seed=0, shape=SHAPE, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)


def write(path, image, **options):
    """A tiled TIFF, in whose upper left there is nothing."""
    image = image.copy()
    image[:70, :70] = 100
    options = {"tile": (64, 64), "compression": "zlib", "photometric": "minisblack", **options}
    tifffile.imwrite(str(path), image, **options)
    return path


def command(image, out, network_file, *more):
    """predict's exit status."""
    fixed = ["--weights", str(network_file), "--device", "cpu", "--no-amp", "--quiet"]
    return predict.main([str(image), "--out", str(out), *fixed, *map(str, more)])


def label_of(out, name="image"):
    return tifffile.imread(str(out / f"{name}_label.tiff"))


# In memory and by stages


@pytest.mark.parametrize("scale", [1, 0.5, 1.4])
def test_cells_and_labels_are_those_of_memory(tmp_path, monkeypatch, network_file, scale):
    """Table and labels too; the file of a large image is a tiled BigTIFF of 32 bits."""
    image = write(tmp_path / "image.tif", noise())
    more = "--scale", scale, "--cells"
    assert command(image, tmp_path / "whole", network_file, *more) == 0
    monkeypatch.setattr(images, "SMALL", -1)
    monkeypatch.setattr(files, "LARGE", 1)
    assert command(image, tmp_path / "staged", network_file, *more) == 0
    assert label_of(tmp_path / "whole").max() >= 2
    assert np.array_equal(label_of(tmp_path / "whole"), label_of(tmp_path / "staged"))
    tables = [(tmp_path / out / "image_cells.csv").read_text() for out in OUTS]
    assert tables[0] == tables[1]
    with tifffile.TiffFile(str(tmp_path / "staged" / "image_label.tiff")) as tif:
        assert tif.is_bigtiff and tif.pages[0].is_tiled and tif.pages[0].dtype == np.uint32
    assert sorted(path.name for path in (tmp_path / "staged").iterdir()) == [
        "image_cells.csv",
        "image_label.tiff",
        "summary.csv",
    ]


def test_real_cells_across_real_windows_are_those_of_memory(tmp_path, monkeypatch, data):
    """Four windows of a mosaic that cuts cells anywhere."""
    tiles = [images.read(path)[0] for path in sorted((data / "vicar").glob("*.tif"))[:4]]
    side = min(min(tile.shape[:2]) for tile in tiles)
    mosaic = np.block([[tile[:side, :side] for tile in tiles] * 2] * 8)[:1600, :1600]
    image = write(tmp_path / "image.tif", mosaic, tile=(256, 256))
    shipped = ROOT / "weights" / "compact.safetensors"
    assert command(image, tmp_path / "whole", shipped, "--scale", 1) == 0
    monkeypatch.setattr(images, "SMALL", -1)
    monkeypatch.setattr(files, "LARGE", 1)
    assert command(image, tmp_path / "staged", shipped, "--scale", 1) == 0
    labels = label_of(tmp_path / "whole")
    assert labels.shape == (1600, 1600) and labels.max() > 50
    assert np.array_equal(labels, label_of(tmp_path / "staged"))


def test_exports_and_measures_are_those_of_memory(tmp_path, monkeypatch, network_file):
    image = write(tmp_path / "image.tif", noise())
    more = "--scale", 1, "--measure", "--preview", "--export", "geojson"
    assert command(image, tmp_path / "whole", network_file, *more) == 0
    monkeypatch.setattr(images, "SMALL", -1)
    monkeypatch.setattr(files, "LARGE", 1)
    assert command(image, tmp_path / "staged", network_file, *more) == 0
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert (
        names == sorted(path.name for path in (tmp_path / "staged").iterdir()) and len(names) == 5
    )
    for name in ("image_cells.csv", "image_preview.png"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "staged" / name).read_bytes()


def test_where_all_labels_would_not_fit_exports_are_left_out_and_said(
    tmp_path, monkeypatch, network_file, by_stages
):
    monkeypatch.setattr(files, "WHOLE", 1)
    image = write(tmp_path / "image.tif", noise())
    assert command(image, tmp_path / "out", network_file, "--scale", 1, "--preview") == 0
    assert label_of(tmp_path / "out").any()
    assert not (tmp_path / "out" / "image_preview.png").exists()
    assert "left out" in (tmp_path / "out" / "summary.csv").read_text()


def test_windows_of_background_alone_are_counted(tmp_path, network_file, by_stages):
    empty = noise(shape=(400, 150))
    empty[:200] = 100
    image = write(tmp_path / "image.tif", empty)
    assert command(image, tmp_path / "out", network_file, "--scale", 1) == 0
    assert "windows show background alone" in (tmp_path / "out" / "summary.csv").read_text()


def test_an_image_without_anything_has_no_cells(tmp_path, network_file, by_stages):
    image = write(tmp_path / "image.tif", np.full(SHAPE, 100, np.uint8))
    assert command(image, tmp_path / "out", network_file) == 0
    labels = label_of(tmp_path / "out")
    assert labels.shape == SHAPE and not labels.any()


def test_the_scale_is_chosen_as_in_memory_where_the_sample_is_all(network_file, monkeypatch):
    """By the same rule from the same cells: each window alone is all of this image."""
    image = noise(shape=(60, 60))
    chosen = Segmenter.load(network_file, "cpu", amp=False)
    for seen, better in ((1.0, False), (30.0, True)):
        monkeypatch.setattr("app.scale.typical", lambda cells, seen=seen: seen * len(cells))
        monkeypatch.setattr("app.scale.SURER", -1 if better else 1)
        view = chosen.view(image)
        assert chosen.scale_of(view) == chosen.find(image).scale


# The plan


@pytest.mark.parametrize("kind", ["grey", "colours", "fill", "nodata", "paper"])
def test_a_plan_comes_back_from_its_file(tmp_path, kind):
    image = noise(shape=(*SHAPE, 3) if kind == "colours" else SHAPE, dtype=np.uint16)
    if kind == "fill":
        image = np.add.outer(np.arange(SHAPE[0]), 9 * np.arange(SHAPE[1])).astype(np.uint16)
        image[:, :75] = 7000
    curves = Curves.fit(image, nodata=3 if kind == "nodata" else None)
    convert, none = Curve.fit(image) if kind == "paper" else curves, curves.no_image
    assert bool(none.values) == (kind == "fill")
    window = Window(10, 20, 150, 160)
    plan = Plan({"input": {"name": "a"}}, SHAPE, 0.5, convert, none, [window])
    again = Plan.from_json(plan.to_json())
    assert again.to_json() == plan.to_json() and again.digest == plan.digest
    assert (again.record, again.shape, again.windows) == (plan.record, plan.shape, plan.windows)
    before, after = (View(image, one.convert, one.no_image, one.factor) for one in (plan, again))
    small = Window(0, 0, 70, 90)
    for mine, theirs in zip(before.window(small), after.window(small)):
        assert np.array_equal(mine, theirs)


def test_plans_of_the_same_image_are_the_same_and_of_others_differ(tmp_path, segmenter, by_stages):
    image = images.load(write(tmp_path / "image.tif", noise()))
    other = images.load(write(tmp_path / "other.tif", noise(seed=1)))
    first, second, third = (
        stages.plan(segmenter, one, record)[0]
        for one, record in ((image, {"input": 1}), (image, {"input": 1}), (other, {"input": 2}))
    )
    assert first.digest == second.digest != third.digest


# Parts and stages


def test_parts_in_any_order_and_a_last_run_give_what_one_run_gives(
    tmp_path, network_file, by_stages
):
    """Two large images, each shared by all parts."""
    for name, seed in (("image", 0), ("other", 1)):
        write(tmp_path / f"{name}.tif", noise(seed))
    folder, alone, together = tmp_path, tmp_path / "alone", tmp_path / "together"
    assert command(folder, alone, network_file, "--scale", 1) == 0
    for part in (3, 1, 2):
        assert command(folder, together, network_file, "--scale", 1, "--part", f"{part}/3") == 0
        assert not (together / "image_label.tiff").exists()
    assert len(list(folder_of(together / "image_label.tiff").glob("window*"))) > 3
    assert command(folder, together, network_file, "--scale", 1, "--resume") == 0
    for name in ("image", "other"):
        assert np.array_equal(label_of(alone, name), label_of(together, name))
        assert not (together / f"{name}_windows").exists()


def test_a_part_alone_says_nothing_of_labels_that_are_not_there(
    tmp_path, network_file, by_stages, capsys
):
    image = write(tmp_path / "image.tif", noise())
    given = [str(image), "--out", str(tmp_path / "out"), "--weights", str(network_file)]
    assert predict.main([*given, "--scale", "1", "--part", "1/2"]) == 0
    out, err = capsys.readouterr()
    assert "0 of 1 images done, 1 in part\n" in out
    assert "labels are in" not in out and "To look at" not in err


@pytest.mark.parametrize("share", [("--stage", "plan"), ("--part", "1/2")])
def test_what_a_share_has_to_remark_is_said(
    tmp_path, network_file, by_stages, monkeypatch, capsys, share
):
    def with_retreats(self, work, may_halve=True):
        return work(), ["the CPU is used"]

    monkeypatch.setattr(Segmenter, "with_retreats", with_retreats)
    image = write(tmp_path / "image.tif", noise())
    given = [str(image), "--out", str(tmp_path / "out"), "--weights", str(network_file)]
    assert predict.main([*given, *share]) == 0
    assert "image.tif: the CPU is used\n" in capsys.readouterr().err
    assert "the CPU is used" in (tmp_path / "out" / "summary.csv").read_text()


def test_small_images_are_shared_by_whole_files(tmp_path, network_file):
    for number in range(5):
        write(tmp_path / f"{number}.tif", noise(number, (60, 60)))
    for part in (1, 2):
        assert command(tmp_path, tmp_path / "out", network_file, "--part", f"{part}/2") == 0
    labels = sorted(path.name for path in (tmp_path / "out").glob("*_label.tiff"))
    assert labels == [f"{number}_label.tiff" for number in range(5)]
    with open(tmp_path / "out" / "summary.csv", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done"] * 5


def test_each_stage_alone_gives_the_same_and_says_what_comes_first(
    tmp_path, network_file, by_stages, capsys
):
    image = write(tmp_path / "image.tif", noise())
    alone, staged = tmp_path / "alone", tmp_path / "staged"
    assert command(image, alone, network_file, "--scale", 1) == 0
    for stage, said in (
        ("work", "no plan"),
        ("plan", ""),
        ("merge", "windows are missing"),
        ("draw", "not merged"),
        ("work", ""),
        ("draw", "not merged"),
        ("merge", ""),
        ("draw", ""),
    ):
        status = command(image, staged, network_file, "--scale", 1, "--stage", stage)
        assert status == (1 if said else 0), stage
        assert said in capsys.readouterr().err
        assert (staged / "image_label.tiff").exists() == (stage == "draw" and not said)
    assert np.array_equal(label_of(alone), label_of(staged))


def test_a_share_is_all_of_the_parts_once():
    for count in (0, 1, 5, 64):
        for parts in (1, 2, 3, 7):
            found = [k for part in range(1, parts + 1) for k in Share(None, part, parts).of(count)]
            assert found == list(range(count))


@pytest.mark.parametrize("wrong", ["0/3", "4/3", "3", "a/b", "1/0", "-1/2"])
def test_parts_that_are_none_are_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        predict.main(["here", "there", f"--part={wrong}"])
    assert "part" in capsys.readouterr().err


# What goes wrong


@pytest.fixture
def worked(tmp_path, segmenter, by_stages):
    """(store with all windows of an image, the image)"""
    image = images.load(write(tmp_path / "image.tif", noise()))
    store = Store.new(tmp_path / "image_windows", stages.plan(segmenter, image, {"input": 1})[0])
    stages.work(store, segmenter, image, range(len(store.plan.windows)))
    return store, image


def test_a_missing_window_is_named_and_only_it_is_done_again(worked, segmenter):
    store, image = worked
    paths = sorted(store.folder.glob("window*"))
    times = [path.stat().st_mtime_ns for path in paths]
    paths[2].unlink()
    sizes = segmenter.sizes.in_pixels(None)
    with pytest.raises(ImageError, match=rf"1 of {len(paths)} windows are missing \(000002\)"):
        stages.merge(store, segmenter, image, sizes)
    stages.work(store, segmenter, image, range(len(paths)))
    again = [path.stat().st_mtime_ns for path in paths]
    assert [k for k, pair in enumerate(zip(times, again)) if len(set(pair)) == 2] == [2]
    assert len(stages.merge(store, segmenter, image, sizes).row) > 1


@pytest.mark.parametrize("left", [0, 100, -200])
def test_a_damaged_window_is_named(worked, segmenter, left):
    store, image = worked
    path = sorted(store.folder.glob("window*"))[3]
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ImageError, match=path.name):
        merged = stages.merge(store, segmenter, image, segmenter.sizes.in_pixels(None))
        list(stages.draw(store, merged, image))


def test_windows_of_other_settings_or_of_another_image_are_not_taken(
    tmp_path, network_file, by_stages
):
    image, out = tmp_path / "image.tif", tmp_path / "out"
    write(image, noise())
    assert command(image, out, network_file, "--scale", 1, "--part", "1/1", "--stage", "work") == 1
    assert command(image, out, network_file, "--scale", 1, "--stage", "plan") == 0
    assert command(image, out, network_file, "--scale", 1, "--stage", "work") == 0
    first = {path.name for path in (out / "image_windows").iterdir()}
    write(image, noise(seed=5))
    assert command(image, out, network_file, "--scale", 1, "--stage", "merge") == 1
    assert command(image, out, network_file, "--scale", 1, "--stage", "plan") == 0
    assert {path.name for path in (out / "image_windows").iterdir()} & first == {"plan.json"}
    assert command(image, out, network_file, "--scale", 1) == 0
    assert command(image, tmp_path / "alone", network_file, "--scale", 1) == 0
    assert np.array_equal(label_of(out), label_of(tmp_path / "alone"))


def test_a_folder_of_the_users_is_left_alone(tmp_path, network_file, by_stages, capsys):
    image, out = write(tmp_path / "image.tif", noise()), tmp_path / "out"
    (out / "image_windows").mkdir(parents=True)
    (out / "image_windows" / "notes.txt").write_text("mine")
    assert command(image, out, network_file) == 1
    assert "image_windows" in capsys.readouterr().err
    assert [path.name for path in (out / "image_windows").iterdir()] == ["notes.txt"]


def test_labels_of_a_large_image_are_known_again(tmp_path, network_file, by_stages):
    """--resume skips them, and once they are changed they are the user's."""
    image, out = write(tmp_path / "image.tif", noise()), tmp_path / "out"
    assert command(image, out, network_file) == 0
    before = (out / "image_label.tiff").stat().st_mtime_ns
    assert command(image, out, network_file, "--resume") == 0
    assert (out / "image_label.tiff").stat().st_mtime_ns == before
    labels = label_of(out)
    labels[labels == 1] = 0
    tifffile.imwrite(str(out / "image_label.tiff"), labels)
    assert command(image, out, network_file) == 1
    assert np.array_equal(label_of(out), labels)


def test_what_a_run_killed_at_its_very_end_leaves_goes_with_resume(
    tmp_path, network_file, by_stages
):
    image, out = write(tmp_path / "image.tif", noise()), tmp_path / "out"
    assert command(image, out, network_file, "--scale", 1, "--stage", "plan") == 0
    plan = (out / "image_windows" / "plan.json").read_bytes()
    assert command(image, out, network_file, "--scale", 1) == 0
    assert not (out / "image_windows").exists()
    (out / "image_windows").mkdir()
    (out / "image_windows" / "plan.json").write_bytes(plan)
    assert command(image, out, network_file, "--scale", 1, "--resume") == 0
    assert not (out / "image_windows").exists()


# The whole command


def test_a_killed_run_goes_on_where_it_was_and_gives_the_labels_of_memory(tmp_path, monkeypatch):
    """8,200 x 8,200 pixels, just large for everyone, with things in a few places."""
    image = np.zeros((8200, 8200), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(12):
        y, x = rng.integers(0, 8050, 2)
        image[y : y + 150, x : x + 150] = rng.integers(0, 255, (150, 150))
    tifffile.imwrite(str(tmp_path / "image.tif"), image, tile=(512, 512), compression="zlib")
    torch.manual_seed(0)
    config = tiny_config(window=512, window_stride=448, score_threshold=0.45)
    weights.save(tmp_path / "tiny.safetensors", CPN(config).state_dict(), config)
    start = ["sh", str(ROOT / "predict.sh"), str(tmp_path / "image.tif")]
    options = ["--weights", str(tmp_path / "tiny.safetensors"), "--scale", "1", "--no-amp"]

    def run(out, *more):
        given = [*start, "--out", str(tmp_path / out), *options, "--device", "cpu", *more]
        return subprocess.Popen(given, stderr=subprocess.PIPE, start_new_session=True)

    stopped, windows = run("killed"), tmp_path / "killed" / "image_windows"
    while stopped.poll() is None and len(list(windows.glob("window*"))) < 3:
        time.sleep(0.01)
    os.killpg(stopped.pid, signal.SIGKILL)
    stopped.communicate()
    done = {path.name: path.stat().st_mtime_ns for path in windows.glob("window*")}
    assert done and not (tmp_path / "killed" / "image_label.tiff").exists()
    assert run("killed", "--stage", "work").wait() == 0
    again = {path.name: path.stat().st_mtime_ns for path in windows.glob("window*")}
    assert len(again) > len(done) and all(again[name] == done[name] for name in done)
    assert run("killed").wait() == 0
    monkeypatch.setattr(files, "LARGE", image.size + 1)
    tiny = tmp_path / "tiny.safetensors"
    assert command(tmp_path / "image.tif", tmp_path / "memory", tiny, "--scale", 1) == 0
    labels = label_of(tmp_path / "killed")
    assert labels.max() > 5 and labels.shape == image.shape
    assert np.array_equal(labels, label_of(tmp_path / "memory"))


def test_a_folder_without_hard_links_takes_a_plan(worked, tmp_path, monkeypatch):
    def refuse(*names):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    store, _ = worked
    assert Store.new(tmp_path / "other", store.plan).plan.digest == store.plan.digest
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["plan.json"]
    other = Plan({"input": 2}, *list(vars(store.plan).values())[1:])
    with pytest.raises(ImageError, match="differs in: input"):
        Store.new(tmp_path / "other", other, alone=False)


def test_a_plan_that_cannot_be_read_is_said_to_be_so(worked):
    store, _ = worked
    for text in ("", '{"record": []}', '{"record": {"input": 1}}'):
        (store.folder / "plan.json").write_text(text)
        with pytest.raises(ImageError, match="differs in: (a plan that cannot be read|input)"):
            Store.new(store.folder, store.plan, alone=False)


def test_a_folder_that_another_run_removes_meanwhile_is_gone(worked):
    store, _ = worked
    store.remove()
    store.remove()
    assert not store.folder.exists()


def test_a_plan_of_others_is_taken_or_respected(worked, tmp_path):
    """Parts that start at once plan the same; one with other settings leaves it all alone."""
    store, _ = worked
    same = Store.new(store.folder, store.plan)
    assert same.plan.digest == store.plan.digest
    other = Plan({"input": 2}, *list(vars(store.plan).values())[1:])
    windows = sorted(path.name for path in store.folder.iterdir())
    with pytest.raises(ImageError, match="differs in: input"):
        Store.new(store.folder, other, alone=False)
    assert sorted(path.name for path in store.folder.iterdir()) == windows
    assert Store.new(store.folder, other).plan.digest == other.digest
    assert [path.name for path in store.folder.iterdir()] == ["plan.json"]


def test_a_window_that_vanishes_meanwhile_is_missing_and_not_background(
    tmp_path, segmenter, by_stages, monkeypatch
):
    image = images.load(write(tmp_path / "image.tif", noise()))
    store = Store.new(tmp_path / "image_windows", stages.plan(segmenter, image, {"input": 1})[0])
    numbers, write_window = range(len(store.plan.windows)), store.write_window

    def write_and_lose(number, *cells, **how):
        write_window(number, *cells, **how)
        if number == 1:
            next(store.folder.glob("window-000001*")).unlink()

    monkeypatch.setattr(store, "write_window", write_and_lose)
    stages.work(store, segmenter, image, numbers)
    assert store.missing(numbers) == [1]


def test_what_was_left_out_is_done_for_resume(
    tmp_path, monkeypatch, network_file, by_stages, capsys
):
    monkeypatch.setattr(files, "WHOLE", 1)
    image, out = write(tmp_path / "image.tif", noise()), tmp_path / "out"
    more = "--scale", 1, "--preview", "--measure", "--resume"
    assert command(image, out, network_file, *more) == 0
    before = (out / "image_label.tiff").stat().st_mtime_ns
    assert command(image, out, network_file, *more, "--export", "geojson") == 0
    assert "image_label.tiff: too large for exports, previews" in capsys.readouterr().err
    assert (out / "image_label.tiff").stat().st_mtime_ns == before, "nor is what was not wanted"
