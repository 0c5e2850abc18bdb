"""Which row of a chunk belongs to which time."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.types import ActionChunk, FloatArray


def end_ns(chunk: ActionChunk, max_age_s: float) -> int:
    """Return the ROS time from which a chunk says nothing any more.

    Every row holds for `dt`; and nothing is played beyond `max_age_s` (s) after the first one,
    however long the chunk is.
    """
    return chunk.stamp_ns + round(min(len(chunk.actions) * chunk.dt, max_age_s) * NS_PER_S)


def row_at(chunk: ActionChunk, now_ns: int) -> float:
    """Return the row, with its fraction, that is meant for a ROS time.

    A time before the first row (a sender's clock slightly ahead of ours) gives the first row.
    """
    return max(0.0, (now_ns - chunk.stamp_ns) / (chunk.dt * NS_PER_S))


def values_at(chunk: ActionChunk, now_ns: int) -> FloatArray:
    """Return the values (c,) that are meant for a ROS time; the chunk is not empty.

    Between two rows they are interpolated, and the last row holds. On a row exactly, its values
    pass unchanged to the last bit.
    """
    index = row_at(chunk, now_ns)
    row = int(index)
    if row >= len(chunk.actions) - 1:
        return np.array(chunk.actions[-1])
    share = index - row
    here, there = chunk.actions[row], chunk.actions[row + 1]
    return np.array(here + share * (there - here) if share else here)
