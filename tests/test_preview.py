"""Pictures to look at, beside the label images."""

import numpy as np
import pytest
from drawn import drawn
from PIL import Image
from test_annotations import WHITE, annotated
from test_annotations import cells as grey_cells
from test_predict import noise, read_labels  # noqa: F401 (noise is a fixture)

from app import exports, images
from app.cells import Cells
from app.exports import preview, uncertainty


def result_of(pixels, labels, path, uncertain=0.0):
    n = labels.max()
    cells = Cells.empty(4)
    cells.scores = np.ones(n, np.float32)
    cells.uncertainties = np.full((n, 4), uncertain, np.float32)
    return exports.Result(path, images.Loaded(pixels, [], None, None), labels, cells)


@pytest.fixture
def picture(tmp_path):
    """A function: the picture of an image with two cells that touch, by the export `name`."""
    pixels = np.linspace(100, 900, 600).reshape(20, 30).astype(np.uint16)
    labels = drawn((20, 30), (2, 2, 10, 10), (2, 10, 10, 20)).astype(np.int32)

    def make(name, uncertain=0.0):
        (export,) = exports.load([name])
        path = tmp_path / "a_preview.png"
        export.write(path, result_of(pixels, labels, tmp_path / "a.tif", uncertain))
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


def test_a_scale_bar_is_seen_as_it_was_drawn():
    """To the network it is no image."""
    image, ((x0, y0, x1, y1), _) = annotated(grey_cells(20, 180), WHITE)
    rgb, _ = preview.as_seen(images.Loaded(image[..., 0], [], None, None))
    assert (rgb[y0:y1, x0:x1] == 255).all()


def test_uncertainty_is_from_blue_to_yellow(picture):
    certain, uncertain = (picture("uncertainty", value)[2, 2] for value in (0, 1))
    assert certain[2] > 100 and certain[2] > certain[0]
    assert uncertain[:2].min() > 200 and uncertain[2] < 80


def test_below_it_a_key_says_what_the_colours_mean(picture):
    plain, keyed = picture("preview"), picture("uncertainty", 0.25)
    height, width = plain.shape[:2]
    assert keyed.shape[0] > height and keyed.shape[1] > width, "wide enough to be read"
    assert not keyed[:height, width:].any(), "pixels of the image keep their places"
    bar = keyed[height + uncertainty.KEY_HEIGHT // 2]
    for colour in (uncertainty.COLOURS[0], uncertainty.COLOURS[-2], keyed[2, 2]):
        assert np.abs(bar.astype(int) - colour).max(axis=1).min() <= 4
    assert uncertainty.key(4000).shape == (uncertainty.KEY_HEIGHT * 5, 4000, 3), "grows with it"


@pytest.mark.parametrize("limit", ["MOST_PIXELS", "MOST_SIDE"])
def test_what_is_too_large_for_a_picture_is_reduced_and_that_is_said(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(preview, limit, {"MOST_PIXELS": 33 * 50, "MOST_SIDE": 60}[limit])
    pixels = np.zeros((65, 99), np.uint16)
    pixels[::2, 1::2] = pixels[1::2, ::2] = 600  # means of a half, not every other pixel
    labels = drawn((65, 99), (10, 10, 30, 40)).astype(np.int32)
    (export,) = exports.load(["preview"])
    said = export.write(tmp_path / "a_preview.png", result_of(pixels, labels, tmp_path / "a.tif"))
    assert said == ["the preview is reduced to 1 : 2"]
    rgb = np.array(Image.open(tmp_path / "a_preview.png"))
    assert rgb.shape == (33, 50, 3) and (rgb[2:4, 2:4] > 0).all()
    assert (rgb[5, 5:20] == preview.OKABE_ITO[0]).all()


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
