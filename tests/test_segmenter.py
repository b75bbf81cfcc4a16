"""One image to Cells: the order of sides, windows, odd sizes, and the same answer every way."""

import warnings
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from drawn import cells_of, drawn
from tiny import tiny_config

from app import files, images, segmenter
from app.cells import Cells
from app.network import device
from app.network.cpn import CPN, Proposals
from app.rasterize import rasterize
from app.segmenter import FLIPS, Segmenter, place, to_cells
from app.sizes import UnknownPixelSize, diameters
from app.windows import Window
from evaluate.official import score_pair

CPU_HAS_BFLOAT16 = device.cpu_has_bfloat16()
WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "compact.safetensors"


def random_network(seed=0, **fields):
    """A tiny network of random weights, which finds cells everywhere."""
    torch.manual_seed(seed)
    wanted = {"window": 64, "window_stride": 32, "score_threshold": 0.45, **fields}
    return CPN(tiny_config(**wanted)).eval()


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """The same precision on all processors, but where a test says otherwise."""
    monkeypatch.setattr(device, "cpu_has_bfloat16", lambda: False)


@pytest.fixture
def tiny():
    return Segmenter(random_network(), "cpu")


@pytest.fixture
def noise():
    return np.random.default_rng(4).integers(0, 255, (130, 90, 3)).astype(np.uint8)


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
    proposals = Proposals(contours, contours, sides, torch.ones(1), sides, contours, contours)
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
    seen, tiny.scale = [], 1.0
    tiny.segment(np.zeros((200, 64), np.uint8), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_images_without_contrast_have_no_cells(shipped):
    for image in (np.zeros((200, 300), np.uint8), np.full((64, 64), 7, np.uint16)):
        cells, notes = shipped.segment(image)
        assert len(cells) == 0
        assert notes == []


@pytest.mark.skipif(not CPU_HAS_BFLOAT16, reason="this processor has no bfloat16")
def test_half_precision_gives_the_same_cells(shipped, data, monkeypatch):
    """Decision 8: F1 of the labels with and without mixed precision at least 0.98."""
    image, _ = images.read(data / "tnbc" / "01_1.jpg")
    whole = labels_of(shipped, image)
    monkeypatch.setattr(device, "cpu_has_bfloat16", lambda: True)
    mixed = labels_of(shipped, image)
    assert mixed.max() > 20
    assert not np.array_equal(whole, mixed)
    assert score_pair(whole, mixed).f1 >= 0.98


def test_a_cell_across_window_edges_comes_out_once_and_whole(shipped, data):
    """The same image with a seam through its middle and without: the same cells."""
    image, _ = images.read(data / "tnbc" / "01_1.jpg")
    config = shipped.network.config
    whole = labels_of(shipped, image)
    shipped.network.config = config.with_inference(window=384, window_stride=256)
    try:
        in_windows = labels_of(shipped, image)
    finally:
        shipped.network.config = config
    assert score_pair(whole, in_windows).f1 >= 0.93
    assert abs(int(whole.max()) - int(in_windows.max())) <= 0.05 * whole.max()


# Switches and ensembles


def same(a, b):
    """Whether two Cells are equal in every number."""
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Cells))


def test_without_amp_it_is_float32_whatever_the_processor(noise, monkeypatch):
    network = random_network()
    expected, _ = Segmenter(network, "cpu").segment(noise)
    monkeypatch.setattr(device, "cpu_has_bfloat16", lambda: True)
    mixed, exact = Segmenter(network, "cpu"), Segmenter(network, "cpu", amp=False)
    assert (mixed.precision, exact.precision) == ("bfloat16", "float32")
    assert not same(mixed.segment(noise)[0], expected)
    assert same(exact.segment(noise)[0], expected)


def test_without_refinement_the_same_cells_have_their_coefficients_contours(noise):
    network = random_network()
    crop = noise[None, :64, :64]
    (refined,) = Segmenter(network, "cpu").detect(crop)
    (plain,) = Segmenter(network, "cpu", refinement=False).detect(crop)
    assert len(plain) > 20
    assert np.array_equal(plain.scores, refined.scores)
    assert np.array_equal(plain.uncertainties, refined.uncertainties)
    assert not np.isclose(plain.contours, refined.contours, atol=0.01).all()
    with torch.no_grad():
        maps = network(torch.from_numpy(crop.copy()).permute(0, 3, 1, 2).float() / 255)
        everywhere = (maps.score[:, 0] > -99).nonzero(as_tuple=True)
        decoded = network.propose(maps, everywhere, (64, 64)).contours.numpy()
    known = {contour.tobytes() for contour in decoded.round(2)}
    assert all(contour.tobytes() in known for contour in plain.contours.round(2))
    assert np.array_equal(plain.boxes[:, :2], plain.contours.min(axis=1))
    assert np.array_equal(plain.boxes[:, 2:], plain.contours.max(axis=1))


