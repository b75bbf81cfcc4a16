"""The network: its size, its maps, how proposals come from them, and its weights files."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import TINY, tiny_config

from app.network import weights
from app.network.config import PRESETS, Architecture, Config, Inference
from app.network.cpn import CPN, DisplacementField, boxes_of
from app.network.folding import folded

SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "compact.safetensors"


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return CPN(TINY).eval()


@pytest.mark.parametrize("grid_stride, head_level", [(4, 1), (2, 1), (2, 0), (1, 1)])
@pytest.mark.parametrize("height, width", [(64, 96), (65, 33), (1, 1), (3, 200)])
def test_maps_cover_the_image_at_their_stride(grid_stride, head_level, height, width):
    network = CPN(tiny_config(grid_stride=grid_stride, head_level=head_level)).eval()
    maps = network(torch.rand(2, 3, height, width))
    channels = {"score": 1, "location": 2, "fourier": 12, "uncertainty": 4}
    for name, count in channels.items():
        shape = getattr(maps, name).shape
        assert shape[:2] == (2, count)
        assert shape[2] * grid_stride >= height
        assert shape[3] * grid_stride >= width
    assert maps.refinement.shape[1] == 12


def test_a_batch_is_its_single_images(tiny):
    images = torch.rand(3, 3, 64, 64)
    together = tiny(images)
    for index in range(3):
        for batched, single in zip(together, tiny(images[index : index + 1])):
            assert torch.allclose(batched[index], single[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_folded_network_has_no_batch_normalisation_and_the_same_maps(block):
    """Though its norms are not what they are at the start; the network itself stays as it is."""
    torch.manual_seed(0)
    network = CPN(tiny_config(block=block, decoder_norm="batch")).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for value in (layer.weight, layer.running_var):
                torch.nn.init.uniform_(value, 0.5, 2)
            for value in (layer.bias, layer.running_mean):
                torch.nn.init.normal_(value)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.rand(2, 3, 65, 96)
    with torch.no_grad():
        for one, other in zip(network(images), folded(network)(images)):
            assert torch.allclose(one, other, atol=1e-4 * one.abs().max())
    kinds = {type(layer) for layer in folded(network).modules()}
    assert torch.nn.BatchNorm2d not in kinds
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_grid_cells_have_their_centres_where_decision_10_puts_them(tiny):
    points = tiny.grid_points(torch.tensor([0, 3]), torch.tensor([0, 5]))
    assert points.tolist() == [[0.5, 0.5], [10.5, 6.5]]
    paper = tiny_config(grid_stride=4)
    assert CPN(paper).grid_points(torch.tensor([1]), torch.tensor([2])).tolist() == [[9.5, 5.5]]


def drawn_maps(network, size=64):
    """Maps of an image with random values that are small enough to stay inside."""
    torch.manual_seed(1)
    maps = network(torch.rand(1, 3, size, size))
    return maps._replace(
        location=torch.zeros_like(maps.location),
        fourier=torch.rand_like(maps.fourier) - 0.5,
        refinement=torch.randn_like(maps.refinement),
    )


def test_a_proposal_is_equation_2_around_its_grid_cell(tiny):
    maps = drawn_maps(tiny)
    fourier = torch.zeros_like(maps.fourier)
    # Order 1 with b = 0.5 on x (cosine) and c = 0.5 on y (sine): a circle, clockwise on screen.
    fourier[:, 1] = fourier[:, 2] = 0.5
    cells = tuple(torch.tensor([value]) for value in (0, 15, 16))
    proposal = tiny.propose(maps._replace(fourier=fourier), cells, (64, 64), iterations=0)
    radius = 0.5 * TINY.architecture.contour_scale
    assert torch.allclose(proposal.contours[0, 0], torch.tensor([32.5 + radius, 30.5]))
    assert torch.allclose(proposal.contours[0, 4], torch.tensor([32.5, 30.5 + radius]), atol=1e-5)
    sides = [32.5 - radius, 30.5 - radius, 32.5 + radius, 30.5 + radius]
    assert torch.allclose(proposal.boxes[0], torch.tensor(sides))


def test_boxes_are_left_top_right_bottom():
    contour = torch.tensor([[[3.0, 9.0], [7.0, 2.0], [5.0, 4.0]]])
    assert boxes_of(contour).tolist() == [[3.0, 2.0, 7.0, 9.0]]


def test_proposals_do_not_depend_on_which_others_are_decoded(tiny):
    maps = drawn_maps(tiny)
    cells = tuple(torch.tensor(values) for values in ([0, 0, 0], [3, 10, 20], [7, 9, 30]))
    together = tiny.propose(maps, cells, (64, 64))
    for index in range(3):
        single = tiny.propose(maps, tuple(c[index : index + 1] for c in cells), (64, 64))
        for batched, alone in zip(together, single):
            assert torch.allclose(batched[index], alone[0], atol=1e-4)


def test_uncertainties_and_scores_lie_between_0_and_1_and_contours_in_the_image(tiny):
    maps = drawn_maps(tiny)
    maps = maps._replace(fourier=maps.fourier * 20, uncertainty=maps.uncertainty * 100)
    cells = torch.ones(1, 32, 32).nonzero(as_tuple=True)
    proposals = tiny.propose(maps, cells, (64, 64))
    for values in (proposals.scores, proposals.uncertainties):
        assert ((values >= 0) & (values <= 1)).all()
    assert proposals.refined.min() >= 0
    assert proposals.refined.max() <= 63


def test_the_field_read_at_points_is_the_field_upsampled_to_the_image(tiny):
    """Bilinear upsampling of the stride-2 map (paper) and our reading agree at every pixel."""
    refinement = torch.randn(2, 12, 16, 20)
    upsampled = torch.nn.functional.interpolate(
        refinement.tanh() * 3, scale_factor=2, mode="bilinear", align_corners=False
    ).reshape(2, 6, 2, 32, 40)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(40), indexing="ij")
    points = torch.stack([x, y], -1).reshape(1, -1, 2).float()
    field = DisplacementField(refinement, TINY.architecture, (32, 40))
    for bucket in range(6):
        # t at the centre of a bucket reads that bucket alone.
        t = torch.full((points.shape[1],), (bucket + 0.5) / 6)
        read = field.at(points, torch.tensor([1]), t)[0]
        expected = upsampled[1, bucket].reshape(2, -1).T
        assert torch.allclose(read, expected, atol=1e-4)


def test_buckets_blend_linearly_around_the_circle():
    refinement = torch.zeros(1, 12, 4, 4)
    refinement[:, 0] = 100.0  # bucket 0 moves x by the limit, the others nothing
    field = DisplacementField(refinement, TINY.architecture, (8, 8))
    t = torch.tensor([1 / 12, 0.0, 2 / 12, 11 / 12, 0.5])
    moved = field.at(torch.full((1, 5, 2), 4.0), torch.tensor([0]), t)[0, :, 0]
    assert torch.allclose(moved, torch.tensor([3.0, 1.5, 1.5, 0.0, 0.0]), atol=1e-5)


def test_refinement_repeats_round_and_move_and_stops_at_the_image_edge():
    refinement = torch.zeros(1, 12, 16, 16)
    refinement[:, 0::2] = 100.0  # everywhere 3 px to the right
    field = DisplacementField(refinement, TINY.architecture, (32, 32))
    start = torch.tensor([[[4.4, 7.6], [30.2, 3.0]]])
    t = torch.tensor([0.0, 0.5])
    assert field.refine(start, torch.tensor([0]), t, 0).equal(start)
    assert field.refine(start, torch.tensor([0]), t, 1).tolist() == [[[7.0, 8.0], [31.0, 3.0]]]
    assert field.refine(start, torch.tensor([0]), t, 3).tolist() == [[[13.0, 8.0], [31.0, 3.0]]]


def test_refinement_gradient_reaches_the_field_alone():
    refinement = torch.randn(1, 12, 16, 16, requires_grad=True)
    contours = (torch.rand(2, 5, 2) * 20 + 5).requires_grad_()
    field = DisplacementField(refinement, TINY.architecture, (32, 32))
    refined = field.refine(contours, torch.tensor([0, 0]), torch.rand(5), 2)
    refined.sum().backward()
    assert refinement.grad.abs().sum() > 0
    assert contours.grad is None


def test_weights_round_trip_with_configuration_and_record(tiny, tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save(path, tiny.state_dict(), TINY, {"steps": 7})
    network, record = weights.load(path)
    assert network.config == TINY
    assert record == {"steps": 7}
    for name, value in network.state_dict().items():
        expected = tiny.state_dict()[name]
        if value.dim() > 1:  # kept as float16
            expected = expected.half().float()
        assert value.equal(expected), name
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_unusable_weights_files_say_so_in_one_sentence(tiny, tmp_path):
    good = tmp_path / "good.safetensors"
    weights.save(good, tiny.state_dict(), TINY)
    whole = good.read_bytes()
    bad = {"missing": None, "empty": b"", "text": b"these are not weights", "cut": whole[:-100]}
    for length in (4, 100, len(whole) // 2):
        bad[f"cut at {length}"] = whole[:length]
    for name, content in bad.items():
        path = tmp_path / f"{name}.safetensors"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(weights.WeightsError) as error:
            weights.load(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_weights_of_another_program_or_network_are_refused(tiny, tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"layer.weight": torch.zeros(3)}, str(foreign))
    with pytest.raises(weights.WeightsError, match="not weights of this program"):
        weights.load(foreign)
    other = tmp_path / "other.safetensors"
    weights.save(other, tiny.state_dict(), tiny_config(order=4))
    with pytest.raises(weights.WeightsError, match="do not fit"):
        weights.load(other)
    lacking = {k: v for k, v in tiny.state_dict().items() if k != "score_skip.weight"}
    weights.save(other, lacking, TINY)
    with pytest.raises(weights.WeightsError, match="do not fit"):
        weights.load(other)


def test_a_configuration_of_no_network_is_refused(tiny, tmp_path):
    path = tmp_path / "w.safetensors"
    for part, change in (
        ("architecture", {"block": "other"}),
        ("architecture", {"decoder_norm": "none"}),
        ("architecture", {"encoder_widths": [8, 8]}),
        ("architecture", {"order": "x"}),
        ("architecture", {"new": 1}),
        ("inference", {"window_stride": -1}),
        ("inference", {"certainty": "some"}),
        ("more", {"order": 1}),
    ):
        content = asdict(TINY)
        content.setdefault(part, {}).update(change)
        metadata = {"format": weights.FORMAT, "config": json.dumps(content)}
        save_file(tiny.state_dict(), str(path), {**metadata, "record": "{}"})
        with pytest.raises(weights.WeightsError, match="not one of ours"):
            weights.load(path)


def test_a_configuration_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="does not divide"):
        Architecture(head_level=0, grid_stride=4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("block", "resnet"),
        ("decoder_norm", "layer"),
        ("window_plan", "odd"),
        ("certainty", "none"),
        ("conversion", "other"),
        ("window", -512),
        ("batch", 0),
        ("score_threshold", float("nan")),
        ("score_threshold", "high"),
        ("samples", 64.5),
        ("recovery", "no"),
        ("nms_by_outlines", 1),
        ("thinning", "x"),
        ("depths", (1, "2", 1, 1)),
    ],
)
def test_settings_that_nothing_knows_are_refused_where_they_are_made(field, value):
    with pytest.raises(ValueError, match=field):
        tiny_config(**{field: value})


# The weights files of the first format knew no fields for what all networks did alike.
OF_FORMAT_1 = {
    "block": "basic",
    "depths": [2, 2, 2, 2],
    "encoder_widths": [32, 64, 128, 256, 320],
    "groups": 1,
    "stem_kernel": 5,
    "pyramid_bins": [1, 2, 3, 6],
    "pyramid_width": 32,
    "decoder_widths": [32, 64, 128, 192, 256],
    "decoder_norm": "batch",
    "head_kernel": 3,
    "head_level": 1,
    "grid_stride": 2,
    "dropout": 0.0,
    "head_gain": 0.1,
    "order": 10,
    "samples": 64,
    "contour_scale": 16.0,
    "refinement_buckets": 6,
    "refinement_limit": 3.0,
    "refinement_iterations": 4,
    "window": 1024,
    "window_stride": 768,
    "score_threshold": 0.5,
    "score_share": 0.7,
    "nms_threshold": 0.4,
    "nms_by_outlines": True,
}


def test_a_file_of_the_first_format_predicts_as_it_did(tmp_path):
    """The shipped network with the metadata of its day: nothing of the paper's gets into it."""
    network, _ = weights.load(SHIPPED)
    path = tmp_path / "old.safetensors"
    metadata = {"format": "cpn-1", "config": json.dumps(OF_FORMAT_1), "record": "{}"}
    save_file(network.state_dict(), str(path), metadata)
    config = PRESETS["compact"].with_inference(
        conversion="paper", window=1024, window_stride=768, score_share=0.7
    )
    assert weights.load(path)[0].config == weights.describe(path)[0] == config


def test_the_paper_preset_predicts_as_the_paper():
    """Sections 2.2.7 and 2.4 of the paper; reference.md, section 3."""
    assert PRESETS["paper"] == Config(Architecture(), Inference())
    assert asdict(Inference()) == {
        "conversion": "paper",
        "window": 768,
        "window_stride": 384,
        "window_plan": "exact",
        "batch": 4,
        "samples": 224,
        "refinement_iterations": 4,
        "score_threshold": 0.891415,
        "score_share": 0.0,
        "thinning": None,
        "certainty": "absolute",
        "nms_threshold": math.pi / 10,
        "nms_by_outlines": False,
        "recovery": False,
    }
