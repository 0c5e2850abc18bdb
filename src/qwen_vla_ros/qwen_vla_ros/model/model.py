"""Qwen-VLA: backbone, then decoder. Nothing is kept from one observation to the next.

Shapes: B batch, H action steps, K action channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qwen_vla_ros.model.action_decoder import ActionDecoder, Schedule
from qwen_vla_ros.model.backbone import Backbone, Context
from qwen_vla_ros.model.config import ModelConfig
from qwen_vla_ros.model.continuation import Committed
from qwen_vla_ros.model.decoding import decode
from qwen_vla_ros.model.inputs import Inputs


class QwenVla(nn.Module):
    """The whole model; gradients of the action loss reach all of it, as in the paper."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone)
        self.decoder = ActionDecoder(config.decoder, config.backbone.hidden_size)

    def forward(
        self,
        inputs: Inputs,
        actions: Tensor,
        t: Tensor,
        mask: Tensor,
        frozen: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity of noisy actions, for training.

        Args:
            inputs: The observations and prompts.
            actions: Y_t; (B, H, K).
            t: Flow times; (B,).
            mask: True where an action is real; (B, H, K).
            frozen: True where a row is clean and its time 0, whatever t is; (B, H). `None`: no
                row is.
        """
        context = self.backbone(inputs)
        velocity: Tensor = self.decoder(
            context.hidden,
            context.positions,
            actions,
            t,
            context_mask=context.mask,
            step_mask=mask.any(dim=2),
            frozen=frozen,
        )
        return velocity

    def decode(
        self,
        context: Context,
        noise: Tensor,
        mask: Tensor,
        schedule: Schedule,
        committed: Committed | None = None,
    ) -> Tensor:
        """Return actions (B, H, K) sampled from `noise`, in as many steps as `schedule` has.

        All H steps are real here; `mask` (B, H, K) keeps the padded channels at zero. Rows that
        are `committed` are continued; those of a `prefix` come out as they were given.
        """
        return decode(self.decoder, context, noise, mask, schedule, committed)

    def cast(self, dtype: torch.dtype) -> QwenVla:
        """Convert the parameters in place, and only them.

        `nn.Module.to` would convert the buffers as well: they hold rotary frequencies, and in
        bfloat16 a position of 300 would be off by one. The family keeps two kinds of weights of
        its delta nets in float32, whatever the rest is in; so do we.
        """
        for name, parameter in self.named_parameters():
            exact = name.endswith(("linear_attn.A_log", "linear_attn.norm.weight"))
            parameter.data = parameter.data.to(torch.float32 if exact else dtype)
        return self
