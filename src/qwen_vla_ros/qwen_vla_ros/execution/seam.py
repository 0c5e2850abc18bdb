"""The way over from one chunk to the next, where they do not agree.

A new chunk replaces the old one at its own place in time, wherever the old one has got to. What is
handed on would jump there. So the difference is added to the new chunk at first, and taken away:

    wanted(t) = chunk(t) + left(t),   left(0) = old - new,   left'(0) = the same of their speeds.

`left` comes to rest at 0 like a joint at its goal: as soon as it can within its acceleration, and
without passing it. Where the chunk itself is so fast that this would exceed the speed limit, it
comes later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.execution.timeline import end_ns, values_at
from qwen_vla_ros.types import ActionChunk, FloatArray

ACCELERATION_SHARE = 0.5
"""Of the acceleration limit, for taking the difference away: the chunk needs the rest."""
CELL_NS = 20_000_000
"""Between two rows that are further apart, `left` bends this often."""
ROUNDING = 1e-6
"""What 32-bit rows lose on the wire. Chunks that differ by no more agree."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SeamLimits:
    """What a change from one chunk to the next may ask for. Every array has shape (c,).

    Attributes:
        lower: Least position; only a chunk that goes there itself is taken beyond.
        upper: Greatest position.
        velocity: Greatest speed, in units per second.
        acceleration: Greatest change of speed, in units per second squared.
        reach: A chunk that begins further away than this does not go on from where the robot is,
            and no way over is made for it: it is handed on as it is, for others to judge.
    """

    lower: FloatArray
    upper: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    reach: FloatArray


@dataclass(frozen=True, eq=False)
class Handed:
    """What was handed on: the last position (c,), the one before, and the ROS times of both.

    The first of a motion has none before it, and stands for both.
    """

    time_ns: int
    position: FloatArray
    earlier_ns: int
    earlier: FloatArray


class Seam:
    """What is added to a chunk while it takes over, by time: straight lines between knots.

    With a chunk whose own rows respect the speed limit, the sum respects it at any two times.
    """

    def __init__(
        self, chunk: ActionChunk, handed: Handed, max_age_s: float, limits: SeamLimits
    ) -> None:
        """Lay out the way over from what was handed on last to `chunk`."""
        left = handed.position - values_at(chunk, handed.time_ns)
        self._knots_ns = [handed.time_ns]
        self._left = [left]
        differs, is_near = np.abs(left) > ROUNDING, np.abs(left) <= limits.reach
        if differs.any() and is_near.all():
            self._lay(chunk, _drift(chunk, handed, limits), max_age_s, limits)

    def at(self, now_ns: int) -> FloatArray | None:
        """Return what to add (c,) at a ROS time, or None when the chunk has taken over."""
        if len(self._left) == 1 or now_ns >= self._knots_ns[-1]:
            return None
        if now_ns <= self._knots_ns[0]:
            return self._left[0]
        later = next(i for i, knot_ns in enumerate(self._knots_ns) if knot_ns > now_ns)
        begin_ns, end_ns = self._knots_ns[later - 1 : later + 1]
        begin, end = self._left[later - 1 : later + 1]
        sloping: FloatArray = begin + (now_ns - begin_ns) / (end_ns - begin_ns) * (end - begin)
        return sloping

    def _lay(
        self, chunk: ActionChunk, drift: FloatArray, max_age_s: float, limits: SeamLimits
    ) -> None:
        """Add knots until nothing is left, or the chunk is over."""
        left, speed = self._left[0], drift
        before = values_at(chunk, self._knots_ns[0])
        for knot_ns in _knots(chunk, self._knots_ns[0], max_age_s):
            seconds = (knot_ns - self._knots_ns[-1]) / NS_PER_S
            values = values_at(chunk, knot_ns)
            lowest = np.minimum(limits.lower - values, 0.0)
            highest = np.maximum(limits.upper - values, 0.0)
            # Rows that are themselves too fast stay as they are: limiting them is not for a seam.
            most = np.maximum(limits.velocity * seconds - (values - before), 0.0)
            least = np.minimum(-limits.velocity * seconds - (values - before), 0.0)
            speed = _closing(left, speed, limits.acceleration, seconds)
            there = np.minimum(np.maximum(left + speed * seconds, lowest), highest)
            change = np.minimum(np.maximum(there - left, least), most)
            left, before = left + change, values
            left = np.where(np.abs(left) < ROUNDING, 0.0, left)
            self._knots_ns.append(knot_ns)
            self._left.append(left)
            if not left.any():
                return


def _closing(
    left: FloatArray, speed: FloatArray, acceleration: FloatArray, seconds: float
) -> FloatArray:
    """Return the speed (c,) of the next `seconds` at which `left` (c,) goes towards 0."""
    budget = ACCELERATION_SHARE * acceleration
    change = budget * seconds
    distance = np.abs(left)
    # As fast as it can still come to rest at 0.
    fastest = np.minimum(np.sqrt(change**2 + 2 * budget * distance) - change, distance / seconds)
    wanted = np.copysign(fastest, -left)
    closing: FloatArray = np.minimum(np.maximum(wanted, speed - change), speed + change)
    return closing


def _knots(chunk: ActionChunk, since_ns: int, max_age_s: float) -> Iterator[int]:
    """Yield the times of the rows after `since_ns`, of points between them, and of the end."""
    over_ns = end_ns(chunk, max_age_s)
    rows = range(len(chunk.actions) + 1)
    times = [chunk.stamp_ns + round(row * chunk.dt * NS_PER_S) for row in rows]
    begin_ns = since_ns
    for time_ns in [*(t for t in times if since_ns < t < over_ns), over_ns]:
        cells = -(-(time_ns - begin_ns) // CELL_NS)
        for cell in range(1, cells + 1):
            yield begin_ns + (time_ns - begin_ns) * cell // cells
        begin_ns = time_ns


def _drift(chunk: ActionChunk, handed: Handed, limits: SeamLimits) -> FloatArray:
    """Return by how much faster (c,) than the chunk went what was handed on, just before.

    Both over the same stretch of time: where chunks agree, both bend alike, and this is 0. Of a
    chunk that is so new that it says nothing about that time, the stretch after it counts.
    """
    length_ns = handed.time_ns - handed.earlier_ns
    if length_ns <= 0:
        return np.zeros_like(handed.position)
    begin_ns = handed.time_ns if handed.earlier_ns < chunk.stamp_ns else handed.earlier_ns
    theirs = values_at(chunk, begin_ns + length_ns) - values_at(chunk, begin_ns)
    speeds = np.array([handed.position - handed.earlier, theirs]) / (length_ns / NS_PER_S)
    ours, new = np.minimum(np.maximum(speeds, -limits.velocity), limits.velocity)
    drift: FloatArray = ours - new
    return drift