def test_without_uncertainty_the_score_alone_decides_who_wins():
    contours = np.array([[(2, 2), (20, 2), (20, 20), (2, 20)]] * 2, np.float32)
    contours[1] += 1
    boxes = np.concatenate([contours.min(axis=1), contours.max(axis=1)], axis=1)
    uncertainties = np.array([[0.6] * 4, [0.1] * 4], np.float32)
    cells = Cells(contours, boxes, np.array([0.9, 0.8], np.float32), uncertainties)
    for uncertainty_nms, winner in ((True, 1), (False, 0)):
        found = Segmenter(random_network(), "cpu", uncertainty_nms=uncertainty_nms)
        settled, _ = found.postprocess([(Window(0, 0, 40, 40), cells)], (40, 40))
        assert same(settled, cells.filter([winner]))


def test_what_is_left_out_before_the_refinement_is_all_but_the_same(tiny, noise):
    """And a higher threshold on what is left gives what the higher threshold itself leaves."""
    crop = noise[None, :64, :64]
    (few,) = tiny.detect(crop)
    config = tiny.network.config
    tiny.network.config = config.with_inference(thinning=None)  # as the paper has it
    (every,) = tiny.detect(crop)
    tiny.network.config = config
    assert 0 < len(few) < 0.7 * len(every)
    known = {contour.tobytes() for contour in every.contours}
    assert all(contour.tobytes() in known for contour in few.contours)
    threshold = float(np.median(few.scores))
    wanted = {"score_threshold": threshold / 0.8, "score_share": 0.8}
    tiny.network.config = tiny.network.config.with_inference(**wanted)
    assert same(tiny.detect(crop)[0], few.filter(few.scores > threshold))


def test_only_convincing_cells_are_left(tiny, noise):
    every, _ = tiny.segment(noise)
    tiny.network.config = tiny.network.config.with_inference(score_share=0.99)
    few, _ = tiny.segment(noise)
    assert 0 < len(few) < len(every)
    assert same(few, every.filter(tiny.convincing(every.scores, every.areas())))


def test_a_sure_cell_vouches_for_others_below_the_threshold(tiny):
    """Those that reach the share of its score; where none is sure there is no cell."""
    boxes = np.array([[4, 4, 24, 24], [30, 4, 50, 24], [4, 30, 24, 50]], np.float32)
    contours = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    wanted = {"score_threshold": 0.6, "score_share": 0.5}
    tiny.network.config = tiny.network.config.with_inference(**wanted)
    assert tiny.least_score(tiny.network) == 0.3
    for scores, count in (([0.9, 0.5, 0.4], 2), ([0.61, 0.5, 0.4], 3), ([0.59, 0.5, 0.4], 0)):
        cells = Cells(contours, boxes, np.array(scores, np.float32), np.zeros((3, 4), np.float32))
        found, _ = tiny.postprocess([(Window(0, 0, 64, 64), cells)], (64, 64))
        assert len(found) == count


def test_a_recovered_cell_that_does_not_convince_is_not_told_of(tiny):
    """A cell that a window cuts, beside a whole one of a higher score."""
    boxes = np.array([[4, 4, 24, 24], [30, 30, 63, 50]], np.float32)
    contours = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    scores = np.array([0.9, 0.5], np.float32)
    cells = Cells(contours, boxes, scores, np.zeros((2, 4), np.float32))
    parts = [(Window(0, 0, 64, 64), cells), (Window(48, 0, 112, 64), cells.filter([]))]
    for share, count in ((0.0, 2), (0.8, 1)):
        tiny.network.config = tiny.network.config.with_inference(score_share=share)
        found, notes = tiny.postprocess(parts, (64, 112))
        assert (len(found), len(notes)) == (count, count - 1)


def test_a_network_twice_is_the_same_network(noise):
    network = random_network()
    once, _ = Segmenter(network, "cpu").segment(noise)
    twice, _ = Segmenter([network, network], "cpu").segment(noise)
    assert len(once) > 5
    assert same(once, twice)


