"""Own cells without labels: learning from what a network finds itself, and what judges that."""

import json
import os
import signal
from types import SimpleNamespace
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY, tiny_config
from training_data import draw_image

from app.cells import Cells
from app.images import Loaded
from app.network import weights
from app.network.cpn import CPN
from app.segmenter import Found, Segmenter
from app.windows import Window
from experiments.left_out import check_unseen
from training import __main__ as command
from training import adapt, agreement, catalog, checkpoints, teacher
from training.agreement import Agreement
from training.recipe import balanced_weights

NO_UNCERTAINTY = "weights=" + json.dumps({**balanced_weights(), "uncertainty": 0})


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


def judge_by(monkeypatch, *judged):
    """Have the agreement of the images with what was found before be these numbers, in turn."""
    judged = iter([1.0] * 3 + list(judged))
    monkeypatch.setattr(agreement, "agreement", lambda begun, labels: next(judged))


def run(folder, out, start, *more):
    return command.main(arguments(folder, out, "--init", start, "--steps", "1", *more))


def test_a_teacher_labels_the_images_and_what_comes_out_is_said(folder, start, tmp_path, capsys):
    """From the command on to the network, without any mock but of what is counted."""
    with patch.object(teacher, "teach", wraps=teacher.teach) as taught:
        assert command.main(arguments(folder, tmp_path / "run", "--init", start)) == 0
    steps = adapt.FIELDS["steps"]
    assert taught.call_count == steps
    told = capsys.readouterr().out
    assert "to learn from: 3" in told and f"{steps} steps in" in told
    assert "The weights that it begins with find" in told
    record = weights.load(tmp_path / "run" / "weights.safetensors")[1]
    assert record["data"]["sources"] == ["/synthetic"] and record["data"]["unlabelled"] == ["mine"]
    with pytest.raises(ValueError, match="was trained on mine"):
        check_unseen(tmp_path / "run" / "weights.safetensors", ["mine"])


def test_what_came_out_is_taken_and_how_to_look_at_it_is_said(
    folder, start, tmp_path, monkeypatch, capsys
):
    judge_by(monkeypatch, 0.6, 0.6, 0.3)
    assert run(folder, tmp_path / "run", start) == 0
    told = capsys.readouterr().out
    best = tmp_path / "run" / "best.safetensors"
    assert "1 steps" in told and "agreement 0.500" in told
    assert f"sh predict.sh {folder} BEFORE --preview --weights {start}" in told
    assert f"sh predict.sh {folder} AFTER --preview --weights {best}" in told
    assert not values_of(best).equal(values_of(start))


def test_the_start_is_kept_where_its_cells_are_lost(folder, start, tmp_path, monkeypatch, capsys):
    judge_by(monkeypatch, 0.6, 0.6, 0.29)
    assert run(folder, tmp_path / "run", start) == 0
    told = capsys.readouterr().out
    assert "no longer finds the cells" in told and "best.safetensors holds" in told
    assert "sh predict.sh" not in told
    assert values_of(tmp_path / "run" / "best.safetensors").equal(values_of(start))


def test_a_run_that_was_stopped_at_its_first_look_begins_anew(folder, start, tmp_path, monkeypatch):
    """What was looked at before it was stopped is no look that brought nothing."""

    def interrupted(begun, labels):
        os.kill(os.getpid(), signal.SIGINT)
        return 1.0

    with monkeypatch.context() as patched:
        patched.setattr(agreement, "agreement", interrupted)
        assert run(folder, tmp_path / "run", start) == 130
    judge_by(monkeypatch, 1.0, 1.0, 1.0)
    assert command.main(arguments(folder, tmp_path / "run", "--steps", "1")) == 0
    rows = (tmp_path / "run" / "validation.csv").read_text().split()
    assert [row.split(",")[0] for row in rows] == ["step", "0", "1"]
    assert checkpoints.checkpoint_run(tmp_path / "run" / "checkpoint.safetensors")["stale"] == 0


def test_a_finished_run_says_again_what_came_of_it(folder, start, tmp_path, monkeypatch, capsys):
    judge_by(monkeypatch, 1.0, 1.0, 1.0)
    assert run(folder, tmp_path / "run", start) == 0
    assert command.main(arguments(folder, tmp_path / "run", "--steps", "1")) == 0
    assert capsys.readouterr().out.count("AFTER --preview") == 2
    assert run(folder, tmp_path / "run", start) == 2
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


