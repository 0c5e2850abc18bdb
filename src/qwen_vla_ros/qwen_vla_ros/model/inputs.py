"""What the backbone reads: token ids, patches, and where both stand, padded into one batch.

Shapes: B batch, L tokens of the longest prompt, P patches of all images, I images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.model.image_processing import COLOURS, ImageProcessor, Patches
from qwen_vla_ros.model.tokenizer import PromptTokens
from qwen_vla_ros.prompt.places import fill_places
from qwen_vla_ros.types import Observation, Prompt

Number = TypeVar("Number", np.float32, np.int64)


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


def patches_of(
    processor: ImageProcessor, embodiment: Embodiment, observation: Observation, prompt: Prompt
) -> Patches:
    """Return the patches of a prompt's image places, in their order.

    The one way from cameras to patches, in training as on the robot: which image goes where, what
    size the model sees of it, and how it gets there all come from the embodiment file.

    Raises:
        ValueError: When the observation lacks an image that the prompt has a place for.
    """
    cameras = {camera.name: camera for camera in embodiment.file.cameras}
    seen = [cameras[name] for name in prompt.cameras]
    return processor(
        fill_places(prompt, observation),
        [(camera.input_width_px, camera.input_height_px) for camera in seen],
        [camera.fit for camera in seen],
    )


def stills_on(patches: Patches, device: torch.device) -> Tensor:
    """Return the patches' `stills` on a device; (P, 3 * patch * patch), float32.

    A GPU is sent bytes, a quarter of what the normalised pixels take, and looks up the same
    values itself.
    """
    if device.type == "cpu":
        return torch.from_numpy(patches.stills)
    levels = torch.from_numpy(patches.processor.levels).to(device)
    return look_up(torch.from_numpy(patches.pixels).to(device), levels)


def look_up(pixels: Tensor, levels: Tensor) -> Tensor:
    """Return what every pixel is worth; (P, 3, patch, patch) -> (P, 3 * patch * patch)."""
    colours = torch.arange(COLOURS, device=pixels.device)[:, None]
    return levels[colours, pixels.flatten(2).int()].flatten(1)


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
        patches=torch.from_numpy(_joined([patches.values for _, patches in samples])),
        grids=torch.from_numpy(_joined([patches.grids for _, patches in samples])),
    )


def _joined(arrays: Sequence[npt.NDArray[Number]]) -> npt.NDArray[Number]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