def test_an_ensemble_pools_what_unlike_networks_find(noise):
    """Contour points and windows are the first one's, score thresholds each network's own."""
    first = random_network(0, score_share=0.0)
    second = random_network(1, samples=24, order=5, grid_stride=4)
    crop = noise[None, :64, :64]
    (alone,) = Segmenter(first, "cpu").detect(crop)
    (other,) = Segmenter(second, "cpu").detect(crop)
    threshold = float(np.median(other.scores))
    second.config = second.config.with_inference(score_threshold=threshold, window=32)
    both = Segmenter([first, second], "cpu")
    (pooled,) = both.detect(crop)
    assert same(pooled.filter(np.arange(len(alone))), alone)
    added = pooled.filter(np.arange(len(alone), len(pooled)))
    assert len(added) and added.scores.min() > threshold > alone.scores.min()
    assert added.contours.shape[1:] == alone.contours.shape[1:] == (16, 2)
    assert not same(both.segment(noise)[0], Segmenter(first, "cpu").segment(noise)[0])


# A GPU that does not work


@pytest.fixture
def new_gpu(monkeypatch):
    """A GPU that torch finds but has no kernels for."""

    def fail(*shape, device):
        raise RuntimeError("CUDA error: no kernel image is available.\nCUDA kernel errors might")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Newest")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (12, 0))
    monkeypatch.setattr(torch, "ones", fail)


def test_a_gpu_that_torch_cannot_drive_is_passed_over_in_one_sentence_or_refused(new_gpu):
    told = (
        r"the GPU Newest \(compute capability 12.0\) .* \(CUDA error: no kernel image is "
        r"available\); .*--build-arg BASE_IMAGE=pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime"
    )
    with pytest.warns(device.DeviceWarning, match=f"^The CPU is used: {told}.*[.]$") as warned:
        assert device.pick_device("auto") == torch.device("cpu")
    assert len(warned) == 1 and "\n" not in str(warned[0].message)
    with pytest.raises(ValueError, match=f"^The device cuda cannot be used: {told}"):
        device.pick_device("cuda")
    assert device.pick_device("cpu") == torch.device("cpu")


