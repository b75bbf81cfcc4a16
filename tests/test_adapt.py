"""Own cells without labels: learning from what a network finds itself, and what judges that."""

import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tiny import tiny_config
from training_data import draw_image

from app.network import weights
from app.network.cpn import CPN
from app.windows import Window
from training import __main__ as command
from training import agreement, catalog
from training.agreement import Agreement


@pytest.fixture
def folder(tmp_path):
    """Three images, one of them with labels that are no labels at all."""
    rng, folder = np.random.default_rng(2), tmp_path / "mine"
    folder.mkdir()
    for name in "abc":
        cv2.imwrite(str(folder / f"{name}.png"), draw_image(rng, 100, 120)[0])
    (folder / "a_label.png").write_bytes(b"nothing")
    return folder


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(0)
    network = CPN(tiny_config(window=128, window_stride=96))
    weights.save(tmp_path / "start.safetensors", network.state_dict(), network.config)
    return tmp_path / "start.safetensors"


def arguments(folder, out, *more):
    given = ["adapt", "--images", folder, "--out", out, "--device", "cpu", *more, "--set"]
    given += ["crops=[[64,2]]", "positions=64", "samples=16", "synthetic=2", "teacher_foreground=0"]
    return [str(word) for word in given]


def values_of(path):
    return torch.cat([value.flatten() for value in weights.load(path)[0].parameters()])


def judge_by(monkeypatch, judged):
    """Have networks judged so, one after the other: (agreement, number of cells) of each image."""
    monkeypatch.setattr(agreement, "agreement", lambda segmenter, image: next(judged))


def run(folder, out, start, monkeypatch, judged, steps=1):
    judge_by(monkeypatch, iter(judged))
    return command.main(arguments(folder, out, "--init", start, "--steps", steps))


def test_what_agrees_better_is_taken(folder, start, tmp_path, monkeypatch, capsys):
    judged = [(0.5, 10)] * 3 + [(0.6, 10), (0.6, 10), (0.7, 10)]
    assert run(folder, tmp_path / "run", start, monkeypatch, judged) == 0
    told = capsys.readouterr().out
    assert "1 steps" in told and "0.500 -> 0.633" in told and "--weights" in told
    best = tmp_path / "run" / "best.safetensors"
    assert not values_of(best).equal(values_of(start))
    assert weights.load(best)[1]["data"]["sources"] == ["/synthetic"]


@pytest.mark.parametrize("after", [(0.5, 10), (0.4, 20), (0.9, 7)])
def test_the_start_is_kept_where_nothing_agrees_better_or_cells_are_lost(
    folder, start, tmp_path, monkeypatch, capsys, after
):
    judged = [(0.5, 10)] * 3 + [after] * 3
    assert run(folder, tmp_path / "run", start, monkeypatch, judged) == 0
    told = capsys.readouterr().out
    assert "Nothing agreed better" in told and "best.safetensors holds" in told
    assert "sh predict.sh" not in told
    assert values_of(tmp_path / "run" / "best.safetensors").equal(values_of(start))


def test_it_ends_by_itself(folder, start, tmp_path, monkeypatch, capsys):
    """After two validations in a row without a better one."""
    given = arguments(folder, tmp_path / "run", "--init", start, "--steps", "1000")
    judged = iter([(0.5, 10)] * 3 + [(0.6, 10)] * 3 + [(0.6, 10)] * 6)
    judge_by(monkeypatch, judged)
    assert command.main([*given, "validation_minutes=0"]) == 0
    assert int(re.search(r"(\d+) steps in", capsys.readouterr().out).group(1)) < 10
    assert next(judged, None) is None


def test_a_finished_run_says_again_what_came_of_it(folder, start, tmp_path, monkeypatch, capsys):
    judged = [(0.5, 10)] * 3 + [(0.6, 10)] * 3
    assert run(folder, tmp_path / "run", start, monkeypatch, judged) == 0
    assert command.main(arguments(folder, tmp_path / "run", "--steps", "1")) == 0
    assert capsys.readouterr().out.count("0.500 -> 0.600") == 2
    assert run(folder, tmp_path / "run", start, monkeypatch, []) == 2
    assert "go on without --init" in capsys.readouterr().err


def test_a_folder_without_images_is_named(start, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert command.main(arguments(tmp_path / "empty", tmp_path / "run", "--steps", "1")) == 2
    assert f"{tmp_path / 'empty'} is no folder with images" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_image_that_cannot_be_read_is_named(folder, start, tmp_path, capsys):
    (folder / "b.png").write_bytes(b"nothing")
    given = arguments(folder, tmp_path / "run", "--init", start, "--steps", "1")
    assert command.main(given) == 2
    assert "b.png" in capsys.readouterr().err


def test_a_network_without_cells_does_not_agree(folder, tmp_path):
    """Nothing is the same as nothing."""
    network = CPN(tiny_config(window=128, window_stride=96, score_threshold=1.0)).eval()
    state = SimpleNamespace(
        average=network, device=torch.device("cpu"), step=0, seconds=0.0, best=None
    )
    judge = Agreement(catalog.unlabelled(folder), tmp_path)
    assert judge(state) == 0
    assert (tmp_path / "validation.csv").read_text().split() == [
        "step,minutes,agreement,cells",
        "0,0.0,0.0,0",
    ]


def bright_parts(segmenter, pixels):
    """What is brighter than half of the range, as cells."""
    return cv2.connectedComponents((pixels.max(2) > 128).astype(np.uint8))[1]


class View:
    """Of an image without any conversion."""

    def __init__(self, image):
        self.image, self.shape = image, image.shape[:2]

    def window(self, window):
        return self.image[window.y0 : window.y1, window.x0 : window.x1], None


@pytest.mark.parametrize("shape", [(200, 301), (64, 65), (700, 900)])
def test_cells_of_changed_pixels_come_back_to_where_they_were(monkeypatch, shape):
    monkeypatch.setattr(agreement, "labels_of", bright_parts)
    image = np.full((*shape, 3), 20, np.uint8)
    for top, left in ((0.3, 0.3), (0.6, 0.35), (0.4, 0.7)):
        row, column = int(top * shape[0]), int(left * shape[1])
        image[row : row + 12, column : column + 9] = 220
    assert agreement.agreement(SimpleNamespace(view=View), image) == (1.0, 3)


def test_cells_that_are_found_in_one_of_both_alone_do_not_agree(monkeypatch):
    image = np.full((100, 100, 3), 20, np.uint8)
    image[20:40, 20:40] = image[60:80, 60:80] = 220
    first = iter([True, False])

    def found(segmenter, pixels):
        labels = bright_parts(segmenter, pixels)
        return labels if next(first) else np.where(labels == 1, 1, 0)

    monkeypatch.setattr(agreement, "labels_of", found)
    assert agreement.agreement(SimpleNamespace(view=View), image) == (0.6667, 2)


def test_the_middle_of_an_image_is_looked_at():
    assert agreement.middle((100, 50)) == Window(0, 0, 50, 100)
    assert agreement.middle((641, 2000)) == Window(680, 0, 1320, 640)
