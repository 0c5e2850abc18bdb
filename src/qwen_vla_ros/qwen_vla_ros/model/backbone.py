"""The backbone: Qwen3.5 read for its hidden states, in training as when serving.

What the layout of the prompts says is computed by `lay_out`, once per prompt when serving. From
the images to the hidden states no number decides what is computed next, so that a GPU can record
all of it as one graph. The modules have the names of the published weights.

Shapes: B batch, L tokens, padded on the right; D hidden size, P patches, V image tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.initialization import no_init_weights
from transformers.models.qwen3_5 import Qwen3_5Config

from qwen_vla_ros.model.action_decoder import Context
from qwen_vla_ros.model.family import text_of, vision_of
from qwen_vla_ros.model.inputs import Inputs
from qwen_vla_ros.model.language import DeltaNet, Language, Norm
from qwen_vla_ros.model.rotation import Rotation
from qwen_vla_ros.model.vision import Vision, VisionLayout

if TYPE_CHECKING:
    from transformers.models.qwen3_5 import Qwen3_5ForConditionalGeneration


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What prompts say before an image is seen.

    Attributes:
        embedded: Embeddings of all tokens; those at the places of images mean nothing; (B, L, D).
        image_places: Where the image tokens stand among all tokens of the batch; (V,).
        positions: Time, height and width row of every token, zero where padded; (3, B, L).
        mask: True where a token is real; (B, L). `None` when all are.
        rotate: Every token by its position.
        vision: Of the image encoder; `None` without images.
    """

    embedded: Tensor
    image_places: Tensor
    positions: Tensor
    mask: Tensor | None
    rotate: Rotation
    vision: VisionLayout | None


class _Model(nn.Module):
    """The two parts, under the names of their weights."""

    def __init__(self, config: Qwen3_5Config) -> None:
        super().__init__()
        self.visual = Vision(vision_of(config))
        self.language_model = Language(text_of(config))


class Backbone(nn.Module):
    """One forward pass per observation; the decoder reads layer `context_layer`."""

    def __init__(self, config: Qwen3_5Config, context_layer: int | None = None) -> None:
        super().__init__()
        self.config, self.context_layer = config, context_layer
        self.model = _Model(config)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin as the family does."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding | nn.Conv1d | nn.Conv3d):
                nn.init.normal_(module.weight, std=text_of(self.config).initializer_range)
                bias = getattr(module, "bias", None)
                if isinstance(bias, Tensor):
                    nn.init.zeros_(bias)
            elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
                module.reset_parameters()
            elif isinstance(module, Norm):
                nn.init.zeros_(module.weight)
            elif isinstance(module, DeltaNet):
                nn.init.ones_(module.dt_bias)
                with torch.no_grad():
                    module.A_log.uniform_(0.01, 16).log_()

    def lay_out(self, inputs: Inputs, like: Layout | None = None) -> Layout:
        """Return what stays the same while prompts and image sizes do.

        Args:
            inputs: The prompts.
            like: A layout whose part about images is taken over if theirs have the same sizes:
                prompts come and go, cameras stay.
        """
        language, vision = self.model.language_model, None if like is None else like.vision
        if vision is None or vision.grids != inputs.grids:
            vision = self.model.visual.lay_out(inputs.grids) if inputs.grids else None
        return Layout(
            embedded=language.embed_tokens(inputs.token_ids),
            image_places=inputs.is_image.flatten().nonzero()[:, 0],
            positions=inputs.positions,
            mask=inputs.mask,
            rotate=language.rotation(inputs.positions),
            vision=vision,
        )

    def hidden_states(
        self, layout: Layout, pixel_values: Tensor, layer: int | None = None
    ) -> Tensor:
        """Return the hidden states of a layer, the last one if `None`; (B, L, D).

        Args:
            layout: Of the prompts.
            pixel_values: One frame of every patch of their images; (P, 3 patch^2).
            layer: See `Language.forward`.
        """
        tokens = layout.embedded
        if layout.vision is not None:
            # Where half precision is left to autocast, these are halves and embeddings are whole.
            seen = self.model.visual(pixel_values, layout.vision).to(tokens.dtype)  # (V, D)
            flat = tokens.flatten(0, 1).index_copy(0, layout.image_places, seen)
            tokens = flat.view_as(tokens)
        hidden: Tensor = self.model.language_model(tokens, layout.rotate, layer)
        return hidden

    def forward(self, layout: Layout, pixel_values: Tensor) -> Context:
        """Read images (P, 3 patch^2) at their places in the prompts, for the decoder."""
        hidden = self.hidden_states(layout, pixel_values, self.context_layer)
        return Context(hidden, layout.positions, layout.mask)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return what is said next, by the head that is tied to the embedding; (..., D)."""
        return functional.linear(hidden, self.model.language_model.embed_tokens.weight)


def as_family(backbone: Backbone) -> Qwen3_5ForConditionalGeneration:
    """Return transformers' own model of the very same weights, which can write text."""
    from transformers.models.qwen3_5 import Qwen3_5ForConditionalGeneration

    # Not on the meta device: its rotary frequencies are buffers that no file holds. Memory that
    # nobody writes to costs nothing until it is replaced.
    with torch.random.fork_rng(devices=()), no_init_weights():
        qwen = Qwen3_5ForConditionalGeneration(backbone.config)
    qwen.load_state_dict(backbone.state_dict(), assign=True, strict=False)
    qwen.tie_weights()
    # For the buffers.
    nn.Module.to(qwen, backbone.model.language_model.embed_tokens.weight.device)
    qwen.train(mode=False)
    return qwen


def in_family_words(inputs: Inputs, config: Qwen3_5Config) -> dict[str, Tensor]:
    """Return a batch as transformers' model takes it, which repeats every still as a film."""
    words = {"input_ids": inputs.token_ids, "mm_token_type_ids": inputs.is_image.int()}
    if inputs.mask is not None:
        words["attention_mask"] = inputs.mask.int()
    if inputs.grids:
        frames: Any = vision_of(config).temporal_patch_size
        film = (
            inputs.pixel_values.view(len(inputs.pixel_values), 3, 1, -1)
            .repeat(1, 1, frames, 1)
            .flatten(1)
        )
        grids = torch.tensor(inputs.grids, device=film.device)
        words |= {"pixel_values": film, "image_grid_thw": grids}
    return words
