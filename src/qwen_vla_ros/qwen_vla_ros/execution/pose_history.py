"""Where the base was a moment ago, so that a chunk can begin where its observation was made."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from qwen_vla_ros.execution.planar import compose, difference
from qwen_vla_ros.types import FloatArray

MAX_AHEAD_NS = 100_000_000
"""A time this far after the newest pose still gets the newest pose; later ones get none."""


class PoseHistory:
    """The newest odometry poses, by ROS time."""

    def __init__(self, depth: int) -> None:
        """Keep the newest `depth` poses."""
        self._poses: deque[tuple[int, FloatArray]] = deque(maxlen=depth)

    @property
    def newest(self) -> FloatArray | None:
        """The newest pose (3,), or None."""
        return self._poses[-1][1] if self._poses else None

    def add(self, stamp_ns: int, pose: FloatArray) -> None:
        """Add a pose (x m, y m, yaw rad). Time that runs back begins a new history."""
        if self._poses and stamp_ns <= self._poses[-1][0]:
            self._poses.clear()
        self._poses.append((stamp_ns, pose))

    def at(self, stamp_ns: int) -> FloatArray | None:
        """Return the pose (3,) at a ROS time, interpolated; None where it is not known."""
        if not self._poses or stamp_ns < self._poses[0][0]:
            return None
        if stamp_ns - self._poses[-1][0] > MAX_AHEAD_NS:
            return None
        newest_ns, newest = self._poses[-1]
        if stamp_ns >= newest_ns:
            return newest
        pairs = pairwise(reversed(self._poses))
        (later_ns, later), (earlier_ns, earlier) = next(p for p in pairs if p[1][0] <= stamp_ns)
        share = (stamp_ns - earlier_ns) / (later_ns - earlier_ns)
        return compose(earlier, share * difference(earlier, later))
