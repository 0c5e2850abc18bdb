"""What `config.json` of a checkpoint says: which model it is, and where its weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from qwen_vla_ros.model.config import ModelConfig

_STRICT = ConfigDict(extra="forbid", strict=True)

Text = Annotated[str, Field(min_length=1, max_length=500)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

Stage = Literal["untrained", "t2a", "cpt", "sft", "rl"]
"""The last of the paper's stages that the weights went through: the decoder on text and
trajectories, everything on the mixture, everything on tasks, everything on success."""


@dataclass(frozen=True, kw_only=True)
class RobotRecord:
    """A robot that the checkpoint was made for, as it was described then."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """Data that the weights were trained on; `licence` is what its owners call it."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: Text
    episodes: Annotated[int, Field(ge=1)]
    licence: Text


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the weights come from, in words and numbers; `seed` is that of their random part."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    weights: Text
    seed: int
    embodiments: tuple[RobotRecord, ...]
    datasets: tuple[DatasetRecord, ...] = ()
    stage: Stage = "untrained"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `config.json` holds.

    Attributes:
        model: The model's dimensions.
        provenance: Where its weights come from.
        weights_sha256: Of names, shapes, dtypes and bytes of all weights, whatever files they are
            in. It tells an adapter whether this is the model that it was trained on.
        created_with: Version of this software that wrote the folder.
        schema_version: Of this file and of the names of the weights.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    model: ModelConfig
    provenance: Provenance
    weights_sha256: Sha256 | None = None
    created_with: Text | None = None
    schema_version: Literal[2] = 2


def software_version() -> str:
    """Return the version of this software, or `unknown` when it is not installed."""
    try:
        return version("qwen_vla_ros")
    except PackageNotFoundError:
        return "unknown"
