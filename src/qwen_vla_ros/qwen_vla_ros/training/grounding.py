"""Seeing is taught by asking where things are: two linear heads that only training has.

A chunk of actions says little about pictures: in most moments the state alone tells what comes
next, and a model that learns from actions only learns to read the state. So each image token says
which things have their centre in it, and where in it; and the last token of the prompt, which
knows the instruction, says where the named things are in each picture.

Shapes: B batch, L tokens, D width, V image tokens, N things, M named things, C cameras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

NAMED = 2
"""M: an instruction is about one thing, or about a thing and a place."""
CAMERAS = 4
"""C, the most that any robot may have here."""
PRESENT, ACROSS, DOWN = range(3)


@dataclass(frozen=True)
class GroundingLoss:
    """How wrong the answers are, each a number.

    Attributes:
        cells: Of the image tokens.
        named: Of the last token.
        error: Mean distance of named things in sight from where they are, in widths of a picture.
    """

    cells: Tensor
    named: Tensor
    error: Tensor


class Grounding(nn.Module):
    """Asks the hidden states of a backbone where things are."""

    def __init__(self, width: int, things: int) -> None:
        super().__init__()
        self.cells = nn.Linear(width, things * 3)
        self.named = nn.Linear(width, NAMED * CAMERAS * 3)

    def forward(
        self, hidden: Tensor, image_places: Tensor, last: Tensor, cells: Tensor, places: Tensor
    ) -> GroundingLoss:
        """Return how wrong the answers are.

        Args:
            hidden: Of all tokens; (B, L, D).
            image_places: Where image tokens stand among all tokens of the batch; (V,).
            last: Where the last token of each prompt stands; (B,).
            cells: From `cell_targets`; (V, N, 3).
            places: Column and row of named things, 0 to 1 where in sight; (B, M, C, 2).
        """
        seen = self.cells(hidden.flatten(0, 1)[image_places]).float().view_as(cells)
        in_cells = _loss(seen, cells[..., PRESENT] > 0, cells[..., ACROSS:])
        end = hidden[torch.arange(len(hidden), device=hidden.device), last]
        told = self.named(end).float().view(-1, NAMED, CAMERAS, 3)
        in_sight = ((places >= 0) & (places < 1)).all(dim=-1)  # nan is neither
        known = torch.where(in_sight.unsqueeze(-1), places, 0.0)
        named = _loss(told, in_sight, 2 * known - 1)
        apart = (told[..., ACROSS:] - (2 * known - 1)).norm(dim=-1) / 2
        error = (apart * in_sight).sum() / in_sight.sum().clamp(min=1)
        return GroundingLoss(in_cells, named, error.detach())


def _loss(told: Tensor, present: Tensor, where: Tensor) -> Tensor:
    """Return whether (logit) and where, both (..., 3), against `present` and `where` (..., 2)."""
    whether = functional.binary_cross_entropy_with_logits(
        told[..., PRESENT], present.float(), reduction="sum"
    )
    apart = functional.smooth_l1_loss(told[..., ACROSS:], where, reduction="none", beta=0.1)
    count = present.sum().clamp(min=1)
    return whether / count + (apart.sum(dim=-1) * present).sum() / count


def cell_targets(
    places: npt.NDArray[np.floating[Any]], rows: int, columns: int
) -> npt.NDArray[np.float32]:
    """Return what each image token has in it of each thing; (rows * columns, N, 3).

    Args:
        places: Column and row of each thing's centre, 0 to 1 where in sight; (N, 2).
        rows: Of image tokens in the picture.
        columns: Of image tokens in the picture.

    Returns:
        1 where the centre is in the token and 0 elsewhere; then where in it, from -1 to 1.
    """
    targets = np.zeros((rows * columns, len(places), 3), np.float32)
    in_sight = np.flatnonzero(((places >= 0) & (places < 1)).all(axis=1))
    scaled = places[in_sight] * (columns, rows)
    cell = np.floor(scaled).astype(int)
    at = cell[:, 1] * columns + cell[:, 0]
    targets[at, in_sight, PRESENT] = 1
    targets[at, in_sight, ACROSS:] = 2 * (scaled - cell) - 1
    return targets
