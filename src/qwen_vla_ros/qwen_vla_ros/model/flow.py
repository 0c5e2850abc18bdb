"""The flow: t = 1 is noise, t = 0 is data; sampling walks from 1 to 0.

Shapes: B batch, H action steps, K action channels (padded).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def draw_noise(
    mask: Tensor, generator: torch.Generator | None = None, *, temperature: float = 1.0
) -> Tensor:
    """Return Gaussian noise (B, H, K), zero where `mask` is false.

    Padding gets no noise (our choice; the paper does not say): nothing supervises the velocity
    there, so in sampling it would stay at whatever it began with. Held at zero in training and in
    sampling alike, it is the same input in both. A temperature below 1 shrinks the spread of the
    samples; the paper evaluates with 0.6.
    """
    noise = torch.randn(mask.shape, generator=generator, dtype=torch.float32)
    return noise.to(mask.device) * mask * temperature


def step_times(steps: int) -> Tensor:
    """Return the times at which `steps` Euler steps ask for a velocity, 1 first; (steps,)."""
    return 1 - torch.arange(steps, dtype=torch.float32) / steps


def sample(velocity: Callable[[Tensor, int], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Integrate from noise at t = 1 to data at t = 0 with `steps` equal Euler steps.

    Args:
        velocity: Gives dY/dt = eps - Y0 for Y_t (B, H, K) at `step_times(steps)[step]`. It
            is asked by step, not by time: what depends on time alone is computed beforehand.
        noise: Y_1; (B, H, K).
        steps: Number of steps. One is exact when the velocity is.
    """
    y = noise
    for step in range(steps):
        # The velocity points from data to noise; time falls, hence the minus.
        y = y - velocity(y, step) / steps
    return y
