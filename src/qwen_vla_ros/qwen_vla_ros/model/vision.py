"""The image encoder of Qwen3.5, top to bottom; the modules have the names of its weights.

What depends on the sizes of the images alone is a `VisionLayout`. The rest has no Python that
looks at a number, so that a GPU can record it; images of one size are one batch in attention.

Shapes: P patches of all images, D width, N heads, E = D / N per head, V tokens = P / 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.qwen3_5 import Qwen3_5VisionConfig
from transformers.vision_utils import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
)

from qwen_vla_ros.model.image_processing import Grid
from qwen_vla_ros.model.rotation import Rotation, frequencies

EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class VisionLayout:
    """What the sizes of the images say.

    Attributes:
        grids: Of these images.
        embedded: Position embedding of every patch; (P, D).
        rotate: Every patch by its row and column.
        groups: Number of images, and of patches in each, of every run of images of one size.
    """

    grids: tuple[Grid, ...]
    embedded: Tensor
    rotate: Rotation
    groups: tuple[tuple[int, int], ...]


class Vision(nn.Module):
    """Patches of images in, tokens of the language model out."""

    def __init__(self, config: Qwen3_5VisionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.patch_embed = PatchEmbed(config)
        self.pos_embed = nn.Embedding(config.num_position_embeddings, width)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.depth))
        self.merger = Merger(config)

    def lay_out(self, grids: tuple[Grid, ...]) -> VisionLayout:
        """Return what stays the same while the images keep their sizes."""
        config, weight = self.config, self.pos_embed.weight
        side = round(config.num_position_embeddings**0.5)
        indices, shares, places = _places(grids, side, config.spatial_merge_size, weight.device)
        embedded = (self.pos_embed(indices) * shares).sum(1)
        base = (config.rope_parameters or {})["rope_theta"]
        turns = frequencies(config.hidden_size // config.num_heads // 4, base, weight.device)
        angles = (places[:, :, None] * turns).flatten(1)  # (P, E/2): by rows, then by columns
        sizes = [frames * rows * columns for frames, rows, columns in grids]
        return VisionLayout(
            grids=grids,
            embedded=embedded.to(weight.dtype),
            rotate=Rotation.by(angles, torch.float32),
            groups=tuple((len(list(run)), size) for size, run in groupby(sizes)),
        )

    def forward(self, pixel_values: Tensor, layout: VisionLayout) -> Tensor:
        """Return the tokens of the images.

        Args:
            pixel_values: One frame of every patch; (P, 3 patch^2).
            layout: Of these images.

        Returns:
            One feature per token, images in order; (V, width of the language model).
        """
        x = self.patch_embed(pixel_values) + layout.embedded  # (P, D)
        for block in self.blocks:
            x = block(x, layout)
        seen: Tensor = self.merger(x)
        return seen


@lru_cache(maxsize=8)
def _places(
    grids: tuple[Grid, ...], side: int, merge: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return where patches stand in a table of `side` x `side` embeddings, and in their images.

    Remembered, because in training the same sizes come in every step, hundreds of them.

    Returns:
        Rows of the table (P, 4), the share of each (P, 4, 1), and row and column (P, 2).
    """
    # What is remembered must be of use to whoever follows gradients, whoever asked first.
    with torch.inference_mode(mode=False):
        return _find_places(torch.tensor(grids), side, merge, device)


def _find_places(
    table: Tensor, side: int, merge: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    indices, shares = get_vision_interpolation_indices_and_weights(
        table,
        num_grid_per_side=side,
        mode="bilinear",
        align_corners=True,
        spatial_merge_size=merge,
    )
    places = get_vision_position_ids(table, merge)
    return indices.to(device), shares.to(device)[:, :, None], places.to(device)


class PatchEmbed(nn.Module):
    """Pixels of a patch to features of a token."""

    def __init__(self, config: Qwen3_5VisionConfig) -> None:
        super().__init__()
        patch: Any = config.patch_size  # whose type has room for other shapes
        frames: Any = config.temporal_patch_size
        self.proj = nn.Conv3d(3, config.hidden_size, (frames, patch, patch))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(P, 3 patch^2), one frame -> (P, D)."""
        # An image is a still film: every frame in a patch is the same, so their kernels add up.
        # And a kernel as large as its input is a matrix product, which takes a fifth of the time.
        weight = self.proj.weight
        kernel = weight.float().sum(dim=2).flatten(1).to(weight.dtype)
        return functional.linear(pixel_values.to(kernel.dtype), kernel, self.proj.bias)


class VisionBlock(nn.Module):
    """Patches of an image among each other, then each by itself."""

    def __init__(self, config: Qwen3_5VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=EPS)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=EPS)
        self.attn = VisionAttention(config)
        self.mlp = VisionMlp(config)

    def forward(self, x: Tensor, layout: VisionLayout) -> Tensor:
        """(P, D) both ways."""
        x = x + self.attn(self.norm1(x), layout)
        answer: Tensor = x + self.mlp(self.norm2(x))
        return answer


class VisionAttention(nn.Module):
    """Every patch sees all patches of its image."""

    def __init__(self, config: Qwen3_5VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, layout: VisionLayout) -> Tensor:
        """(P, D) both ways."""
        heads = self.qkv(x).unflatten(-1, (3 * self.num_heads, -1))
        turned, value = heads.split((2 * self.num_heads, self.num_heads), dim=1)
        query, key = layout.rotate(turned).chunk(2, dim=1)  # (P, N, E)
        seen, begin = [], 0
        for images, patches in layout.groups:
            end = begin + images * patches
            parts = (
                part[begin:end].unflatten(0, (images, patches)).transpose(1, 2)
                for part in (query, key, value)
            )
            attended = functional.scaled_dot_product_attention(*parts)
            # (images, N, patches, E) -> (images * patches, D)
            seen.append(attended.transpose(1, 2).flatten(2).flatten(0, 1))
            begin = end
        answer: Tensor = self.proj(seen[0] if len(seen) == 1 else torch.cat(seen))
        return answer


class VisionMlp(nn.Module):
    """Each patch by itself."""

    def __init__(self, config: Qwen3_5VisionConfig) -> None:
        super().__init__()
        self.linear_fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.linear_fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(P, D) both ways."""
        answer: Tensor = self.linear_fc2(functional.gelu(self.linear_fc1(x), approximate="tanh"))
        return answer


class Merger(nn.Module):
    """Neighbouring patches become one token."""

    def __init__(self, config: Qwen3_5VisionConfig) -> None:
        super().__init__()
        self.width = config.hidden_size * config.spatial_merge_size**2
        self.norm = nn.LayerNorm(config.hidden_size, eps=EPS)
        self.linear_fc1 = nn.Linear(self.width, self.width)
        self.linear_fc2 = nn.Linear(self.width, config.out_hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(P, D) -> (V, width of the language model)."""
        merged = self.norm(x).view(-1, self.width)
        answer: Tensor = self.linear_fc2(functional.gelu(self.linear_fc1(merged)))
        return answer
