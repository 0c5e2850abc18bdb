"""Bounds on the speed and acceleration of a differential-drive base."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qwen_vla_ros.safety.envelope import BaseEnvelope
from qwen_vla_ros.types import FloatArray

FAR = 1e6
"""m/s or rad/s; faster is just as wrong, and quotients cannot overflow."""


@dataclass(frozen=True, eq=False)
class TwistStep:
    """One command: the twist (v m/s, w rad/s), and whether it is not what was wanted."""

    twist: FloatArray
    is_limited: bool


class TwistFilter:
    """Bounds each twist by speed and acceleration; keeps no state."""

    def __init__(self, envelope: BaseEnvelope) -> None:
        self._velocity = envelope.velocity
        self._acceleration = envelope.acceleration

    def step(self, twist: FloatArray, wanted: FloatArray, dt: float) -> TwistStep:
        """Change the twist towards `wanted` as far as the envelope allows.

        A wanted twist that is allowed passes bit-identical. One that is too fast keeps its
        curvature; one that is too sudden keeps the direction of its change.

        Args:
            twist: Last commanded (v, w).
            wanted: Twist asked for, shape (2,). Anything but finite values brakes.
            dt: Seconds between the last command and this one.
        """
        if wanted.shape != twist.shape or not np.isfinite(wanted).all():
            return self.brake(twist, dt)
        low, high = self._reach(twist, dt)
        if ((low <= wanted) & (wanted <= high)).all():
            return TwistStep(wanted.copy(), is_limited=False)
        # Both shrink together: v and w cut one by one would drive another curve.
        wanted = np.clip(wanted, -FAR, FAR)
        goal = wanted / max(1.0, float((np.abs(wanted) / self._velocity).max()))
        change = goal - twist
        room = self._acceleration * dt
        change = change / max(1.0, float((np.abs(change) / room).max()))
        return TwistStep(np.clip(twist + change, low, high), is_limited=True)

    def brake(self, twist: FloatArray, dt: float) -> TwistStep:
        """Take speed away along the curve being driven; both components reach 0 together."""
        stop_s = float((np.abs(twist) / self._acceleration).max())
        slower = np.zeros(2) if stop_s <= dt else twist * (1.0 - dt / stop_s)
        return TwistStep(slower, is_limited=False)

    def _reach(self, twist: FloatArray, dt: float) -> tuple[FloatArray, FloatArray]:
        room = self._acceleration * dt
        return (
            np.maximum(twist - room, -self._velocity),
            np.minimum(twist + room, self._velocity),
        )
