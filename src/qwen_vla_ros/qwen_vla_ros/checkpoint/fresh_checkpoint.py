"""A checkpoint to begin with: untrained, or on a pretrained backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from qwen_vla_ros.checkpoint.checkpoint import (
    CONFIG,
    IMAGES,
    TOKENIZER,
    Checkpoint,
    check_tokenizer,
    save_checkpoint,
)
from qwen_vla_ros.checkpoint.corpus import corpus
from qwen_vla_ros.checkpoint.folder import refuse_executables, refuse_existing
from qwen_vla_ros.checkpoint.manifest import Manifest, Provenance, RobotRecord
from qwen_vla_ros.checkpoint.normalization import limits_as_statistics
from qwen_vla_ros.checkpoint.published import PublishedModel, read_published_config
from qwen_vla_ros.checkpoint.weights import fresh_model
from qwen_vla_ros.errors import CheckpointError, suggest
from qwen_vla_ros.model.config import PRESETS, ModelConfig
from qwen_vla_ros.model.family import text_of, vision_of
from qwen_vla_ros.model.image_processing import ImageProcessor, load_image_processor
from qwen_vla_ros.model.tokenizer import PromptTokenizer, load_tokenizer
from qwen_vla_ros.prompt.build import build_prompt

if TYPE_CHECKING:
    from qwen_vla_ros.embodiment.embodiment import Embodiment

TRIMMED = "nano"
"""The preset whose tokenizer is trimmed to what prompts are made of."""


@dataclass(frozen=True, kw_only=True)
class _Beginning:
    """What a checkpoint is made of besides its random weights."""

    tokenizer: PromptTokenizer
    images: ImageProcessor
    weights: str
    dtype: torch.dtype


def init_checkpoint(
    preset: str,
    out: Path,
    embodiments: Sequence[Embodiment],
    seed: int = 0,
    *,
    backbone: PublishedModel | None = None,
    random: bool = False,
) -> None:
    """Write an untrained checkpoint for some robots.

    The decoder begins with a velocity of zero, so that samples are the noise they begin with.

    Args:
        preset: One of `PRESETS`.
        out: Folder to make.
        embodiments: Robots that the checkpoint shall serve, all with the same weights. Their
            safety limits stand in for statistics until there is a data set.
        seed: Of the random weights.
        backbone: A Qwen3.5 model as the family publishes it, for its weights, its tokenizer and
            what it makes of images.
        random: Make a large preset of random weights, to measure with. `nano` needs no word for
            that, and gets a tokenizer that is trimmed to prompts.

    Raises:
        CheckpointError: When the preset is unknown, `out` is in use, or `backbone` does not fit.
    """
    if preset not in PRESETS:
        raise CheckpointError(f"unknown preset '{preset}'.{suggest(preset, PRESETS)}")
    if backbone is not None and random:
        raise CheckpointError("weights are either random or those of a backbone: choose one.")
    if backbone is None and not random and preset != TRIMMED:
        raise CheckpointError(
            f"preset '{preset}' needs a pretrained backbone: name a folder with the weights and "
            f"the tokenizer of Qwen3.5-{preset.upper()}, or ask for --random weights, which are "
            "of use to measure time and memory only."
        )
    refuse_existing(out)
    if backbone is None:
        config = PRESETS[preset]
        beginning = _from_nothing(config, embodiments, preset)
    else:
        config = _on(backbone, PRESETS[preset])
        beginning = _from(backbone, config)
    check_tokenizer(out / TOKENIZER, beginning.tokenizer, config)
    robots = tuple(RobotRecord(name=robot.name, hash=robot.hash) for robot in embodiments)
    origin = Provenance(weights=beginning.weights, seed=seed, embodiments=robots)
    source = None if backbone is None else backbone.directory
    checkpoint = Checkpoint(
        manifest=Manifest(model=config, provenance=origin),
        model=fresh_model(config, seed, source, dtype=beginning.dtype),
        tokenizer=beginning.tokenizer,
        images=beginning.images,
        normalization={
            robot.file.normalization: limits_as_statistics(robot) for robot in embodiments
        },
    )
    save_checkpoint(checkpoint, out)


def _from_nothing(
    config: ModelConfig, embodiments: Sequence[Embodiment], preset: str
) -> _Beginning:
    # Only this way needs the family's vocabulary, which is a package of its own.
    from qwen_vla_ros.checkpoint.vocabulary import trimmed_tokenizer, whole_tokenizer

    is_trimmed = preset == TRIMMED
    if is_trimmed:
        prompts = [
            build_prompt(robot, "go to the red cube", robot.make_example().state).text
            for robot in embodiments
        ]
        tokenizer = trimmed_tokenizer(corpus(prompts))
    else:
        tokenizer = whole_tokenizer()
    return _Beginning(
        tokenizer=tokenizer,
        images=ImageProcessor(vision_of(config.backbone)),
        weights="random",
        dtype=torch.float32 if is_trimmed else torch.bfloat16,
    )


def _on(backbone: PublishedModel, preset: ModelConfig) -> ModelConfig:
    """Return the preset with the backbone that a folder describes, if it is of the same size."""
    refuse_executables(backbone.directory)
    found = read_published_config(backbone.directory)
    for key in ("hidden_size", "num_hidden_layers"):
        there, here = (getattr(text_of(x), key) for x in (found, preset.backbone))
        if there != here:
            raise CheckpointError(
                f"{backbone.directory / CONFIG}: text_config.{key} is {there}; that of preset "
                f"'{preset.preset}' is {here}."
            )
    return replace(preset, backbone=found)


def _from(backbone: PublishedModel, config: ModelConfig) -> _Beginning:
    directory = backbone.directory
    return _Beginning(
        tokenizer=load_tokenizer(directory / TOKENIZER),
        images=load_image_processor(directory / IMAGES, vision_of(config.backbone)),
        weights=f"backbone from {backbone.name}, decoder random",
        dtype=torch.bfloat16,  # what the family publishes
    )
