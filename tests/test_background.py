"""Windows of background alone are told, and none that shows a cell is."""

import numpy as np

from app import images
from app.background import is_background
from app.intensity import Curves
from app.scale import View
from app.windows import Window
from training import catalog

SIDE = 96
NONE = np.zeros((64, 64), bool)


def test_glass_black_and_what_is_no_image_show_nothing():
    rng = np.random.default_rng(0)
    for level in (0, 128, 250):
        glass = np.full((64, 64, 3), level, np.uint8)
        assert is_background(glass, NONE)
        noisy = (glass + rng.integers(0, 6, glass.shape)).clip(0, 255).astype(np.uint8)
        assert is_background(noisy, NONE)
    picture = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    assert is_background(picture, ~NONE) and not is_background(picture, NONE)


def test_the_faintest_nucleus_shows():
    """3 standard deviations of the noise above it, as app.intensity stretches a channel."""
    image = np.full((64, 64, 3), 40, np.uint8)
    y, x = np.mgrid[:64, :64] - 30
    image[np.hypot(x, y) < 4, 1] += round(3 * 255 / 20)
    assert not is_background(image, NONE)


def test_no_window_of_real_cells_is_taken_for_background(data):
    """Of every other validation image; windows far smaller than those of prediction. (A cell
    that a window cuts is another's.)"""
    passed_over = 0
    for entry in list(catalog.entries(data, "val"))[::2]:
        image, truth = images.read(entry.image)[0], images.read_labels(entry.label)
        curves = Curves.fit(image)
        view = View(image, curves, curves.no_image)
        for top in range(0, image.shape[0] - SIDE, SIDE):
            for left in range(0, image.shape[1] - SIDE, SIDE):
                if is_background(*view.window(Window(left, top, left + SIDE, top + SIDE))):
                    passed_over += 1
                    seen = truth[top : top + SIDE, left : left + SIDE]
                    cut = np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]])
                    assert set(np.unique(seen)) <= {0, *cut.tolist()}, entry.image
    assert passed_over > 10