def test_a_driver_that_is_too_old_is_said_and_no_gpu_is_no_matter(monkeypatch, recwarn):
    def available():
        warnings.warn("CUDA initialization: The driver is too old.\nPlease update", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.pick_device("auto") == torch.device("cpu")
    assert not recwarn
    monkeypatch.setattr(torch.cuda, "is_available", available)
    assert device.pick_device("auto") == torch.device("cpu")
    (warning,) = recwarn
    assert str(warning.message) == "The CPU is used: CUDA initialization: The driver is too old."


# A GPU whose memory is full


class Cramped(CPN):
    """On a device of small memory: as much as `room` values of images fits."""

    def forward(self, images):
        if images.numel() > self.room:
            raise self.error
        return super().forward(images)

    def to(self, *arguments, **options):
        if torch.device("cpu") in arguments:  # the real one: the other is called cpu:0 here
            self.room = np.inf
        return super().to(*arguments, **options)


FULL = [RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 3.00 GiB in all)")]
if hasattr(torch.cuda, "OutOfMemoryError"):
    FULL.append(torch.cuda.OutOfMemoryError("of another wording"))


@pytest.fixture
def cramped(monkeypatch):
    """Makes a Segmenter of four 64 x 64 windows at a time where only so many values have room."""
    monkeypatch.setattr(segmenter, "pick_device", lambda name: torch.device("cpu:0"))
    monkeypatch.setattr(segmenter, "LEAST_WINDOW", 32)

    def make(room, error=FULL[0]):
        network = random_network()
        network.__class__ = Cramped
        network.room, network.error = room, error
        found = Segmenter(network)
        found.batch = 4
        return found

    return make


WINDOW = 3 * 90 * 81  # values: the noise of 90 x 130 is in two windows of this size


@pytest.mark.parametrize("error", FULL)
def test_full_memory_halves_the_batch_and_the_cells_are_the_same(cramped, tiny, noise, error):
    found = cramped(WINDOW, error)
    config = found.network.config
    cells, notes = found.segment(noise)
    expected, remarks = tiny.segment(noise)
    assert "2 at a time" in notes[0] and "1 at a time" in notes[1] and notes[2:] == remarks
    assert len(cells) == len(expected)
    assert np.allclose(cells.boxes, expected.boxes, atol=0.01)
    assert found.segment(noise)[1] == remarks  # said once
    assert found.network.config == config


def test_then_the_windows_are_halved_and_then_the_cpu_is_used(tiny, cramped, noise):
    small = cramped(WINDOW // 2)
    cells, notes = small.segment(noise)
    assert "2 at a time" in notes[0] and "1 at a time" in notes[1] and "32 pixels" in notes[2]
    assert len(cells) and small.device == torch.device("cpu:0")
    none = cramped(0)
    cells, notes = none.segment(noise)
    expected, remarks = tiny.segment(noise)
    assert "the CPU is used" in notes[3] and notes[4:] == remarks
    assert none.device == torch.device("cpu")
    assert same(cells, expected)


def test_where_even_what_seemed_to_fit_does_not_it_goes_on_as_the_settings_have_it(cramped, noise):
    found = cramped(WINDOW)
    found.batch, found._room = 1, WINDOW
    cells, notes = found.segment(noise)
    assert len(cells) and "1 at a time" in notes[0] and "the CPU" not in " ".join(notes)


def test_other_errors_are_not_taken_for_full_memory(cramped, noise):
    with pytest.raises(RuntimeError, match="an illegal memory access"):
        cramped(0, RuntimeError("CUDA error: an illegal memory access")).segment(noise)


def test_proposals_that_are_no_numbers_are_left_out_and_the_others_are_found(tiny, noise):
    """In half precision a wild prediction overflows; it must not cost the image."""
    crop = noise[None, :64, :64]
    (expected,) = tiny.detect(crop)
    forward = tiny.network.forward

    def wild(images):
        maps = forward(images)
        maps.fourier[:, 0, :4] = float("nan")
        maps.location[:, :, 4] = float("inf")
        maps.uncertainty[:, :, 5] = float("nan")
        return maps

    tiny.network.forward = wild
    for thinning in (0.7, None):
        tiny.network.config = tiny.network.config.with_inference(thinning=thinning)
        (found,) = tiny.detect(crop)
        assert found.finite().all() and len(found) > 0
        cells, _ = tiny.segment(noise)
        assert cells.finite().all() and len(cells)
    assert expected.finite().all()


def test_the_displacement_field_is_made_once_a_window_and_not_without_refinement(
    tiny, noise, monkeypatch
):
    made = []
    displacements = CPN.displacements
    monkeypatch.setattr(
        CPN, "displacements", lambda *given: made.append(1) or displacements(*given)
    )
    monkeypatch.setattr(segmenter, "CHUNK", 16)
    tiny.detect(noise[None, :64, :64])
    assert len(made) == 1
    tiny.refinement = False
    assert len(tiny.detect(noise[None, :64, :64])[0]) > 16
    assert len(made) == 1


def test_settings_of_the_paper_change_what_they_name(noise):
    """Absolute certainty, exact windows and dropped fragments, each alone, through `segment`."""
    base = Segmenter(random_network(window=32, window_stride=24), "cpu")
    config = base.network.config
    expected, _ = base.segment(noise)
    for change in ({"certainty": "absolute"}, {"window_plan": "exact"}, {"recovery": False}):
        base.network.config = config.with_inference(**change)
        cells, notes = base.segment(noise)
        assert len(cells) and not same(cells, expected), change
        assert not notes or "recovery" not in change


def test_without_amp_a_gpu_computes_in_float32_not_in_tf32(monkeypatch):
    asked = {}

    def flags(**given):
        asked.update(given)
        return warnings.catch_warnings()

    monkeypatch.setattr(torch.backends.cudnn, "flags", flags)
    with device.computing(torch.device("cuda"), amp=False):
        pass
    assert asked == {"enabled": True, "allow_tf32": False}


@pytest.mark.parametrize(("free", "at_once"), [(3.5, 1), (8, 4), (10**6, 16)])
def test_a_gpu_does_as_many_windows_at_a_time_as_half_of_its_free_memory_has_room_for(
    monkeypatch, free, at_once
):
    """As the first one tells, which takes 100 bytes here; torch keeps 50 free ones for itself."""
    figures = {
        "reset_peak_memory_stats": None,
        "memory_allocated": 1000,
        "max_memory_allocated": 1100,
        "memory_reserved": 1050,
        "mem_get_info": (free * 100 - 50, 10**9),
    }
    for name, value in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value, raising=False)
    settings = {"window": 32, "window_stride": 16, "window_plan": "exact", "batch": 1}
    found, sizes = Segmenter(random_network(**settings), "cpu", scale=1.0), []
    found.network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    image = np.random.default_rng(5).integers(0, 255, (100, 160, 3)).astype(np.uint8)
    alone, _ = found.segment(image)
    assert set(sizes) == {1} and len(sizes) == 6 * 9
    sizes.clear()
    found._room = None  # as on a GPU
    cells, _ = found.segment(image)
    assert sizes[0] == 1 and max(sizes[1:]) == at_once and sum(sizes) == 6 * 9
    assert len(cells) == len(alone) > 0


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), None), ((8, 0), torch.bfloat16)])
def test_training_takes_no_emulated_bfloat16(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)  # as torch counts
    assert device.reduced_precision(torch.device("cuda"), training=True) == dtype


