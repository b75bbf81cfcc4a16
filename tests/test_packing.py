"""What a pack keeps of the images of a split, and when it is made."""

import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from drawn import drawn, save
from scipy import ndimage
from training_data import COLUMNS, make_data, write_catalogue

from app.intensity import CONVERSIONS, to_rgb8
from training import catalog, packing

DRAW = np.random.default_rng(0)
PAPER = {"conversion": "paper"}
CELLS = drawn((40, 60), (2, 3, 12, 14), (20, 5, 36, 41))  # 10 x 11 and 16 x 36 pixels
PICTURES = {
    "grey.tif": (DRAW.random((40, 60)) ** 6 * 255).astype(np.uint8),
    "rgb.tif": DRAW.integers(0, 255, (40, 60, 3)).astype(np.uint8),
    "alike.tif": np.repeat(DRAW.integers(0, 255, (40, 60, 1)), 3, axis=2).astype(np.uint8),
    "wide.tif": (DRAW.random((40, 60)) ** 3 * 60000).astype(np.uint16),
    "float.tif": DRAW.random((40, 60)).astype(np.float32),
}


def write_images(folder, names=tuple(PICTURES), columns=(), values=()):
    """A data folder with PICTURES of these names, all of the split `train`."""
    rows = [("drawn", name, "label.png", "train", *values) for name in names]
    write_catalogue(folder, rows, (*COLUMNS, *columns))
    (folder / "drawn").mkdir()
    save(folder / "drawn" / "label.png", CELLS)
    for name in names:
        save(folder / "drawn" / name, PICTURES[name])
    return folder


def test_a_pack_holds_every_pixel_and_object(tmp_path):
    listing = catalog.entries(make_data(tmp_path / "data"), "train")
    pack = packing.pack(listing, tmp_path / "pack")
    for number, entry in enumerate(listing):
        image = cv2.imread(str(entry.image), cv2.IMREAD_UNCHANGED)
        label = cv2.imread(str(entry.label), cv2.IMREAD_UNCHANGED).astype(int)
        size = int(pack.heights[number] * pack.widths[number])
        start = int(pack.starts[number])
        objects = pack.objects[start : start + size].reshape(label.shape).numpy()
        for row in range(pack.counts[number]):
            values = np.unique(label[objects == row])
            assert len(values) == 1
            assert ((label == values[0]) == (objects == row)).all()
        assert ((objects == -1) == (label == 0)).all()
        for plane in (pack.red, pack.green, pack.blue):
            assert plane[start : start + size].numel() == image.size


def test_fragmented_and_tiny_objects_are_ignored():
    label = np.zeros((30, 40), np.int32)
    label[2:8, 2:8] = 7
    label[10:14, 2:6] = label[20:24, 20:24] = 9  # two pieces
    label[28, 30:33] = 4  # three pixels
    owner, depth, outlines = packing.describe_objects(label)
    assert len(outlines) == 1
    assert (owner[label == 7] == 0).all()
    assert (owner[label == 9] == -2).all()
    assert (owner[label == 4] == -2).all()
    assert (owner[label == 0] == -1).all()
    assert depth[label == 7].max() == 255
    assert depth[owner < 0].max() == 0


def test_an_empty_label_image_can_be_packed():
    owner, depth, outlines = packing.describe_objects(np.zeros((5, 6), np.int32))
    assert (owner == -1).all()
    assert depth.max() == 0
    assert outlines.shape == (0, packing.POLYGON_POINTS, 2)


def levels_of(pack, number):
    """The stored levels (H, W, 3) int64 of an image of a pack."""
    height, width, start = (int(v[number]) for v in (pack.heights, pack.widths, pack.starts))
    planes = torch.stack([pack.red, pack.green, pack.blue], -1)
    return planes[start : start + height * width].reshape(height, width, 3).long()


