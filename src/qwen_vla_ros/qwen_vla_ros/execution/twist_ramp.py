"""From the twist that a base has to the one that it should have, no faster than it may change."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.types import FloatArray

SHARE = 0.95
"""Of the greatest acceleration: what a clock and rounding add to a step stays inside the rest."""


class TwistRamp:
    """Plans the steps between two twists (v m/s, w rad/s); keeps no state.

    Waypoints are blind to what a base can do: from row to row their speed jumps. That jump is
    nothing that a policy could have asked for better, so it is not left to whoever has to report
    what a policy asks for in vain.
    """

    def __init__(self, velocity: FloatArray, acceleration: FloatArray) -> None:
        """Stay within a velocity (2,) and below an acceleration (2,), in m, rad and seconds."""
        self._velocity = velocity
        self._acceleration = SHARE * acceleration

    def allows(self, twist: FloatArray) -> bool:
        """Whether a base may drive like this at all, but for rounding."""
        return bool((np.abs(twist) <= self._velocity * (1 + 1e-6)).all())

    def step(self, twist: FloatArray, goal: FloatArray, dt: float) -> FloatArray:
        """Return the next twist, shape (2,).

        A goal that is too fast keeps its curvature, and a change that is too sudden its direction.

        Args:
            twist: Last commanded (v, w).
            goal: Where to, shape (2,).
            dt: Seconds between the last command and this one.
        """
        excess = float((np.abs(goal) / self._velocity).max())
        if excess > 1.0:
            goal = np.clip(goal / excess, -self._velocity, self._velocity)
        change = goal - twist
        needed_s = float((np.abs(change) / self._acceleration).max())
        return goal if needed_s <= dt else twist + change * (dt / needed_s)
