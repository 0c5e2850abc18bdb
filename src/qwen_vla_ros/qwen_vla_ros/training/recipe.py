"""What `qwen-vla train` is told: one YAML file, or a robot and its data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from qwen_vla_ros.data_file import read_yaml
from qwen_vla_ros.errors import EmbodimentError, TrainingError
from qwen_vla_ros.problems import Problems
from qwen_vla_ros.training.objective import ObjectiveConfig

_STRICT = ConfigDict(extra="forbid", strict=True)

Count = Annotated[int, Field(ge=1, le=10_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Demonstrations of one robot.

    Attributes:
        robot: Name or path of its embodiment file.
        data: Folder with its demonstrations.
        share: Of every batch, relative to the other sources.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    robot: str
    data: Annotated[Path, Field(strict=False)]
    share: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One stage of training, from a model to a checkpoint.

    Attributes:
        sources: Each has a fixed share of every batch.
        stage: Of the paper's, one of the two that train everything; written into the checkpoint.
        preset: Of the model that is begun with.
        checkpoint: Weights to go on from, instead of a fresh `preset`.
        steps: Of the optimiser.
        batch_size: Examples per step.
        learning_rate: At its highest, of the decoder and the heads.
        backbone_learning_rate: The same of the backbone.
        warm_up_steps: Until the learning rate is there; then it falls as a cosine to `floor`.
        floor: Share of the learning rate that is left in the end.
        weight_decay: Of matrices.
        clip_norm: Of the gradient.
        ema_decay: Of the mean of the weights, which is what is kept.
        precision: What is multiplied in; weights and their means are float32.
        blind_share: Share of the prompts that do not tell the state.
        repeats: How often a batch is used, some steps apart: more than once where rendering is
            slower than learning. Noise and flow times are drawn anew.
        seed: Of everything that is drawn.
        objective: What is asked.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    sources: Annotated[tuple[SourceConfig, ...], Field(min_length=1, max_length=64)]
    stage: Literal["cpt", "sft"] = "sft"
    preset: str = "nano"
    checkpoint: Annotated[Path, Field(strict=False)] | None = None
    steps: Count = 10_000
    batch_size: Count = 64
    learning_rate: Rate = 6e-4
    backbone_learning_rate: Rate = 6e-4
    warm_up_steps: Annotated[int, Field(ge=0)] = 200
    floor: Share = 0.03
    weight_decay: Weight = 0.02
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    blind_share: Share = 0.1
    repeats: Annotated[int, Field(ge=1, le=16)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a YAML file; folders in it are relative to the file.

    Raises:
        TrainingError: With one line for everything that is wrong with the file.
    """
    try:
        source = read_yaml(path)
    except EmbodimentError as error:
        raise TrainingError(str(error)) from None
    try:
        recipe = TypeAdapter(Recipe).validate_json(json.dumps(source.data))
    except ValidationError as error:
        problems = Problems(path, source.lines, kind=TrainingError)
        problems.explain(error, Recipe)
        raise problems.error() from None
    sources = tuple(replace(each, data=path.parent / each.data) for each in recipe.sources)
    return replace(recipe, sources=sources)
