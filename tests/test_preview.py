"""Pictures to look at, beside the label images."""

import numpy as np
import pytest
from drawn import drawn
from PIL import Image
from test_predict import noise, read_labels  # noqa: F401 (noise is a fixture)

from app import exports, images
from app.cells import Cells
from app.exports import preview


def result_of(pixels, labels, path, uncertainty=0.0):
    n = labels.max()
    cells = Cells.empty(4)
    cells.scores = np.ones(n, np.float32)
    cells.uncertainties = np.full((n, 4), uncertainty, np.float32)
    return exports.Result(path, images.Loaded(pixels, [], None, None), labels, cells)


@pytest.fixture
def picture(tmp_path):
    """A function: the picture of an image with two cells that touch, by the export `name`."""
    pixels = np.linspace(100, 900, 600).reshape(20, 30).astype(np.uint16)
    labels = drawn((20, 30), (2, 2, 10, 10), (2, 10, 10, 20)).astype(np.int32)

    def make(name, uncertainty=0.0):
        (export,) = exports.load([name])
        path = tmp_path / "a_preview.png"
        export.write(path, result_of(pixels, labels, tmp_path / "a.tif", uncertainty))
        return np.array(Image.open(path))

    return make


def test_outlines_lie_on_the_border_pixels_of_each_cell(picture):
    rgb = picture("preview")
    first, second = (np.array(colour, np.uint8) for colour in preview.OKABE_ITO[:2])
    assert (rgb[2:10, 2] == first).all() and (rgb[2:10, 9] == first).all()
    assert (rgb[2:10, 10] == second).all() and (rgb[9, 10:20] == second).all()
    inside = rgb[3:9, 3:9]
    assert (inside == inside[..., :1]).all(), "the image itself is grey"


def test_a_dark_image_of_16_bits_is_bright_to_the_eye(picture):
    rgb = picture("preview")
    assert rgb[0].max() < 30 and rgb[-1].min() > 225


def test_uncertainty_is_from_blue_to_yellow(picture):
    certain, uncertain = (picture("uncertainty", value)[2, 2] for value in (0, 0.5))
    assert certain[2] > 100 and certain[2] > certain[0]
    assert uncertain[:2].min() > 200 and uncertain[2] < 80
    assert np.array_equal(picture("uncertainty", 1)[2, 2], uncertain)


def test_large_pictures_are_jpeg(tmp_path):
    labels = drawn((2000, 2001), (2, 2, 900, 900)).astype(np.int32)
    (export,) = exports.load(["preview"])
    export.write(tmp_path / "a_preview.png", result_of(labels * 100, labels, tmp_path / "a.tif"))
    assert [path.name for path in tmp_path.iterdir()] == ["a_preview.jpg"]
    image = Image.open(tmp_path / "a_preview.jpg")
    assert image.format == "JPEG" and image.size == (2001, 2000)
    assert export.is_done(tmp_path / "a_label.tiff")
    assert not exports.load(["uncertainty"])[0].is_done(tmp_path / "a_label.tiff")


def test_the_command_writes_previews_and_resume_knows_their_kind(noise, capsys):  # noqa: F811
    folder = noise("--preview")
    assert "*_preview.*" in capsys.readouterr().err
    for name, labels in read_labels(folder).items():
        image = Image.open(folder / name.replace("label.tiff", "preview.png"))
        assert image.size == labels.shape[::-1]
    for arguments, before in ((["--preview"], 2), (["--preview", "uncertainty"], 0), ([], 2)):
        noise("--resume", *arguments)
        assert (f"({before} of them before)" in capsys.readouterr().out) == bool(before)
    noise()
    assert not list(folder.glob("*preview*"))
    assert "--preview" in capsys.readouterr().err


def test_a_preview_is_never_an_input(tmp_path):
    for name in ("a.png", "a_preview.png", "a_Preview.JPG"):
        Image.new("L", (4, 4)).save(str(tmp_path / name))
    inputs, passed_over = images.list_inputs(tmp_path)
    assert [path.name for path in inputs] == ["a.png"]
    assert {reason for _, reason in passed_over} == {"a preview"}