@pytest.mark.parametrize("conversion", CONVERSIONS)
@pytest.mark.parametrize("given", [{}, {"percentile": 99.5, "gamma_floor": 0.4}], ids=str)
def test_any_mix_of_the_conversions_is_read_from_a_pack(tmp_path, given, conversion):
    """With the mix of prediction, it is what prediction sees, within 2 levels of 255."""
    folder = write_images(tmp_path / "data", columns=given.keys(), values=given.values())
    pack = packing.pack(catalog.entries(folder, "train"), tmp_path / "pack", conversion)
    for number, image in enumerate(PICTURES.values()):
        curve = CONVERSIONS[conversion](image, **given)
        assert tuple(pack.mixes[number].tolist()) == curve.mixes
        levels, expected = levels_of(pack, number), to_rgb8(image, curve)
        for channel, (mix, (a, b)) in enumerate(zip(curve.mixes, pack.curves[number])):
            found = (mix * a + (1 - mix) * b)[levels[..., channel]].numpy() * 255
            assert np.abs(found - expected[..., channel]).max() <= 2


def test_the_largest_gap_is_the_middle_of_the_largest_square_without_objects():
    owner = np.full((60, 90), -1, np.int32)
    owner[:, 30:34] = 0
    owner[20:30, 85:] = -2
    x, y, radius = packing.largest_gap(owner)
    assert radius == 26  # from column 34 to 84: 51 pixels
    assert (x, y) == (59, 25) or 25 <= y <= 34
    assert packing.largest_gap(np.zeros((5, 5), np.int32))[2] == 0


def test_grey_images_are_those_whose_channels_are_alike(tmp_path):
    listing = catalog.entries(write_images(tmp_path / "data"), "train")
    pack = packing.pack(listing, tmp_path / "pack")
    assert dict(zip(PICTURES, pack.grey.tolist())) == {
        "grey.tif": True,
        "rgb.tif": False,
        "alike.tif": True,
        "wide.tif": True,
        "float.tif": True,
    }


def test_objects_with_a_longer_side_than_the_largest_are_ignored(tmp_path):
    folder = write_images(tmp_path / "data", ["grey.tif"], ["largest"], [35])
    pack = packing.pack(catalog.entries(folder, "train"), tmp_path / "pack")
    owner = pack.objects.reshape(CELLS.shape).numpy()
    assert (owner[CELLS == 1] == 0).all()
    assert (owner[CELLS == 2] == -2).all()
    assert pack.counts.tolist() == [1]
    owner, _, outlines = packing.describe_objects(CELLS, largest=36)
    assert len(outlines) == 2
    assert owner.min() == -1


def test_sizes_of_an_image_are_its_smallest_typical_and_largest_object(tmp_path):
    folder = write_images(tmp_path / "data", ["grey.tif", "rgb.tif"])
    listing = catalog.entries(folder, "train")
    pack = packing.pack([listing[0], replace(listing[1], label=None)], tmp_path / "pack")
    least, most = packing.size_range(pack)
    assert least.tolist() == pytest.approx([110**0.5, packing.UNKNOWN_SIZE])
    assert most.tolist() == pytest.approx([576**0.5, packing.UNKNOWN_SIZE])
    typical = packing.typical_sizes(pack)
    assert (least <= typical).all()
    assert (typical <= most).all()


def test_a_pixel_takes_six_bytes_and_three_without_labels(tmp_path):
    listing = catalog.entries(write_images(tmp_path / "data"), "train")
    for name, label, expected in (("labelled", listing[0].label, 6), ("unlabelled", None, 3)):
        pack = packing.pack([replace(entry, label=label) for entry in listing], tmp_path / name)
        files = (packing.file_of(tmp_path / name, buffer) for buffer in packing.PIXELS)
        assert sum(file.stat().st_size for file in files) == expected * CELLS.size * len(listing)
    assert len(pack.polygons) == 0
    assert pack.counts.tolist() == [0] * len(listing)


def test_an_image_may_have_more_objects_than_16_bits_number(tmp_path, monkeypatch):
    count = CELLS.size
    many = np.arange(count, dtype=np.int32).reshape(CELLS.shape) * 20
    polygons = torch.zeros(1, 1, 1).expand(20 * count, packing.POLYGON_POINTS, 2)
    described = many, np.ones(CELLS.shape, np.uint8), polygons
    listing = catalog.entries(write_images(tmp_path / "data", ["grey.tif", "rgb.tif"]), "train")
    few = packing.pack(listing, tmp_path / "few")
    monkeypatch.setattr(packing, "read_objects", lambda entry, shape: described)
    pack = packing.pack(listing, tmp_path / "many")
    assert few.objects.dtype == torch.int16
    assert pack.objects.dtype == torch.int32
    assert torch.equal(pack.objects.view(2, *CELLS.shape)[1], torch.from_numpy(many))
    assert pack.first.tolist() == [0, 20 * count]


