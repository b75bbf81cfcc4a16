"""The command: predict.sh on real images from start to end, what app.predict says and returns."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage.measure import label
from tiny import tiny_config

from app import arguments, images, outputs, predict, samples, signals
from app.cells import Cells
from app.jobs import Job
from app.names import stem, table_path
from app.network import weights
from app.network.cpn import CPN
from app.rasterize import rasterize
from app.segmenter import Found, Segmenter
from evaluate.official import score_pair

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"

needs_data = pytest.mark.skipif(
    not DATA.is_dir() and not os.environ.get("CI"), reason="../shared/data is missing"
)


# The whole command, as users start it


def write_tiff16(source, path):
    """The same picture as 16-bit TIFF, compressed and tiled."""
    pixels = np.array(Image.open(source)).astype(np.uint16) * 150
    tifffile.imwrite(str(path), pixels, tile=(64, 64), compression="zlib")


def write_with_pillow(source, path):
    """The same picture in another format."""
    Image.open(source).save(str(path), quality=95)


# source, image, the format it is given in, and how it comes to that
IMAGES = (
    ("dsb2018", "07761fa39f60.png", ".png", shutil.copyfile),
    ("dsb2018", "0b0d577159f0.png", ".tiff", write_tiff16),
    ("dsb2018", "03b9306f44e9.png", ".jpg", write_with_pillow),
    ("dsb2018", "45f059cf21d8.webp", ".BMP", write_with_pillow),
    ("gbm40", "14.webp", ".webp", shutil.copyfile),
    ("vicar", "QPI_10.tif", ".tif", shutil.copyfile),
)


def predict_sh(*arguments, cwd):
    """Run predict.sh to its end, in a folder that is not the checkout."""
    command = ["sh", str(ROOT / "predict.sh")] + [str(argument) for argument in arguments]
    return subprocess.run(command, cwd=str(cwd), capture_output=True, encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder of all kinds of files after predict.sh: its working directory and its result."""
    cwd = tmp_path_factory.mktemp("working directory")
    (cwd / "app").mkdir()
    (cwd / "app" / "__init__.py").write_text("raise SystemExit('not the app of the checkout')")
    inputs = cwd / "my images"
    (inputs / "a folder.png").mkdir(parents=True)
    for source, name, suffix, give in IMAGES:
        give(DATA / source / name, (inputs / name).with_suffix(suffix))
    whole = (DATA / "gbm40" / "14.webp").read_bytes()
    (inputs / "cut_short.webp").write_bytes(whole[: len(whole) // 2])
    for name in (".hidden.webp", "twice.webp", "twice.x.webp"):
        (inputs / name).write_bytes(whole)
    shutil.copyfile(DATA / "gbm40" / "14_label.png", inputs / "14_label.png")
    (inputs / "notes.txt").write_text("no image")
    return cwd, predict_sh("my images", "my labels", "--device", "cpu", cwd=cwd)


def pairs(finished):
    """(truth, predicted labels) of each image of the finished folder."""
    for source, name, _, _ in IMAGES:
        stem = name.split(".")[0]
        truth = np.array(Image.open(DATA / source / (stem + "_label.png")))
        yield truth, tifffile.imread(str(finished[0] / "my labels" / (stem + "_label.tiff")))


@needs_data
def test_a_bad_file_is_named_and_the_others_are_done(finished):
    cwd, result = finished
    done = {name.split(".")[0] + "_label.tiff" for _, name, _, _ in IMAGES}
    done |= {"twice_label.tiff", "twice.x_label.tiff", "summary.csv"}
    assert {path.name for path in (cwd / "my labels").iterdir()} == done
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    for name in ("cut_short.webp", "notes.txt", "a folder.png"):
        assert name in result.stderr
    assert f"{len(IMAGES) + 2} of {len(IMAGES) + 3} images done, 1 failed" in result.stdout


@needs_data
def test_labels_have_the_shape_of_the_image_and_no_gaps(finished):
    for truth, labels in pairs(finished):
        assert labels.shape == truth.shape
        assert labels.dtype == np.uint16
        assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    for path in (finished[0] / "my labels").glob("*.tiff"):
        with tifffile.TiffFile(str(path)) as file:
            assert file.pages[0].compression == 8  # zlib


@needs_data
def test_the_cells_are_found(finished):
    scores = [score_pair(truth, labels).f1 for truth, labels in pairs(finished)]
    assert np.mean(scores) >= 0.5, scores


@needs_data
def test_a_second_run_gives_the_same_files(finished, tmp_path):
    cwd, _ = finished
    predict_sh("my images", tmp_path, "--device", "cpu", cwd=cwd)
    for path in (cwd / "my labels").glob("*.tiff"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


@needs_data
@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_no_partial_output(finished, tmp_path, number, status):
    inputs, labels = tmp_path / "inputs", tmp_path / "inputs-labels"
    inputs.mkdir()
    for copy in range(30):
        shutil.copyfile(DATA / "gbm40" / "14.webp", inputs / f"{copy:02}.webp")
    process = subprocess.Popen(
        ["sh", str(ROOT / "predict.sh"), str(inputs), str(labels)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    process.stdout.readline()  # the first image is done
    process.send_signal(number)
    output, errors = process.communicate()
    assert process.returncode == status
    assert "Stopped by" in errors and "Traceback" not in output + errors
    assert (labels / "summary.csv").is_file()
    written = list(labels.glob("*.tiff"))
    assert 1 <= len(written) < 30
    for path in written:
        assert path.name.endswith("_label.tiff")
        assert tifffile.imread(str(path)).shape == (512, 512)


@needs_data
def test_there_are_no_worker_processes_and_nothing_in_shared_memory(tmp_path):
    """64 MB of /dev/shm are all that the challenge's container has."""
    for copy in range(5):
        shutil.copyfile(DATA / "gbm40" / "14.webp", tmp_path / f"{copy}.webp")
    process = subprocess.Popen(
        ["sh", str(ROOT / "predict.sh"), str(tmp_path), str(tmp_path / "labels")],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    process.stdout.readline()  # the first image is done
    process.send_signal(signal.SIGSTOP)  # it shall not be over before it is looked at
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    opened = [os.path.realpath(str(link)) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    process.send_signal(signal.SIGCONT)
    process.communicate()
    assert process.returncode == 0
    assert children.split() == []
    assert "/dev/shm" not in maps
    assert not any(path.startswith("/dev/shm") for path in opened)


@pytest.mark.skipif(arguments.INPUTS.is_dir(), reason="there is a /workspace/inputs")
def test_without_a_folder_samples_are_segmented(tmp_path):
    predict_sh("--help", cwd=tmp_path)  # makes .venv where that is missing
    checkout = tmp_path / "checkout"  # as ours, but samples written there do not come here
    checkout.mkdir()
    for path in ROOT.iterdir():
        if path.name != "samples":
            (checkout / path.name).symlink_to(path)
    command = ["sh", str(checkout / "predict.sh")]
    result = subprocess.run(command, cwd=str(tmp_path), capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    assert str(checkout / "samples" / "outputs") in result.stdout
    drawn = tifffile.imread(str(checkout / "samples" / "outputs" / "drawn_fluorescence_label.tiff"))
    assert 48 <= drawn.max() <= 80  # 64 nuclei are drawn


def test_the_container_only_starts_the_program(tmp_path):
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    environment = dict(os.environ, CPN_CONTAINER="1", PATH=f"{tmp_path}:{os.environ['PATH']}")
    command = ["sh", str(ROOT / "predict.sh"), "in", "out", "--device", "cpu"]
    output = subprocess.check_output(command, env=environment, encoding="utf-8")
    assert output.endswith(f" {ROOT} app.predict in out --device cpu\n")


# What app.predict returns and says, with a network that finds one square in every image


class OneSquare:
    """Stands in for the Segmenter; an image of one pixel is too much for it."""

    scale = None

    def lanes(self, items):
        return min(items, 2)

    def find(self, image, progress=None, pixel_size=None, nodata=None, quantization=0.0):
        if image.size == 1:
            raise RuntimeError("out of memory")
        contour = np.array([(1, 1), (4, 1), (4, 4), (1, 4)], np.float32)
        box = np.array([1, 1, 4, 4], np.float32)
        square = Cells(
            contour[None], box[None], np.ones(1, np.float32), np.zeros((1, 4), np.float32)
        )
        return Found(square, ["a note of the segmenter"], 1.0)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """(inputs with two good images, outputs that are missing), and no network needed."""
    monkeypatch.setattr(predict, "load_segmenter", lambda options: (OneSquare(), {}))
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name in ("b.png", "a.tif"):
        pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
        Image.fromarray(pixels).save(str(inputs / name))
    return inputs, tmp_path / "some" / "outputs"


def test_the_lines_of_images_are_aligned(tmp_path):
    names = ["a.tif", "a long name.tif", "b" * 60 + ".tif"]
    lines = predict.titles([Job(tmp_path, name, tmp_path) for name in names * 4])
    assert lines[0] == " 1/12 a.tif" + 35 * " " and lines[10] == "11/12 a long name.tif" + 25 * " "
    assert lines[11] == f"12/12 {names[2]}"


def test_a_line_for_each_image_in_order(folders, capsys):
    inputs, labels = folders
    assert predict.main([str(inputs), str(labels)]) == 0
    out, err = capsys.readouterr()
    first, second, last = out.splitlines()
    assert first.startswith("1/2 a.tif 8×6 ") and first.endswith(" s     1 cell, mean score 1.00")
    assert second.startswith("2/2 b.png 8×6 ")
    assert last == f"2 of 2 images done; the labels are in {labels}"
    assert err.count("a note of the segmenter") == 2
    expected = np.zeros((6, 8), np.uint16)
    expected[1:5, 1:5] = 1
    assert np.array_equal(tifffile.imread(str(labels / "a_label.tiff")), expected)


def test_whatever_fails_is_named_and_the_others_are_done(folders, capsys):
    inputs, labels = folders
    Image.new("L", (1, 1)).save(str(inputs / "a_pixel.png"))
    (inputs / "b_nothing.png").write_bytes(b"")
    assert predict.main([str(inputs), str(labels)]) == 1
    out, err = capsys.readouterr()
    assert {path.name for path in labels.glob("*.tiff")} == {"a_label.tiff", "b_label.tiff"}
    assert "2/4 a_pixel.png: failed, RuntimeError: out of memory" in err
    assert "4/4 b_nothing.png: failed, the file is empty" in err
    assert "2 of 4 images done, 2 failed; the labels" in out


def test_where_all_fail_nothing_is_said_of_labels(folders, capsys):
    inputs, labels = folders
    for path in inputs.iterdir():
        path.write_bytes(b"")
    assert predict.main([str(inputs), str(labels)]) == 1
    out, err = capsys.readouterr()
    assert out == "0 of 2 images done, 2 failed\n" and "black in most viewers" not in err


def test_an_image_without_cells_has_no_mean_score(folders, capsys, monkeypatch):
    monkeypatch.setattr(OneSquare, "find", lambda *arguments: Found(Cells.empty(4), [], 1.0))
    assert predict.main([str(folder) for folder in folders]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(" s    0 cells")


def test_what_can_not_be_started_is_one_sentence(folders, tmp_path, capsys):
    inputs, labels = folders
    (tmp_path / "empty").mkdir()
    file = inputs / "b.png"
    for command, said in (
        ([tmp_path / "missing", labels], "There is no folder or file"),
        ([tmp_path / "empty", labels], "There is no image in"),
        ([inputs, file], "there is a file of that name, and no folder"),
        ([inputs, file / "below a file"], "there is a file of that name, and no folder"),
        ([inputs, "/proc/outputs"], "cannot be written"),
    ):
        assert predict.main([str(argument) for argument in command]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and said in err
    (tmp_path / "nested" / "inner").mkdir(parents=True)
    assert predict.main([str(tmp_path / "nested"), str(labels)]) == 2
    assert "; --recursive looks into its folders" in capsys.readouterr().err
    assert not labels.exists()


def test_weights_that_are_none_and_no_gpu_are_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    inputs, labels, weights = tmp_path / "inputs", tmp_path / "labels", tmp_path / "w.safetensors"
    inputs.mkdir()
    Image.new("L", (8, 6)).save(str(inputs / "image.png"))
    weights.write_bytes(b"no weights")
    for option, value in (("--weights", str(weights)), ("--device", "cuda")):
        assert predict.main([str(inputs), str(labels), option, value]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and value in err
    assert not list(labels.iterdir())


def test_labels_go_beside_the_inputs_where_nobody_says(tmp_path, monkeypatch):
    monkeypatch.setattr(arguments, "OUTPUTS", tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    assert predict.parse([]).outputs == tmp_path / "outputs"
    assert predict.parse(["cells"]).outputs == tmp_path / "cells-labels"
    assert predict.parse(["."]).outputs == tmp_path.parent / (tmp_path.name + "-labels")
    (tmp_path / "outputs").mkdir()
    assert predict.parse(["cells"]).outputs == tmp_path / "outputs"


# The switches, with networks that find cells everywhere


@pytest.fixture
def noise(tmp_path, monkeypatch):
    """Runs the command on two images of noise with these arguments; the folder of outputs.

    It has the weights files first.safetensors and second.safetensors beside it.
    """
    monkeypatch.setattr("app.network.device.cpu_has_bfloat16", lambda: True)
    inputs, labels = tmp_path / "inputs", tmp_path / "labels"
    inputs.mkdir()
    for name, side in (("a.png", 90), ("b.tif", 64)):
        pixels = np.random.default_rng(side).integers(0, 255, (side, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(str(inputs / name))
    # Seeds by whose networks each switch shows in both images.
    for seed, name in ((4, "first"), (9, "second")):
        torch.manual_seed(seed)
        config = tiny_config(window=64, window_stride=32, score_threshold=0.45)
        weights.save(tmp_path / f"{name}.safetensors", CPN(config).state_dict(), config)

    def run(*arguments, by=("first",), status=0):
        files = [str(tmp_path / f"{name}.safetensors") for name in by]
        command = [str(inputs), str(labels), "--device", "cpu", *arguments, "--weights", *files]
        assert predict.main(command) == status
        return labels

    return run


def read_labels(folder):
    return {path.name: tifffile.imread(str(path)) for path in folder.glob("*.tiff")}


def test_folders_that_follow_the_weights_are_not_taken_for_weights(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main(["--weights", "first.safetensors", str(tmp_path)])
    assert stop.value.code == 2 and "come before --weights" in capsys.readouterr().err


def test_weights_given_one_by_one_are_an_ensemble_too():
    apart = predict.parse(["in", "out", "--weights", "a", "--weights", "b", "c"])
    assert apart.weights == [Path("a"), Path("b"), Path("c")]
    assert predict.parse(["in", "out"]).weights == [arguments.WEIGHTS]


def test_the_weights_that_we_ship_have_names_and_say_what_they_may_be_used_for():
    for name, said in (("research", "for research use only"), ("commercial", "used commercially")):
        path = arguments.SHIPPED[name]
        assert predict.parse(["in", "out", "--weights", name]).weights == [path]
        assert said in weights.licence_of(path)
        assert path.stat().st_size <= 24e6


SWITCHES = {
    (): {},
    ("--no-uncertainty-nms",): {"uncertainty_nms": False},
    ("--no-amp",): {"amp": False},
    ("--no-refinement",): {"refinement": False},
    ("--threshold", "0.999"): {"threshold": 0.999},
    ("--min-size", "12"): {"min_size": 12},
    ("--max-size", "20.5"): {"max_size": 20.5},
    ("--scale", "0.5"): {"scale": 0.5},
    ("--diameter", "20"): {"scale": 2.0},
    ("--thorough",): {"thorough": True},
}


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("by", [("first",), ("first", "second")])
def test_a_switch_changes_what_it_says_and_nothing_else(noise, tmp_path, switches, by):
    found = read_labels(noise(*switches, by=by))
    paths = [tmp_path / f"{name}.safetensors" for name in by]
    expected, other = (
        Segmenter.load(paths, "cpu", **options)
        for options in (SWITCHES[switches], {} if switches else {"amp": False})
    )
    for name in ("a.png", "b.tif"):
        image, _ = images.read(tmp_path / "inputs" / name)
        labels = found[f"{stem(name)}_label.tiff"]
        assert np.array_equal(labels, rasterize(expected.segment(image)[0], image.shape[:2])[0])
        assert not np.array_equal(labels, rasterize(other.segment(image)[0], image.shape[:2])[0])


def test_the_same_weights_twice_give_the_labels_of_once(noise):
    once = read_labels(noise())
    twice = read_labels(noise(by=("first", "first")))
    both = read_labels(noise(by=("first", "second")))
    assert all(np.array_equal(once[name], twice[name]) for name in once)
    assert not all(np.array_equal(once[name], both[name]) for name in once)


def test_cells_writes_a_table_and_leaves_the_labels_as_they_are(noise):
    without = read_labels(noise())
    folder = noise("--cells")
    with_table = read_labels(folder)
    for name, labels in with_table.items():
        assert np.array_equal(labels, without[name])
        rows = np.genfromtxt(table_path(folder / name), delimiter=",", names=True)
        assert rows["label"].tolist() == list(range(1, labels.max() + 1))
        assert rows["area"].tolist() == np.bincount(labels.ravel())[1:].tolist()
    noise()
    assert not list(folder.glob("*_cells.csv"))


def test_an_image_that_cannot_be_opened_keeps_the_labels_of_the_same_settings(noise, capsys):
    folder = noise()
    image = folder.parent / "inputs" / "a.png"
    image.unlink()
    image.symlink_to("nowhere")  # or a share that is gone for a moment
    noise(status=1)
    assert "a_label.tiff, which was there before, is kept" in capsys.readouterr().err
    assert (folder / "a_label.tiff").exists()
    noise("--min-size", "3", status=1)
    assert not (folder / "a_label.tiff").exists()


def test_resume_does_only_what_is_not_done_by_the_same_weights_and_settings(noise, capsys):
    folder = noise("--cells")

    def resumed(*arguments, **options):
        """The names of the label images that are written anew."""
        times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tiff")}
        capsys.readouterr()
        noise("--resume", *arguments, **options)
        out = capsys.readouterr().out
        written = {p.name for p in folder.glob("*.tiff") if p.stat().st_mtime_ns != times[p.name]}
        before = 2 - len(written)
        assert "2 of 2 images done" in out.splitlines()[-1]
        assert (f"({before} of them before)" in out) == bool(before)
        return written

    every = {"a_label.tiff", "b_label.tiff"}
    assert resumed("--cells") == set()
    assert resumed() == set()
    assert len(list(folder.glob("*_cells.csv"))) == 2
    for change in (*filter(None, SWITCHES), ("--channels", "1,2"), ("--plane", "max")):
        assert resumed(*change) == every
        assert resumed(*change) == set()
    assert resumed() == every
    assert resumed("--cells") == every
    assert resumed(by=("second",)) == every
    assert resumed(by=("second", "first")) == every
    image = folder.parent / "inputs" / "b.tif"
    older = image.stat().st_mtime - 60
    Image.new("RGB", (64, 64)).save(str(image))
    os.utime(str(image), (older, older))
    assert resumed(by=("second", "first")) == {"b_label.tiff"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--threshold", "1.5"), "must be in 0..1, not 1.5"),
        (("--threshold", "high"), "invalid float value: 'high'"),
        (("--min-size", "5mm"), "number of pixels, or of µm as in 8.5um, not 5mm"),
        (("--min-size", "9", "--max-size", "8"), "at least 9 pixels and at most 8 pixels"),
        (("--scale", "100"), "must be in 0.0625..16, not 100"),
        (("--diameter", "0"), "must be in 2.5..640 pixels, not 0"),
        (("--diameter", "30", "--scale", "2"), "not allowed with"),
        (("--channels", "1,2,3,4"), "from 1 to 3 channels"),
        (("--channels", "0"), "a number from 1 on, or a name"),
        (("--plane", "best"), "a number from 1 on, or one of max, mean, not 'best'"),
    ],
)
def test_arguments_that_make_no_sense_are_one_sentence(noise, capsys, arguments, said):
    try:
        noise(*arguments, status=2)
    except SystemExit as stop:
        assert stop.code == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err.splitlines()[-1] and "Traceback" not in err


def test_the_scale_stands_on_the_line_of_the_image_where_it_is_not_1(noise, capsys):
    noise("--diameter", "80")
    first, second, _ = capsys.readouterr().out.splitlines()
    assert " 64×90 ×0.5 " in first and " 64×64 ×0.5 " in second
    for given in ((), ("--scale", "1"), ("--diameter", "42")):
        noise(*given)
        assert re.search(r" 64×90 +\d", capsys.readouterr().out)


def test_channels_and_planes_are_those_wanted(noise):
    """In the order given; an image that has not got them is named, and the others are done."""
    everything = read_labels(noise())
    same = read_labels(noise("--channels", "1,2,3", "--plane", "max"))
    assert all(np.array_equal(same[name], everything[name]) for name in everything)
    other = read_labels(noise("--channels", "3,1"))
    assert not any(np.array_equal(other[name], everything[name]) for name in everything)


def test_an_image_without_the_channel_the_plane_or_the_size_of_a_pixel_is_named(noise, capsys):
    inputs = noise().parent / "inputs"
    stack = np.random.default_rng(0).integers(0, 255, (2, 2, 64, 64)).astype(np.uint8)
    description = {"axes": "ZCYX", "PhysicalSizeX": 0.5, "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(str(inputs / "c.ome.tif"), stack, ome=True, metadata=description)
    for given, failed, said in (
        (("--channels", "DAPI"), 2, "no channel DAPI: the image has 1, 2, 3, without names"),
        (("--channels", "3"), 1, "no channel 3: the image has 1 DAPI, 2 GFP"),
        (("--plane", "2"), 2, "no plane 2: the image has 1 plane"),
        (("--max-size", "30um"), 2, "does not say how large its pixels are"),
    ):
        capsys.readouterr()
        noise(*given, status=1)
        out, err = capsys.readouterr()
        assert err.count(said) == failed and "Error" not in err
        assert f"{3 - failed} of 3 images done, {failed} failed" in out


def test_a_gpu_that_cannot_be_used_is_said_once(noise, monkeypatch, capsys):
    monkeypatch.setattr("app.network.device.cuda_failure", lambda: "the GPU is too new")
    noise("--device", "auto")
    assert capsys.readouterr().err.count("The CPU is used: the GPU is too new.\n") == 1


def test_while_an_image_is_segmented_its_neighbours_are_read_and_written(noise, monkeypatch):
    """The labels of the first are not written before the second is being segmented, and that waits
    until the third is read."""
    shutil.copyfile(*(str(noise().parent / "inputs" / name) for name in ("b.tif", "c.tif")))
    begun, read = Event(), Event()
    save, load, find = outputs.save, images.load, Segmenter.find

    def save_later(path, *arguments):
        assert path.name != "a_label.tiff" or begun.wait(60)
        return save(path, *arguments)

    def load_and_tell(path, *arguments, **options):
        if path.name == "c.tif":
            read.set()
        return load(path, *arguments, **options)

    def find_later(self, image, *arguments):
        if image.shape[0] == 64 and not begun.is_set():
            begun.set()
            assert read.wait(60)
        return find(self, image, *arguments)

    monkeypatch.setattr(outputs, "save", save_later)
    monkeypatch.setattr(images, "load", load_and_tell)
    monkeypatch.setattr(Segmenter, "find", find_later)
    labels = noise()
    assert begun.is_set() and len(read_labels(labels)) == 3


def test_labels_of_a_file_that_changes_while_it_waits_are_not_taken_for_those_of_the_new_one(
    noise, monkeypatch, capsys
):
    """Its labels keep a hash of the bytes that were segmented, or of earlier ones."""
    inputs, read = noise().parent / "inputs", Event()
    load, find = images.load, Segmenter.find

    def load_and_tell(path, *arguments, **options):
        image = load(path, *arguments, **options)
        if path.name == "b.tif":
            read.set()
        return image

    def find_and_change(self, image, *arguments):
        if image.shape[0] == 90:
            assert read.wait(60)
            tifffile.imwrite(str(inputs / "b.tif"), np.zeros((64, 64, 3), np.uint8))
        return find(self, image, *arguments)

    with monkeypatch.context() as changed:
        changed.setattr(images, "load", load_and_tell)
        changed.setattr(Segmenter, "find", find_and_change)
        assert read_labels(noise())["b_label.tiff"].any()
    capsys.readouterr()
    assert not read_labels(noise("--resume"))["b_label.tiff"].any()
    assert "1 of 2 images were done before" in capsys.readouterr().out


def test_an_image_that_fails_between_others_costs_none_and_lines_keep_their_order(noise, capsys):
    inputs = noise().parent / "inputs"
    for name in ("aa.png", "c.png"):
        (inputs / name).write_bytes(b"")
    capsys.readouterr()
    labels = noise(status=1)
    out, err = capsys.readouterr()
    assert re.findall(r"^\d/4 (\S+)", out, re.M) == ["a.png", "b.tif"]
    assert re.findall(r"^\d/4 (\S+): failed, the file is empty", err, re.M) == ["aa.png", "c.png"]
    rows = (labels / "summary.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [
        ["a.png", "done"],
        ["aa.png", "failed"],
        ["b.tif", "done"],
        ["c.png", "failed"],
    ]


def test_stopped_in_an_image_the_one_before_is_written_and_in_the_summary(noise, monkeypatch):
    find = Segmenter.find

    def stopped(self, image, *arguments):
        if image.shape[0] == 64:
            raise signals.Stopped(signal.SIGTERM)
        return find(self, image, *arguments)

    monkeypatch.setattr(Segmenter, "find", stopped)
    before = [signal.getsignal(number) for number in signals.NUMBERS]
    labels = noise(status=143)
    after = [signal.getsignal(number) for number in signals.NUMBERS]
    assert after == before, "the signals of a process that calls the command stay its own"
    assert set(read_labels(labels)) == {"a_label.tiff"}
    assert "a.png,done" in (labels / "summary.csv").read_text()


@pytest.mark.parametrize("first", signals.NUMBERS)
def test_what_cleans_up_after_a_signal_is_not_interrupted_by_a_second_one(first):
    before = {number: signal.getsignal(number) for number in signals.NUMBERS}
    signals.on_signals(signals.stop)
    try:
        with pytest.raises(signals.Stopped, match=str(int(first))):
            os.kill(os.getpid(), first)
            time.sleep(10)
        for number in signals.NUMBERS:
            os.kill(os.getpid(), number)
            time.sleep(0.01)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Killed, and not root, with real processes


KILLS = int(os.environ.get("KILLS", 10))


@needs_data
def test_killed_at_any_moment_outputs_are_complete_or_absent_and_resume_does_the_rest(tmp_path):
    """KILLS in the environment says at how many moments, drawn at random."""
    inputs, labels, undisturbed = (tmp_path / name for name in ("inputs", "labels", "undisturbed"))
    inputs.mkdir()
    for copy in range(12):
        shutil.copyfile(DATA / "dsb2018" / "07761fa39f60.png", inputs / f"{copy:02}.png")
    command = [sys.executable, "-m", "app.predict", str(inputs), str(labels), "--cells", "--resume"]
    whole = command[:4] + [str(undisturbed), "--cells"]
    said = subprocess.check_output(whole, cwd=str(ROOT), encoding="utf-8")
    seconds = np.median([float(text) for text in re.findall(r" ([\d.]+) s +\d+ cell", said)])
    expected = {path.name: path.read_bytes() for path in undisturbed.glob("*_*")}
    assert len(expected) == 24

    draw = np.random.default_rng(0)
    interrupted = 0
    for _ in range(KILLS):
        process = subprocess.Popen(command, cwd=str(ROOT), stdout=subprocess.DEVNULL)
        # Within the time for an image of some new file, however slow or fast the machine is.
        present = len(os.listdir(str(labels))) if labels.is_dir() else 0
        wanted = present + draw.integers(0, 8)
        while process.poll() is None and len(list(labels.glob("*"))) < wanted:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, seconds))
        interrupted += process.poll() is None
        process.kill()
        process.wait()
        assert all(p.read_bytes() == expected[p.name] for p in labels.glob("[!.]*_*"))
        # A table takes its place right after its label image; without it the image is done anew.
        of_labels = {table_path(label) for label in labels.glob("[!.]*_label.tiff")}
        assert of_labels >= set(labels.glob("[!.]*_cells.csv"))
        if len(list(labels.glob("*.tiff"))) == 12:
            shutil.rmtree(str(labels))
    assert interrupted >= KILLS / 4
    subprocess.run(command, cwd=str(ROOT), check=True, stdout=subprocess.DEVNULL)
    assert {p.name: p.read_bytes() for p in labels.glob("[!.]*_*")} == expected


@pytest.fixture(scope="module")
def open_python():
    """(interpreter, environment) that other users than root can run, with our packages."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    version = "python{}.{}".format(*sys.version_info)
    packages = [str(ROOT)] + [path for path in sys.path if path.endswith("site-packages")]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(packages))
    trial = "import os; os.setuid(1234); import app.outputs, torch"
    for python in (sys.executable, "/usr/bin/" + version, "/usr/local/bin/" + version):
        options = {"env": environment, "stderr": subprocess.DEVNULL, "cwd": "/"}
        if os.path.exists(python) and not subprocess.call([python, "-c", trial], **options):
            return python, environment
    pytest.skip(f"there is no {version} that other users can run")


@pytest.fixture
def as_root(open_python):
    """A folder with the inputs open.png and closed.png, and outputs of user 1234, group 1235.

    And a function that runs the command on them: its prefix, and another name for the outputs.
    """
    python, environment = open_python
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        folder = Path(folder)
        inputs, labels = folder / "inputs", folder / "labels"
        for path in (inputs, labels):
            path.mkdir()
        folder.chmod(0o755)
        os.chown(str(labels), 1234, 1235)
        for name in ("open.png", "closed.png"):
            Image.new("L", (40, 30)).save(str(inputs / name))
        (inputs / "closed.png").chmod(0o600)

        def run(*prefix, name="labels", **variables):
            command = [*prefix, python, "-m", "app.predict", str(inputs), str(folder / name)]
            options = {"cwd": "/", "env": dict(environment, **variables), "capture_output": True}
            return subprocess.run([*command, "--cells"], encoding="utf-8", **options)

        yield folder, run


def owners(folder):
    """The user and group of every file in a folder, by its name."""
    return {path.name: (path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["labels", "labels/some/new folder"])
def test_root_becomes_the_owner_of_the_outputs_before_it_opens_an_image(as_root, name):
    folder, run = as_root
    result = run(name=name)
    assert result.returncode == 1
    assert "closed.png: failed" in result.stderr and "user 1234 must be allowed" in result.stderr
    theirs = (1234, 1235)
    assert owners(folder / name) == dict.fromkeys(
        ("open_label.tiff", "open_cells.csv", "summary.csv"), theirs
    )


def test_inputs_that_the_owner_of_the_outputs_cannot_list_are_one_sentence(as_root):
    folder, run = as_root
    (folder / "inputs").chmod(0o700)
    result = run()
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "Permission denied" in result.stderr and "user 1234 must be" in result.stderr


def test_root_stays_where_the_outputs_are_its_own(as_root):
    folder, run = as_root
    os.chown(str(folder / "labels"), 0, 0)
    assert run().returncode == 0
    assert set(owners(folder / "labels").values()) == {(0, 0)}


def test_a_user_without_home_needs_nothing_else(as_root):
    folder, run = as_root
    user = ("setpriv", "--reuid", "1234", "--regid", "77", "--clear-groups", "--inh-caps=-all")
    result = run(*user, HOME="/missing")
    assert result.returncode == 1
    assert "closed.png: failed" in result.stderr and "1 of 2 images done" in result.stdout
    assert set(owners(folder / "labels").values()) == {(1234, 77)}


def test_root_without_powers_is_told_whom_to_be(as_root):
    """As in docker run --cap-drop ALL, with outputs of somebody else."""
    folder, run = as_root
    result = run("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "Permission denied for user 0" in result.stderr
    assert "docker run --user 1234:1235" in result.stderr
    assert not owners(folder / "labels")


def test_what_the_owner_of_the_outputs_cannot_use_is_one_sentence(folders, monkeypatch, capsys):
    monkeypatch.setattr("app.privileges.become_owner", lambda folder: True)
    monkeypatch.setattr("app.privileges.closed_part", lambda: "/root")
    assert predict.main([str(folder) for folder in folders]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "/root is closed" in err


# The samples


def test_samples_are_images_and_the_drawn_nuclei_are_apart(tmp_path):
    samples.main([str(tmp_path / "new" / "folder")])
    inputs, passed_over = images.list_inputs(tmp_path / "new" / "folder")
    assert len(inputs) == 5 and not passed_over
    for path in inputs:
        image, warnings = images.read(path)
        assert image.size and not warnings
    assert label(samples.nuclei(np.random.RandomState(0)) > 0).max() == 64
