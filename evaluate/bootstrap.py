"""Statistics with intervals over images, since the cells of one image are not independent.

Whole images are drawn with replacement, so a draw is a weight per cell: how often its image came.
A statistic here takes weights (B, n), B draws of n cells at once, and gives B values; weights of 1
give its value for the cells as they are.
"""

import numpy as np

DRAWS = 1000
BLOCK = 2000000  # weights held at a time


def estimate(statistic, image):
    """A statistic and its 95 % bootstrap interval: {value, low, high}.

    statistic: weights (B, n) -> (B,). image (n,): which image each cell is of. Always the same
    draws. None where there is nothing to tell; no interval from a single image.
    """
    images, image = np.unique(image, return_inverse=True)
    told = dict.fromkeys(("value", "low", "high"))
    if not len(image):
        return told
    with np.errstate(invalid="ignore", divide="ignore"):
        value = statistic(np.ones((1, len(image))))[0]
        if np.isnan(value):
            return told
        told["value"] = float(value)
        if len(images) > 1:
            blocks = draws(len(images), len(image))
            values = [statistic(block[:, image].astype(float)) for block in blocks]
            told["low"], told["high"] = np.nanpercentile(np.hstack(values), (2.5, 97.5)).tolist()
    return told


def draws(images, cells):
    """How often each image comes in each draw, in blocks (B, images) that fit into memory."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(images, np.full(images, 1 / images), DRAWS)
    return np.array_split(counts, min(DRAWS, 1 + DRAWS * cells // BLOCK))


def mean(values):
    """The statistic: mean of values (n,)."""
    return lambda weights: (weights * values).sum(1) / weights.sum(1)


def spearman(a, b):
    """The statistic: correlation of the ranks of a (n,) and b (n,); NaN where one is constant."""
    ranks_a, ranks_b = ranker(a), ranker(b)

    def statistic(weights):
        x, y = (centred(ranks(weights), weights) for ranks in (ranks_a, ranks_b))
        spread = (weights * x * x).sum(1) * (weights * y * y).sum(1)
        return (weights * x * y).sum(1) / np.sqrt(spread)

    return statistic


def auroc(values, positive):
    """The statistic: chance that a positive cell has a larger value than another, ties half.

    values (n,), positive (n,) bool; NaN where all or none are positive.
    """
    ranks = ranker(values)

    def statistic(weights):
        good, bad = weights[:, positive].sum(1), weights[:, ~positive].sum(1)
        total = (weights * ranks(weights))[:, positive].sum(1)
        return (total - good * (good + 1) / 2) / (good * bad)

    return statistic


def ranker(values):
    """A function: weights (B, n) -> ranks (B, n) of values (n,), where each value stands as often
    as its weight says and equal ones share their mean rank."""
    distinct, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))

    def ranks(weights):
        mass = np.add.reduceat(weights[:, order], starts, axis=1)
        return (np.cumsum(mass, axis=1) - (mass - 1) / 2)[:, group]

    return ranks


def centred(values, weights):
    """values (B, n) less their weighted mean."""
    return values - (weights * values).sum(1, keepdims=True) / weights.sum(1, keepdims=True)
