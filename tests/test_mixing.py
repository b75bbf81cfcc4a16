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
    for name, value in (("given.safetensors", 0.0), ("weights.safetensors", 1.0)):
        for parameter in network.parameters():
            torch.nn.init.constant_(parameter, value)
        weights.save(tmp_path / name, network.state_dict(), network.config, {"steps": 7})
    mixing.remember_start(tmp_path / "given.safetensors", tmp_path)
    return tmp_path


def learned_part(network):
    """The share of the learned weights in a network."""
    values = torch.cat([parameter.flatten() for parameter in network.parameters()])
    assert values.std() < 1e-3  # convolutions are kept in float16
    return values.mean().item()


# Scores by the share of the start: what costs the more the nearer it is to the start; what is best
# in between; what breaks off.
STEADY = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6]
BETWEEN = [0.45, 0.6, 0.7, 0.9, 0.8, 0.7, 0.6, 0.55, 0.5]
BROKEN = [1.0, 1.0, 0.98, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    "scores, kept, share",
    [
        (STEADY, 1.0, 0.0),
        (STEADY, 0.6, 0.4),
        (STEADY, 0.5, 0.5),
        (BETWEEN, 0.6, 0.4),
        (BETWEEN, 1.0, 0.3),
        (BROKEN, 0.6, 0.2),
    ],
)
def test_the_result_is_as_near_to_the_start_as_the_gain_allows(out, scores, kept, share):
    seen = []

    def score(network):
        seen.append(1 - learned_part(network))
        return scores[round(10 * seen[-1])]

    assert mixing.mix(out, score, 0.5, kept) == (share, scores[round(10 * share)])
    network, record = weights.load(out / "best.safetensors")
    assert record == {"steps": 7, "start_share": share}
    assert learned_part(network) == pytest.approx(1 - share, abs=1e-3)
    assert seen[-1] == pytest.approx(share, abs=1e-3), "its labels are those of the result"


def test_where_nothing_is_better_than_the_start_nothing_is_written(out):
    share, f1 = mixing.mix(out, lambda network: 0.4, 0.5, 0.6)
    assert f1 == 0.4 and not (out / "best.safetensors").exists()
