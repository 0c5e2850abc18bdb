"""The objective of the decoder: noise and data are mixed, and it answers the way between them.

As in `model.sampling`, t = 1 is noise and t = 0 is data. Shapes: B batch, H action steps, K action
channels (padded).
"""

from __future__ import annotations

import torch
from torch import Tensor


def mix(
    clean: Tensor, noise: Tensor, t: Tensor, frozen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what the decoder sees and what it must answer, for training.

    Args:
        clean: Y0, the normalised actions, zero where padded; (B, H, K).
        noise: eps, zero where padded as well; (B, H, K).
        t: Flow time of each sample, in [0, 1]; (B,).
        frozen: True where a row stays clean: its time is 0; (B, H). The loss leaves it out, since
            nobody will ask for its velocity. `None`: no row does.

    Returns:
        Y_t = (1 - t) Y0 + t eps and its velocity eps - Y0; both (B, H, K).
    """
    t = t.view(-1, 1, 1)
    if frozen is not None:
        t = t.masked_fill(frozen.unsqueeze(-1), 0.0)  # (B, H, 1)
    return (1 - t) * clean + t * noise, noise - clean


def draw_frozen(
    count: int, horizon: int, longest: int, generator: torch.Generator | None = None
) -> Tensor:
    """Return which rows of `count` chunks training gives clean; (count, horizon).

    They are the first 0 to `longest` rows, each number as often as the others: as many as are
    played while the model thinks, which is not known in training. From Black, Ren, Equi and
    Levine, "Training-Time Action Conditioning for Efficient Real-Time Chunking" (2025).
    """
    rows = torch.randint(longest + 1, (count, 1), generator=generator)
    return torch.arange(horizon) < rows


def masked_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error over valid steps, then over channels, then over the batch.

    The order matters where samples differ in size: a robot of 3 channels and 8 steps weighs as
    much as one of 14 channels and 16 steps.

    Args:
        predicted: Velocity that the decoder answered; (B, H, K).
        target: Velocity from `mix`; (B, H, K).
        mask: True where the action is real; (B, H, K).
    """
    valid = mask.to(predicted.dtype)
    error = (predicted - target).square() * valid
    steps = valid.sum(dim=1)  # (B, K)
    per_channel = error.sum(dim=1) / steps.clamp(min=1)
    channels = (steps > 0).sum(dim=1)  # (B,)
    return (per_channel.sum(dim=1) / channels.clamp(min=1)).mean()