def test_windows_go_through_the_network_a_batch_at_a_time():
    """Paper: four (reference.md, section 3). The cells are the same."""
    found = {}
    image = np.random.default_rng(5).integers(0, 255, (100, 64, 3)).astype(np.uint8)
    for batch in (1, 4):
        settings = {"window": 32, "window_stride": 16, "window_plan": "exact", "batch": batch}
        segmenter = Segmenter(random_network(**settings), "cpu", scale=1.0)
        sizes = []
        segmenter.network.register_forward_pre_hook(
            lambda _, given, sizes=sizes: sizes.append(len(given[0]))
        )
        found[batch], _ = segmenter.segment(image)
        assert max(sizes) == batch and sum(sizes) == 6 * 3
    assert len(found[1]) == len(found[4]) > 0


# Which cells, at which size


def enlarged(image, times):
    """Each pixel as a square of them: the mean over each is the image again."""
    return image.repeat(times, axis=0).repeat(times, axis=1)


def test_at_scale_1_nothing_changes(noise):
    network = random_network()
    expected = Segmenter(network, "cpu", scale=1.0).find(noise)
    for scale in (1.05, 0.95):
        found = Segmenter(network, "cpu", scale=scale).find(noise)
        assert same(found.cells, expected.cells) and found.scale == 1


def test_an_image_that_is_enlarged_and_scaled_back_has_the_same_cells(noise):
    network = random_network(conversion="paper")  # by the other, noise counts, which changes
    expected, notes, _ = Segmenter(network, "cpu", scale=1.0).find(noise)
    found = Segmenter(network, "cpu", scale=0.5).find(enlarged(noise, 2))
    assert found.scale == 0.5 and found.notes == notes
    assert len(found.cells) == len(expected) > 5
    assert np.allclose(found.cells.scores, expected.scores, atol=1e-5)
    assert np.allclose(found.cells.uncertainties, expected.uncertainties, atol=1e-5)
    middle, sides = boxes_as(found.cells)
    expected_middle, expected_sides = boxes_as(expected)
    assert np.allclose(middle, (expected_middle + 0.5) * 2 - 0.5, atol=0.01)
    assert np.allclose(sides, expected_sides * 2, atol=0.01)


def boxes_as(cells):
    """Middles and sides (n, 2) of boxes, in pixels that belong to them."""
    lower, upper = cells.boxes[:, :2], cells.boxes[:, 2:]
    return (lower + upper) / 2, upper - lower + 1


def test_real_cells_are_found_at_the_scale_given(shipped, data):
    image, _ = images.read(data / "tnbc" / "01_1.jpg")
    expected = labels_of(shipped, image)
    by_hand = Segmenter(shipped.networks, "cpu", scale=0.25)
    found = labels_of(by_hand, enlarged(image, 4))
    assert found.shape == (expected.shape[0] * 4, expected.shape[1] * 4)
    assert score_pair(enlarged(expected, 4), found).f1 >= 0.97


class Steps(Segmenter):
    """Finds one cell at each scale of an image, of the diameter (in pixels of the image) and the
    score that `found` has for the scale; `looked` are the scales that it looked at."""

    def proposals(self, view, progress=None, plan=None, once=False):
        diameter, score = self.found[view.factor]
        self.looked.append(view.factor)
        if not diameter:
            return []
        side = max(round(diameter * view.factor), 1)
        cells = cells_of(drawn(view.shape, (0, 0, side, side)))
        cells.scores[:] = score
        return [(Window(0, 0, *view.shape[::-1]), cells)]


@pytest.mark.parametrize(
    ("found", "chosen", "looked"),
    [
        # Too small for a half, as a quarter tells: it is not looked at more closely.
        ({0.25: (24, 0.9), 1.0: (20, 0.8)}, 1.0, [0.25, 1.0]),
        # Large, and surer where they are smaller; then not surer; then too small there.
        ({0.25: (120, 0.8), 1.0: (90, 0.8), 0.5: (110, 0.9)}, 0.5, [0.25, 1.0, 0.5]),
        ({0.25: (120, 0.7), 1.0: (90, 0.8), 0.5: (110, 0.7)}, 1.0, [0.25, 1.0, 0.5]),
        ({0.25: (50, 0.9), 1.0: (25, 0.8), 0.5: (24, 0.9)}, 1.0, [0.25, 1.0, 0.5]),
        ({0.25: (300, 0.9), 1.0: (90, 0.7), 0.5: (290, 0.8)}, 0.25, [0.25, 1.0, 0.5]),
    ],
)
def test_images_of_large_cells_are_done_at_a_coarser_scale(found, chosen, looked):
    steps = Steps(random_network(score_share=0.0), "cpu")
    steps.found, steps.looked = found, []
    result = steps.find(np.zeros((640, 640), np.uint8))
    assert result.scale == chosen and steps.looked == looked
    assert diameters(result.cells)[0] == pytest.approx(found[chosen][0] * 1.13, rel=0.05)


