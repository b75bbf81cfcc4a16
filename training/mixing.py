"""What the result of a run keeps of the weights that it began with, for what those knew beside.

Weights between both are as good as either for much of what each knows (Wortsman et al. 2022,
arXiv:2109.01903, section 3). How near to the start they may be depends on the cells: new colours of
known shapes bear half of it, another meaning of what is a cell hardly a tenth.
"""

import shutil
from pathlib import Path
from typing import Callable

from app.network import weights
from app.network.cpn import CPN

START = "start.safetensors"  # what a run began with, in its folder
SHARES = tuple(tenths / 10 for tenths in range(10))  # of the start, that are tried


def remember_start(start: Path, out: Path) -> None:
    """Keep the weights file that a run begins with in its folder. Raises OSError."""
    shutil.copyfile(str(start), str(out / START))


def keep_of_start(out: Path, score: Callable[[CPN], float], least: float) -> float:
    """Mix the best weights of the run in a folder with as much of those that it began with as
    leaves their score at `least`; returns which share of the start that is, 0 to 0.9.

    score: of a network in validation, the higher the better. What the start costs grows with its
    share, so SHARES are halved. The last network that is scored is the one that is taken.
    """
    best = out / "best.safetensors"
    learned, record = weights.load(best)
    begun = weights.load(out / START)[0].state_dict()

    def mixed(share):
        return {
            name: value.lerp(begun[name], share) if value.is_floating_point() else value
            for name, value in learned.state_dict().items()
        }

    def is_enough(share):
        network = CPN(learned.config)
        network.load_state_dict(mixed(share))
        return score(network) >= least

    good, bad = 0, len(SHARES)
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_enough(SHARES[middle]):
            good = middle
        else:
            bad = middle
    share = SHARES[good]
    is_enough(share)
    weights.save(best, mixed(share), learned.config, {**record, "start_share": share})
    return share
