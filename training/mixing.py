"""What the result of a run keeps of the weights that it began with, for what those knew beside.

Weights between both are as good as either for much of what each knows, and on few images often
better than what was learned (Wortsman et al. 2022, arXiv:2109.01903, section 3). How near to the
start they may be depends on the cells: new colours of known shapes bear half of it and more,
another meaning of what is a cell hardly a fifth (experiments/EXPERIMENTS.md).
"""

import shutil
from pathlib import Path
from typing import Callable, Optional

from app.network import weights
from app.network.cpn import CPN

START = "start.safetensors"  # what a run began with, in its folder
SHARES = tuple(tenths / 10 for tenths in range(9))  # of the start, that are tried


def remember_start(start: Optional[Path], out: Path) -> None:
    """Keep the weights file that a run begins with, if there is one, in its folder, and no other
    there. Raises OSError."""
    if start:
        shutil.copyfile(str(start), str(out / START))
    elif (out / START).exists():
        (out / START).unlink()


def mix(out: Path, score: Callable[[CPN], float], kept: float) -> Optional[float]:
    """Mix the last weights of the run in a folder with those that it began with: the more of
    these the better, as long as of the most that can be gained the share `kept` (0..1) is left.

    score: of a network in validation, the higher the better. The most that can be gained is what
    the best of the means gains, or best.safetensors as it is. Returns the share of the start in
    best.safetensors; None where that stays as it was: nothing is better than the start, or what
    came out of an earlier validation is better than any mean.
    """
    best = out / "best.safetensors"
    learned, record = weights.load(out / "weights.safetensors")
    start, _ = weights.load(out / START)
    begun, before = start.state_dict(), score(start)
    unmixed = score(weights.load(best)[0])

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
    most = max(unmixed, *scores.values())
    least = before + kept * (most - before)
    share = max((share for share in SHARES if scores[share] >= least), default=None)
    if most <= before or share is None:
        return None
    weights.save(best, mixed(share), learned.config, {**record, "start_share": share})
    return share
