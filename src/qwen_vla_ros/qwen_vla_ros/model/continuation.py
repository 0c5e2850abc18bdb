"""A chunk continues what is played while the model thinks: what that is, and one way to do it.

Guidance is for a decoder that was never shown how to continue. At every step the estimate of the
clean chunk is pulled to the rows that are played already, by the gradient of their distance with
respect to the noisy chunk: pseudo-inverse guidance as in Black, Galliker and Levine, "Real-Time
Execution of Action Chunking Flow Policies" (2025), with time turned round: there 0 is noise, here
1 is. It costs a backward pass per step.

Shapes: B batch, H action steps, K action channels (padded).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

STRONGEST = 5.0
"""The pull is clipped here; the paper's beta, chosen there for few steps."""


@dataclass(frozen=True)
class Committed:
    """Rows of the chunk before that are played whatever the new chunk says.

    Every field has the shape of the whole chunk, however many rows are committed: a call has the
    same shapes and the same kernels each time. Nothing committed is `rows` all false.

    Attributes:
        actions: Normalised actions; read where `rows` is true; (B, H, K).
        rows: True where a row is committed; (B, H).
        method: `prefix` gives the rows to the decoder as clean data, which it must have been
            trained for (`DecoderConfig.frozen_prefix`), and returns them exactly as given.
            `guidance` pulls the sample towards them and works with any decoder.
    """

    actions: Tensor
    rows: Tensor
    method: Literal["prefix", "guidance"]


def strength(t: float) -> float:
    """Return the weight of the pull at flow time `t`, which grows without bound at both ends."""
    unbounded = (t**2 + (1 - t) ** 2) / (t * (1 - t)) if 0 < t < 1 else math.inf
    return min(unbounded, STRONGEST)


def guide(
    velocity: Callable[[Tensor, int], Tensor], committed: Committed, steps: int
) -> Callable[[Tensor, int], Tensor]:
    """Return `velocity` with the pull towards `committed` in it.

    Args:
        velocity: As `flow.sample` takes it; it must be differentiable in its first argument, so
            nothing that it keeps may be made under `torch.inference_mode`.
        committed: What to continue.
        steps: Number of steps.
    """
    weights = committed.rows.unsqueeze(-1).to(committed.actions.dtype)  # (B, H, 1)

    def guided(y: Tensor, step: int) -> Tensor:
        t = 1 - step / steps
        with torch.inference_mode(mode=False), torch.enable_grad():
            y = y.clone().requires_grad_()
            plain = velocity(y, step)
            estimate = y - t * plain  # of the clean chunk
            error = (committed.actions - estimate).detach() * weights
            (pull,) = torch.autograd.grad(estimate, y, error)
        return plain.detach() - strength(t) * pull

    return guided
