"""Qwen-VLA as a policy: an observation and a prompt in, a chunk of actions in robot units out."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qwen_vla_ros.checkpoint.checkpoint import Checkpoint, load_checkpoint
from qwen_vla_ros.checkpoint.normalization import pad_actions
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.backbone import Layout
from qwen_vla_ros.model.compute import AUTO, device_of, dtype_of
from qwen_vla_ros.model.graph_cache import Recorder, record_on_gpu
from qwen_vla_ros.model.image_processing import Patches
from qwen_vla_ros.model.inputs import collate, patches_of, pixel_values_on
from qwen_vla_ros.model.model import PreparedModel
from qwen_vla_ros.model.sampling import Committed, draw_noise
from qwen_vla_ros.policy.suitability import (
    check_image_sizes,
    continuation_of,
    statistics_for,
    warn_of_changes,
)
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Prompt

log = logging.getLogger(__name__)

WARM_UP_INSTRUCTION = "go to the red cube"
BUCKET = 64
"""Where calls are recorded, prompts are padded to a multiple of this many tokens."""

LAYOUTS = 8
"""Prompts whose layout is remembered."""


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
        continuation: str = "auto",
        record: Recorder[Any] | None = None,
    ) -> None:
        """Prepare a loaded checkpoint for a robot.

        Args:
            checkpoint: On the device where it shall run. Its weights must not change any more.
            embodiment: The robot.
            steps: Euler steps per chunk.
            seed: Makes every episode draw the same noise; `None` draws fresh noise.
            temperature: Spread of the noise.
            continuation: One of `CONTINUATIONS`; `none` takes no notice of committed rows.
            record: Records calls, see `PreparedModel`.

        Raises:
            CheckpointError: When the checkpoint is not for this robot, or its decoder cannot
                continue rows this way.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        self._embodiment = embodiment
        self._normalization = statistics_for(checkpoint.normalization, embodiment)
        check_image_sizes(checkpoint, embodiment)
        self._tokenizer, self._images = checkpoint.tokenizer, checkpoint.images
        model = checkpoint.model
        self._device = next(model.parameters()).device
        self._horizon = embodiment.file.prompt.action_horizon
        self._width = model.config.decoder.action_channels
        if len(embodiment.channels) > self._width:
            raise CheckpointError(
                f"{embodiment.name} has {len(embodiment.channels)} action channels; "
                f"the model has {self._width}."
            )
        self._method = continuation_of(
            continuation, frozen_prefix=model.config.decoder.frozen_prefix
        )
        mask = torch.zeros(1, self._horizon, self._width, dtype=torch.bool)
        mask[..., : len(embodiment.channels)] = True
        self._mask = mask.to(self._device)
        self._backbone = model.backbone
        self._model = PreparedModel(model, self._mask, steps, record)
        self._temperature = temperature
        self._seed = seed
        self._layouts: OrderedDict[str, Layout] = OrderedDict()
        self.reset()

    @classmethod
    def load(
        cls,
        checkpoint_dir: Path,
        embodiment: Embodiment,
        *,
        device: str = AUTO,
        precision: str = AUTO,
        steps: int = 4,
        seed: int | None = None,
        temperature: float = 1.0,
        continuation: str = "auto",
        adapter: Path | None = None,
    ) -> QwenVlaPolicy:
        """Load a checkpoint for a robot and answer once, so that the first answer is not late.

        Args:
            checkpoint_dir: The checkpoint.
            embodiment: The robot.
            device: Where the model runs, in torch's words; `auto` is a GPU where there is one.
            precision: `auto` is bfloat16 on a GPU and float32 on a CPU.
            steps: Euler steps per chunk.
            seed: Makes every episode draw the same noise; `None` draws fresh noise.
            temperature: Spread of the noise.
            continuation: How committed rows are continued, one of `CONTINUATIONS`.
            adapter: Folder of a LoRA adapter, to be merged into the weights.

        Raises:
            CheckpointError: When the checkpoint cannot be used, or not for this robot.
        """
        place = device_of(device)
        on_gpu = place.type == "cuda"
        if not on_gpu:
            # transformers asks for faster kernels by name, and there are none for a CPU.
            logging.getLogger("transformers.integrations.hub_kernels").setLevel(logging.ERROR)
        elif not importlib.util.find_spec("fla"):
            log.warning("flash-linear-attention is not installed: three layers of four are slow.")
        checkpoint = load_checkpoint(checkpoint_dir, place, dtype_of(precision, place), adapter)
        checkpoint.model.requires_grad_(requires_grad=False)
        warn_of_changes(checkpoint_dir, checkpoint, embodiment)
        policy = cls(
            checkpoint,
            embodiment,
            steps=steps,
            seed=seed,
            temperature=temperature,
            continuation=continuation,
            record=record_on_gpu if on_gpu else None,
        )
        policy.warm_up()
        return policy

    def warm_up(self) -> None:
        """Answer once for every shape that instructions usually have."""
        observation = self._embodiment.make_example()
        # Where calls are recorded, an instruction that is longer by a bucket has a shape of its
        # own; a word is at least a token.
        longer = " ".join([WARM_UP_INSTRUCTION] * (BUCKET // len(WARM_UP_INSTRUCTION.split())))
        instructions = (WARM_UP_INSTRUCTION, longer)
        for words in instructions if self._model.is_recorded else instructions[:1]:
            prompt = build_prompt(self._embodiment, words, observation.state)
            chunk = self.infer(observation, prompt)
            if self._method == "guidance":  # a frozen prefix has the same shapes without rows
                self.infer(observation, prompt, chunk.actions[:1])
        self.reset()

    def reset(self) -> None:
        """Begin a new episode; a seeded policy draws the same noise again."""
        self._generator = torch.Generator()
        if self._seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(self._seed)

    def infer(
        self, observation: Observation, prompt: Prompt, committed: FloatArray | None = None
    ) -> ActionChunk:
        """Propose the next actions; those that are committed come back as they were given.

        Raises:
            CheckpointError: When the model answers with a number that is not finite.
            ValueError: When the committed rows cannot be the beginning of a chunk.
        """
        begin = time.perf_counter()
        with torch.no_grad():
            patches = patches_of(self._images, self._embodiment, observation, prompt)
            layout = self._layout(prompt.text, patches)
            pixel_values = pixel_values_on(patches, self._device)
            settled = self._settled(committed)
            noise = draw_noise(self._mask, self._generator, temperature=self._temperature)
            self._wait()
            preprocessed = time.perf_counter()
            context = self._model.encode(layout, pixel_values)
            self._wait()
            understood = time.perf_counter()
            decoded = self._model.denoise(context, noise, settled)
            normalized = decoded[0, :, : len(self._embodiment.channels)].cpu().numpy()
        if not np.isfinite(normalized).all():
            raise CheckpointError("the model's actions are not finite; its weights are of no use.")
        actions = self._normalization.denormalize(normalized)
        if committed is not None and self._method == "prefix":
            # There and back again costs digits, and clips what the statistics have never seen.
            actions[: len(committed)] = committed
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

    def _layout(self, text: str, patches: Patches) -> Layout:
        layout = self._layouts.get(text)
        if layout is None:
            tokens = self._tokenizer.encode(text, patches.token_counts)
            multiple = BUCKET if self._model.is_recorded else None
            inputs = collate([(tokens, patches)], multiple).to(self._device)
            layout = self._backbone.lay_out(inputs, next(iter(self._layouts.values()), None))
            self._layouts[text] = layout
            while len(self._layouts) > LAYOUTS:
                self._layouts.popitem(last=False)
        self._layouts.move_to_end(text)
        return layout

    def _settled(self, committed: FloatArray | None) -> Committed | None:
        """Return committed rows (d, c), in robot units, as the decoder wants them."""
        # A frozen prefix of no rows keeps the shapes of a recorded call; elsewhere it is no use.
        keeps_shapes = self._method == "prefix" and self._model.is_recorded
        if self._method is None or (committed is None and not keeps_shapes):
            return None
        channels = len(self._embodiment.channels)
        rows = np.empty((0, channels)) if committed is None else np.asarray(committed, np.float64)
        if rows.ndim != 2 or rows.shape[1] != channels or len(rows) > self._horizon:
            raise ValueError(
                f"committed rows must be (at most {self._horizon}, {channels}), not {rows.shape}"
            )
        if not np.isfinite(rows).all():
            raise ValueError("committed rows must be finite")
        padded, mask = pad_actions(self._normalization.normalize(rows), self._horizon, self._width)
        return Committed(
            torch.from_numpy(padded)[None].to(self._device),
            torch.from_numpy(mask.any(axis=1))[None].to(self._device),
            self._method,
        )

    def _wait(self) -> None:
        """Let the GPU finish, so that its time is counted where it is spent."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
