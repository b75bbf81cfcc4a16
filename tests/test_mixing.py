"""Own cells: the result is as near to the weights that a run began with as its gain allows."""

import pytest
import torch
from tiny import tiny_config

from app.network import weights
from app.network.cpn import CPN
from training import mixing


@pytest.fixture
def out(tmp_path):
    """The folder of a run that began with zeros and learned ones, and twos at its best."""
    network = CPN(tiny_config())
    values = {"given.safetensors": 0.0, "weights.safetensors": 1.0, "best.safetensors": 2.0}
    for name, value in values.items():
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


def test_only_the_start_of_this_run_is_remembered(out):
    mixing.remember_start(None, out)
    assert not (out / mixing.START).exists()
    mixing.remember_start(None, out)


# Scores by the share of the start: what costs the more the nearer it is to the start; what is best
# in between; what breaks off; what brings nothing. All begin with 0.5.
STEADY = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6]
BETWEEN = [0.45, 0.6, 0.7, 0.9, 0.8, 0.7, 0.6, 0.55, 0.5]
BROKEN = [1.0, 1.0, 0.98, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
NOTHING = [0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]


def score_of(scores, best):
    """The score of a network of the run in `out`: 0.5 of the start, `best` of the best one."""

    def score(network):
        learned = round(10 * learned_part(network))
        return {0: 0.5, 20: best}[learned] if learned in (0, 20) else scores[10 - learned]

    return score


@pytest.mark.parametrize(
    "scores, best, kept, share",
    [
        (STEADY, 0.5, 1.0, 0.0),
        (STEADY, 0.5, 0.6, 0.4),
        (STEADY, 0.5, 0.5, 0.5),
        (BETWEEN, 0.5, 0.6, 0.4),
        (BETWEEN, 0.5, 1.0, 0.3),
        (BROKEN, 0.5, 0.6, 0.2),
        (BETWEEN, 1.0, 0.7, 0.3),
    ],
)
def test_the_result_is_as_near_to_the_start_as_the_gain_allows(out, scores, best, kept, share):
    assert mixing.mix(out, score_of(scores, best), kept) == share
    network, record = weights.load(out / "best.safetensors")
    assert record == {"steps": 7, "start_share": share}
    assert learned_part(network) == pytest.approx(1 - share, abs=1e-3)


@pytest.mark.parametrize("scores, best", [(STEADY, 1.5), (NOTHING, 0.9), (NOTHING, 0.5)])
def test_the_best_weights_stay_where_no_mean_keeps_enough_of_the_gain(out, scores, best):
    """An earlier validation that beat all that came later used to be lost."""
    assert mixing.mix(out, score_of(scores, best), 0.9) is None
    assert learned_part(weights.load(out / "best.safetensors")[0]) == 2
