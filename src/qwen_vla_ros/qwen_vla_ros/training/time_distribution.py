"""Which flow times training asks about; 1 is noise, 0 is data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LogitNormal:
    """The sigmoid of a normal: most often the middle, where one guess is hardest.

    T2A. The paper gives no parameters; these are those of Stable Diffusion 3 (Esser et al., 2024).

    Attributes:
        mean: Above zero the density moves towards noise.
        deviation: Standard deviation of the normal.
    """

    mean: float = 0.0
    deviation: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Beta:
    """A density that grows with time^(alpha - 1) towards one end: Beta(alpha, 1).

    CPT and SFT. The values are those of openpi and of GR00T, whose densities grow towards noise:
    there the observation has to decide what the chunk is to be, and near the data little is left
    to say. The paper says towards the clean end.

    Attributes:
        alpha: One is the uniform distribution.
        toward: Which end is asked about most.
        least: Smallest time; the rest of the density is squeezed into [least, 1]. Time 0 is kept
            for what is clean.
    """

    alpha: float = 1.5
    toward: Literal["noise", "clean"] = "noise"
    least: float = 0.001


TimeDistribution = LogitNormal | Beta


def draw_times(
    count: int, distribution: TimeDistribution, generator: torch.Generator | None = None
) -> Tensor:
    """Return `count` flow times in (0, 1]; (count,), float32."""
    if isinstance(distribution, LogitNormal):
        normal = torch.randn(count, generator=generator, dtype=torch.float64)
        return (distribution.mean + distribution.deviation * normal).sigmoid().float()
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    grown = uniform ** (1 / distribution.alpha)  # the inverse of Beta(alpha, 1)'s t^alpha
    if distribution.toward == "clean":
        grown = 1 - grown
    return (distribution.least + (1 - distribution.least) * grown).float()
