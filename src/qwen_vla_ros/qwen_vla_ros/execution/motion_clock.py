"""Time that stands while the robot does, so that no row of a chunk passes without being played."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from qwen_vla_ros.types import ActionChunk

REMEMBERED = 16
"""Rests between motions; an observation is never older than a few of them."""
EVER_NS = -(2**63)


class MotionClock:
    """Says how long a robot has rested since an observation was made.

    What is seen of a robot that rests is true of it until it moves. A chunk is therefore moved
    later by the rest between its observation and now: the first one of a motion begins with its
    first row, however late it is, and one that was overtaken by a rest goes on where it ended.
    """

    def __init__(self) -> None:
        """Begin at rest, and as if that had always been so."""
        self._rests: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self._since_ns: int | None = EVER_NS

    @property
    def stands(self) -> bool:
        """Whether the robot rests."""
        return self._since_ns is not None

    def begin(self, now_ns: int) -> None:
        """Note that a motion begins at a ROS time; one that is under way goes on."""
        if self._since_ns is not None:
            self._rests.append((self._since_ns, now_ns))
            self._since_ns = None

    def end(self, now_ns: int) -> None:
        """Note that the motion ends at a ROS time; a rest goes on, and so does one just ended."""
        if self._since_ns is not None:
            return
        self._since_ns = now_ns
        if self._rests and self._rests[-1][1] >= now_ns:
            self._since_ns, _ = self._rests.pop()

    def rested_ns(self, since_ns: int, now_ns: int) -> int:
        """Return for how long (ns) the robot has rested between two ROS times."""
        now = () if self._since_ns is None else ((self._since_ns, now_ns),)
        return sum(
            max(0, min(end_ns, now_ns) - max(begin_ns, since_ns))
            for begin_ns, end_ns in (*self._rests, *now)
        )

    def placed(self, chunk: ActionChunk, now_ns: int) -> ActionChunk:
        """Return a chunk as it is to be played if the robot moves at a ROS time.

        Its stamp is then the time of its first row.
        """
        rested_ns = self.rested_ns(chunk.stamp_ns, now_ns)
        return replace(chunk, stamp_ns=chunk.stamp_ns + rested_ns) if rested_ns else chunk
