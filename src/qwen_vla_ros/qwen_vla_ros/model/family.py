"""Qwen3.5's own configuration, as published: read as it is, and held against what we compute.

transformers' class knows what every field means and what it is when a file leaves it out. It does
not know that a number is absurd, or that another activation would need other code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from difflib import get_close_matches
from typing import Annotated, Any, cast

from pydantic import GetPydanticSchema
from pydantic_core import core_schema
from transformers import PreTrainedConfig
from transformers.models.qwen3_5 import (
    Qwen3_5Config,
    Qwen3_5TextConfig,
    Qwen3_5VisionConfig,
)

MODEL_TYPE = "qwen3_5"

_ROPE = "text_config.rope_parameters"
_MANY = range(1, 1_000_001)

DIMENSIONS = {
    **dict.fromkeys(
        (
            "text_config.vocab_size", "text_config.hidden_size", "text_config.intermediate_size",
            "text_config.num_attention_heads", "text_config.num_key_value_heads",
            "text_config.head_dim", "text_config.linear_num_key_heads",
            "text_config.linear_key_head_dim", "text_config.linear_num_value_heads",
            "text_config.linear_value_head_dim", "vision_config.hidden_size",
            "vision_config.intermediate_size", "vision_config.num_heads",
            "vision_config.num_position_embeddings", "vision_config.out_hidden_size",
        ),
        _MANY,
    ),
    **dict.fromkeys(("text_config.num_hidden_layers", "vision_config.depth"), range(1, 257)),
    "text_config.linear_conv_kernel_dim": range(1, 65),
    "vision_config.patch_size": range(1, 257),
    "vision_config.temporal_patch_size": range(1, 17),
    "vision_config.spatial_merge_size": range(1, 17),
    "image_token_id": range(1_000_000),
}  # fmt: skip
"""Whole numbers that a file must state, and what they may be."""

FIXED = {
    "text_config.hidden_act": "silu",
    "text_config.attention_bias": False,
    f"{_ROPE}.rope_type": "default",
    f"{_ROPE}.mrope_interleaved": True,
    "vision_config.in_channels": 3,
    "vision_config.hidden_act": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
}
"""What our modules compute, and nothing else."""

POSITIVE = {
    "text_config.rms_norm_eps": 1e-2,
    f"{_ROPE}.rope_theta": 1e9,
    f"{_ROPE}.partial_rotary_factor": 1.0,
    "vision_config.rope_parameters.rope_theta": 1e9,
}
"""Numbers above zero, and the largest that they may be."""


def qwen(
    *,
    vision: Mapping[str, int],
    text: Mapping[str, int],
    rope: Mapping[str, Any] | None = None,
    image_token_id: int = 248_056,
) -> Qwen3_5Config:
    """Return a configuration that is the published one wherever nothing else is said."""
    rotation = {
        "rope_type": "default",
        "rope_theta": 1e7,
        "partial_rotary_factor": 0.25,
        "mrope_section": [11, 11, 10],
        "mrope_interleaved": True,
        **(rope or {}),
    }
    return Qwen3_5Config(
        text_config={
            "max_position_embeddings": 262_144,
            "tie_word_embeddings": True,
            **text,
            "rope_parameters": rotation,
        },
        vision_config={**vision, "out_hidden_size": text["hidden_size"]},
        tie_word_embeddings=True,
        # The special tokens follow each other in the family's vocabulary, trimmed or whole.
        image_token_id=image_token_id,
        video_token_id=image_token_id + 1,
        vision_start_token_id=image_token_id - 3,
        vision_end_token_id=image_token_id - 2,
    )


def text_of(config: Qwen3_5Config) -> Qwen3_5TextConfig:
    """Return the part about the language model; transformers leaves it without a type."""
    text: Any = config.text_config
    return cast("Qwen3_5TextConfig", text)


def vision_of(config: Qwen3_5Config) -> Qwen3_5VisionConfig:
    """Return the part about the image encoder."""
    vision: Any = config.vision_config
    return cast("Qwen3_5VisionConfig", vision)


def read_family_config(values: Mapping[str, Any]) -> Qwen3_5Config:
    """Return the configuration that a `config.json` of the family says.

    Raises:
        ValueError: Naming the first key that says what we do not compute, and what is allowed.
    """
    if values.get("model_type") != MODEL_TYPE:
        raise ValueError(
            f"model_type is {values.get('model_type')!r}; only '{MODEL_TYPE}' can be a backbone"
        )
    for word in ("auto_map", "trust_remote_code"):
        if word in values:
            raise ValueError(f"{word}: asks for code of its own; no such model is read")
    for place, allowed in DIMENSIONS.items():
        _check_dimension(values, place, allowed)
    try:
        config = Qwen3_5Config(**deepcopy(dict(values)))
    except Exception as error:  # transformers validates with errors of several libraries
        sentence = " ".join(str(error).split())
        raise ValueError(f"is no config of the family: {sentence}") from error
    whole = plain(config)
    for place, only in FIXED.items():
        if (value := _at(whole, place)) != only:
            raise ValueError(f"{place} is {value!r}; allowed: {only!r}")
    for place, most in POSITIVE.items():
        value = _at(whole, place)
        if not isinstance(value, int | float) or not 0 < value <= most:
            raise ValueError(f"{place} is {value!r}; allowed: above 0, at most {most:g}")
    _check_together(whole)
    return config


def plain(config: Qwen3_5Config) -> dict[str, Any]:
    """Return a configuration as its file has it, without what no model of transformers says."""
    idle = json.loads(PreTrainedConfig().to_json_string(use_diff=False))

    def said(values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: said(value) if isinstance(value, Mapping) else value
            for key, value in values.items()
            if key not in idle or value != idle[key]
        }

    return said(json.loads(config.to_json_string(use_diff=False)))


def _at(values: Mapping[str, Any], place: str) -> Any:
    """Return what a file says at a place such as `text_config.head_dim`; `None`: nothing."""
    value: Any = values
    for key in place.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _check_dimension(values: Mapping[str, Any], place: str, allowed: range) -> None:
    """Hold a number against its range. Left out, it would be another model's."""
    value = _at(values, place)
    if value is None:
        section, _, key = place.rpartition(".")
        there = _at(values, section) if section else values
        known = {name.rpartition(".")[2] for name in DIMENSIONS}
        near = get_close_matches(key, [name for name in there or () if name not in known], 1)
        raise ValueError(f"{place} is missing" + (f"; '{near[0]}' is there" if near else ""))
    if type(value) is not int or value not in allowed:
        raise ValueError(
            f"{place} is {value!r}; allowed: whole numbers from {allowed[0]} to {allowed[-1]}"
        )


