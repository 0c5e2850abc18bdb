"""A joint reference that goes to its goal within limits, and goes on where it was.

A scripted expert plans anew several times a second, from observations that are a little old, for
a robot that may have been held back. Three rules keep its chunks consistent:
- While the robot follows, a new plan is what is played for the time that an answer may take, and
  only then turns to the new goal: the switch from one chunk to the next has no seam. Where nobody
  says what is played, it is taken to be the old plan, at its own time.
- Going on from any point of a plan yields the rest of that plan, since each step depends on where
  the reference is and how fast, and on nothing else.
- Where the robot did not follow, the plan begins again, at rest, where the robot is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.types import FloatArray


def approach(
    position: FloatArray,
    velocity: FloatArray,
    goal: FloatArray,
    speed: FloatArray,
    acceleration: FloatArray,
    dt: float,
    steps: int,
) -> FloatArray:
    """Return the next positions (steps, J) on the way to the goal, ending there at rest.

    Args:
        position: Where the joints are, shape (J,); rad or m.
        velocity: How fast they move.
        goal: Where they shall come to rest.
        speed: Bound per joint.
        acceleration: Bound per joint.
        dt: Seconds per step.
        steps: How many.
    """
    rows = np.empty((steps, position.size))
    gain = acceleration * dt
    for row in rows:
        left = goal - position
        # The fastest speed from which braking still ends at the goal.
        braking = np.sqrt(gain**2 + 2 * acceleration * np.abs(left)) - gain
        wanted = np.sign(left) * np.minimum(speed, braking)
        velocity = np.clip(wanted, velocity - gain, velocity + gain)
        position = position + velocity * dt
        row[:] = position
    return rows


def share_speed(
    distance: FloatArray, speed: FloatArray, groups: Sequence[Sequence[int]]
) -> FloatArray:
    """Slow the joints of each group down, so that they arrive together and move in a line.

    Args:
        distance: How far each joint has to go, shape (J,).
        speed: Bound per joint.
        groups: Columns that belong together.
    """
    shared = speed.copy()
    for group in groups:
        columns = list(group)
        time = np.abs(distance[columns]) / speed[columns]
        longest = time.max()
        if longest > 0:
            # Not below a tenth: the goal may move while the joints are on their way.
            shared[columns] *= np.maximum(time / longest, 0.1)
    return shared


class Reference:
    """The plan in force: joint positions by absolute time."""

    def __init__(self, dt: float, committed_steps: int, horizon: int) -> None:
        """Plan in steps of `dt` s.

        Args:
            dt: Seconds between two rows.
            committed_steps: Rows of the old plan that a new one repeats; they cover the time
                between an observation and the moment its chunk begins to be played.
            horizon: Rows that are asked for.
        """
        self._dt = dt
        self._committed = committed_steps
        self._horizon = horizon
        self.reset()

    def reset(self) -> None:
        """Forget the plan."""
        self._stamp_ns = 0
        self._rows: FloatArray = np.empty((0, 0))

    def position_at(self, stamp_ns: int) -> FloatArray | None:
        """Return where the plan is (J,) at a time, or None outside of it."""
        at = (stamp_ns - self._stamp_ns) / NS_PER_S / self._dt
        if not 0 <= at <= len(self._rows) - 1:
            return None
        low = min(int(at), len(self._rows) - 2)
        below, above = self._rows[low : low + 2]
        position: FloatArray = below + (at - low) * (above - below)
        return position

    def plan(
        self,
        stamp_ns: int,
        start: FloatArray | None,
        goal: FloatArray,
        speed: FloatArray,
        acceleration: FloatArray,
        played: FloatArray | None = None,
    ) -> FloatArray:
        """Plan from a time on and return the rows (horizon, J); row 0 is for `stamp_ns`.

        Args:
            stamp_ns: Time of row 0.
            start: Begin at rest here; None goes on with the plan in force.
            goal: Where to come to rest.
            speed: Bound per joint.
            acceleration: Bound per joint.
            played: Rows (d, J) that are played from that time on, whatever is planned.
        """
        if start is not None:
            # By the time it moves, the next answer is there to go on with.
            kept = np.tile(start, (self._committed + 1, 1))
        elif played is not None and len(played) > 2:
            kept = played[:-1]  # where a chunk ends, its last row holds
        else:
            kept = self._keep(stamp_ns)
        velocity = (kept[-1] - kept[-2]) / self._dt if len(kept) > 1 else np.zeros(goal.size)
        # Twice as far as asked, so that the next plan finds its committed rows in this one.
        steps = 2 * self._horizon - len(kept)
        new = approach(kept[-1], velocity, goal, speed, acceleration, self._dt, steps)
        self._stamp_ns, self._rows = stamp_ns, np.concatenate([kept, new])
        return self._rows[: self._horizon].copy()

    def _keep(self, stamp_ns: int) -> FloatArray:
        step_ns = round(self._dt * NS_PER_S)
        wanted = [self.position_at(stamp_ns + k * step_ns) for k in range(self._committed + 1)]
        rows = [row for row in wanted if row is not None]
        if not rows:
            raise ValueError("the plan in force does not reach this time")
        return np.array(rows)
