"""Muon: steps of convolution kernels whose directions all count alike.

K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; steps scaled
as by Moonshot AI 2025, arXiv:2502.16982. `torch.optim.Muon` takes matrices only, and computes in
bfloat16, which many CPUs have not.
"""

import torch

MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic: steepest at zero (Jordan et al.)
STEP_RMS = 0.2  # root mean square of a step at rate 1, AdamW's in the mean (arXiv:2502.16982)


class Muon(torch.optim.AdamW):
    """Muon for parameters of two or more dimensions, AdamW for vectors.

    A kernel (outputs, inputs, height, width) counts as a matrix of `outputs` rows. Rates and
    weight decay are AdamW's, for both.
    """

    @torch.no_grad()
    def step(self):
        """One step. It clears the kernels' gradients, which AdamW must not see."""
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.dim() > 1 and kernel.grad is not None:
                    self._move(kernel, group)
                    kernel.grad = None
        super().step()

    def _move(self, kernel, group):
        state = self.state[kernel]
        if not state:
            state["momentum"] = torch.zeros_like(kernel)
        momentum = state["momentum"].lerp_(kernel.grad, 1 - MOMENTUM)
        ahead = kernel.grad.lerp(momentum, MOMENTUM)  # Nesterov's
        direction = orthogonal(ahead.flatten(1))
        scale = STEP_RMS * max(direction.shape) ** 0.5
        kernel.mul_(1 - group["lr"] * group["weight_decay"])
        kernel.add_(direction.view_as(kernel), alpha=-group["lr"] * scale)


def orthogonal(matrix):
    """A matrix (m, n) with the same singular vectors and singular values of about 1 (0.7 to 1.2;
    those far below a thousandth of the norm stay small). Zero stays zero."""
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=1e-12)
    for _ in range(ITERATIONS):
        square = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(square, square, square, beta=b, alpha=c), wide, beta=a)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T
