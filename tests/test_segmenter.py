"""One image to Cells: the order of sides, windows, odd sizes, and the same answer every way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY

from app import images, segmenter
from app.network import device
from app.network.cpn import CPN, Proposals
from app.rasterize import rasterize
from app.segmenter import Segmenter, to_cells
from evaluate.matching import score_pair

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "compact.safetensors"


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(device, "cpu_has_bfloat16", lambda: False)
    torch.manual_seed(0)
    return Segmenter(CPN(replace(TINY, window=64, window_stride=32, score_threshold=0.45)), "cpu")


@pytest.fixture(scope="module")
def shipped():
    return Segmenter.load(WEIGHTS, "cpu")


def labels_of(found, image):
    cells, _ = found.segment(image)
    return rasterize(cells, image.shape[:2])[0]


def test_cells_have_the_uncertainties_top_right_bottom_left():
    """The network's order is left, top, right, bottom: only here it changes."""
    contours = torch.zeros(1, 4, 2)
    sides = torch.tensor([[0.1, 0.2, 0.3, 0.4]])  # left, top, right, bottom
    proposals = Proposals(
        torch.zeros(1), contours, contours, sides, torch.ones(1), sides, contours, contours
    )
    cells = to_cells(proposals)
    assert np.allclose(cells.uncertainties, [[0.2, 0.3, 0.4, 0.1]])
    assert np.allclose(cells.boxes, [[0.1, 0.2, 0.3, 0.4]])


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (1, 5000), (65, 63), (130, 70, 4)])
def test_images_of_any_shape_give_cells_inside_them(tiny, shape):
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint16)
    cells, _ = tiny.segment(image)
    height, width = shape[:2]
    assert (cells.contours >= 0).all()
    assert (cells.contours[..., 0] <= width - 1).all()
    assert (cells.contours[..., 1] <= height - 1).all()
    assert ((cells.scores > 0.45) & (cells.scores <= 1)).all()


def test_windows_in_a_batch_are_windows_alone(tiny):
    crops = np.random.default_rng(1).integers(0, 255, (3, 64, 64, 3)).astype(np.uint8)
    together = tiny.detect(crops)
    assert sum(map(len, together)) > 0
    for crop, cells in zip(crops, together):
        (alone,) = tiny.detect(crop[None])
        assert len(alone) == len(cells)
        assert np.allclose(alone.boxes, cells.boxes, atol=1e-2)
        assert np.allclose(alone.scores, cells.scores, atol=1e-4)


def test_chunks_of_proposals_change_nothing(tiny, monkeypatch):
    crop = np.random.default_rng(2).integers(0, 255, (1, 64, 64, 3)).astype(np.uint8)
    (whole,) = tiny.detect(crop)
    monkeypatch.setattr(segmenter, "CHUNK", 7)
    (parts,) = tiny.detect(crop)
    assert len(whole) > 7
    assert np.allclose(whole.contours, parts.contours, atol=1e-4)


def test_progress_counts_every_window(tiny):
    seen = []
    tiny.segment(np.zeros((128, 64), np.uint8), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_images_without_contrast_have_no_cells(shipped):
    for image in (np.zeros((200, 300), np.uint8), np.full((64, 64), 7, np.uint16)):
        cells, notes = shipped.segment(image)
        assert len(cells) == 0
        assert notes == []


def test_half_precision_gives_the_same_cells(shipped, data, monkeypatch):
    """Decision 8: F1 of the labels with and without mixed precision at least 0.98."""
    if not device.cpu_has_bfloat16():
        pytest.skip("this processor does not compute in bfloat16")
    image, _ = images.read(data / "tnbc" / "01_1.jpg")
    mixed = labels_of(shipped, image)
    monkeypatch.setattr(device, "cpu_has_bfloat16", lambda: False)
    assert mixed.max() > 20
    assert score_pair(labels_of(shipped, image), mixed).f1 >= 0.98


def test_a_cell_across_window_edges_comes_out_once_and_whole(shipped, data):
    """The same image with a seam through its middle and without: the same cells."""
    image, _ = images.read(data / "tnbc" / "01_1.jpg")
    config = shipped.network.config
    whole = labels_of(shipped, image)
    shipped.network.config = replace(config, window=384, window_stride=256)
    try:
        in_windows = labels_of(shipped, image)
    finally:
        shipped.network.config = config
    assert score_pair(whole, in_windows).f1 >= 0.93
    assert abs(int(whole.max()) - int(in_windows.max())) <= 0.05 * whole.max()
