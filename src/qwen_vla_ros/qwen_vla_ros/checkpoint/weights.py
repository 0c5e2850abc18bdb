"""Weights in and out of safetensors files: nothing is loaded before all of it has been checked.

A large model exists once. Weights are filled in one by one in the precision that is wanted; there
is no moment with all of them in two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from qwen_vla_ros.checkpoint.published import published_weights
from qwen_vla_ros.checkpoint.weights_files import (
    INDEX,
    SHARD_BYTES,
    StoredWeight,
    find_weights,
    index_of,
    shard_names,
    split_into_shards,
)
from qwen_vla_ros.data_file import write_json
from qwen_vla_ros.errors import CheckpointError, suggest
from qwen_vla_ros.model.config import ModelConfig
from qwen_vla_ros.model.model import QwenVla

Sources = Mapping[str, tuple[Path, str]]
"""File, and name in it, of each weight of the model."""


def model_slots(config: ModelConfig, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return every weight of a model that is cast to `dtype`, as a tensor without memory."""
    return dict(_unfilled(config, dtype).named_parameters())


def save_weights(directory: Path, model: QwenVla, shard_bytes: int = SHARD_BYTES) -> str:
    """Write all weights; the language head is the embedding.

    Args:
        directory: Folder that has none yet.
        model: On any device.
        shard_bytes: Beyond that the weights go into several files, with an index.

    Returns:
        The digest of the weights, whatever files they are in; `Manifest.weights_sha256`.
    """
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    sizes = {name: weight.nbytes for name, weight in weights.items()}
    shards = split_into_shards(sizes, shard_bytes)
    digest = hashlib.sha256()
    for file, names in zip(shard_names(len(shards)), shards, strict=True):
        tensors = {name: weights[name].cpu().contiguous() for name in names}
        for name, tensor in tensors.items():
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
        save_file(tensors, directory / file, metadata={"format": "pt"})
    if len(shards) > 1:
        write_json(directory / INDEX, index_of(shards, sum(sizes.values())))
    return digest.hexdigest()


def load_weights(
    directory: Path, config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> QwenVla:
    """Return the model with the weights in a folder, on `device`, in `dtype`.

    Raises:
        CheckpointError: When names, shapes or numbers are not those of a model of this `config`.
    """
    model = _unfilled(config, dtype)
    slots, stored = dict(model.named_parameters()), find_weights(directory)
    _check_against(directory, stored, slots)
    sources = {name: (weight.path, name) for name, weight in stored.items()}
    model.load_state_dict(_read(sources, slots, device), assign=True)
    return model.eval()


def fresh_model(
    config: ModelConfig,
    seed: int,
    backbone: Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> QwenVla:
    """Return a model with random weights, or with a random decoder on a pretrained backbone.

    Args:
        config: Its dimensions.
        seed: Of what is random; the process's own random state is left as it was.
        backbone: Folder of a Qwen3.5 model as the family publishes it.
        dtype: What the weights are drawn in, each directly.

    Raises:
        CheckpointError: When a weight of the backbone is missing, has another shape, or is not
            finite.
    """
    model, cpu = _unfilled(config, dtype), torch.device("cpu")
    slots = dict(model.named_parameters())
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model.decoder.to_empty(device=cpu).reset_parameters()
        if backbone is None:
            model.backbone.to_empty(device=cpu).reset_parameters()
    if backbone is not None:
        shapes = {name: tuple(slot.shape) for name, slot in slots.items()}
        weights = _read(published_weights(backbone, shapes), slots, cpu)
        model.load_state_dict(weights, assign=True, strict=False)
    return model


def _unfilled(config: ModelConfig, dtype: torch.dtype) -> QwenVla:
    """Return a model that takes no memory yet."""
    with torch.device("meta"):
        return QwenVla(config).cast(dtype)


def _check_against(
    directory: Path, stored: Mapping[str, StoredWeight], slots: Mapping[str, Tensor]
) -> None:
    for name in slots:
        if name not in stored:
            raise CheckpointError(
                f"{directory}: weight '{name}' is missing; config.json asks for it."
            )
    for name, weight in stored.items():
        if name not in slots:
            near = suggest(name, slots).partition(" Known:")[0]
            raise CheckpointError(
                f"{weight.path}: weight {name[:80]!r} is not part of the model.{near}"
            )
        weight.check_shape(name, tuple(slots[name].shape))


def _read(
    sources: Sources, slots: Mapping[str, Tensor], device: torch.device
) -> dict[str, Tensor]:
    """Return each named weight as its slot wants it, from where `sources` says, file by file."""
    weights: dict[str, Tensor] = {}
    for path in sorted({path for path, _ in sources.values()}):
        names = [name for name, (source, _) in sources.items() if source == path]
        with safe_open(path, framework="pt") as file:
            for name in names:
                tensor: Tensor = file.get_tensor(sources[name][1])
                if not is_finite(tensor):
                    raise CheckpointError(
                        f"{path}: weight '{name}' holds a number that is not finite."
                    )
                # A copy: the mapped file is not aligned, and who changes it would change us.
                weights[name] = tensor.to(device, slots[name].dtype, copy=True)
    return weights


def is_finite(tensor: Tensor) -> bool:
    """Say whether every number is finite, twenty times as fast as by looking at each."""
    low, high = torch.aminmax(tensor)  # either is nan where one number is
    return bool(torch.isfinite(low) & torch.isfinite(high))
