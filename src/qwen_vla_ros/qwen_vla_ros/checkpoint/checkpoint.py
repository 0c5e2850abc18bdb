"""A checkpoint is a folder that says everything about one model, and holds nothing that executes.

    config.json                  dimensions, and where the weights come from
    model.safetensors            weights; large ones are in several files with an index
    tokenizer.json               the family's tokenizer, whole or trimmed
    preprocessor_config.json     what the image values mean
    normalization/<name>.json    what the action values mean, per data set

Whatever is wrong with it is told in a `CheckpointError` before a weight is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from qwen_vla_ros.checkpoint.adapter import merge_adapter
from qwen_vla_ros.checkpoint.folder import refuse_executables, written_whole
from qwen_vla_ros.checkpoint.manifest import Manifest, software_version
from qwen_vla_ros.checkpoint.normalization import Normalization, load_statistics, save_statistics
from qwen_vla_ros.checkpoint.weights import load_weights, save_weights
from qwen_vla_ros.data_file import read_json, write_json
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.config import ModelConfig
from qwen_vla_ros.model.family import text_of, vision_of
from qwen_vla_ros.model.image_processing import ImageProcessor, load_image_processor
from qwen_vla_ros.model.model import QwenVla
from qwen_vla_ros.model.tokenizer import PromptTokenizer, load_tokenizer

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
IMAGES, NORMALIZATION = "preprocessor_config.json", "normalization"


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
    with written_whole(out) as folder:
        digest = save_weights(folder, checkpoint.model)
        manifest = replace(
            checkpoint.manifest, weights_sha256=digest, created_with=software_version()
        )
        write_json(folder / CONFIG, manifest)
        checkpoint.tokenizer.save(folder / TOKENIZER)
        checkpoint.images.save(folder / IMAGES)
        save_statistics(folder / NORMALIZATION, checkpoint.normalization)


def load_checkpoint(
    directory: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    adapter: Path | None = None,
) -> Checkpoint:
    """Read a checkpoint.

    Args:
        directory: The checkpoint.
        device: Where its model shall be.
        dtype: What its weights shall be in.
        adapter: Folder of a LoRA adapter, to be merged into the weights.

    Raises:
        CheckpointError: When anything in it is missing, malformed, hostile or contradictory.
    """
    manifest = read_manifest(directory)
    config = manifest.model
    tokenizer = load_tokenizer(directory / TOKENIZER)
    check_tokenizer(directory / TOKENIZER, tokenizer, config)
    images = load_image_processor(directory / IMAGES, vision_of(config.backbone))
    normalization = load_statistics(directory / NORMALIZATION)
    model = load_weights(directory, config, torch.device(device), dtype)
    if adapter is not None:
        merge_adapter(model, adapter, manifest.weights_sha256)
    return Checkpoint(
        manifest=manifest,
        model=model,
        tokenizer=tokenizer,
        images=images,
        normalization=normalization,
    )


def read_manifest(directory: Path) -> Manifest:
    """Return what a checkpoint says about itself, without its weights.

    Raises:
        CheckpointError: When it is no checkpoint, or holds what no checkpoint may.
    """
    if not directory.is_dir():
        raise CheckpointError(
            f"{directory}: there is no such folder. Make one with `qwen-vla init`."
        )
    refuse_executables(directory)
    return read_json(directory / CONFIG, Manifest)


def check_tokenizer(path: Path, tokenizer: PromptTokenizer, config: ModelConfig) -> None:
    """Hold a tokenizer, which was read from `path`, against a model.

    Raises:
        CheckpointError: When it has tokens that the model lacks, or another one for images.
    """
    known = text_of(config.backbone).vocab_size
    if tokenizer.size > known:
        raise CheckpointError(f"{path}: {tokenizer.size} tokens; the model has {known}.")
    if tokenizer.image_id != config.backbone.image_token_id:
        raise CheckpointError(
            f"{path}: images are token {tokenizer.image_id}; "
            f"the model's are {config.backbone.image_token_id}."
        )
