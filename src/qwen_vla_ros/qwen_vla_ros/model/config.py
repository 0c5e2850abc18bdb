"""The model's dimensions, as types: what `config.json` in a checkpoint holds.

The backbone's are the family's own `Qwen3_5Config`, see `family.py`; the decoder's are ours.

Four presets. `4b` is the paper's model; `2b` and `0.8b` put a proportionate decoder on the smaller
backbones of the same family; `nano` has every part of the true model at a size that answers three
cameras on one core of a laptop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from qwen_vla_ros.model.family import FamilyConfig, qwen, text_of

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Layers = Annotated[int, Field(ge=1, le=256)]
RopeBase = Annotated[float, Field(gt=1, le=1e9)]
Sections = tuple[Count, Count, Count]
"""Rotary frequencies given to the time, height and width rows of a position."""

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The action decoder: a single-stream DiT over [context tokens ; action tokens].

    Attributes:
        inner_size: Width inside the SwiGLU.
        num_heads: Ours, since the paper is silent: 64 per head, so that half a head holds the
            backbone's 11 + 11 + 10 rotary frequencies.
        attention: `joint` lets context tokens see the timestep and the actions, as the paper
            reads literally, so that nothing can be kept between steps. In `prefix` they see
            neither, and their keys and values are computed once per observation.
        action_channels: K, the width of the zero-padded action. The paper's parameter table says
            41 to 73; 64 is ours.
        timestep_features: Width of the sinusoid that the flow time is written in.
        context_layer: Layer of the backbone whose hidden states are read; `None` is the last one,
            after the final norm. The paper does not say which; this is our choice.
        frozen_prefix: Trained with the first rows of some chunks given clean, so that it continues
            a chunk that is being played; one that was not is guided to.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    num_blocks: Layers
    width: Count
    inner_size: Count
    num_heads: Count
    attention: Literal["joint", "prefix"]
    action_channels: Count = 64
    timestep_features: Annotated[int, Field(ge=2, le=4096, multiple_of=2)] = 256
    context_layer: Annotated[int, Field(ge=0, le=256)] | None = None
    frozen_prefix: bool = False
    rope_theta: RopeBase = 1e7
    rope_sections: Sections = (11, 11, 10)

    def __post_init__(self) -> None:
        """Check what one field cannot say alone."""
        if self.width % self.num_heads:
            raise ValueError("decoder.width must be a multiple of decoder.num_heads")
        if 2 * sum(self.rope_sections) != self.width // self.num_heads:
            raise ValueError("decoder.rope_sections must cover half a head")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One Qwen-VLA, whole; `preset` is the one that its decoder has the size of."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    preset: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$")]
    backbone: FamilyConfig
    decoder: DecoderConfig

    def __post_init__(self) -> None:
        """Check what one field cannot say alone."""
        layers = text_of(self.backbone).num_hidden_layers
        if (self.decoder.context_layer or 0) > layers:
            raise ValueError(f"decoder.context_layer must not be above {layers}, the last layer")


NANO = ModelConfig(
    preset="nano",
    backbone=qwen(
        vision={
            "depth": 3,
            "hidden_size": 192,
            "intermediate_size": 384,
            "num_heads": 3,
            "num_position_embeddings": 14 * 14,
        },
        text={
            "vocab_size": 2304,
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "linear_num_key_heads": 4,
            "linear_key_head_dim": 64,
            "linear_num_value_heads": 4,
            "linear_value_head_dim": 64,
        },
        # Small heads are rotated whole, and the base is small: a prompt of 250 tokens would turn
        # only a third of the frequencies of base 1e7 by as much as one radian.
        rope={"partial_rotary_factor": 1.0, "rope_theta": 1e3},
        image_token_id=12,
    ),
    decoder=DecoderConfig(
        num_blocks=4,
        width=256,
        inner_size=384,
        num_heads=4,
        attention="prefix",
        rope_theta=1e3,
        frozen_prefix=True,
    ),
)

# The decoders of the two middle presets are ours: a fifth of the backbone, as in the 4b.
SMALL = ModelConfig(
    preset="0.8b",
    backbone=qwen(
        vision={"depth": 12, "hidden_size": 768, "intermediate_size": 3072, "num_heads": 12},
        text={
            "hidden_size": 1024,
            "intermediate_size": 3584,
            "num_hidden_layers": 24,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "linear_num_value_heads": 16,
        },
    ),
    decoder=DecoderConfig(
        num_blocks=12,
        width=768,
        inner_size=5120,
        num_heads=12,
        attention="prefix",
        frozen_prefix=True,
    ),
)

MEDIUM = ModelConfig(
    preset="2b",
    backbone=qwen(
        vision={"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16},
        text={
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 24,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "linear_num_value_heads": 16,
        },
    ),
    decoder=DecoderConfig(
        num_blocks=16,
        width=1024,
        inner_size=6144,
        num_heads=16,
        attention="prefix",
        frozen_prefix=True,
    ),
)

PAPER = ModelConfig(
    preset="4b",
    backbone=qwen(
        vision={"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16},
        text={
            "hidden_size": 2560,
            "intermediate_size": 9216,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "linear_num_value_heads": 32,
        },
    ),
    decoder=DecoderConfig(
        num_blocks=16, width=1536, inner_size=10240, num_heads=24, attention="joint"
    ),
)

PRESETS = {config.preset: config for config in (NANO, SMALL, MEDIUM, PAPER)}
