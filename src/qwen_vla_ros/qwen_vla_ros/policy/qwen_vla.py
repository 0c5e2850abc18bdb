"""Qwen-VLA as a policy: an observation and a prompt in, a chunk of actions in robot units out."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import CheckpointError, suggest
from qwen_vla_ros.policy.checkpoint import NORMALIZATION, Checkpoint, load_checkpoint
from qwen_vla_ros.policy.flow import draw_noise
from qwen_vla_ros.policy.image_processing import Size
from qwen_vla_ros.policy.inputs import Inputs, collate
from qwen_vla_ros.policy.normalization import Normalization
from qwen_vla_ros.policy.tokenizer import PromptTokens
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.types import ActionChunk, Observation, Prompt

log = logging.getLogger(__name__)

WARM_UP_INSTRUCTION = "go to the red cube"


@dataclass(frozen=True)
class _Layout:
    """What depends on the prompt's text alone, and so stays the same for a whole episode."""

    text: str
    tokens: PromptTokens
    positions: Tensor


class QwenVlaPolicy:
    """One model for one robot. It sets nothing outside of itself: threads are the caller's."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        embodiment: Embodiment,
        *,
        steps: int = 4,
        seed: int | None = None,
        temperature: float = 1.0,
    ) -> None:
        """Prepare a loaded checkpoint for a robot.

        Args:
            checkpoint: On the device where it shall run.
            embodiment: The robot.
            steps: Euler steps per chunk.
            seed: Makes every episode draw the same noise; `None` draws fresh noise.
            temperature: Spread of the noise.

        Raises:
            CheckpointError: When the checkpoint is not for this robot.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        self._embodiment = embodiment
        self._normalization = statistics_for(checkpoint.normalization, embodiment)
        self._sizes = image_sizes(checkpoint, embodiment)
        self._tokenizer, self._images = checkpoint.tokenizer, checkpoint.images
        self._model = checkpoint.model
        self._device = next(self._model.parameters()).device
        width = self._model.config.decoder.action_channels
        if len(embodiment.channels) > width:
            raise CheckpointError(
                f"{embodiment.name} has {len(embodiment.channels)} action channels; "
                f"the model has {width}."
            )
        mask = torch.zeros(1, embodiment.file.prompt.action_horizon, width, dtype=torch.bool)
        mask[..., : len(embodiment.channels)] = True
        self._mask = mask.to(self._device)
        with torch.inference_mode():
            self._schedule = self._model.decoder.schedule(steps)
        self._temperature = temperature
        self._seed = seed
        self._layout: _Layout | None = None
        self.reset()

    @classmethod
    def load(
        cls,
        checkpoint_dir: Path,
        embodiment: Embodiment,
        *,
        device: str = "cpu",
        steps: int = 4,
        seed: int | None = None,
        temperature: float = 1.0,
    ) -> QwenVlaPolicy:
        """Load a checkpoint for a robot and answer once, so that the first answer is not late.

        Computes in bfloat16 on a GPU, in float32 on a CPU.

        Raises:
            CheckpointError: When the checkpoint cannot be used, or not for this robot.
        """
        on_gpu = _is_gpu(device)
        checkpoint = load_checkpoint(
            checkpoint_dir, device, torch.bfloat16 if on_gpu else torch.float32
        )
        for record in checkpoint.manifest.provenance.embodiments:
            if record.name == embodiment.name and record.hash != embodiment.hash:
                log.warning(
                    "%s: was made for %s as of %s, which is %s now: its file or URDF has changed.",
                    checkpoint_dir,
                    embodiment.name,
                    record.hash,
                    embodiment.hash,
                )
        if on_gpu and not importlib.util.find_spec("fla"):
            log.warning("flash-linear-attention is not installed: three layers of four are slow.")
        if not on_gpu:
            # transformers asks for faster kernels by name, and there are none for a CPU.
            logging.getLogger("transformers.integrations.hub_kernels").setLevel(logging.ERROR)
        policy = cls(checkpoint, embodiment, steps=steps, seed=seed, temperature=temperature)
        policy.infer(embodiment.make_example(), build_prompt(embodiment, WARM_UP_INSTRUCTION))
        policy.reset()
        return policy

    def reset(self) -> None:
        """Begin a new episode; a seeded policy draws the same noise again."""
        self._generator = torch.Generator()
        if self._seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(self._seed)

    def infer(self, observation: Observation, prompt: Prompt) -> ActionChunk:
        """Propose the next actions.

        Raises:
            CheckpointError: When the model answers with a number that is not finite.
        """
        begin = time.perf_counter()
        with torch.inference_mode():
            inputs, positions = self._inputs(observation, prompt)
            preprocessed = time.perf_counter()
            context = self._model.backbone(inputs, positions)
            self._wait()
            understood = time.perf_counter()
            noise = draw_noise(self._mask, self._generator, temperature=self._temperature)
            decoded = self._model.decode(context, noise, self._mask, self._schedule)
            normalized = decoded[0, :, : len(self._embodiment.channels)].cpu().numpy()
        if not np.isfinite(normalized).all():
            raise CheckpointError("the model's actions are not finite; its weights are of no use.")
        actions = self._normalization.denormalize(normalized)
        return ActionChunk(
            stamp_ns=observation.stamp_ns,
            dt=self._embodiment.dt,
            channels=self._embodiment.channels,
            actions=actions,
            embodiment=self._embodiment.name,
            embodiment_hash=self._embodiment.hash,
            timings={
                "preprocess": preprocessed - begin,
                "backbone": understood - preprocessed,
                "decode": time.perf_counter() - understood,
            },
        )

    def _inputs(self, observation: Observation, prompt: Prompt) -> tuple[Inputs, Tensor]:
        sizes = [self._sizes[camera] for camera in prompt.cameras]
        patches = self._images([observation.images[camera] for camera in prompt.cameras], sizes)
        layout = self._layout
        if layout is None or layout.text != prompt.text:
            merged = self._images.vision.merge_size**2
            counts = [int(grid.prod()) // merged for grid in patches.grids]
            tokens = self._tokenizer.encode(prompt.text, counts)
            inputs = collate([(tokens, patches)])
            positions = self._model.backbone.positions(inputs).to(self._device)
            self._layout = layout = _Layout(prompt.text, tokens, positions)
        return collate([(layout.tokens, patches)]).to(self._device), layout.positions

    def _wait(self) -> None:
        """Let the GPU finish, so that its time is counted where it is spent."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _is_gpu(device: str) -> bool:
    """Say whether `device` is a GPU.

    Raises:
        CheckpointError: When it is nothing that torch can compute on here.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise CheckpointError(f"device '{device}': unknown; use 'cpu' or 'cuda'.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(f"device '{device}': torch finds no GPU here; use 'cpu'.")
    return kind == "cuda"


def statistics_for(known: Mapping[str, Normalization], embodiment: Embodiment) -> Normalization:
    """Return the statistics that an embodiment names.

    Raises:
        CheckpointError: When they are missing, or have other channels or another order of them.
    """
    name = embodiment.file.normalization
    if name not in known:
        raise CheckpointError(
            f"the checkpoint has no {NORMALIZATION}/{name}.json, which {embodiment.name} names."
            f"{suggest(name, known)}"
        )
    theirs, ours = known[name].channels, embodiment.file.action
    if [(x.name, x.unit) for x in theirs] != [(x.name, x.unit) for x in ours]:
        raise CheckpointError(
            f"{NORMALIZATION}/{name}.json has the channels "
            f"{', '.join(f'{x.name} [{x.unit}]' for x in theirs)}; {embodiment.name} has "
            f"{', '.join(f'{x.name} [{x.unit}]' for x in ours)}."
        )
    return known[name]


def image_sizes(checkpoint: Checkpoint, embodiment: Embodiment) -> dict[str, Size]:
    """Return the input size of every camera.

    Raises:
        CheckpointError: When one is not a whole number of the model's tokens.
    """
    sizes: dict[str, Size] = {}
    for camera in embodiment.file.cameras:
        sizes[camera.name] = (camera.input_width_px, camera.input_height_px)
        try:
            checkpoint.images.grid(sizes[camera.name])
        except ValueError as error:
            raise CheckpointError(
                f"camera {camera.name} of {embodiment.name}: {error}."
            ) from error
    return sizes