@pytest.mark.parametrize(
    ("found", "chosen", "looked"),
    [
        # Small, and as sure when enlarged; then less sure; then nothing is left.
        ({0.25: (0, 0), 1.0: (8, 0.7), 2.0: (8, 0.7)}, 2.0, [0.25, 1.0, 2.0]),
        ({0.25: (0, 0), 1.0: (8, 0.7), 2.0: (8, 0.6)}, 1.0, [0.25, 1.0, 2.0]),
        ({0.25: (0, 0), 1.0: (8, 0.7), 2.0: (0, 0)}, 1.0, [0.25, 1.0, 2.0]),
        # None; a single sure one when enlarged may be anything.
        ({0.25: (0, 0), 1.0: (0, 0), 2.0: (8, 0.9)}, 1.0, [0.25, 1.0, 2.0, 2.0]),
        ({0.25: (0, 0), 1.0: (0, 0), 2.0: (0, 0)}, 1.0, [0.25, 1.0, 2.0, 2.0]),
    ],
)
def test_images_of_small_cells_are_done_at_a_finer_scale(found, chosen, looked, noise):
    steps = Steps(random_network(score_share=0.0), "cpu")
    steps.found, steps.looked = found, []
    assert steps.find(np.tile(noise, (4, 6, 1))).scale == chosen
    assert steps.looked == looked


@pytest.mark.parametrize("reduced", [12, 20])
def test_nuclei_of_five_and_eight_pixels_are_found(reduced, shipped, data):
    """At the scale 1 three quarters of the larger ones are, and none of the smaller ones."""
    image, _ = images.read(data / "coelho2009" / "ic100_dna-19.png")
    every = labels_of(shipped, image).max()
    small = cv2.resize(image, None, fx=1 / reduced, fy=1 / reduced, interpolation=cv2.INTER_AREA)
    found = shipped.find(small)
    assert found.scale == 2 and len(found.cells) > 0.85 * every
    assert shipped.scale_of(shipped.view(small)) == 2, "as of a slide"


def test_of_what_shows_nothing_a_square_or_two_are_enlarged():
    network, passes = random_network(window=64, window_stride=48), []
    network.register_forward_pre_hook(lambda *_: passes.append(1))
    image = np.random.default_rng(0).integers(0, 255, (256, 256)).astype(np.uint8)

    def looks(scale):
        passes.clear()
        found = Segmenter(network, "cpu", scale=scale, threshold=1.0).find(image)
        assert not len(found.cells)
        return len(passes)

    assert looks(None) == looks(1.0) + looks(0.25) + 1 < looks(1.0) + looks(2.0)


def test_a_scale_by_hand_is_the_only_one_looked_at():
    steps = Steps(random_network(score_share=0.0), "cpu", scale=0.5)
    steps.found, steps.looked = {0.5: (40, 0.9)}, []
    assert steps.find(np.zeros((640, 640), np.uint8)).scale == 0.5
    assert steps.looked == [0.5]


def test_large_cells_are_found_whatever_their_magnification(shipped, data):
    image, _ = images.read(data / "coelho2009" / "ic100_dna-19.png")
    image = image[200:600, 200:600]
    expected = labels_of(shipped, image)
    large = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    found = shipped.find(large)
    assert found.scale < 1
    labels, _, _ = rasterize(found.cells, large.shape[:2])
    assert score_pair(enlarged(expected, 3), labels).f1 >= 0.8


def test_a_threshold_is_of_scores_alone_and_of_all_networks(noise):
    """The share of the best scores counts no more."""
    own, others = (random_network(score_share=share) for share in (0.99, 0.0))
    expected, _ = Segmenter(others, "cpu", scale=1.0).segment(noise)
    found, _ = Segmenter(own, "cpu", threshold=0.45, scale=1.0).segment(noise)
    few, _ = Segmenter(own, "cpu", scale=1.0).segment(noise)
    assert same(found, expected) and len(few) < len(found)
    pair, crop = [own, random_network(1)], noise[None, :64, :64]
    (every,) = Segmenter(pair, "cpu").detect(crop)
    threshold = float(np.median(every.scores))
    (few,) = Segmenter(pair, "cpu", threshold=threshold).detect(crop)
    assert 0 < len(few) < len(every) and few.scores.min() > threshold
    assert len(Segmenter(pair, "cpu", threshold=1.0).segment(noise)[0]) == 0


