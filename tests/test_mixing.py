"""Own cells: the result is as near to the weights that a run began with as its gain allows."""

import pytest
import torch
from tiny import tiny_config

from app.network import weights
from app.network.cpn import CPN
from training import mixing


@pytest.fixture
def out(tmp_path):
    """The folder of a run that began with zeros and learned ones."""
    network = CPN(tiny_config())
    for name, value in (("given.safetensors", 0.0), ("best.safetensors", 1.0)):
        for parameter in network.parameters():
            torch.nn.init.constant_(parameter, value)
        weights.save(tmp_path / name, network.state_dict(), network.config, {"steps": 7})
    mixing.remember_start(tmp_path / "given.safetensors", tmp_path)
    return tmp_path


def learned_part(network):
    """The share of the learned weights, which is this network's score."""
    values = torch.cat([parameter.flatten() for parameter in network.parameters()])
    assert values.std() < 1e-3  # convolutions are kept in float16
    return values.mean().item()


@pytest.mark.parametrize("least, share", [(0.0, 0.9), (0.35, 0.6), (0.69, 0.3), (0.95, 0.0)])
def test_as_much_of_the_start_is_kept_as_leaves_the_score(out, least, share):
    seen = []

    def score(network):
        seen.append(learned_part(network))
        return seen[-1]

    assert mixing.keep_of_start(out, score, least) == share
    network, record = weights.load(out / "best.safetensors")
    assert record == {"steps": 7, "start_share": share}
    assert learned_part(network) == pytest.approx(1 - share, abs=1e-3)
    assert seen[-1] == pytest.approx(1 - share, abs=1e-3), "its labels are those of the result"
    assert len(seen) <= 5


def test_where_any_share_costs_too_much_nothing_is_mixed(out):
    assert mixing.keep_of_start(out, lambda network: 0.0, 0.5) == 0.0
    assert learned_part(weights.load(out / "best.safetensors")[0]) == 1.0