@pytest.mark.parametrize("place", ["", "run"])
def test_a_run_is_not_put_among_the_images(folder, start, capsys, place):
    """Its drawn images would be taken for the user's when it goes on."""
    given = arguments(folder, folder / place, "--init", start, "--steps", "1")
    assert command.main(given) == 2
    assert "lies among the images" in capsys.readouterr().err


@pytest.mark.parametrize(
    "field",
    ["synthetic=0", "synthetic_share=0", "unlabelled=0", "kept_gain=0.9", NO_UNCERTAINTY],
)
def test_settings_that_leave_nothing_to_learn_from_are_refused(
    folder, start, tmp_path, capsys, field
):
    given = arguments(folder, tmp_path / "run", "--init", start, "--steps", "1")
    assert command.main([*given, field]) == 2
    assert "must be" in capsys.readouterr().err


def test_previews_are_no_images(folder):
    (folder / "a_preview.png").write_bytes(b"nothing")
    assert [entry.image.name for entry in catalog.unlabelled(folder)] == ["a.png", "b.png", "c.png"]


@pytest.fixture
def state():
    """Of a run of a network that finds nothing."""
    network = CPN(tiny_config(window=128, window_stride=96, score_threshold=1.0)).eval()
    return SimpleNamespace(average=network, device=torch.device("cpu"), step=0, seconds=0.0)


def test_weights_are_judged_by_the_cells_that_were_found_before(
    folder, state, tmp_path, monkeypatch
):
    labels = np.zeros((100, 120), np.int32)
    for cell in range(4):
        labels[40:60, 20 * cell + 10 : 20 * cell + 25] = cell + 1
    judge = Agreement(catalog.unlabelled(folder), tmp_path)
    scores = []
    for state.step, lost in enumerate([0, 0, 1, 3]):
        found = np.where(labels > lost, labels, 0)
        monkeypatch.setattr(agreement, "labels_in_middle", lambda segmenter, image, f=found: f)
        scores.append(judge(state))
    assert scores == [0.0, 1.0, 0.8571, -1.0]
    judge = Agreement(catalog.unlabelled(folder), tmp_path, step=2)  # as of a run that goes on
    assert judge(state) == -1.0
    rows = (tmp_path / "validation.csv").read_text().split()
    assert rows[:2] == ["step,minutes,agreement,cells", "0,0.0,1.0,12"]
    assert rows[-1] == "3,0.0,0.4,3" and len(rows) == 5


def test_nothing_found_before_and_after_is_the_same(folder, state, tmp_path):
    judge = Agreement(catalog.unlabelled(folder), tmp_path)
    assert judge(state) == 0
    state.step = 1
    assert judge(state) == 1


def test_cells_where_none_were_found_before_are_no_agreement():
    labels = np.zeros((50, 50), np.int32)
    labels[20:30, 20:30] = 1
    assert agreement.agreement(labels * 0, labels) == agreement.agreement(labels, labels * 0) == 0


class Looking(Segmenter):
    """Keeps what it was given to find cells in."""

    def find_in(self, view, progress=None):
        self.seen, self.none = view.window(Window(0, 0, *view.shape[::-1]))
        return Found(Cells.empty(8), [], 1.0)


def test_the_middle_of_an_image_is_converted_as_the_whole_image_is():
    """Not once more, by what the middle alone would have: it has not the range of the whole."""
    image = np.full((1000, 900), 800, np.uint16)
    image[:300], image[400:600, 400:600], image[180:500, 130:300] = 40000, 900, 0
    segmenter = Looking(CPN(TINY))
    labels = agreement.labels_in_middle(segmenter, Loaded(image, [], None, 0))
    place = agreement.middle(image.shape)
    pixels, none = segmenter.view(image, 0).window(place)
    np.testing.assert_array_equal(segmenter.seen, pixels)
    np.testing.assert_array_equal(segmenter.none, none)
    assert none.any() and labels.shape == (640, 640)


def test_the_middle_of_an_image_is_looked_at():
    assert agreement.middle((100, 50)) == Window(0, 0, 50, 100)
    assert agreement.middle((641, 2000)) == Window(680, 0, 1320, 640)
