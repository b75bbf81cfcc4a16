"""Muon: steps of convolution kernels whose directions all count alike.

K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; steps scaled as by
Moonshot AI 2025, arXiv:2502.16982. `torch.optim.Muon` takes matrices only and computes in bfloat16,
which many CPUs have not; torch 1.12 has none.
"""

import torch

MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic: steepest at zero (Jordan et al.)
STEP_RMS = 0.2  # root mean square of a step at rate 1, AdamW's in the mean (arXiv:2502.16982)


class Muon(torch.optim.AdamW):
    """Muon for parameters of two or more dimensions, AdamW for vectors.

    A kernel (outputs, inputs, height, width) counts as a matrix of `outputs` rows: the first and
    the last ones too, unlike in Jordan et al. Rate and weight decay are AdamW's, for both.
    """

    def __setstate__(self, state):
        """Without AdamW's own, which looks for its count of steps in the kernels' states too."""
        torch.optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self):
        """One step. It clears the kernels' gradients, which AdamW must not see."""
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.dim() > 1 and kernel.grad is not None:
                    self._move(kernel, group["lr"], group["weight_decay"])
                    kernel.grad = None
        super().step()

    def _move(self, kernel, rate, decay):
        """One step of a kernel (m, …) along its gradient's momentum, looking ahead (Nesterov)."""
        state = self.state[kernel]
        if not state:
            state["momentum"] = torch.zeros_like(kernel)
        momentum = state["momentum"].lerp_(kernel.grad, 1 - MOMENTUM)
        ahead = kernel.grad.lerp(momentum, MOMENTUM)
        direction = orthogonal(ahead.flatten(1))
        scale = STEP_RMS * max(direction.shape) ** 0.5
        kernel.mul_(1 - rate * decay)
        kernel.add_(direction.view_as(kernel), alpha=-rate * scale)


def orthogonal(matrix):
    """A matrix (m, n) with the singular vectors of another and singular values of about 1: 0.68
    to 1.2, but less for those below 0.0015 of its Frobenius norm. Zero stays zero.

    Each iteration is a polynomial of the square (m, m), so that they multiply one another there,
    and the wide matrix once, in the end: a third of the work for kernels of 3 x 3 pixels.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    a, b, c = COEFFICIENTS
    matrix = matrix / matrix.norm().clamp(min=1e-12)
    square = matrix @ matrix.T
    product = one = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    for _ in range(ITERATIONS):
        factor = torch.addmm(square, square, square, beta=b, alpha=c).add_(one, alpha=a)
        product = factor @ product
        square = factor @ square @ factor
    return product @ matrix
