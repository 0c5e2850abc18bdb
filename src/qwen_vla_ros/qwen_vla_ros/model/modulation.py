"""AdaLN: how the flow time shifts, scales and gates tokens.

Shapes: B batch, S tokens, H action steps (always the last of the tokens), D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qwen_vla_ros.model.config import DecoderConfig


@dataclass(frozen=True)
class Norm:
    """Normalises every token, then scales and shifts all of them alike.

    Attributes:
        shift: (B, 1, D), or (D,) where the whole batch has one time.
        scale: Of the same shape; the one that AdaLN adds is in it.
    """

    shift: Tensor
    scale: Tensor

    @staticmethod
    def of(shift: Tensor, scale: Tensor) -> Norm:
        """Take what an AdaLN layer answers."""
        return Norm(shift, 1 + scale)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, S, D) both ways."""
        if self.scale.ndim == 1:
            return functional.layer_norm(x, self.scale.shape, self.scale, self.shift)
        return functional.layer_norm(x, x.shape[-1:]) * self.scale + self.shift


@dataclass(frozen=True)
class MixedNorm:
    """Treats frozen actions as clean data, and all other tokens as the step says.

    Attributes:
        rows: True where an action is frozen; (B, H, 1).
        clean: For these.
        step: For all others.
    """

    rows: Tensor
    clean: Norm
    step: Norm

    def __call__(self, x: Tensor) -> Tensor:
        """(B, S, D) both ways."""
        horizon, y = self.rows.shape[1], self.step(x)
        if x.shape[1] == horizon:
            return torch.where(self.rows, self.clean(x), y)
        y[:, -horizon:] = torch.where(self.rows, self.clean(x[:, -horizon:]), y[:, -horizon:])
        return y


@dataclass(frozen=True)
class BlockModulation:
    """AdaLN of one block; gates are (B, 1, D) or (D,), or (B, S, D) where actions are frozen."""

    attention: Norm | MixedNorm
    attention_gate: Tensor
    mlp: Norm | MixedNorm
    mlp_gate: Tensor

    @staticmethod
    def of(answer: Tensor) -> BlockModulation:
        """Take what an AdaLN layer answers; (..., 6 D)."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = answer.chunk(6, dim=-1)
        return BlockModulation(
            Norm.of(shift_a, scale_a), gate_a, Norm.of(shift_m, scale_m), gate_m
        )

    def last(self, count: int) -> BlockModulation:
        """Return the same for the last `count` tokens, which are the actions."""
        return BlockModulation(
            self.attention,
            _last(self.attention_gate, count),
            self.mlp,
            _last(self.mlp_gate, count),
        )


def _last(gate: Tensor, count: int) -> Tensor:
    return gate[:, -count:] if gate.ndim == 3 and gate.shape[1] > 1 else gate


@dataclass(frozen=True)
class Modulation:
    """AdaLN of all layers at one flow time."""

    blocks: tuple[BlockModulation, ...]
    output: Norm | MixedNorm

    def frozen(self, rows: Tensor, clean: Modulation, length: int) -> Modulation:
        """Return the same with `clean` for some of the actions.

        Args:
            rows: True where an action is frozen; (B, H).
            clean: AdaLN at t = 0.
            length: Number of context tokens that are computed in front of the actions.
        """
        rows = rows.unsqueeze(-1)

        def norm(step: Norm | MixedNorm, zero: Norm | MixedNorm) -> MixedNorm:
            if isinstance(step, MixedNorm) or isinstance(zero, MixedNorm):
                raise ValueError("actions are frozen already")
            return MixedNorm(rows, zero, step)

        def gate(step: Tensor, zero: Tensor) -> Tensor:
            actions = torch.where(rows, zero, step)  # (B, H, D)
            if not length:
                return actions
            return torch.cat((step.expand(len(rows), length, -1), actions), dim=1)

        return Modulation(
            blocks=tuple(
                BlockModulation(
                    norm(ours.attention, zero.attention),
                    gate(ours.attention_gate, zero.attention_gate),
                    norm(ours.mlp, zero.mlp),
                    gate(ours.mlp_gate, zero.mlp_gate),
                )
                for ours, zero in zip(self.blocks, clean.blocks, strict=True)
            ),
            output=norm(self.output, clean.output),
        )


class TimestepEmbedding(nn.Module):
    """Flow time as a sinusoid, through a small MLP."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.features = config.timestep_features
        self.up = nn.Linear(self.features, config.width)
        self.down = nn.Linear(config.width, config.width)

    def forward(self, t: Tensor) -> Tensor:
        """(B,) -> (B, D)."""
        half = self.features // 2
        exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
        # Diffusion code counts time in thousandths; periods then run from 0.006 to 63.
        angles = 1000 * t.float()[:, None] * 10_000**-exponents  # (B, F/2)
        wave = torch.cat((angles.cos(), angles.sin()), dim=-1).to(self.up.weight.dtype)
        embedded: Tensor = self.down(functional.silu(self.up(wave)))
        return embedded
