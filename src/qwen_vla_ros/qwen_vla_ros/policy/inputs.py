"""What the backbone reads: token ids, patches, and where both stand, padded into one batch.

Shapes: B batch, L tokens of the longest prompt, P patches of all images, I images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from qwen_vla_ros.policy.image_processing import Patches
from qwen_vla_ros.policy.tokenizer import PromptTokens


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """One batch for the backbone.

    Attributes:
        token_ids: Zero where padded; (B, L).
        is_image: True where an image feature takes the place of the token's embedding; (B, L).
        mask: True where a token is real; (B, L). `None` when all are.
        patches: Normalised pixels, images in the order of their places; (P, values of a patch).
        grids: Frames, rows and columns of patches per image; (I, 3).
    """

    token_ids: Tensor
    is_image: Tensor
    mask: Tensor | None
    patches: Tensor
    grids: Tensor

    def to(self, device: torch.device) -> Inputs:
        """Return the batch on another device."""
        moved = {
            field.name: value.to(device)
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        return Inputs(**{"mask": None, **moved})


def collate(samples: Sequence[tuple[PromptTokens, Patches]]) -> Inputs:
    """Put samples into one batch, prompts padded on the right.

    On the right, because the gated delta nets read from the left: padding comes after everything
    real and cannot leak into it.
    """
    length = max(len(tokens.ids) for tokens, _ in samples)
    shape = (len(samples), length)
    ids, is_image = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    mask = np.zeros(shape, np.bool_)
    for row, (tokens, _) in enumerate(samples):
        ids[row, : len(tokens.ids)] = tokens.ids
        is_image[row, : len(tokens.ids)] = tokens.is_image
        mask[row, : len(tokens.ids)] = True
    return Inputs(
        token_ids=torch.from_numpy(ids),
        is_image=torch.from_numpy(is_image),
        mask=None if mask.all() else torch.from_numpy(mask),
        patches=torch.from_numpy(np.concatenate([patches.values for _, patches in samples])),
        grids=torch.from_numpy(np.concatenate([patches.grids for _, patches in samples])),
    )
