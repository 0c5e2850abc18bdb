"""A checkpoint is a folder that says everything about one model, and holds nothing that executes.

    config.json                  dimensions, and where the weights come from
    model.safetensors            weights
    tokenizer.json               the family's tokenizer, whole or trimmed
    preprocessor_config.json     what the image values mean
    normalization/<name>.json    what the action values mean, per data set

Whatever is wrong with it is told in a `CheckpointError` before a weight is loaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import ConfigDict, Field

from qwen_vla_ros.errors import CheckpointError, suggest
from qwen_vla_ros.policy.config import PRESETS, ModelConfig
from qwen_vla_ros.policy.corpus import corpus
from qwen_vla_ros.policy.image_processing import ImageProcessor, load_image_processor
from qwen_vla_ros.policy.json_file import read_json, write_json
from qwen_vla_ros.policy.model import QwenVla
from qwen_vla_ros.policy.normalization import (
    Normalization,
    limits_as_statistics,
    load_statistics,
    save_statistics,
)
from qwen_vla_ros.policy.tokenizer import PromptTokenizer, load_tokenizer
from qwen_vla_ros.policy.weights import fresh_model, load_weights, save_weights
from qwen_vla_ros.prompt.build import build_prompt

if TYPE_CHECKING:
    from qwen_vla_ros.embodiment.embodiment import Embodiment

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
IMAGES, NORMALIZATION = "preprocessor_config.json", "normalization"

EXECUTABLE_SUFFIXES = frozenset(
    (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".py", ".so")
)
"""Files that run code when they are read, or may. None belongs into a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class RobotRecord:
    """A robot that the checkpoint was made for, as it was described then."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    name: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the weights come from, in words and numbers; `seed` is that of their random part."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    weights: Annotated[str, Field(min_length=1, max_length=500)]
    seed: int
    embodiments: tuple[RobotRecord, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `config.json` holds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    model: ModelConfig
    provenance: Provenance


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint in memory; `normalization` is by data set."""

    manifest: Manifest
    model: QwenVla
    tokenizer: PromptTokenizer
    images: ImageProcessor
    normalization: Mapping[str, Normalization]


def save_checkpoint(checkpoint: Checkpoint, out: Path) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        CheckpointError: When `out` exists and is not an empty folder.
    """
    _refuse_existing(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and renamed: whoever finds the folder finds all of it.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        write_json(folder / CONFIG, checkpoint.manifest)
        save_weights(folder / WEIGHTS, checkpoint.model)
        checkpoint.tokenizer.save(folder / TOKENIZER)
        checkpoint.images.save(folder / IMAGES)
        save_statistics(folder / NORMALIZATION, checkpoint.normalization)
        folder.replace(out)


def load_checkpoint(
    directory: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: When anything in it is missing, malformed, hostile or contradictory.
    """
    if not directory.is_dir():
        raise CheckpointError(
            f"{directory}: there is no such folder. Make one with `qwen-vla init`."
        )
    refuse_executables(directory)
    manifest = read_json(directory / CONFIG, Manifest)
    config = manifest.model
    tokenizer = load_tokenizer(directory / TOKENIZER)
    _check_tokenizer(directory / TOKENIZER, tokenizer, config)
    images = load_image_processor(directory / IMAGES, config.backbone.vision)
    normalization = load_statistics(directory / NORMALIZATION)
    model = load_weights(directory / WEIGHTS, config, torch.device(device), dtype)
    return Checkpoint(
        manifest=manifest,
        model=model,
        tokenizer=tokenizer,
        images=images,
        normalization=normalization,
    )


def init_checkpoint(
    preset: str,
    out: Path,
    embodiments: Sequence[Embodiment],
    seed: int = 0,
    *,
    backbone: Path | None = None,
) -> None:
    """Write an untrained checkpoint for some robots.

    The decoder begins with a velocity of zero, so that samples are the noise they begin with.

    Args:
        preset: One of `PRESETS`.
        out: Folder to make.
        embodiments: Robots that the checkpoint shall serve, all with the same weights. Their
            safety limits stand in for statistics until there is a data set.
        seed: Of the random weights.
        backbone: Folder of a Qwen3.5 model as the family publishes it, for its weights and its
            tokenizer. Only `nano` can do without: its tokenizer is trimmed to prompts here.

    Raises:
        CheckpointError: When the preset is unknown, `out` is in use, or `backbone` does not fit.
    """
    if preset not in PRESETS:
        raise CheckpointError(f"unknown preset '{preset}'.{suggest(preset, PRESETS)}")
    _refuse_existing(out)
    config = PRESETS[preset]
    if backbone is None and preset != "nano":
        raise CheckpointError(
            f"preset '{preset}' needs a pretrained backbone: name a folder with the weights and "
            f"the tokenizer of Qwen3.5-{preset.upper()}. Only 'nano' can begin from nothing."
        )
    if backbone is None:
        from qwen_vla_ros.policy.vocabulary import trimmed_tokenizer

        prompts = [build_prompt(robot, "go to the red cube").text for robot in embodiments]
        tokenizer = trimmed_tokenizer(corpus(prompts))
        weights = "random"
    else:
        refuse_executables(backbone)
        tokenizer = load_tokenizer(backbone / TOKENIZER)
        weights = f"backbone from {backbone.name}, decoder random"
    _check_tokenizer(out / TOKENIZER, tokenizer, config)
    robots = tuple(RobotRecord(name=robot.name, hash=robot.hash) for robot in embodiments)
    save_checkpoint(
        Checkpoint(
            manifest=Manifest(
                model=config,
                provenance=Provenance(weights=weights, seed=seed, embodiments=robots),
            ),
            model=fresh_model(config, seed, backbone),
            tokenizer=tokenizer,
            images=ImageProcessor(config.backbone.vision),
            normalization={
                robot.file.normalization: limits_as_statistics(robot) for robot in embodiments
            },
        ),
        out,
    )


def refuse_executables(directory: Path) -> None:
    """Refuse a folder with a file that could run code.

    Raises:
        CheckpointError: Naming the first such file.
    """
    for path in sorted(directory.rglob("*")):
        if path.suffix.lower() in EXECUTABLE_SUFFIXES:
            raise CheckpointError(
                f"{path}: {path.suffix} files can run code when they are read; a checkpoint may "
                "hold .safetensors and .json only. Remove it, or convert it."
            )


def _refuse_existing(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out}: exists already; name a folder that is new or empty.")


def _check_tokenizer(path: Path, tokenizer: PromptTokenizer, config: ModelConfig) -> None:
    if tokenizer.size > config.backbone.vocab_size:
        raise CheckpointError(
            f"{path}: {tokenizer.size} tokens; the model has {config.backbone.vocab_size}."
        )
    if tokenizer.image_id != config.backbone.image_token_id:
        raise CheckpointError(
            f"{path}: images are token {tokenizer.image_id}; "
            f"the model's are {config.backbone.image_token_id}."
        )
