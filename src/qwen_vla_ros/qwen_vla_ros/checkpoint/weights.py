"""Weights in and out of safetensors files: nothing is loaded before all of it has been checked.

A large model exists once. Weights are filled in one by one in the precision that is wanted; there
is no moment with all of them in two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers.initialization import no_init_weights

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
from qwen_vla_ros.model.action_decoder import ActionDecoder
from qwen_vla_ros.model.config import ModelConfig
from qwen_vla_ros.model.model import QwenVla

Sources = Mapping[str, tuple[Path, str]]
"""File, and name in it, of each weight of the model."""


@dataclass(frozen=True)
class Slot:
    """What a weight of the model is to look like."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def model_slots(config: ModelConfig, dtype: torch.dtype = torch.float32) -> dict[str, Slot]:
    """Return the slot of every weight of a model that is cast to `dtype`; takes no memory."""
    with torch.device("meta"):
        model = QwenVla(config).cast(dtype)
    return {name: Slot(tuple(x.shape), x.dtype) for name, x in model.named_parameters()}


def save_weights(directory: Path, model: QwenVla, shard_bytes: int = SHARD_BYTES) -> str:
    """Write all weights; the language head, which is tied to the embedding, only once.

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
    slots = model_slots(config, dtype)
    stored = find_weights(directory)
    _check_against(directory, stored, slots)
    model = _unfilled(config)
    _fill(model, {name: (weight.path, name) for name, weight in stored.items()}, slots, device)
    return model.to(device).eval()


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
    slots = model_slots(config, dtype)
    model = _unfilled(config)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model.decoder = _fresh_decoder(config, dtype)
        if backbone is None:
            for name, parameter in model.named_parameters():
                if not name.startswith("decoder."):
                    parameter.data = torch.empty(slots[name].shape, dtype=slots[name].dtype)
            model.backbone.qwen.init_weights()  # type: ignore[no-untyped-call]
    if backbone is not None:
        shapes = {name: slot.shape for name, slot in slots.items()}
        _fill(model, published_weights(backbone, shapes), slots, torch.device("cpu"))
    return model.cast(dtype)


def _unfilled(config: ModelConfig) -> QwenVla:
    """Return a model whose weights are whatever was in memory; its buffers are right.

    Built on the CPU and not on the meta device: the backbone's rotary frequencies are buffers that
    no file holds. Memory that nobody writes to costs nothing until it is replaced.
    """
    # The family's constructors draw numbers all the same.
    with torch.random.fork_rng(devices=()), no_init_weights():
        return QwenVla(config)


def _fresh_decoder(config: ModelConfig, dtype: torch.dtype) -> ActionDecoder:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return ActionDecoder(config.decoder, config.backbone.hidden_size)
    finally:
        torch.set_default_dtype(before)


def _check_against(
    directory: Path, stored: Mapping[str, StoredWeight], slots: Mapping[str, Slot]
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
        weight.check_shape(name, slots[name].shape)


def _fill(
    model: QwenVla, sources: Sources, slots: Mapping[str, Slot], device: torch.device
) -> None:
    """Give each named weight the tensor that `sources` says, file by file."""
    parameters = dict(model.named_parameters())
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
                parameters[name].data = tensor.to(device, slots[name].dtype, copy=True)


def is_finite(tensor: Tensor) -> bool:
    """Say whether every number is finite, twenty times as fast as by looking at each."""
    low, high = torch.aminmax(tensor)  # either is nan where one number is
    return bool(torch.isfinite(low) & torch.isfinite(high))
