"""Examples become the tensors of one training step, by the way that a robot's observations take.

Shapes: B batch, L tokens, P patches, H action steps, K action channels, N things,
M things that an instruction names, C cameras, V image tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qwen_vla_ros.checkpoint.normalization import Normalization, pad_actions
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.model.image_processing import ImageProcessor, Patches
from qwen_vla_ros.model.inputs import Inputs, collate, normalise, patches_of
from qwen_vla_ros.model.tokenizer import PromptTokenizer, PromptTokens
from qwen_vla_ros.prompt.build import build_prompt, without_state
from qwen_vla_ros.training.example import Example
from qwen_vla_ros.training.grounding import CAMERAS, NAMED, cell_targets


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step is computed from.

    Attributes:
        inputs: Prompts and pictures; its `pixel_values` are empty until `to` has looked them up.
        pixels: Of all patches, as bytes; (P, 3, patch, patch).
        actions: Normalised, zero where padded; (B, H, K).
        mask: True where an action is real; (B, H, K).
        cells: What every image token has in it of every thing, see `grounding`; (V, N, 3).
        places: Column and row of the things that the instruction is about, in every picture, 0 to
            1; not finite where there is no such picture or thing; (B, M, C, 2).
        kinds: Robot and phase of each example, for reports; (B,).
    """

    inputs: Inputs
    pixels: Tensor
    actions: Tensor
    mask: Tensor
    cells: Tensor
    places: Tensor
    kinds: tuple[str, ...]

    def to(self, device: torch.device, levels: Tensor) -> Batch:
        """Return the batch on a device, with its pixels looked up in `levels` (3, 256) there."""
        moved = self._each(lambda tensor: tensor.to(device, non_blocking=True))
        inputs = moved.inputs.to(device)
        return replace(moved, inputs=replace(inputs, pixel_values=normalise(moved.pixels, levels)))

    def pin_memory(self) -> Batch:
        """Return the batch where a GPU can fetch it while it computes."""
        return self._each(Tensor.pin_memory)

    def _each(self, move: Callable[[Tensor], Tensor]) -> Batch:
        tensors: dict[str, Any] = {
            part.name: move(value)
            for part in fields(self)
            if isinstance(value := getattr(self, part.name), Tensor)
        }
        return replace(self, **tensors)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Turns the examples of any of some robots into batches.

    Attributes:
        tokenizer: The model's.
        images: The model's.
        normalization: By name of the robot.
        horizon: H, the longest chunk of any robot.
        width: K.
        length: Tokens that prompts are padded to, so that every batch has the same shapes.
        things: Names that occur in `Example.places`, of all robots; their order is N's.
        blind_share: Share of the prompts that do not tell the state: a robot whose joints say
            where the object is need not look, and in training they say so too often.
    """

    tokenizer: PromptTokenizer
    images: ImageProcessor
    normalization: Mapping[str, Normalization]
    horizon: int
    width: int
    length: int
    things: Sequence[str]
    blind_share: float = 0.0

    def read(
        self, examples: Sequence[tuple[Embodiment, Example]], rng: np.random.Generator
    ) -> Batch:
        """Return examples, each with its robot, as one batch."""
        samples: list[tuple[PromptTokens, Patches]] = []
        count, merge = len(examples), self.images.vision.spatial_merge_size
        actions = np.zeros((count, self.horizon, self.width), np.float32)
        mask = np.zeros((count, self.horizon, self.width), np.bool_)
        places = np.full((count, NAMED, CAMERAS, 2), np.nan, np.float32)
        cells = []
        for row, (robot, example) in enumerate(examples):
            prompt = build_prompt(robot, example.instruction, example.observation.state)
            if rng.random() < self.blind_share:
                prompt = without_state(prompt)
            patches = patches_of(self.images, robot, example.observation, prompt)
            samples.append((self.tokenizer.encode(prompt.text, patches.token_counts), patches))
            normalized = self.normalization[robot.name].normalize(example.actions)
            actions[row], mask[row] = pad_actions(normalized, self.horizon, self.width)
            seen = self._seen(prompt.cameras, example)  # (cameras, N, 2)
            for camera, (_, down, across) in enumerate(patches.grids):
                cells.append(cell_targets(seen[camera], down // merge, across // merge))
            for at, thing in enumerate(example.named[:NAMED]):
                places[row, at, : len(seen)] = seen[:, self.things.index(thing)]
        pixels = np.concatenate([patches.pixels for _, patches in samples])
        return Batch(
            inputs=collate(samples, self.length, as_bytes=True),
            pixels=torch.from_numpy(pixels),
            actions=torch.from_numpy(actions),
            mask=torch.from_numpy(mask),
            cells=torch.from_numpy(np.concatenate(cells)),
            places=torch.from_numpy(places),
            kinds=tuple(f"{robot.name} {example.phase}" for robot, example in examples),
        )

    def _seen(self, cameras: Sequence[str], example: Example) -> npt.NDArray[np.float32]:
        """Return column and row of every thing in every picture; (cameras, N, 2)."""
        seen = np.full((len(cameras), len(self.things), 2), np.nan, np.float32)
        for thing, pictures in example.places.items():
            for camera, name in enumerate(cameras):
                seen[camera, self.things.index(thing)] = pictures.get(name, np.nan)
        return seen
