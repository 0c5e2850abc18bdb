"""Plays chunks by absolute time, so that latency costs rows and never lag."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.execution.timeline import end_ns, row_at
from qwen_vla_ros.types import ActionChunk, FloatArray


class ChunkPlayer:
    """Holds the newest chunk and says what it wants at a given time.

    A new chunk replaces the old one at its own place in time: if it answers an observation made
    0.1 s ago, it begins with the row for 0.1 s. Before the first chunk and after one that says
    rest, nothing is wanted.
    """

    def __init__(self, max_age_s: float) -> None:
        """Play nothing beyond `max_age_s` (s) after the observation that a chunk answers."""
        self._max_age_s = max_age_s
        self._chunk: ActionChunk | None = None

    @property
    def is_resting(self) -> bool:
        """Whether no episode is under way, so that silence is what is expected."""
        return self._chunk is None

    def accept(self, chunk: ActionChunk) -> None:
        """Play this chunk from now on; the one before, of whatever episode, is dropped."""
        self._chunk = None if chunk.rest else chunk

    def clear(self) -> None:
        """Drop everything that was asked for so far."""
        self._chunk = None

    def at(self, now_ns: int) -> FloatArray | None:
        """Return what is wanted at a ROS time, shape (c,), or None.

        Between two rows it is interpolated; the last row holds until the chunk is over.
        """
        chunk = self._chunk
        if chunk is None or now_ns >= end_ns(chunk, self._max_age_s):
            return None
        index = row_at(chunk, now_ns)
        row = int(index)
        if row >= len(chunk.actions) - 1:
            return np.array(chunk.actions[-1])
        share = index - row
        here, there = chunk.actions[row], chunk.actions[row + 1]
        # On a row exactly, its values pass unchanged to the last bit.
        return np.array(here + share * (there - here) if share else here)
