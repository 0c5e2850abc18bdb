"""Multi-section rotary embedding, continuing the backbone's positions.

Shapes: B batch, S tokens, N heads, E per head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qwen_vla_ros.model.config import DecoderConfig


@dataclass(frozen=True)
class Rotation:
    """Rotary angles of every token.

    Attributes:
        cos: Cosine; (B, 1, S, E).
        sin: Sine, its first half negated, since that half receives the other's negative;
            (B, 1, S, E).
        turns: cos + i sin, which turns a head whose halves are one complex vector;
            (B, 1, S, E / 2). `None` unless in float32: there are no smaller complex numbers.
    """

    cos: Tensor
    sin: Tensor
    turns: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate the halves of each head against each other; (B, N, S, E) both ways."""
        first, second = x.chunk(2, dim=-1)
        return torch.addcmul(x * self.cos, torch.cat((second, first), dim=-1), self.sin)

    def split(self, at: int) -> tuple[Rotation, Rotation]:
        """Return the rotations of the tokens before and from `at`."""
        turns = self.turns
        return (
            Rotation(
                self.cos[:, :, :at],
                self.sin[:, :, :at],
                None if turns is None else turns[:, :, :at],
            ),
            Rotation(
                self.cos[:, :, at:],
                self.sin[:, :, at:],
                None if turns is None else turns[:, :, at:],
            ),
        )


def rotation(config: DecoderConfig, positions: Tensor, dtype: torch.dtype) -> Rotation:
    """Return the rotation of tokens at `positions` (3, B, S): time, height, width.

    Frequencies are dealt to the three rows in turn, as in the backbone, until a row has had its
    share. They are computed here and not kept in a buffer: a buffer that is not in the
    checkpoint stays uninitialised when a model is built on the meta device.
    """
    half = config.width // config.num_heads // 2
    exponents = torch.arange(half, dtype=torch.float32, device=positions.device) / half
    frequencies = 1 / config.rope_theta**exponents  # (E/2,)
    rows = torch.zeros(half, dtype=torch.long, device=positions.device)
    for row in (1, 2):
        rows[row : 3 * config.rope_sections[row] : 3] = row
    angles = positions.float()[rows].movedim(0, -1) * frequencies  # (B, S, E/2)
    angles = angles.unsqueeze(1)  # (B, 1, S, E/2)
    cos, sin = angles.cos(), angles.sin()
    return Rotation(
        cos=torch.cat((cos, cos), dim=-1).to(dtype),
        sin=torch.cat((-sin, sin), dim=-1).to(dtype),
        turns=torch.complex(cos, sin) if dtype == torch.float32 else None,
    )


def following(positions: Tensor, count: int) -> Tensor:
    """Return `count` positions after the last of `positions`; (3, B, L) -> (3, B, count).

    Our choice, the paper does not say: one after the other, on all three rows.
    """
    last = positions.amax(dim=(0, 2)).unsqueeze(1)  # (B, 1)
    steps = last + 1 + torch.arange(count, device=positions.device)  # (B, count)
    return steps.expand(3, -1, -1)
