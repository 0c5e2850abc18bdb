"""A chunk is sampled: noise to actions, in a few steps; it may continue the chunk before.

t = 1 is noise, t = 0 is data; sampling walks from 1 to 0.

What the robot plays while the model thinks is committed. A decoder that was trained for it is
given these rows as clean data. One that was not is guided: at every step the estimate of the clean
chunk is pulled to them, by the gradient of their distance with respect to the noisy chunk. That is
pseudo-inverse guidance as in Black, Galliker and Levine, "Real-Time Execution of Action Chunking
Flow Policies" (2025), with time turned round: there 0 is noise. It costs a backward pass per step.

Shapes: B batch, H action steps, K action channels (padded).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qwen_vla_ros.model.action_decoder import ActionDecoder, Context, Schedule, with_frozen

STRONGEST = 5.0
"""The pull of guidance is clipped here; the paper's beta, chosen there for few steps."""

Velocity = Callable[[Tensor, int], Tensor]
"""Gives dY/dt = eps - Y0 for Y_t (B, H, K) at `step_times(steps)[step]`. It is asked by step, not
by time: what depends on time alone is computed beforehand."""


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


def decode(
    decoder: ActionDecoder,
    context: Context,
    noise: Tensor,
    mask: Tensor,
    schedule: Schedule,
    committed: Committed | None = None,
) -> Tensor:
    """Return actions (B, H, K). All H steps are real here.

    Args:
        decoder: Whose `schedule` this is.
        context: What the backbone made of the observation.
        noise: Where sampling begins, zero where padded; (B, H, K).
        mask: True where a channel is real; padded ones stay as they are; (B, H, K).
        schedule: AdaLN of as many steps as are to be walked.
        committed: What to continue. Rows of a `prefix` come out as they were given.
    """
    with torch.no_grad():
        prefix = decoder.begin(context, noise.shape[1], clean=schedule.clean)
        steps, moving = schedule.steps, mask
        if committed is not None and committed.method == "prefix":
            frozen = committed.rows.unsqueeze(-1)  # (B, H, 1)
            # What has no velocity stays what it is.
            noise, moving = torch.where(frozen, committed.actions, noise), mask & ~frozen
            length = prefix.context.shape[1]
            steps = tuple(
                with_frozen(step, schedule.clean, committed.rows, length) for step in steps
            )

        def velocity(y: Tensor, step: int) -> Tensor:
            return decoder.velocity(prefix, y, steps[step]) * moving

        if committed is None or committed.method == "prefix":
            return sample(velocity, noise, len(steps))
        guided = guide(velocity, committed, len(steps))
        # Padding has no velocity, but the pull knows of no padding.
        return sample(lambda y, step: guided(y, step) * mask, noise, len(steps))


def sample(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Walk from noise (B, H, K) at t = 1 to data at t = 0 in `steps` equal Euler steps.

    One is exact when the velocity is.
    """
    y = noise
    for step in range(steps):
        # The velocity points from data to noise; time falls, hence the minus.
        y = y - velocity(y, step) / steps
    return y


def guide(velocity: Velocity, committed: Committed, steps: int) -> Velocity:
    """Return `velocity` with the pull towards `committed` in it.

    Nothing that `velocity` keeps may be made under `torch.inference_mode`: it is differentiated.
    """
    weights = committed.rows.unsqueeze(-1).to(committed.actions.dtype)  # (B, H, 1)

    def guided(y: Tensor, step: int) -> Tensor:
        t = 1 - step / steps
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            plain = velocity(y, step)
            estimate = y - t * plain  # of the clean chunk
            error = (committed.actions - estimate).detach() * weights
            (pull,) = torch.autograd.grad(estimate, y, error)
        return plain.detach() - strength(t) * pull

    return guided


def strength(t: float) -> float:
    """Return the weight of the pull at flow time `t`, which grows without bound at both ends."""
    unbounded = (t**2 + (1 - t) ** 2) / (t * (1 - t)) if 0 < t < 1 else math.inf
    return min(unbounded, STRONGEST)