def _check_together(values: Mapping[str, Any]) -> None:
    """Check what one key cannot say alone."""
    text, vision = values["text_config"], values["vision_config"]
    rope, kinds = text["rope_parameters"], text["layer_types"]
    sections, turned = rope.get("mrope_section"), text["head_dim"] * rope["partial_rotary_factor"]
    rules = {
        f"{_ROPE}.mrope_section must be three whole numbers that cover the rotated half of a head":
            isinstance(sections, list) and len(sections) == 3
            and all(type(x) is int and x > 0 for x in sections) and 2 * sum(sections) == turned,
        "text_config heads must be multiples of their key heads":
            text["num_attention_heads"] % text["num_key_value_heads"] == 0
            and text["linear_num_value_heads"] % text["linear_num_key_heads"] == 0,
        "text_config.layer_types must be linear_attention or full_attention, one for each layer":
            len(kinds) == text["num_hidden_layers"]
            and set(kinds) <= {"linear_attention", "full_attention"},
        "image_token_id must be below text_config.vocab_size":
            values["image_token_id"] < text["vocab_size"],
        "vision_config.hidden_size must be a multiple of 4 * vision_config.num_heads":
            vision["hidden_size"] % (4 * vision["num_heads"]) == 0,
        "vision_config.num_position_embeddings must be the square of a whole number":
            round(vision["num_position_embeddings"] ** 0.5) ** 2
            == vision["num_position_embeddings"],
        "vision_config.out_hidden_size must be text_config.hidden_size":
            vision["out_hidden_size"] == text["hidden_size"],
    }  # fmt: skip
    for rule, holds in rules.items():
        if not holds:
            raise ValueError(rule)


def _validated(value: object) -> Qwen3_5Config:
    if isinstance(value, Qwen3_5Config):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("must be an object")
    return read_family_config(value)


FamilyConfig = Annotated[
    Qwen3_5Config,
    # pydantic would look into the class, which is more than a plain record.
    GetPydanticSchema(
        lambda _type, _handler: core_schema.no_info_plain_validator_function(
            _validated, serialization=core_schema.plain_serializer_function_ser_schema(plain)
        )
    ),
]
"""In a file of ours it is what it is in a file of theirs."""
