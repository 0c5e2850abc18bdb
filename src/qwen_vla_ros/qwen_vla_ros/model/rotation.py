"""Rotary embedding: the halves of a head are turned against each other, by where the token stands.

Shapes: B batch, S tokens, N heads, E rotated values of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rotation:
    """Rotary angles of every token.

    Attributes:
        cos: Cosine; (..., S, 1, E).
        sin: Sine, its first half negated, since that half receives the other's negative;
            (..., S, 1, E).
    """

    cos: Tensor
    sin: Tensor

    @staticmethod
    def by(angles: Tensor, dtype: torch.dtype) -> Rotation:
        """Rotate by `angles` (..., S, E / 2), in numbers of this kind."""
        cos, sin = angles.cos().unsqueeze(-2), angles.sin().unsqueeze(-2)
        return Rotation(
            torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((-sin, sin), dim=-1).to(dtype)
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Turn the first E values of every head; (..., S, N, E or more) both ways."""
        width = self.cos.shape[-1]
        turned = x[..., :width].to(self.cos.dtype)
        swapped = torch.cat(turned.chunk(2, dim=-1)[::-1], dim=-1)
        turned = swapped.mul_(self.sin).addcmul_(turned, self.cos).to(x.dtype)
        return turned if x.shape[-1] == width else torch.cat((turned, x[..., width:]), dim=-1)

    def split(self, at: int) -> tuple[Rotation, Rotation]:
        """Return the rotations of the tokens before and from `at`; (B, S, 1, E) both."""
        return (
            Rotation(self.cos[:, :at], self.sin[:, :at]),
            Rotation(self.cos[:, at:], self.sin[:, at:]),
        )


def frequencies(half: int, base: float, device: torch.device) -> Tensor:
    """Return by how much one position turns each pair of values; (half,).

    Computed when it is asked for, and not kept in a buffer: one that is not in the checkpoint
    stays uninitialised when a model is built on the meta device.
    """
    exponents = torch.arange(half, dtype=torch.float32, device=device) / half
    return 1 / base**exponents


def rotation_at(
    positions: Tensor, sections: Sequence[int], base: float, dtype: torch.dtype
) -> Rotation:
    """Return the rotation of tokens at `positions` (3, B, S): time, height, width.

    Frequencies are dealt to the three rows in turn, until a row has had its share of `sections`.
    """
    half = sum(sections)
    rows = torch.zeros(half, dtype=torch.long, device=positions.device)
    for row in (1, 2):
        rows[row : 3 * sections[row] : 3] = row
    turns = frequencies(half, base, positions.device)
    return Rotation.by(positions.float()[rows].movedim(0, -1) * turns, dtype)
