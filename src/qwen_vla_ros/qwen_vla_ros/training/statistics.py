"""What a data set's actions range over: the numbers that a checkpoint normalises with."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.checkpoint.normalization import ChannelStatistics, Normalization
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.types import FloatArray

MARGIN = 0.1
"""The two quantiles are put farther apart by this share of their distance on either side: what
lies outside is clipped, and the corner of a table is a place to reach like any other."""


def statistics_of(embodiment: Embodiment, actions: FloatArray, source: str) -> Normalization:
    """Return the statistics of chunks of a robot.

    Args:
        embodiment: The robot.
        actions: In channel units; (N, H, c).
        source: Where they come from, in words.
    """
    flat = actions.reshape(-1, actions.shape[-1]).astype(np.float64)
    low, high = np.quantile(flat, (0.01, 0.99), axis=0)
    margin = MARGIN * (high - low)
    return Normalization(
        dataset=embodiment.file.normalization,
        source=f"{source}; quantiles widened by {MARGIN:g} of their distance",
        channels=tuple(
            ChannelStatistics(
                name=channel.name, unit=channel.unit, q01=float(least), q99=float(most)
            )
            for channel, least, most in zip(
                embodiment.file.action, low - margin, high + margin, strict=True
            )
        ),
        count=len(flat),
        action_horizon=actions.shape[1],
    )