def test_cells_of_other_sizes_are_left_out(noise):
    network = random_network()
    every, _ = Segmenter(network, "cpu").segment(noise)
    least, most = np.quantile(diameters(every), (0.3, 0.7))
    some = Segmenter(network, "cpu", min_size=least, max_size=most)
    kept = (diameters(every) >= least) & (diameters(every) <= most)
    assert 0 < kept.sum() < len(every)
    assert same(some.segment(noise)[0], every.filter(kept))
    in_um = Segmenter(network, "cpu", min_size=f"{least / 4}um", max_size=f"{most / 4}um")
    found = in_um.find(noise, pixel_size=0.25).cells
    assert abs(len(found) - kept.sum()) <= 2  # at the limits, rounding decides
    with pytest.raises(UnknownPixelSize):
        in_um.segment(noise)


def test_sizes_are_those_in_the_image_whatever_its_scale(noise):
    network = random_network()
    image = enlarged(noise, 2)
    every, _ = Segmenter(network, "cpu", scale=0.5).segment(image)
    least = float(np.median(diameters(every)))
    some, _ = Segmenter(network, "cpu", scale=0.5, min_size=least).segment(image)
    assert same(some, every.filter(diameters(every) >= least))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"threshold": 1.1}, "0..1"),
        ({"threshold": -0.1}, "0..1"),
        ({"threshold": float("nan")}, "0..1"),
        ({"scale": 0}, "0.0625..16"),
        ({"min_size": "5mm"}, "8.5um"),
        ({"min_size": 9, "max_size": 5}, "at least 9"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Segmenter(random_network(), "cpu", **wrong)


# Thorough


@pytest.mark.parametrize("shape", [(64, 64), (63, 58), (5, 3)])
def test_a_thorough_search_finds_the_flipped_cells_in_a_flipped_image(shape):
    """Each of the four looks at the one is one of those at the other."""
    found = Segmenter(random_network(), "cpu")
    crop = np.random.default_rng(0).integers(0, 255, (1, *shape, 3)).astype(np.uint8)
    cells = sorted_by_sides(found.detect(crop, FLIPS)[0])
    for sides in ((2,), (3,), (2, 3)):
        mirrored = np.flip(crop, [side - 1 for side in sides]).copy()
        other = sorted_by_sides(found.detect(mirrored, FLIPS)[0]).flipped(sides, shape)
        assert np.array_equal(other.scores, cells.scores)
        assert np.array_equal(other.uncertainties, cells.uncertainties)
        assert other.boxes == pytest.approx(cells.boxes, abs=1e-3)
        assert other.areas() == pytest.approx(cells.areas(), rel=1e-3, abs=1e-3)


def sorted_by_sides(cells):
    """In an order that does not change when they are flipped."""
    return cells.filter(np.lexsort([*np.sort(cells.uncertainties, axis=1).T, cells.scores]))


def test_thorough_looks_four_times_and_adds_to_what_one_look_finds(noise):
    network = random_network(score_share=0.0)
    passes = []
    network.register_forward_pre_hook(lambda *_: passes.append(1))
    crop = noise[None, :64, :64]
    (plain,) = Segmenter(network, "cpu").detect(crop)
    assert len(passes) == 1
    (thorough,) = Segmenter(network, "cpu").detect(crop, FLIPS)
    assert len(passes) == 5
    assert len(thorough) > len(plain)
    assert same(thorough.filter(np.arange(len(plain))), plain)


def test_the_best_of_four_outlines_has_to_reach_a_greater_share_of_the_best_scores():
    plain, thorough = (
        Segmenter(random_network(score_share=0.6), "cpu", thorough=thorough)
        for thorough in (False, True)
    )
    assert plain.share() == thorough.share(once=True) == 0.6
    assert thorough.share() == pytest.approx(0.6 + segmenter.MORE_SHARE)
    for share, expected in ((0.0, 0.0), (0.99, 1.0)):
        network = random_network(score_share=share)
        assert Segmenter(network, "cpu", thorough=True).share() == expected
    assert Segmenter(network, "cpu", thorough=True, threshold=0.5).share() == 0


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_thorough_search_of_a_large_image_flips_once(monkeypatch, scale):
    """By the pixels that it has, not by those that the networks see."""
    network, passes = random_network(window=64), []
    network.register_forward_pre_hook(lambda *_: passes.append(1))
    search = Segmenter(network, "cpu", scale=scale, thorough=True)
    image = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    for limit, expected in ((64 * 64, 4), (64 * 64 - 1, 2)):
        monkeypatch.setattr(segmenter, "ALL_FLIPS_UP_TO", limit)
        passes.clear()
        search.segment(image)
        assert len(passes) == expected


def test_one_look_chooses_the_scale_of_a_thorough_search(monkeypatch):
    """What three flips more find would change which scale is best, mostly for the worse."""
    looks = []

    def chosen(coarse, factor, fine):
        looks.append(len(fine))
        return True

    monkeypatch.setattr(segmenter, "is_better", chosen)
    monkeypatch.setattr(segmenter, "are_seen", lambda cells, factor: True)
    image = np.random.default_rng(0).integers(0, 255, (128, 128)).astype(np.uint8)
    network = random_network(score_share=0.6, score_threshold=0.5)
    for thorough in (False, True):
        assert Segmenter(network, "cpu", thorough=thorough).find(image).scale == 0.25
    (plain, thorough) = looks[:2], looks[2:]
    assert plain == thorough and min(plain) > 0


# What is no image


class Everywhere(Segmenter):
    """Finds a cell of 16 x 16 pixels in each square of its windows, whatever they show."""

    def detect(self, crops, flips=()):
        y, x = np.mgrid[: crops.shape[1] // 16, : crops.shape[2] // 16].reshape(2, -1) * 16.0
        boxes = np.stack([x, y, x + 15, y + 15], 1).astype(np.float32)
        contours = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
        n = len(boxes)
        cells = Cells(contours, boxes, np.ones(n, np.float32), np.zeros((n, 4), np.float32))
        return [cells] * len(crops)


@pytest.mark.parametrize("conversion", ["paper", "channels"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["fill", "nan", "nodata"])
@pytest.mark.parametrize("width", [150, 154])
def test_what_is_no_image_holds_no_cells(conversion, scale, kind, width):
    """Cells of which more than half lies on it are none; the others stay."""
    image = np.random.default_rng(0).uniform(50, 200, (192, 256)).astype(np.float32)
    side, network = 16 / scale, random_network(conversion=conversion, window=256)
    found = Everywhere(network, "cpu", scale=scale)
    assert len(found.find(image).cells) == 192 / side * 256 / side
    image[:, :width] = {"fill": 255.0, "nan": np.nan, "nodata": -99.0}[kind]
    cells = found.find(image, nodata=-99.0 if kind == "nodata" else None).cells
    first = np.ceil(width / side - 0.5) * side
    assert len(cells) == 192 / side * (256 - first) / side
    assert cells.boxes[:, 0].min() == first


def test_that_a_jpegs_quality_decides_the_contrast_is_said():
    found = Everywhere(random_network(window=128), "cpu")
    note = "for its contrast it is a JPEG of low quality: dim cells may be missed"
    ramp = np.linspace(0, 1, 128)[:, None] * np.ones(128)
    for contrast, quantization, notes in ((40, 0, []), (40, 6, [note]), (200, 6, []), (40, 2, [])):
        image = np.rint(20 + contrast * ramp).astype(np.uint8)
        assert found.find(image, quantization=quantization).notes == notes


@pytest.mark.parametrize(
    "box, said",
    [
        ((0, 0, 10, 5), "top left"),
        ((40, 0, 60, 5), "top middle"),
        ((80, 50, 99, 59), "bottom right"),
    ],
)
def test_where_a_box_lies_is_said(box, said):
    assert place(box, (60, 100)) == said


def test_a_declared_value_is_none_wherever_it_is():
    image = np.random.default_rng(0).integers(50, 200, (128, 128)).astype(np.uint16)
    image[48:80, 32:80] = 7
    found = Everywhere(random_network(window=128), "cpu")
    assert len(found.find(image).cells) == 64
    assert len(found.find(image, nodata=7).cells) == 64 - 6


def test_a_file_says_which_value_is_none(tmp_path):
    image = np.random.default_rng(0).integers(50, 200, (128, 128)).astype(np.uint16)
    image[48:80, 32:80] = 7
    found = Everywhere(random_network(window=128), "cpu")
    tags = [(42113, "s", 0, "7", False)]
    tifffile.imwrite(str(tmp_path / "a.tif"), image, extratags=tags)
    done = files.segment_file(found, tmp_path / "a.tif", tmp_path / "a_label.tiff")
    assert len(done.cells) == 64 - 6
