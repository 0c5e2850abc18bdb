"""The family's image encoder, computed for serving: same weights, same numbers.

What depends on the sizes of the images alone is a `VisionLayout`. The rest has no Python that
looks at a number, so that a GPU can record it; images of one size are one batch in attention.

Shapes: P patches of all images, D width, N heads, E = D / N per head, V tokens = P / 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5VisionBlock, Qwen3_5VisionModel
from transformers.vision_utils import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
)

from qwen_vla_ros.model.product import Layer

Grid = tuple[int, int, int]
"""Frames, rows and columns of patches of one image."""


@dataclass(frozen=True, kw_only=True)
class VisionLayout:
    """What the sizes of the images say.

    Attributes:
        embedded: Position embedding of every patch; (P, D).
        cos: Of the rotary angles of every patch; (P, 1, 1, E), float32.
        sin: The same, its first half negated, since that half receives the other's negative.
        groups: Number of images, and of patches in each, of every run of images of one size.
    """

    embedded: Tensor
    cos: Tensor
    sin: Tensor
    groups: tuple[tuple[int, int], ...]


class FastVision:
    """Reads images with the weights of a `Qwen3_5VisionModel`, which must not change any more."""

    def __init__(self, visual: Qwen3_5VisionModel) -> None:
        self._visual = visual
        projection, merger = visual.patch_embed.proj, visual.merger
        # An image is a still film: every frame in a patch is the same, so their kernels add up.
        kernel = projection.weight.detach().float().sum(dim=2).flatten(1)  # (D, 3 patch^2)
        self._dtype = projection.weight.dtype
        self._embed = Layer(kernel.to(self._dtype), projection.bias)
        blocks = (block for block in visual.blocks if isinstance(block, Qwen3_5VisionBlock))
        self._blocks = [_Block(block) for block in blocks]
        self._norm, self._merged_size = merger.norm, merger.hidden_size
        self._merge_up, self._merge_down = _layer(merger.linear_fc1), _layer(merger.linear_fc2)

    def lay_out(self, grids: Sequence[Grid]) -> VisionLayout:
        """Return what stays the same while the images keep their sizes."""
        visual, weight = self._visual, self._visual.pos_embed.weight
        table = torch.tensor(grids)
        merge = visual.spatial_merge_size
        indices, shares = get_vision_interpolation_indices_and_weights(
            table,
            num_grid_per_side=visual.num_grid_per_side,
            mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners,
            spatial_merge_size=merge,
        )
        shares = shares.to(weight.device)[:, :, None]
        embedded = (visual.pos_embed(indices.to(weight.device)) * shares).sum(1)
        places = get_vision_position_ids(table, merge).to(weight.device)
        cos, sin = (x.float()[:, None, None] for x in visual.rotary_pos_emb(embedded, places))
        first, second = sin.chunk(2, dim=-1)
        sizes = [frames * rows * columns for frames, rows, columns in grids]
        return VisionLayout(
            embedded=embedded.to(weight.dtype),
            cos=cos,
            sin=torch.cat((-first, second), dim=-1),
            groups=tuple((len(list(run)), size) for size, run in groupby(sizes)),
        )

    def __call__(self, stills: Tensor, layout: VisionLayout) -> Tensor:
        """Return the tokens of the images.

        Args:
            stills: One frame of every patch; (P, 3 patch^2).
            layout: Of these images.

        Returns:
            One feature per token, images in order; (V, width of the language model).
        """
        x = self._embed(stills.to(self._dtype)) + layout.embedded  # (P, D)
        for block in self._blocks:
            x = block(x, layout)
        merged = _normalize(self._norm, x).view(-1, self._merged_size)  # (V, 4 D)
        return self._merge_down(self._merge_up(merged, "gelu"))


class _Block:
    """Patches of an image among each other, then each by itself."""

    def __init__(self, block: Qwen3_5VisionBlock) -> None:
        self._before, self._between = block.norm1, block.norm2
        self._heads = block.attn.num_heads
        self._qkv, self._out = _layer(block.attn.qkv), _layer(block.attn.proj)
        self._up, self._down = _layer(block.mlp.linear_fc1), _layer(block.mlp.linear_fc2)

    def __call__(self, x: Tensor, layout: VisionLayout) -> Tensor:
        x = x + self._attend(_normalize(self._before, x), layout)
        return x + self._down(self._up(_normalize(self._between, x), "gelu_tanh"))

    def _attend(self, x: Tensor, layout: VisionLayout) -> Tensor:
        qkv = self._qkv(x).view(len(x), 3, self._heads, -1)  # (P, 3, N, E)
        turned = qkv[:, :2].float()
        first, second = turned.chunk(2, dim=-1)
        swapped = torch.cat((second, first), dim=-1)
        turned = swapped.mul_(layout.sin).addcmul_(turned, layout.cos)
        query, key = turned.to(x.dtype).unbind(1)
        value = qkv[:, 2]
        seen = []
        begin = 0
        for images, patches in layout.groups:
            end = begin + images * patches
            shape = (images, patches, self._heads, -1)
            one, other, third = (
                part[begin:end].view(shape).transpose(1, 2) for part in (query, key, value)
            )
            attended = functional.scaled_dot_product_attention(one, other, third)
            # (images, N, patches, E) -> (images * patches, D)
            seen.append(attended.transpose(1, 2).flatten(2).flatten(0, 1))
            begin = end
        return self._out(seen[0] if len(seen) == 1 else torch.cat(seen))


def _layer(linear: nn.Linear) -> Layer:
    return Layer(linear.weight, linear.bias)


def _normalize(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
