"""Statistics with intervals over images, since the cells of one image are not independent.

Whole images are drawn with replacement, so a draw is a weight per cell: how often its image came.
A statistic here is a function of these weights (n,); weights of 1 give its value for the cells as
they are.
"""

from typing import Callable, Dict, Optional

import numpy as np

DRAWS = 1000
Statistic = Callable[[np.ndarray], float]


def estimate(statistic: Statistic, image: np.ndarray) -> Dict[str, Optional[float]]:
    """A statistic and its 95 % bootstrap interval: {value, low, high}.

    image (n,): which image each cell is of. The draws are always the same. None where the
    statistic has no value; no interval from a single image.
    """
    images, image = np.unique(image, return_inverse=True)
    result = dict.fromkeys(("value", "low", "high"))
    with np.errstate(invalid="ignore", divide="ignore"):
        value = statistic(np.ones(len(image))) if len(image) else np.nan
        if np.isnan(value):
            return result
        result["value"] = float(value)
        if len(images) > 1:
            share = np.full(len(images), 1 / len(images))
            draws = np.random.default_rng(0).multinomial(len(images), share, DRAWS)
            values = [statistic(times[image]) for times in draws.astype(float)]
            result["low"], result["high"] = np.nanpercentile(values, (2.5, 97.5)).tolist()
    return result


def mean(values: np.ndarray) -> Statistic:
    """The statistic: mean of values (n,)."""
    return lambda weights: weights @ values / weights.sum()


def spearman(a: np.ndarray, b: np.ndarray) -> Statistic:
    """The statistic: correlation of the ranks of a (n,) and b (n,); NaN where one is constant."""
    ranks_a, ranks_b = ranker(a), ranker(b)

    def statistic(weights):
        x, y = ranks_a(weights), ranks_b(weights)
        return weights * x @ y / np.sqrt((weights * x @ x) * (weights * y @ y))

    return statistic


def auroc(values: np.ndarray, positive: np.ndarray) -> Statistic:
    """The statistic: chance that a positive cell has a larger value than another, ties half.

    values (n,), positive (n,) bool; NaN where all or none are positive.
    """
    ranks = ranker(values)

    def statistic(weights):
        good, bad = weights[positive].sum(), weights[~positive].sum()
        return 0.5 + weights[positive] @ ranks(weights)[positive] / (good * bad)

    return statistic


def ranker(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function: weights (n,) -> ranks (n,) of values (n,), less the mean of all ranks.

    Each value stands as often as its weight says, and equal ones share their mean rank.
    """
    _, group = np.unique(values, return_inverse=True)

    def ranks(weights):
        mass = np.bincount(group, weights)
        return (np.cumsum(mass) - (mass + weights.sum()) / 2)[group]

    return ranks
