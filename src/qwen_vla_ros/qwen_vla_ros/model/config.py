"""The model's dimensions, as types: what `config.json` in a checkpoint holds.

Four presets. `4b` is the paper's model; `2b` and `0.8b` put a proportionate decoder on the smaller
backbones of the same family; `nano` has every part of the true model at a size that answers three
cameras on one core of a laptop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Layers = Annotated[int, Field(ge=1, le=256)]
Fraction = Annotated[float, Field(gt=0, le=1)]
RopeBase = Annotated[float, Field(gt=1, le=1e9)]
TokenId = Annotated[int, Field(ge=0, lt=1_000_000)]
Sections = tuple[Count, Count, Count]
"""Rotary frequencies given to the time, height and width rows of a position."""

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The image encoder; one token is `merge_size * patch_size` pixels square.

    `positions` is the number of learned position vectors, the square of a whole number; the
    square is stretched over whatever grid of patches an image has.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    depth: Layers
    hidden_size: Count
    intermediate_size: Count
    num_heads: Count
    positions: Count
    patch_size: Count = 16
    temporal_patch_size: Count = 2
    merge_size: Count = 2

    def __post_init__(self) -> None:
        """Check what one field cannot say alone."""
        if self.hidden_size % (4 * self.num_heads):
            raise ValueError("vision.hidden_size must be a multiple of 4 * vision.num_heads")
        if round(self.positions**0.5) ** 2 != self.positions:
            raise ValueError("vision.positions must be the square of a whole number")

    @property
    def token_size_px(self) -> int:
        """Side of the square of pixels that becomes one token."""
        return self.patch_size * self.merge_size


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Qwen3.5: of every four layers three are gated delta nets and one is gated attention.

    Attributes:
        rotary_fraction: Part of each attention head that is rotated by position.
        image_token_id: Token whose embedding is replaced by an image feature.
        context_layer: Layer whose hidden states the decoder reads; `None` is the last one, after
            the final norm. The paper does not say which; this is our choice.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    vision: VisionConfig
    vocab_size: Count
    hidden_size: Count
    intermediate_size: Count
    num_layers: Layers
    num_heads: Count
    num_kv_heads: Count
    head_dim: Count
    linear_key_heads: Count
    linear_key_head_dim: Count
    linear_value_heads: Count
    linear_value_head_dim: Count
    image_token_id: TokenId = 248_056
    rotary_fraction: Fraction = 0.25
    rope_theta: RopeBase = 1e7
    rope_sections: Sections = (11, 11, 10)
    context_layer: Annotated[int, Field(ge=0, le=256)] | None = None

    def __post_init__(self) -> None:
        """Check what one field cannot say alone."""
        if 2 * sum(self.rope_sections) != round(self.head_dim * self.rotary_fraction):
            raise ValueError("backbone.rope_sections must cover the rotated half of a head")
        if self.num_heads % self.num_kv_heads or self.linear_value_heads % self.linear_key_heads:
            raise ValueError("backbone heads must be multiples of their key heads")
        if self.image_token_id >= self.vocab_size:
            raise ValueError("backbone.image_token_id must be below backbone.vocab_size")
        if self.context_layer is not None and self.context_layer > self.num_layers:
            raise ValueError("backbone.context_layer must not be above backbone.num_layers")


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
    """One Qwen-VLA, whole."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    preset: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$")]
    backbone: BackboneConfig
    decoder: DecoderConfig


NANO = ModelConfig(
    preset="nano",
    backbone=BackboneConfig(
        vision=VisionConfig(
            depth=3, hidden_size=192, intermediate_size=384, num_heads=3, positions=14 * 14
        ),
        vocab_size=2304,
        hidden_size=256,
        intermediate_size=512,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        head_dim=64,
        linear_key_heads=4,
        linear_key_head_dim=64,
        linear_value_heads=4,
        linear_value_head_dim=64,
        image_token_id=12,
        # Small heads are rotated whole, and the base is small: a prompt of 250 tokens would turn
        # only a third of the frequencies of base 1e7 by as much as one radian.
        rotary_fraction=1.0,
        rope_theta=1e3,
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
    backbone=BackboneConfig(
        vision=VisionConfig(
            depth=12, hidden_size=768, intermediate_size=3072, num_heads=12, positions=48 * 48
        ),
        vocab_size=248_320,
        hidden_size=1024,
        intermediate_size=3584,
        num_layers=24,
        num_heads=8,
        num_kv_heads=2,
        head_dim=256,
        linear_key_heads=16,
        linear_key_head_dim=128,
        linear_value_heads=16,
        linear_value_head_dim=128,
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
    backbone=BackboneConfig(
        vision=VisionConfig(
            depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16, positions=48 * 48
        ),
        vocab_size=248_320,
        hidden_size=2048,
        intermediate_size=6144,
        num_layers=24,
        num_heads=8,
        num_kv_heads=2,
        head_dim=256,
        linear_key_heads=16,
        linear_key_head_dim=128,
        linear_value_heads=16,
        linear_value_head_dim=128,
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
    backbone=BackboneConfig(
        vision=VisionConfig(
            depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16, positions=48 * 48
        ),
        vocab_size=248_320,
        hidden_size=2560,
        intermediate_size=9216,
        num_layers=32,
        num_heads=16,
        num_kv_heads=4,
        head_dim=256,
        linear_key_heads=16,
        linear_key_head_dim=128,
        linear_value_heads=32,
        linear_value_head_dim=128,
    ),
    decoder=DecoderConfig(
        num_blocks=16, width=1536, inner_size=10240, num_heads=24, attention="joint"
    ),
)

PRESETS = {config.preset: config for config in (NANO, SMALL, MEDIUM, PAPER)}
