"""What the backbone reads: token ids, patches, and where both stand, padded into one batch.

Shapes: B batch, L tokens of the longest prompt, P patches of all images, I images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.model.image_processing import COLOURS, Grid, ImageProcessor, Patches
from qwen_vla_ros.model.tokenizer import PromptTokens
from qwen_vla_ros.prompt.places import fill_places
from qwen_vla_ros.types import Observation, Prompt


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """One batch for the backbone, prompts padded on the right.

    Attributes:
        token_ids: Zero where padded; (B, L).
        is_image: True where an image feature takes the place of the token's embedding; (B, L).
        positions: Time, height and width row of every token, zero where padded; (3, B, L).
        mask: True where a token is real; (B, L). `None` when all are.
        pixel_values: Normalised pixels, one frame of every patch, images in the order of their
            places; (P, 3 * patch * patch).
        grids: Frames, rows and columns of patches per image.
    """

    token_ids: Tensor
    is_image: Tensor
    positions: Tensor
    mask: Tensor | None
    pixel_values: Tensor
    grids: tuple[Grid, ...]

    def to(self, device: torch.device) -> Inputs:
        """Return the batch on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        return Inputs(**moved)


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


def pixel_values_on(patches: Patches, device: torch.device) -> Tensor:
    """Return the patches' `pixel_values` on a device; (P, 3 * patch * patch), float32.

    A GPU is sent bytes, a quarter of what the normalised pixels take, and looks up the same
    values itself.
    """
    if device.type == "cpu":
        return torch.from_numpy(patches.pixel_values)
    levels = torch.from_numpy(patches.processor.levels).to(device)
    return normalise(torch.from_numpy(patches.pixels).to(device), levels)


def normalise(pixels: Tensor, levels: Tensor) -> Tensor:
    """Return what every pixel is worth; (P, 3, patch, patch) -> (P, 3 * patch * patch)."""
    colours = torch.arange(COLOURS, device=pixels.device)[:, None]
    return levels[colours, pixels.flatten(2).int()].flatten(1)


def collate(
    samples: Sequence[tuple[PromptTokens, Patches]],
    multiple: int | None = None,
    *,
    as_bytes: bool = False,
) -> Inputs:
    """Put samples into one batch, prompts padded on the right.

    On the right, because the gated delta nets read from the left: padding comes after everything
    real and cannot leak into it.

    Args:
        samples: Prompts and the patches of their images.
        multiple: Pad to a multiple of this many tokens, so that prompts of about one length have
            the same shapes; then there is always a mask. `None` pads to the longest.
        as_bytes: Leave `pixel_values` empty: the caller sends the pixels as bytes, a quarter of
            the size, and normalises them where they arrive.
    """
    length = max(len(tokens.ids) for tokens, _ in samples)
    length += -length % (multiple or 1)
    shape = (len(samples), length)
    ids, is_image = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    positions, mask = np.zeros((3, *shape), np.int64), np.zeros(shape, np.bool_)
    for row, (tokens, patches) in enumerate(samples):
        real = slice(0, len(tokens.ids))
        ids[row, real], is_image[row, real], mask[row, real] = tokens.ids, tokens.is_image, True
        merge = patches.processor.vision.spatial_merge_size
        positions[:, row, real] = positions_of(tokens, patches.grids, merge)
    pixel_values = [np.empty(0)] if as_bytes else [patches.pixel_values for _, patches in samples]
    return Inputs(
        token_ids=torch.from_numpy(ids),
        is_image=torch.from_numpy(is_image),
        positions=torch.from_numpy(positions),
        mask=None if multiple is None and mask.all() else torch.from_numpy(mask),
        pixel_values=torch.from_numpy(
            pixel_values[0] if len(pixel_values) == 1 else np.concatenate(pixel_values)
        ),
        grids=tuple(grid for _, patches in samples for grid in patches.grids),
    )


def positions_of(tokens: PromptTokens, grids: Sequence[Grid], merge: int) -> npt.NDArray[np.int64]:
    """Return where every token stands: time, height and width row; (3, L).

    Text goes forward on all three rows. An image stands still in time, its tokens in rows and
    columns; what follows goes on behind its longer side.

    Args:
        tokens: The prompt.
        grids: Of the images in it.
        merge: Side of the square of patches that becomes one token.
    """
    positions = np.zeros((3, len(tokens.ids)), np.int64)
    at = place = 0
    for _, down, across in grids:
        rows, columns = down // merge, across // merge
        begin = at + int(np.argmax(tokens.is_image[at:]))
        end = begin + rows * columns
        positions[:, at:begin] = np.arange(place, place + begin - at)
        place += begin - at
        positions[:, begin:end] = place
        positions[1, begin:end] += np.repeat(np.arange(rows), columns)
        positions[2, begin:end] += np.tile(np.arange(columns), rows)
        at, place = end, place + max(rows, columns)
    positions[:, at:] = np.arange(place, place + len(tokens.ids) - at)
    return positions
