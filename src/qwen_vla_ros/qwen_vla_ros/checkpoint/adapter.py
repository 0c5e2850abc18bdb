"""LoRA adapters in the format of peft: checked like a checkpoint, and merged when it is loaded.

    adapter_config.json          rank and scale, and which layers
    adapter_model.safetensors    two thin matrices for each layer: W becomes W + scale * B A

Merged, so that serving costs nothing. Nothing is merged before every file has been checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from qwen_vla_ros.checkpoint.adapter_config import (
    ADAPTER_CONFIG,
    AdapterConfig,
    base_revision,
    matches,
    read_adapter_config,
)
from qwen_vla_ros.checkpoint.folder import refuse_executables, written_whole
from qwen_vla_ros.checkpoint.manifest import Manifest
from qwen_vla_ros.checkpoint.weights import is_finite
from qwen_vla_ros.checkpoint.weights_header import TensorEntry, read_header
from qwen_vla_ros.errors import CheckpointError, suggest
from qwen_vla_ros.model.model import QwenVla

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER_WEIGHTS = "adapter_model.safetensors"

LAYERS = (
    "q_proj", "k_proj", "v_proj", "o_proj",  # attention of the language model
    "in_proj_qkv", "in_proj_z", "out_proj",  # its gated delta nets
    "gate_proj", "up_proj", "down_proj",  # its SwiGLU
    "qkv", "attention_out", "gate_up", "down",  # the blocks of the decoder
)  # fmt: skip
"""What an adapter adapts unless it is told otherwise."""

_NAME = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True)
class _Pair:
    """What is added to one layer: scale * up @ down; up is (out, rank) and down (rank, in)."""

    up: Tensor
    down: Tensor
    scale: float


def merge_adapter(model: QwenVla, directory: Path, weights_sha256: str | None) -> None:
    """Add an adapter to the weights of a model, in place.

    Args:
        model: On any device, in any precision.
        directory: The adapter.
        weights_sha256: Digest of the model's weights, which an adapter may name as its base.

    Raises:
        CheckpointError: When it is no adapter for this model.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: there is no such folder; an adapter is one.")
    refuse_executables(directory)
    config = read_adapter_config(directory / ADAPTER_CONFIG, weights_sha256)
    path = directory / ADAPTER_WEIGHTS
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    names = _check(path, config, read_header(path), layers)
    with torch.no_grad():
        # One after the other: a second copy of all these weights may not fit.
        for layer, pair in _read(path, config, names).items():
            weight = layers[layer].weight
            change = pair.scale * (pair.up.float() @ pair.down.float())
            merged = (weight.float() + change.to(weight.device)).to(weight.dtype)
            if not is_finite(merged):
                raise CheckpointError(f"{path}: makes '{layer}' a weight that is not finite.")
            weight.data = merged


def add_adapter(
    model: QwenVla,
    *,
    rank: int = 16,
    alpha: float = 32.0,
    layers: Sequence[str] = LAYERS,
    dropout: float = 0.0,
) -> PeftModel:
    """Give a model an adapter to train, which begins by changing nothing.

    The model itself is changed: its layers become adapted ones, and only what the adapter adds
    has gradients. Train `model`, and keep what is returned for `save_adapter`.

    Args:
        model: Must not have one yet.
        rank: Columns of the thin matrices.
        alpha: What is added counts `alpha / rank`.
        layers: Ends of the names of the layers.
        dropout: Share of a layer's inputs that the adapter does not see in training.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        target_modules=list(layers),
        lora_dropout=dropout,
    )
    return get_peft_model(model, config)


def save_adapter(adapted: PeftModel, out: Path, base: Manifest) -> None:
    """Write an adapter, whole or not at all.

    Args:
        adapted: What `add_adapter` returned.
        out: Folder to make.
        base: Of the checkpoint that it was trained on; its digest is noted.

    Raises:
        CheckpointError: When `out` exists and is not an empty folder.
    """
    from peft import get_peft_model_state_dict

    config = adapted.peft_config["default"]
    config.base_model_name_or_path = f"qwen-vla {base.model.preset}"
    config.revision = base_revision(base.weights_sha256)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(
            adapted,
            save_embedding_layers=False,  # or it would ask the model hub
        ).items()
    }
    with written_whole(out) as folder:
        config.save_pretrained(str(folder))
        save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def _check(
    path: Path,
    config: AdapterConfig,
    header: Mapping[str, TensorEntry],
    layers: Mapping[str, nn.Linear],
) -> dict[tuple[str, str], str]:
    """Return the name in the file by layer and side, when every name and shape is right."""
    names: dict[tuple[str, str], str] = {}
    for name, entry in header.items():
        found = _NAME.fullmatch(name)
        if not found:
            raise CheckpointError(
                f"{path}: {name[:120]!r} is no weight of a LoRA adapter of linear layers."
            )
        layer, side = found["layer"], found["side"]
        _check_layer(path, layer, layers)
        rank, linear = config.rank_of(layer), layers[layer]
        wanted = (rank, linear.in_features) if side == "A" else (linear.out_features, rank)
        if entry.shape != wanted:
            raise CheckpointError(
                f"{path}: '{layer}' lora_{side} has shape {list(entry.shape)}; with rank {rank} "
                f"the model's is {list(wanted)}."
            )
        names[layer, side] = name
    for layer in _wanted_layers(path, config, layers) | {layer for layer, _ in names}:
        for side in "AB":
            if (layer, side) not in names:
                raise CheckpointError(f"{path}: lora_{side} of '{layer}' is missing.")
    return names


def _check_layer(path: Path, layer: str, layers: Mapping[str, nn.Linear]) -> None:
    if layer not in layers:
        near = suggest(layer, layers).partition(" Known:")[0]
        raise CheckpointError(f"{path}: the model has no linear layer {layer[:120]!r}.{near}")


def _wanted_layers(path: Path, config: AdapterConfig, layers: Mapping[str, nn.Linear]) -> set[str]:
    """Return the layers that the config promises, when it says so in names."""
    wanted: set[str] = set()
    for target in config.targets:
        found = {layer for layer in layers if matches(layer, target)}
        if not found:
            ends = {layer.rpartition(".")[2] for layer in layers}
            raise CheckpointError(
                f"{path.parent / ADAPTER_CONFIG}: target_modules: the model has no linear layer "
                f"'{target}'.{suggest(target, ends)}"
            )
        wanted |= found
    return set() if config.is_partial else wanted


def _read(
    path: Path, config: AdapterConfig, names: Mapping[tuple[str, str], str]
) -> dict[str, _Pair]:
    tensors: dict[tuple[str, str], Any] = {}
    with safe_open(path, framework="pt") as file:
        for place, name in names.items():
            tensor = file.get_tensor(name)
            if not is_finite(tensor):
                raise CheckpointError(f"{path}: '{name}' holds a number that is not finite.")
            tensors[place] = tensor
    return {
        layer: _Pair(tensors[layer, "B"], tensors[layer, "A"], config.scale_of(layer))
        for layer in sorted({layer for layer, _ in names})
    }
