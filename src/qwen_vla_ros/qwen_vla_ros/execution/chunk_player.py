"""Plays chunks by absolute time, so that latency costs rows and never lag."""

from __future__ import annotations

from qwen_vla_ros.execution.seam import Handed, Seam, SeamLimits
from qwen_vla_ros.execution.timeline import end_ns, values_at
from qwen_vla_ros.types import ActionChunk, FloatArray


class ChunkPlayer:
    """Holds the newest chunk and says what it wants at a given time.

    A new chunk replaces the old one at its own place in time: if it answers an observation made
    0.1 s ago, it begins with the row for 0.1 s. Where it does not agree with what was handed on
    last, it is led over to within its speed limit. Before the first chunk and after one that says
    rest, nothing is wanted; and a chunk that begins from there begins as it is.
    """

    def __init__(self, max_age_s: float, limits: SeamLimits) -> None:
        """Play within `limits`, and nothing beyond `max_age_s` (s) after a chunk's observation."""
        self._max_age_s = max_age_s
        self._limits = limits
        self._chunk: ActionChunk | None = None
        self._seam: Seam | None = None
        self._handed: Handed | None = None

    @property
    def is_resting(self) -> bool:
        """Whether no episode is under way, so that silence is what is expected."""
        return self._chunk is None

    def is_over(self, now_ns: int) -> bool:
        """Say whether an episode is under way and its last chunk has no more to say at a time."""
        return self._chunk is not None and now_ns >= end_ns(self._chunk, self._max_age_s)

    def accept(self, chunk: ActionChunk) -> None:
        """Play this chunk from now on; the one before, of whatever episode, is dropped."""
        if chunk.rest:
            self.clear()
            return
        self._chunk, self._seam = chunk, None
        if self._handed is not None:
            self._seam = Seam(chunk, self._handed, self._max_age_s, self._limits)

    def clear(self) -> None:
        """Drop everything that was asked for so far."""
        self._chunk = None
        self.interrupt()

    def interrupt(self) -> None:
        """Note that what was handed on last was not played: there is nothing to go on from."""
        self._seam = self._handed = None

    def at(self, now_ns: int) -> FloatArray | None:
        """Return what is wanted at a ROS time, shape (c,), or None.

        Between two rows it is interpolated; the last row holds until the chunk is over. Whoever
        asks plays it, or calls `interrupt`.
        """
        chunk = self._chunk
        if chunk is None or now_ns >= end_ns(chunk, self._max_age_s):
            self.interrupt()
            return None
        wanted = values_at(chunk, now_ns)
        left = None if self._seam is None else self._seam.at(now_ns)
        if left is not None:
            wanted = wanted + left
        self._note(now_ns, wanted)
        return wanted

    def _note(self, now_ns: int, wanted: FloatArray) -> None:
        last = self._handed
        position = wanted.copy()
        if last is None:
            self._handed = Handed(now_ns, position, now_ns, position)
        elif now_ns > last.time_ns:
            self._handed = Handed(now_ns, position, last.time_ns, last.position)
