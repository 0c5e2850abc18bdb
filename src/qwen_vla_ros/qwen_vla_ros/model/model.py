"""Qwen-VLA: backbone, then decoder. Nothing is kept from one observation to the next.

Shapes: B batch, P patches, H action steps, K action channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from qwen_vla_ros.model.action_decoder import ActionDecoder, Context
from qwen_vla_ros.model.backbone import Backbone, Layout
from qwen_vla_ros.model.config import ModelConfig
from qwen_vla_ros.model.family import text_of
from qwen_vla_ros.model.graph_cache import GraphCache, Recorder
from qwen_vla_ros.model.inputs import Inputs
from qwen_vla_ros.model.sampling import Committed, decode, step_times


class QwenVla(nn.Module):
    """The whole model; gradients of the action loss reach all of it, as in the paper."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = text_of(config.backbone).hidden_size
        self.backbone = Backbone(config.backbone, config.decoder.context_layer)
        self.decoder = ActionDecoder(config.decoder, width)

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
        context = self.backbone(self.backbone.lay_out(inputs), inputs.pixel_values)
        velocity: Tensor = self.decoder(
            context, actions, t, step_mask=mask.any(dim=2), frozen=frozen
        )
        return velocity

    def cast(self, dtype: torch.dtype) -> QwenVla:
        """Convert the parameters in place.

        The family keeps two kinds of weights of its delta nets in float32, whatever the rest is
        in; so do we.
        """
        for name, parameter in self.named_parameters():
            exact = name.endswith(("linear_attn.A_log", "linear_attn.norm.weight"))
            parameter.data = parameter.data.to(torch.float32 if exact else dtype)
        return self


class PreparedModel:
    """The model as it serves one robot, with the same shapes each time.

    On a CPU backbone and decoder are computed as they are called. On a GPU each is recorded once
    and replayed; two recordings and not one, so that each can be timed.
    """

    def __init__(
        self,
        model: QwenVla,
        mask: Tensor,
        steps: int,
        record: Recorder[Any] | None = None,
    ) -> None:
        """Compute what does not depend on any observation.

        Args:
            model: On the device where it shall run; its weights must not change any more.
            mask: True where an action is real; (1, H, K).
            steps: Euler steps.
            record: Records calls, see `GraphCache`; `None` computes each as it is called.
        """
        self._model, self._mask = model, mask
        self._schedule = model.decoder.schedule(step_times(steps))
        self.is_recorded = record is not None
        self._encode: Callable[[Layout, Tensor], Context] = model.backbone
        self._denoise: Callable[[None, Context, Tensor, Committed | None], Tensor] = self._decode
        if record is not None:
            self._encode = GraphCache(model.backbone, record)
            self._denoise = GraphCache(self._decode, record)

    def encode(self, layout: Layout, pixel_values: Tensor) -> Context:
        """Return what the decoder is told of (P, 3 patch^2); it holds until the next call."""
        with torch.no_grad():
            return self._encode(layout, pixel_values)

    def denoise(self, context: Context, noise: Tensor, committed: Committed | None) -> Tensor:
        """Return the normalised actions (1, H, K) that noise of that shape becomes."""
        if committed is not None and committed.method == "guidance":
            # Follows a gradient in every step, which is no fixed list of kernels.
            return self._decode(None, context, noise, committed)
        return self._denoise(None, context, noise, committed)

    def _decode(
        self, _: None, context: Context, noise: Tensor, committed: Committed | None
    ) -> Tensor:
        return decode(self._model.decoder, context, noise, self._mask, self._schedule, committed)
