"""A Qwen3.5 model as the family publishes it: does it fit, and where are its weights?

config.json                                  dimensions, in the family's words
*.safetensors, model.safetensors.index.json  weights; those of a draft head are left alone
tokenizer.json, preprocessor_config.json     taken over as they are
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers.models.qwen3_5 import Qwen3_5Config

from qwen_vla_ros.checkpoint.weights_files import find_weights
from qwen_vla_ros.data_file import read_object
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.backbone import family_config
from qwen_vla_ros.model.config import BackboneConfig

BACKBONE_PREFIX = "backbone.qwen."
CONFIG = "config.json"
MODEL_TYPE = "qwen3_5"

WANTED_FILES = ("*.safetensors", "*.json")
"""All that is fetched: weights and words about them, and nothing that could run."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")

_ROPE = "text_config.rope_parameters"
_MATTERS = (
    "text_config.hidden_size", "text_config.vocab_size", "text_config.intermediate_size",
    "text_config.num_hidden_layers", "text_config.layer_types", "text_config.num_attention_heads",
    "text_config.num_key_value_heads", "text_config.head_dim", "text_config.linear_num_key_heads",
    "text_config.linear_key_head_dim", "text_config.linear_num_value_heads",
    "text_config.linear_value_head_dim", "text_config.linear_conv_kernel_dim",
    "text_config.hidden_act", "text_config.rms_norm_eps", "text_config.attention_bias",
    f"{_ROPE}.rope_type", f"{_ROPE}.rope_theta", f"{_ROPE}.partial_rotary_factor",
    f"{_ROPE}.mrope_section", f"{_ROPE}.mrope_interleaved",
    "vision_config.depth", "vision_config.hidden_size", "vision_config.intermediate_size",
    "vision_config.num_heads", "vision_config.num_position_embeddings",
    "vision_config.out_hidden_size", "vision_config.patch_size",
    "vision_config.temporal_patch_size", "vision_config.spatial_merge_size",
    "vision_config.in_channels", "vision_config.hidden_act",
    "tie_word_embeddings", "image_token_id", "video_token_id", "vision_start_token_id",
    "vision_end_token_id",
)  # fmt: skip
"""Whatever changes what the model computes, as places in the family's config."""


@dataclass(frozen=True)
class PublishedModel:
    """A folder, and what its weights are called when somebody asks where they come from."""

    directory: Path
    name: str


def find_published(where: str, revision: str = "") -> PublishedModel:
    """Return a folder on this machine, or fetch one from the model hub.

    Args:
        where: A folder, or an id such as `Qwen/Qwen3.5-4B`.
        revision: Commit on the hub, 40 hexadecimal digits: what a name or a branch stands for
            changes, and the same command shall make the same checkpoint.

    Raises:
        CheckpointError: When there is no such folder, or the hub cannot be asked.
    """
    directory = Path(where).expanduser()
    if directory.is_dir():
        return PublishedModel(directory, directory.resolve().name)
    if not _HUB_ID.fullmatch(where):
        raise CheckpointError(
            f"{where}: there is no such folder, and it is no id on the model hub either. "
            "Allowed: a folder, or an id such as Qwen/Qwen3.5-4B."
        )
    if not _COMMIT.fullmatch(revision):
        given = f", not '{revision}'" if revision else ""
        raise CheckpointError(
            f"{where}: there is no such folder. To fetch it from the model hub, pin what is "
            f"fetched: --revision and the 40 digits of a commit{given}."
        )
    return PublishedModel(_fetch(where, revision), f"{where} at {revision}")


def check_published_config(directory: Path, config: BackboneConfig) -> None:
    """Hold a published `config.json` against the dimensions that we would build.

    Raises:
        CheckpointError: Naming the first field that differs, with both values.
    """
    path = directory / CONFIG
    found = read_object(path)
    if found.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"{path}: model_type is {found.get('model_type')!r}; only '{MODEL_TYPE}' can be a "
            "backbone."
        )
    for word in ("auto_map", "trust_remote_code"):
        if word in found:
            raise CheckpointError(
                f"{path}: {word}: asks for code of its own; no such model is read."
            )
    try:
        theirs = Qwen3_5Config(**found).to_dict()
    except Exception as error:  # transformers validates with errors of several libraries
        sentence = " ".join(str(error).split())
        raise CheckpointError(f"{path}: is no config of the family: {sentence}") from error
    ours = family_config(config).to_dict()
    for place in _MATTERS:
        there, here = _value(theirs, place), _value(ours, place)
        if there != here:
            raise CheckpointError(f"{path}: {place} is {there}; the preset's is {here}.")


def _fetch(hub_id: str, commit: str) -> Path:
    wanted = list(WANTED_FILES)
    try:
        # A commit never changes: what is in the cache needs no network.
        with suppress(LocalEntryNotFoundError):
            return Path(
                snapshot_download(
                    hub_id, revision=commit, allow_patterns=wanted, local_files_only=True
                )
            )
        return Path(snapshot_download(hub_id, revision=commit, allow_patterns=wanted))
    except Exception as error:  # the disk, the network, the hub: each has errors of its own
        raise CheckpointError(
            f"{hub_id}: cannot be fetched from the model hub at {commit[:12]} "
            f"({type(error).__name__}), and is not whole in its cache. On a machine without a "
            "network name a folder that holds it."
        ) from error


def published_weights(
    directory: Path, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[Path, str]]:
    """Return the file and the name there of every weight of the backbone.

    Args:
        directory: A published model.
        shapes: Of all weights of our model, by our names.

    Raises:
        CheckpointError: When one is missing or has another shape.
    """
    stored = find_weights(directory, others=True)
    sources = {}
    for name, shape in shapes.items():
        if not name.startswith(BACKBONE_PREFIX):
            continue
        published = name.removeprefix(BACKBONE_PREFIX)
        if published not in stored:
            raise CheckpointError(f"{directory}: no file there has the weight '{published}'.")
        weight = stored[published]
        weight.check_shape(published, shape)
        sources[name] = (weight.path, published)
    return sources


def _value(config: Mapping[str, Any], place: str) -> Any:
    value: Any = config
    for key in place.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