def test_memory_does_not_grow_with_the_images(tmp_path):
    listing = catalog.entries(make_data(tmp_path / "data", count=1, side=400), "train")
    packing.pack(listing, tmp_path / "pack")  # what is imported or kept for good
    peaks = []
    for times in (2, 12):
        tracemalloc.start()
        packing.pack(listing * times, tmp_path / "pack")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_pixels_move_to_a_device_whose_free_memory_holds_them(tmp_path, monkeypatch):
    listing = catalog.entries(write_images(tmp_path / "data"), "train")
    pack = packing.pack(listing, tmp_path / "pack")
    needed = 6 * pack.red.numel() / packing.GPU_SHARE
    for free, kind in ((needed, "meta"), (needed - 1, "cpu")):
        monkeypatch.setattr(packing, "free_memory", lambda device, free=free: free)
        moved = pack.to(torch.device("meta"))
        assert {getattr(moved, name).device.type for name in packing.PIXELS} == {kind}
        assert {getattr(moved, name).device.type for name in packing.INDEX} == {"meta"}


def test_an_interrupted_pack_is_made_anew(tmp_path):
    listing = catalog.entries(write_images(tmp_path / "data"), "train")
    folder, content = tmp_path / "pack", listing[2].image.read_bytes()
    packing.load_pack(listing[:2], folder, begins=True, **PAPER)
    listing[2].image.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=listing[2].image.name):
        packing.load_pack(listing, folder, begins=True, **PAPER)
    assert not (folder / "complete").exists()
    listing[2].image.write_bytes(content)
    pack = packing.load_pack(listing, folder, begins=False, **PAPER)
    assert len(pack.starts) == len(listing)
    assert len(pack.red) == CELLS.size * len(listing)


def test_a_pack_is_made_once(tmp_path, monkeypatch):
    listing = catalog.entries(write_images(tmp_path / "data"), "train")
    packing.load_pack(listing, tmp_path / "pack", begins=True, **PAPER)
    monkeypatch.setattr(packing, "write", None)
    packing.load_pack(listing, tmp_path / "pack", begins=False, **PAPER)


def test_a_run_goes_on_with_a_new_pack_where_its_own_has_an_older_format(tmp_path):
    listing, folder = catalog.entries(write_images(tmp_path / "data"), "train"), tmp_path / "pack"
    folder.mkdir()
    (folder / "colours.npy").touch()
    (folder / "complete").write_text(packing.fingerprint(listing))
    assert len(packing.load_pack(listing, folder, begins=False, **PAPER).starts) == len(listing)
    assert not (folder / "colours.npy").exists()


def test_depths_are_exact_so_that_they_are_the_same_in_every_run():
    y, x = np.mgrid[:70, :90]
    for a, b in DRAW.uniform((5, 5), (40, 30), (300, 2)):
        patch = ((x - 44) / a) ** 2 + ((y - 34) / b) ** 2 < 1
        distance = ndimage.distance_transform_edt(np.pad(patch, 1))[1:-1, 1:-1].astype(np.float32)
        expected = np.ceil(distance / distance.max() * 255)
        assert (packing.relative_depth(patch) == expected).all()


def test_a_file_that_cannot_be_packed_is_named(tmp_path):
    folder = write_images(tmp_path / "data", ["grey.tif"])
    listing = catalog.entries(folder, "train")
    save(listing[0].label, CELLS[1:])
    with pytest.raises(ValueError, match=r"label.png has shape \(39, 60\)"):
        packing.pack(listing, tmp_path / "pack")
    listing[0].image.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="grey.tif: "):
        packing.pack(listing, tmp_path / "pack")


def test_values_below_zero_are_background():
    label = np.full((20, 20), -1, np.int64)
    label[2:9, 2:9] = 3
    label[11:18, 4:12] = 2**31 + 5
    owner, _, outlines = packing.describe_objects(label)
    assert len(outlines) == 2
    assert (owner[label < 0] == -1).all()
