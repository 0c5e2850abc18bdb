"""Does a pose go where a twist leads? Half of it, a little of it, or not at all?"""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.execution.planar import wrap
from qwen_vla_ros.types import FloatArray

FOLLOWED = 0.2
"""A pose that made so much of its way is one that moves, however badly it is measured."""


def moved(before: FloatArray, after: FloatArray) -> FloatArray:
    """Return how far two poses (x m, y m, yaw rad) are apart: (m, rad), shape (2,)."""
    way = np.hypot(*(after[:2] - before[:2]))
    return np.array([way, abs(wrap(after[2] - before[2]))])


class PoseLag:
    """For how long a pose has stood still although a twist should have moved it."""

    def __init__(self, least: FloatArray) -> None:
        """Count no twist below `least` (m/s, rad/s), taken as a mean."""
        self._least = least
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._from: FloatArray | None = None
        self._way: FloatArray = np.zeros(2)
        self._seconds = 0.0

    def step(self, pose: FloatArray, twist: FloatArray, seconds: float) -> float:
        """Take in where the base is now; returns for how many seconds it has not moved.

        Args:
            pose: x, y (m) and yaw (rad).
            twist: What should have moved it, (v m/s, w rad/s).
            seconds: For how long that was so.
        """
        if self._from is None:
            self._from = pose
            return 0.0
        # With their signs, so that what trembles around zero leads nowhere.
        self._way = self._way + twist * seconds
        self._seconds += seconds
        way = np.abs(self._way)
        lags = (way > self._least * self._seconds) & (moved(self._from, pose) < FOLLOWED * way)
        if not lags.any():
            self.reset()
            self._from = pose
        return self._seconds
