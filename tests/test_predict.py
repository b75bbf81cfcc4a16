"""The command: predict.sh on real images from start to end, what app.predict says and returns."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.measure import label

from app import images, predict, samples
from app.cells import Cells
from evaluate.matching import score_pair

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


def outputs(finished):
    """(truth, predicted labels) of each image of the finished folder."""
    for source, name, _, _ in IMAGES:
        stem = name.split(".")[0]
        truth = np.array(Image.open(DATA / source / (stem + "_label.png")))
        yield truth, tifffile.imread(str(finished[0] / "my labels" / (stem + "_label.tiff")))


@needs_data
def test_a_bad_file_is_named_and_the_others_are_done(finished):
    cwd, result = finished
    done = {name.split(".")[0] + "_label.tiff" for _, name, _, _ in IMAGES}
    assert {path.name for path in (cwd / "my labels").iterdir()} == done
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    for name in ("cut_short.webp", "twice.webp", "twice.x.webp", "notes.txt", "a folder.png"):
        assert name in result.stderr
    assert f"{len(IMAGES)} of {len(IMAGES) + 3} images done" in result.stdout


@needs_data
def test_labels_have_the_shape_of_the_image_and_no_gaps(finished):
    for truth, labels in outputs(finished):
        assert labels.shape == truth.shape
        assert labels.dtype == np.uint16
        assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    for path in (finished[0] / "my labels").iterdir():
        with tifffile.TiffFile(str(path)) as file:
            assert file.pages[0].compression == 8  # zlib


@needs_data
def test_the_cells_are_found(finished):
    scores = [score_pair(truth, labels).f1 for truth, labels in outputs(finished)]
    assert np.mean(scores) >= 0.5, scores


@needs_data
def test_a_second_run_gives_the_same_files(finished, tmp_path):
    cwd, _ = finished
    predict_sh("my images", tmp_path, "--device", "cpu", cwd=cwd)
    for path in (cwd / "my labels").iterdir():
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
    written = list(labels.iterdir())
    assert 1 <= len(written) < 30
    for path in written:
        assert path.name.endswith("_label.tiff")
        assert tifffile.imread(str(path)).shape == (512, 512)


@needs_data
def test_there_are_no_worker_processes_and_nothing_in_shared_memory(tmp_path):
    """64 MB of /dev/shm are all that the challenge's container has."""
    for copy in range(5):
        shutil.copyfile(DATA / "gbm40" / "14.webp", tmp_path / f"{copy}.webp")
    before = set(os.listdir("/dev/shm"))
    process = subprocess.Popen(
        ["sh", str(ROOT / "predict.sh"), str(tmp_path), str(tmp_path / "labels")],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    process.stdout.readline()  # the first image is done
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    shared = set(os.listdir("/dev/shm")) - before
    process.communicate()
    assert process.returncode == 0
    assert children.split() == []
    assert "/dev/shm" not in maps
    assert not shared


@pytest.mark.skipif(predict.INPUTS.is_dir(), reason="there is a /workspace/inputs")
def test_without_a_folder_samples_are_segmented(tmp_path):
    result = predict_sh(cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert str(ROOT / "samples" / "outputs") in result.stdout
    drawn = tifffile.imread(str(ROOT / "samples" / "outputs" / "drawn_fluorescence_label.tiff"))
    assert 48 <= drawn.max() <= 80  # 64 nuclei are drawn


def test_the_container_only_starts_the_program(tmp_path):
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    environment = dict(os.environ, CPN_CONTAINER="1", PATH=f"{tmp_path}:{os.environ['PATH']}")
    command = ["sh", str(ROOT / "predict.sh"), "in", "out", "--device", "cpu"]
    output = subprocess.check_output(command, env=environment, encoding="utf-8")
    assert output == "-m app.predict in out --device cpu\n"


# The environment


def environment_sh(folder, requirements, path):
    """Run environment.sh with only these programs to be found."""
    command = ["/bin/sh", str(ROOT / "environment.sh"), str(folder), str(requirements)]
    environment = {"PATH": str(path)}
    return subprocess.run(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8")


@pytest.fixture
def programs(tmp_path):
    """A folder of the few programs that a machine has even without Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cat", "cksum", "rm"):
        (folder / name).symlink_to(shutil.which(name))
    return folder


def test_the_environment_is_made_once_and_again_when_incomplete(programs, tmp_path):
    (programs / "python3").symlink_to(sys.executable)
    folder, requirements = tmp_path / "an environment", tmp_path / "requirements.txt"
    requirements.write_text("")
    interrupted = folder / "bin" / "python"
    interrupted.parent.mkdir(parents=True)
    interrupted.symlink_to(sys.executable)

    def says():
        result = environment_sh(folder, requirements, programs)
        assert result.returncode == 0, result.stderr
        return result.stderr

    assert "Making" in says()
    assert says() == ""
    requirements.write_text("# other requirements\n")
    assert "Making" in says()


def test_one_sentence_where_python_or_venv_is_missing(programs, tmp_path):
    result = environment_sh(tmp_path / "environment", ROOT / "requirements.txt", programs)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "No Python 3.7 or 3.10 to 3.13" in result.stderr
    without_venv = programs / "python3.11"
    without_venv.write_text("#!/bin/sh\ncase $2 in *ensurepip*) exit 1 ;; esac\n")
    without_venv.chmod(0o755)
    result = environment_sh(tmp_path / "environment", ROOT / "requirements.txt", programs)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "python3.11" in result.stderr and "venv" in result.stderr


# What app.predict returns and says, with a network that finds one square in every image


class OneSquare:
    """Stands in for the Segmenter; an image of one pixel is too much for it."""

    def segment(self, image, progress=None):
        if image.size == 1:
            raise RuntimeError("out of memory")
        contour = np.array([(1, 1), (4, 1), (4, 4), (1, 4)], np.float32)
        box = np.array([1, 1, 4, 4], np.float32)
        square = Cells(
            contour[None], box[None], np.ones(1, np.float32), np.zeros((1, 4), np.float32)
        )
        return square, ["a note of the segmenter"]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """(inputs with two good images, outputs that are missing), and no network needed."""
    monkeypatch.setattr(predict, "load_segmenter", lambda options: OneSquare())
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name in ("b.png", "a.tif"):
        pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
        Image.fromarray(pixels).save(str(inputs / name))
    return inputs, tmp_path / "some" / "outputs"


def test_a_line_for_each_image_in_order(folders, capsys):
    inputs, labels = folders
    assert predict.main([str(inputs), str(labels)]) == 0
    out, err = capsys.readouterr()
    first, second, last = out.splitlines()
    assert first.startswith("1/2 a.tif 8×6 ") and first.endswith(" s 1 cells")
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
    assert {path.name for path in labels.iterdir()} == {"a_label.tiff", "b_label.tiff"}
    assert "2/4 a_pixel.png: failed, RuntimeError: out of memory" in err
    assert "4/4 b_nothing.png: failed, the file is empty" in err
    assert "2 of 4 images done" in out


def test_what_can_not_be_started_is_one_sentence(folders, tmp_path, capsys):
    inputs, labels = folders
    (tmp_path / "empty").mkdir()
    file = inputs / "b.png"
    for arguments in (
        [tmp_path / "missing", labels],
        [tmp_path / "empty", labels],
        [file, labels],
        [inputs, file],
        [inputs, file / "below a file"],
        [inputs, "/proc/outputs"],
    ):
        assert predict.main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
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
    monkeypatch.setattr(predict, "OUTPUTS", tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    assert predict.parse([]).outputs == tmp_path / "outputs"
    assert predict.parse(["cells"]).outputs == tmp_path / "cells-labels"
    assert predict.parse(["."]).outputs == tmp_path.parent / (tmp_path.name + "-labels")
    (tmp_path / "outputs").mkdir()
    assert predict.parse(["cells"]).outputs == tmp_path / "outputs"


# The samples


def test_samples_are_images_and_the_drawn_nuclei_are_apart(tmp_path):
    samples.main([str(tmp_path / "new" / "folder")])
    inputs, refused, passed_over = images.list_inputs(tmp_path / "new" / "folder")
    assert len(inputs) == 5 and not refused and not passed_over
    for path in inputs:
        image, warnings = images.read(path)
        assert image.size and not warnings
    assert label(samples.nuclei(np.random.RandomState(0)) > 0).max() == 64
