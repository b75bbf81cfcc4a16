"""Labels in pieces far apart: what is remarked, and what is not."""

import numpy as np
import pytest
from drawn import drawn
from scipy import ndimage

from evaluate import matching
from evaluate.pieces import remarks, scattered


def slow_scattered(labels):
    """Label by label: the pieces' boxes against that of the longest."""
    found = []
    for label in np.unique(labels[labels > 0]):
        pieces, _ = ndimage.label(labels == label, np.ones((3, 3)))
        boxes = ndimage.find_objects(pieces)
        sides = [max(part.stop - part.start for part in box) for box in boxes]
        longest = {box for box, side in zip(map(str, boxes), sides) if side == max(sides)}
        main = next(box for box in boxes if str(box) in longest)
        gaps = [
            max(max(a.start - b.stop, b.start - a.stop) for a, b in zip(main, box)) for box in boxes
        ]
        if max(gaps) > max(sides):
            found.append(label)
    return found


@pytest.mark.parametrize("band", [1, 60, matching.BAND])
def test_random_pieces_agree_with_a_slow_search(band, monkeypatch):
    monkeypatch.setattr(matching, "BAND", band)
    rng = np.random.default_rng(1)
    remarked = 0
    for _ in range(40):
        labels = np.zeros(rng.integers(1, 40, 2), np.uint16)
        for _ in range(12):
            top, left = (rng.integers(0, side) for side in labels.shape)
            height, width = rng.integers(1, 8, 2)
            labels[top : top + height, left : left + width] = rng.integers(0, 8)
        # Where a label has two longest pieces, either may be the one to measure from.
        found, expected = scattered(labels).tolist(), slow_scattered(labels)
        assert set(found) ^ set(expected) <= set(with_ties(labels))
        remarked += len(found)
    assert remarked > 20


def with_ties(labels):
    for label in np.unique(labels[labels > 0]):
        boxes = ndimage.find_objects(ndimage.label(labels == label, np.ones((3, 3)))[0])
        sides = sorted(max(part.stop - part.start for part in box) for box in boxes)
        if len(sides) > 2 and sides[-1] == sides[-2]:
            yield label


def test_pieces_as_far_apart_as_the_larger_is_long_are_one_cell():
    labels = drawn((40, 40), (2, 2, 8, 12))  # 10 long
    labels[3, 22] = 1
    assert scattered(labels).tolist() == []
    labels[3, 22:24] = 0, 1
    assert scattered(labels).tolist() == [1]


def test_a_diagonal_a_spiral_and_a_ring_are_one_piece():
    diagonal = np.eye(300, dtype=np.uint8)
    assert scattered(diagonal).tolist() == []
    assert scattered(diagonal[::-1]).tolist() == []
    ring = drawn((50, 50), (5, 5, 45, 45))
    ring[7:43, 7:43] = 0
    assert scattered(ring).tolist() == []
    comb = np.zeros((9, 101), np.uint8)  # its teeth meet only in the last row
    comb[:, ::2] = comb[-1] = 1
    assert scattered(comb).tolist() == []


def test_pieces_do_not_join_across_the_sides_of_the_image():
    labels = np.zeros((3, 30), np.uint8)
    labels[0, -1] = labels[1, 0] = 1
    assert scattered(labels).tolist() == [1]


def test_ids_used_again_in_the_next_tile_are_remarked():
    tile = drawn((200, 200), (10, 10, 30, 30), (100, 100, 120, 130))
    assert scattered(np.tile(tile, (2, 2))).tolist() == [1, 2]
    assert remarks("truth", tile) == []
    (sentence,) = remarks("prediction", np.tile(tile, (1, 2)))
    assert sentence.startswith("prediction: labels 1, 2 in pieces far apart")
    many = np.repeat(np.arange(1, 9), 3)[None].repeat(3, axis=0)
    (sentence,) = remarks("truth", np.tile(many, (1, 2)))
    assert "labels 1, 2, 3, 4, 5 and 3 more in pieces" in sentence


def test_an_empty_image_has_no_pieces():
    assert scattered(np.zeros((7, 5), np.uint16)).tolist() == []
