"""The optimiser, and its learning rate over a run."""

import math

import torch

from training.muon import Muon

FINAL_SHARE = 0.01  # of the peak rate, at the end of a cosine
MILESTONES = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8)  # shares of the run (reference.md, section 4)
GAMMA = 0.666  # by which the rate falls at each (paper, table 2)


def make_optimiser(network, recipe):
    """The optimiser of a network's parameters: Adam with L2 as in table 2 of the paper, or AdamW
    or Muon, whose decay spares vectors (norm layers, biases)."""
    settings = {"lr": recipe.learning_rate, "betas": tuple(recipe.betas)}
    if recipe.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), weight_decay=recipe.weight_decay, **settings)
    kernels = [p for p in network.parameters() if p.dim() > 1]
    vectors = [p for p in network.parameters() if p.dim() <= 1]
    kind = Muon if recipe.optimiser == "muon" else torch.optim.AdamW
    optimiser = kind(kernels, weight_decay=recipe.weight_decay, **settings)
    optimiser.add_param_group({"params": vectors, "weight_decay": 0.0})
    return optimiser


def peak_rate(recipe, processes=1):
    """The highest learning rate of a run: drawn by its seed, scaled by the root of the batch.

    Paper, section 3.2.2: lr ~ N(8e-4, 1e-4), times sqrt(bs / 64), bs being the crops of a step in
    all processes.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    deviation = torch.randn((), generator=generator).item()
    rate = recipe.learning_rate + recipe.learning_rate_std * deviation
    batch = processes * recipe.crops[0][1]
    return rate * math.sqrt(batch / recipe.reference_batch)


def rate_factor(progress, step, recipe):
    """Share of the peak rate at a step (0 the first) and at a progress in 0..1: a linear warm-up,
    then the recipe's decay."""
    warm = min(
        progress / recipe.warm_up if recipe.warm_up else 1.0,
        step / recipe.warm_up_steps if recipe.warm_up_steps else 1.0,
    )
    if warm < 1:
        return max(warm, 0.001)
    if recipe.decay == "milestones":
        return GAMMA ** sum(progress >= milestone for milestone in MILESTONES)
    done = min(1.0, (progress - recipe.warm_up) / (1 - recipe.warm_up))
    return FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * done)) / 2
