"""Plays chunks by the time in which the robot moves: latency costs rows, and a rest none."""

from __future__ import annotations

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.execution.motion_clock import MotionClock
from qwen_vla_ros.execution.seam import Handed, Seam, SeamLimits
from qwen_vla_ros.execution.timeline import end_ns, values_at
from qwen_vla_ros.types import ActionChunk, FloatArray


class ChunkPlayer:
    """Holds the newest chunk and says what it wants at a given time.

    While the robot moves, a new chunk replaces the old one at its own place in time: if it answers
    an observation made 0.1 s ago, it begins with the row for 0.1 s. Where it does not agree with
    what was handed on last, it is led over to within its speed limit.

    While the robot rests, its observations stay true and no row passes: the motion begins with the
    first row of what was seen at rest, and goes on where a rest overtook it. It begins as it is.
    Before the first chunk and after one that says rest, nothing is wanted.
    """

    def __init__(self, max_age_s: float, limits: SeamLimits) -> None:
        """Play within `limits`.

        A motion begins only within `max_age_s` (s) of the observation that it answers, and goes on
        for no longer than that without an answer to a newer one.
        """
        self._max_age_s = max_age_s
        self._clock = MotionClock()
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
        placed = self._placed(now_ns)
        has_more = placed is not None and now_ns < end_ns(placed, self._max_age_s)
        return self._chunk is not None and not has_more

    def accept(self, chunk: ActionChunk) -> None:
        """Play this chunk from now on; the one before, of whatever episode, is dropped."""
        if chunk.rest:
            self.clear()
            return
        self._chunk, self._seam = chunk, None
        if self._handed is not None:
            placed = self._clock.placed(chunk, self._handed.time_ns)
            self._seam = Seam(placed, self._handed, self._max_age_s, self._limits)

    def clear(self) -> None:
        """Drop everything that was asked for so far."""
        self._chunk = None
        self.interrupt()
        self._clock = MotionClock()

    def interrupt(self) -> None:
        """Note that what was handed on last was not played: there is nothing to go on from."""
        if self._handed is not None:
            self._clock.end(self._handed.time_ns)
        self._seam = self._handed = None

    def at(self, now_ns: int) -> FloatArray | None:
        """Return what is wanted at a ROS time, shape (c,), or None.

        Between two rows it is interpolated; the last row holds until the chunk is over. Whoever
        asks plays it, or calls `interrupt`.
        """
        chunk = self._placed(now_ns)
        if chunk is None or now_ns >= end_ns(chunk, self._max_age_s):
            if chunk is not None:
                self._clock.end(end_ns(chunk, self._max_age_s))
            self.interrupt()
            return None
        self._clock.begin(now_ns)
        wanted = values_at(chunk, now_ns)
        left = None if self._seam is None else self._seam.at(now_ns)
        if left is not None:
            wanted = wanted + left
        self._note(now_ns, wanted)
        return wanted

    def _placed(self, now_ns: int) -> ActionChunk | None:
        """Return the chunk with the time of its first row as its stamp; None if it begins none."""
        chunk = self._chunk
        if chunk is None:
            return None
        is_old = now_ns - chunk.stamp_ns >= self._max_age_s * NS_PER_S
        if self._clock.stands and is_old:
            return None
        return self._clock.placed(chunk, now_ns)

    def _note(self, now_ns: int, wanted: FloatArray) -> None:
        last = self._handed
        position = wanted.copy()
        if last is None:
            self._handed = Handed(now_ns, position, now_ns, position)
        elif now_ns > last.time_ns:
            self._handed = Handed(now_ns, position, last.time_ns, last.position)
