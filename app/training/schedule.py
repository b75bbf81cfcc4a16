"""The learning rate over a run, by the share of its time that has passed."""

import math


def learning_rate(progress, recipe):
    """Linear warm-up, then half a cosine down to 1 % of the peak; progress in 0..1."""
    if progress < recipe.warm_up:
        return recipe.learning_rate * max(progress / recipe.warm_up, 0.01)
    done = min(1.0, (progress - recipe.warm_up) / (1 - recipe.warm_up))
    return recipe.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
