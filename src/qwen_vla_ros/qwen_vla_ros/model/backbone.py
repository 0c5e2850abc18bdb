"""The backbone: Qwen3.5 as transformers has it, read for its hidden states.

Shapes: B batch, L tokens, D hidden size, P patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.qwen3_5 import Qwen3_5Config, Qwen3_5ForConditionalGeneration

from qwen_vla_ros.model.config import BackboneConfig
from qwen_vla_ros.model.inputs import Inputs


@dataclass(frozen=True)
class Context:
    """What the decoder is told about the observation.

    Attributes:
        hidden: Hidden states of all tokens, images and text; (B, L, D).
        positions: Time, height and width row of every token; (3, B, L).
        mask: True where a token is real; (B, L). `None` when all are.
    """

    hidden: Tensor
    positions: Tensor
    mask: Tensor | None


def family_config(config: BackboneConfig) -> Qwen3_5Config:
    """Return the same dimensions in the family's own words."""
    vision = config.vision
    # The special tokens follow each other in the family's vocabulary, trimmed or whole.
    image = config.image_token_id
    return Qwen3_5Config(
        text_config={
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "num_key_value_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
            "linear_num_key_heads": config.linear_key_heads,
            "linear_key_head_dim": config.linear_key_head_dim,
            "linear_num_value_heads": config.linear_value_heads,
            "linear_value_head_dim": config.linear_value_head_dim,
            "max_position_embeddings": 262_144,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": config.rope_theta,
                "partial_rotary_factor": config.rotary_fraction,
                "mrope_section": list(config.rope_sections),
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": vision.depth,
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_heads": vision.num_heads,
            "num_position_embeddings": vision.positions,
            "out_hidden_size": config.hidden_size,
            "patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "spatial_merge_size": vision.merge_size,
        },
        tie_word_embeddings=True,
        image_token_id=image,
        video_token_id=image + 1,
        vision_start_token_id=image - 3,
        vision_end_token_id=image - 2,
    )


class PatchProjection(nn.Conv3d):
    """The patch embedding as one matrix product, with the weights of the convolution it is.

    A kernel as large as its input has one position to be at, and convolution code is slow at
    finding that out: 13 ms instead of 3 for three cameras on one core.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(P, C, T, H, W) -> (P, D, 1, 1, 1)."""
        flat = functional.linear(input.flatten(1), self.weight.flatten(1), self.bias)
        return flat[..., None, None, None]


class Backbone(nn.Module):
    """One forward pass per observation; the language head is kept for training on text."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.qwen = Qwen3_5ForConditionalGeneration(family_config(config))
        # When built without initialisation, transformers leaves the head untied as well.
        self.qwen.tie_weights()
        embed = self.qwen.model.visual.patch_embed
        conv = embed.proj
        embed.proj = PatchProjection(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, device="meta"
        )
        embed.proj.weight, embed.proj.bias = conv.weight, conv.bias

    def positions(self, inputs: Inputs) -> Tensor:
        """Return every token's position; (3, B, L). Depends on the layout of the prompt only."""
        positions, _ = self.qwen.model.get_rope_index(
            inputs.token_ids,
            mm_token_type_ids=inputs.is_image.int(),
            image_grid_thw=inputs.grids,
            attention_mask=inputs.mask,
        )
        return torch.as_tensor(positions)

    def forward(self, inputs: Inputs, positions: Tensor | None = None) -> Context:
        """Read the observation; `positions` are those of `positions()`, if at hand."""
        if positions is None:
            positions = self.positions(inputs)
        layer = self.config.context_layer
        output = self.qwen.model(
            input_ids=inputs.token_ids,
            attention_mask=inputs.mask,
            position_ids=positions,
            pixel_values=inputs.patches,
            image_grid_thw=inputs.grids,
            use_cache=False,
            output_hidden_states=layer is not None,
        )
        hidden = output.last_hidden_state if layer is None else output.hidden_states[layer]
        return Context(hidden, positions, inputs.mask)
