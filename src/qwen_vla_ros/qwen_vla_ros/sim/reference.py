"""A joint reference that goes to its goal within limits, and goes on from what is being played.

A scripted expert plans anew several times a second, from observations that are a little old, for
a robot that may have been held back or led astray. Three rules keep its chunks consistent:
- A new plan begins with what is played on while the answer is awaited, whoever planned that, and
  only then turns to the new goal: the switch from one chunk to the next has no seam.
- Going on from any point of a plan yields the rest of that plan, since each step depends on where
  the reference is and how fast, and on nothing else.
- Where nothing is being played, the plan begins at rest, where the robot is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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


def plan(
    begun: FloatArray,
    goal: FloatArray,
    speed: FloatArray,
    acceleration: FloatArray,
    dt: float,
    horizon: int,
) -> FloatArray:
    """Go on from rows that are being played, and return the rows (horizon, J) from the first on.

    Args:
        begun: Rows (d, J) that are played whatever is planned; one row is a robot at rest.
        goal: Where to come to rest, shape (J,).
        speed: Bound per joint.
        acceleration: Bound per joint.
        dt: Seconds per row.
        horizon: How many rows are wanted.
    """
    velocity = (begun[-1] - begun[-2]) / dt if len(begun) > 1 else np.zeros(goal.size)
    steps = max(0, horizon - len(begun))
    new = approach(begun[-1], velocity, goal, speed, acceleration, dt, steps)
    return np.concatenate([begun, new])[:horizon]
