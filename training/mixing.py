"""What the result of a run keeps of the weights that it began with, for what those knew beside.

Weights between both are as good as either for much of what each knows, and on few images often
better than what was learned (Wortsman et al. 2022, arXiv:2109.01903, section 3). How near to the
start they may be depends on the cells: new colours of known shapes bear half of it and more,
another meaning of what is a cell hardly a fifth (experiments/EXPERIMENTS.md).
"""

import shutil
from pathlib import Path
from typing import Callable, Tuple

from app.network import weights
from app.network.cpn import CPN

START = "start.safetensors"  # what a run began with, in its folder
SHARES = tuple(tenths / 10 for tenths in range(9))  # of the start, that are tried


def remember_start(start: Path, out: Path) -> None:
    """Keep the weights file that a run begins with in its folder. Raises OSError."""
    shutil.copyfile(str(start), str(out / START))


def mix(
    out: Path, score: Callable[[CPN], float], before: float, kept: float
) -> Tuple[float, float]:
    """Mix the last weights of the run in a folder with those that it began with: the more of
    these the better, as long as of the most that can be gained the share `kept` (0..1) is left.

    score: of a network in validation, the higher the better. before: that of the start. Returns
    the share of the start and the score. Where that is above `before`, best.safetensors is it; the
    network is scored once more, so that the label images of the validation are its own.
    """
    learned, record = weights.load(out / "weights.safetensors")
    begun = weights.load(out / START)[0].state_dict()

    def mixed(share):
        return {
            name: value.lerp(begun[name], share) if value.is_floating_point() else value
            for name, value in learned.state_dict().items()
        }

    def scored(share):
        network = CPN(learned.config)
        network.load_state_dict(mixed(share))
        return score(network)

    scores = {share: scored(share) for share in SHARES}
    least = before + kept * (max(scores.values()) - before)
    share = max((share for share in SHARES if scores[share] >= least), default=0.0)
    if scores[share] > before:
        scored(share)
        path = out / "best.safetensors"
        weights.save(path, mixed(share), learned.config, {**record, "start_share": share})
    return share, scores[share]
