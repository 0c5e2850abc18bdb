"""The loss of one step: lambda_act times the actions, lambda_vl times what the pictures show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from qwen_vla_ros.model.action_decoder import Context
from qwen_vla_ros.model.family import text_of
from qwen_vla_ros.model.model import QwenVla
from qwen_vla_ros.training.batch import Batch
from qwen_vla_ros.training.flow_matching import draw_frozen, masked_loss, mix
from qwen_vla_ros.training.grounding import Grounding
from qwen_vla_ros.training.time_distribution import Beta, TimeDistribution, draw_times


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is asked, and how much each answer weighs.

    Attributes:
        action_weight: lambda_act.
        cell_weight: Of `GroundingLoss.cells`; 0 leaves it out.
        named_weight: Of `GroundingLoss.named`; 0 leaves it out.
        times: Which flow times are asked about.
        draws: Noise and times per example: what is seen costs more than what is decided.
        longest_prefix: Most rows that are given clean, as if the chunk before were being played.
    """

    action_weight: float = 1.0
    cell_weight: float = 0.1
    named_weight: float = 0.1
    times: TimeDistribution = field(default_factory=Beta)
    draws: int = 1
    longest_prefix: int = 0


class Objective(nn.Module):
    """The model with all that only training has."""

    def __init__(self, model: QwenVla, config: ObjectiveConfig, things: int) -> None:
        super().__init__()
        self.model, self.config = model, config
        width = text_of(model.config.backbone).hidden_size
        self.grounding = Grounding(width, max(things, 1))

    def forward(self, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Return scalars by name; `loss` is the one to follow downhill.

        Args:
            batch: On the model's device.
            generator: Draws noise and times, on the CPU, so that a run is the same anywhere.
        """
        config, backbone = self.config, self.model.backbone
        layout = backbone.lay_out(batch.inputs)
        context = backbone(layout, batch.inputs.pixel_values)
        losses: dict[str, Tensor] = {}
        if config.cell_weight or config.named_weight:
            mask = batch.inputs.mask
            length = context.hidden.shape[1]
            ends = torch.full((len(batch.actions),), length, device=batch.actions.device)
            last = (ends if mask is None else mask.sum(dim=1)) - 1
            found = self.grounding(
                context.hidden, layout.image_places, last, batch.cells, batch.places
            )
            losses |= {"cells": found.cells, "named": found.named, "named_error": found.error}
        losses["action"] = self._action_loss(context, batch, generator)
        losses["loss"] = config.action_weight * losses["action"]
        if config.cell_weight:
            losses["loss"] = losses["loss"] + config.cell_weight * losses["cells"]
        if config.named_weight:
            losses["loss"] = losses["loss"] + config.named_weight * losses["named"]
        return losses

    def _action_loss(self, context: Context, batch: Batch, generator: torch.Generator) -> Tensor:
        config, draws = self.config, self.config.draws
        device = batch.actions.device
        clean, mask = (x.repeat(draws, 1, 1) for x in (batch.actions, batch.mask))
        told = Context(
            context.hidden.repeat(draws, 1, 1),
            context.positions.repeat(1, draws, 1),
            None if context.mask is None else context.mask.repeat(draws, 1),
        )
        count, horizon, _ = clean.shape
        noise = torch.randn(clean.shape, generator=generator).to(device) * mask
        t = draw_times(count, config.times, generator).to(device)
        frozen = None
        if config.longest_prefix:
            frozen = draw_frozen(count, horizon, config.longest_prefix, generator).to(device)
        noisy, target = mix(clean, noise, t, frozen)
        velocity = self.model.decoder(told, noisy, t, step_mask=mask.any(dim=2), frozen=frozen)
        asked = mask if frozen is None else mask & ~frozen.unsqueeze(-1)
        return masked_loss(velocity, target, asked)
