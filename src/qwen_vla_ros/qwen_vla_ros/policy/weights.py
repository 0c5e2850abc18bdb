"""Weights in and out of safetensors files: nothing is loaded before all of it has been checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers.initialization import no_init_weights

from qwen_vla_ros.errors import CheckpointError, suggest
from qwen_vla_ros.policy.action_decoder import ActionDecoder
from qwen_vla_ros.policy.config import ModelConfig
from qwen_vla_ros.policy.model import QwenVla
from qwen_vla_ros.policy.weights_header import TensorEntry, read_header

BACKBONE_PREFIX = "backbone.qwen."


def save_weights(path: Path, model: QwenVla) -> None:
    """Write all parameters; the language head, which is tied to the embedding, only once."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.named_parameters()}
    save_file(tensors, path, metadata={"format": "pt"})


def load_weights(
    path: Path, config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> QwenVla:
    """Return the model with the weights in `path`, on `device`, in `dtype`.

    Raises:
        CheckpointError: When names, shapes or numbers are not those of a model of this `config`.
    """
    _check_against(path, read_header(path), expected_shapes(config))
    # Built on the CPU and not on the meta device: the backbone's rotary frequencies are buffers
    # that no file holds. Memory that nobody initialises costs nothing until it is filled.
    with no_init_weights():
        model = QwenVla(config)
    _fill(model, {name: (path, name) for name, _ in model.named_parameters()})
    return model.cast(dtype).to(device).eval()


def fresh_model(config: ModelConfig, seed: int, backbone: Path | None = None) -> QwenVla:
    """Return a model with random weights, or with a random decoder on a pretrained backbone.

    Args:
        config: Its dimensions.
        seed: Of what is random; the process's own random state is left as it was.
        backbone: Folder of a Qwen3.5 model as the family publishes it. The whole model is in
            bfloat16 then, as that is.

    Raises:
        CheckpointError: When a weight of the backbone is missing, has another shape, or is not
            finite.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        if backbone is None:
            return QwenVla(config)
        with no_init_weights():
            model = QwenVla(config)
        model.decoder = ActionDecoder(config.decoder, config.backbone.hidden_size)
    _fill(model, _published_weights(model, backbone))
    return model.cast(torch.bfloat16)


def _published_weights(model: QwenVla, directory: Path) -> dict[str, tuple[Path, str]]:
    """Return the file and the name there of every weight of the backbone."""
    found: dict[str, tuple[Path, TensorEntry]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        found |= {name: (path, entry) for name, entry in read_header(path).items()}
    sources = {}
    for name, parameter in model.named_parameters():
        if not name.startswith(BACKBONE_PREFIX):
            continue
        published = name.removeprefix(BACKBONE_PREFIX)
        if published not in found:
            raise CheckpointError(
                f"{directory}: no *.safetensors file there has the weight '{published}'."
            )
        path, entry = found[published]
        _check_shape(path, published, entry, tuple(parameter.shape))
        sources[name] = (path, published)
    return sources


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter, without the memory that they take."""
    with torch.device("meta"):
        model = QwenVla(config)
    return {name: tuple(value.shape) for name, value in model.named_parameters()}


def _check_against(
    path: Path, entries: Mapping[str, TensorEntry], expected: Mapping[str, tuple[int, ...]]
) -> None:
    for name in expected:
        if name not in entries:
            raise CheckpointError(f"{path}: weight '{name}' is missing; config.json asks for it.")
    for name, entry in entries.items():
        if name not in expected:
            near = suggest(name, expected).partition(" Known:")[0]
            raise CheckpointError(f"{path}: weight {name[:80]!r} is not part of the model.{near}")
        _check_shape(path, name, entry, expected[name])


def _check_shape(path: Path, name: str, entry: TensorEntry, shape: tuple[int, ...]) -> None:
    if entry.shape != shape:
        raise CheckpointError(
            f"{path}: weight '{name}' has shape {list(entry.shape)}; the model's is {list(shape)}."
        )


def _fill(model: QwenVla, sources: Mapping[str, tuple[Path, str]]) -> None:
    """Give each named parameter the tensor that `sources` says, file by file."""
    parameters = dict(model.named_parameters())
    for path in sorted({path for path, _ in sources.values()}):
        names = [name for name, (source, _) in sources.items() if source == path]
        with safe_open(path, framework="pt") as file:
            for name in names:
                tensor: Tensor = file.get_tensor(sources[name][1])
                if not torch.isfinite(tensor).all():
                    raise CheckpointError(
                        f"{path}: weight '{name}' holds a number that is not finite."
                    )
                # A copy: the mapped file is not aligned, and who changes it would change us.
                parameters[name].data = tensor.clone()
