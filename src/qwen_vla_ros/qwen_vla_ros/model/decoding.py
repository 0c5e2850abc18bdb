"""A chunk is sampled: noise to actions, in as many steps as were prepared.

Shapes: B batch, H action steps, K action channels (padded).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from qwen_vla_ros.model.action_decoder import ActionDecoder, Prefix, Schedule
from qwen_vla_ros.model.backbone import Context
from qwen_vla_ros.model.continuation import Committed, guide
from qwen_vla_ros.model.flow import sample


def decode(
    decoder: ActionDecoder,
    context: Context,
    noise: Tensor,
    mask: Tensor,
    schedule: Schedule,
    committed: Committed | None = None,
) -> Tensor:
    """Return actions (B, H, K).

    All H steps are real here.

    Args:
        decoder: Whose `schedule` this is.
        context: What the backbone made of the observation.
        noise: Where sampling begins, zero where padded; (B, H, K).
        mask: True where a channel is real; padded ones stay as they are; (B, H, K).
        schedule: What was prepared for this number of steps.
        committed: What to continue. Rows of a `prefix` come out as they were given.
    """
    if committed is not None and committed.method == "guidance":
        return _decode_guided(decoder, context, noise, mask, schedule, committed)
    prefix = _begin(decoder, context, noise.shape[1], schedule)
    steps, moving = schedule.steps, mask
    if committed is not None:
        frozen = committed.rows.unsqueeze(-1)  # (B, H, 1)
        # What has no velocity stays what it is.
        noise, moving = torch.where(frozen, committed.actions, noise), mask & ~frozen
        length = prefix.context.shape[1]
        steps = tuple(step.frozen(committed.rows, schedule.clean, length) for step in steps)

    def velocity(y: Tensor, step: int) -> Tensor:
        return decoder.velocity(prefix, y, steps[step]) * moving

    return sample(velocity, noise, len(steps))


def _decode_guided(
    decoder: ActionDecoder,
    context: Context,
    noise: Tensor,
    mask: Tensor,
    schedule: Schedule,
    committed: Committed,
) -> Tensor:
    # What was made under inference mode cannot be part of a gradient; a copy of it can.
    with torch.inference_mode(mode=False), torch.no_grad():
        schedule, mask = replace(schedule, packed=None), mask.clone()
        seen = None if context.mask is None else context.mask.clone()
        context = Context(context.hidden.clone(), context.positions.clone(), seen)
        prefix = _begin(decoder, context, noise.shape[1], schedule)

    def velocity(y: Tensor, step: int) -> Tensor:
        return decoder.velocity(prefix, y, schedule.steps[step]) * mask

    guided = guide(velocity, committed, len(schedule.steps))
    # Padding has no velocity, but the pull knows of no padding.
    return sample(lambda y, step: guided(y, step) * mask, noise, len(schedule.steps))


def _begin(decoder: ActionDecoder, context: Context, horizon: int, schedule: Schedule) -> Prefix:
    return decoder.begin(
        context.hidden, context.positions, horizon, context_mask=context.mask, schedule=schedule
    )
