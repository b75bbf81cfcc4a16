"""Drawn images in which not all cells count: what an example of training starts from."""

import numpy as np
import tifffile

from app.images import read_labels
from experiments import __main__ as command
from experiments import marked


def test_labelled_are_the_cells_with_a_spot_alone():
    image, labels = marked.drawn(np.random.default_rng(0))
    assert image.shape == (marked.SIDE, marked.SIDE, 3) and image.dtype == np.uint8
    green = image[..., 1] > 60
    counted = np.unique(labels[labels > 0])
    assert 3 < len(counted) < marked.CELLS
    for label in counted:
        assert (image[..., 0][labels == label] > 100).any()
    assert (image[..., 0][labels == 0] > 100).mean() < 0.001
    assert green.sum() > 1.5 * np.count_nonzero(labels), "others look alike"


def test_the_folders_hold_images_and_their_truth(tmp_path, capsys):
    folder = tmp_path / "X"
    assert command.main(["marked", str(folder), "--count", "2"]) == 0
    assert {path.name for path in folder.iterdir()} == {"marked_00.tif", "marked_01.tif"}
    for number in range(2):
        truth = read_labels(tmp_path / "X-truth" / f"marked_{number:02}_label.tiff")
        expected = marked.drawn(np.random.default_rng(number))
        assert (tifffile.imread(str(folder / f"marked_{number:02}.tif")) == expected[0]).all()
        assert (truth == expected[1]).all()
    assert command.main(["marked", str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err
