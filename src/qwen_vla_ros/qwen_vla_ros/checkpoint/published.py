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

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers.models.qwen3_5 import Qwen3_5Config

from qwen_vla_ros.checkpoint.weights_files import find_weights
from qwen_vla_ros.data_file import read_object
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.family import read_family_config

BACKBONE_PREFIX = "backbone."
CONFIG = "config.json"

WANTED_FILES = ("*.safetensors", "*.json")
"""All that is fetched: weights and words about them, and nothing that could run."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


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


def read_published_config(directory: Path) -> Qwen3_5Config:
    """Return what a published `config.json` says.

    Raises:
        CheckpointError: Naming the first key that says what we do not compute.
    """
    path = directory / CONFIG
    try:
        return read_family_config(read_object(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}.") from error


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
