"""Stand-in for ros2_controllers' diff_drive_controller (Jazzy): TwistStamped in, odometry out.

Blind spots included: limits are off unless given, a stamp in the future never goes stale, and a
command that is not finite is skipped without forgetting the speed before it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.types import FloatArray

ROLLING_WINDOW = 10


@dataclass(frozen=True, kw_only=True)
class SpeedLimits:
    """Bounds of one axis; NaN switches a bound off, which is the default.

    Attributes:
        velocity: m/s or rad/s, both ways.
        acceleration: m/s^2 or rad/s^2, both ways.
    """

    velocity: float = math.nan
    acceleration: float = math.nan

    def limit(self, wanted: float, previous: float, period_s: float) -> float:
        """Return the nearest speed within the bounds."""
        if not math.isnan(self.velocity):
            wanted = min(max(wanted, -self.velocity), self.velocity)
        if not math.isnan(self.acceleration):
            step = self.acceleration * period_s
            wanted = min(max(wanted, previous - step), previous + step)
        return wanted


class Odometry:
    """Where the wheels say the base is: exact arcs, speeds as a rolling mean."""

    def __init__(self, wheel_separation_m: float, wheel_radius_m: float) -> None:
        self._separation = wheel_separation_m
        self._radius = wheel_radius_m
        self.reset(0.0, 0.0)

    def reset(self, left: float, right: float) -> None:
        """Begin at the origin with the wheels at these angles (rad)."""
        self.pose: FloatArray = np.zeros(3)
        self._wheels = (left, right)
        self._linear: deque[float] = deque(maxlen=ROLLING_WINDOW)
        self._angular: deque[float] = deque(maxlen=ROLLING_WINDOW)

    @property
    def twist(self) -> tuple[float, float]:
        """Linear (m/s) and angular (rad/s) speed in the base frame."""
        if not self._linear:
            return 0.0, 0.0
        return float(np.mean(self._linear)), float(np.mean(self._angular))

    def update(self, left: float, right: float, period_s: float) -> None:
        """Integrate from wheel angles (rad)."""
        left_m = (left - self._wheels[0]) * self._radius
        right_m = (right - self._wheels[1]) * self._radius
        self._wheels = (left, right)
        linear = (left_m + right_m) / 2
        angular = (right_m - left_m) / self._separation
        heading = self.pose[2] + angular / 2
        # The chord of the arc; sinc is 1 on a straight line.
        chord = linear * np.sinc(angular / 2 / math.pi)
        step = np.array([chord * math.cos(heading), chord * math.sin(heading), angular])
        self.pose = self.pose + step
        self._linear.append(linear / period_s)
        self._angular.append(angular / period_s)


class DiffDriveController:
    """Turns twists into wheel speeds, and stops when they cease to come."""

    def __init__(
        self,
        *,
        wheel_separation_m: float,
        wheel_radius_m: float,
        cmd_vel_timeout_s: float = 0.5,
        linear: SpeedLimits | None = None,
        angular: SpeedLimits | None = None,
    ) -> None:
        """Take hold of two wheels.

        Args:
            wheel_separation_m: Between the left and the right wheel.
            wheel_radius_m: Of both.
            cmd_vel_timeout_s: Age at which a command no longer counts.
            linear: Bounds along x.
            angular: Bounds about z.
        """
        self.odometry = Odometry(wheel_separation_m, wheel_radius_m)
        self._separation = wheel_separation_m
        self._radius = wheel_radius_m
        self._timeout_ns = round(cmd_vel_timeout_s * NS_PER_S)
        self._limits = (linear or SpeedLimits(), angular or SpeedLimits())
        self.reset(0.0, 0.0)

    def reset(self, left: float, right: float) -> None:
        """Forget every command; the odometry begins at the origin with these wheel angles."""
        self.odometry.reset(left, right)
        self._command: tuple[int, float, float] | None = None
        self._reference = (0.0, 0.0)
        self._previous = (0.0, 0.0)

    def accept(self, stamp_ns: int, linear: float, angular: float, now_ns: int) -> str:
        """Take a twist (m/s, rad/s), or say why not; a zero stamp counts as now."""
        stamp_ns = stamp_ns or now_ns
        if now_ns - stamp_ns >= self._timeout_ns:
            return "Ignoring a command that is older than the allowed timeout."
        self._command = (stamp_ns, linear, angular)
        return ""

    def update(
        self, now_ns: int, left: float, right: float, period_s: float
    ) -> tuple[float, float]:
        """Return the speed (rad/s) of the left and the right wheel.

        Args:
            now_ns: The controller's clock.
            left: Angle of the left wheel in rad, not wrapped.
            right: Angle of the right wheel in rad, not wrapped.
            period_s: Time since the last update.
        """
        if self._command is not None:
            stamp_ns, linear, angular = self._command
            if now_ns - stamp_ns > self._timeout_ns:
                self._reference = (0.0, 0.0)
            elif math.isfinite(linear) and math.isfinite(angular):
                self._reference = (linear, angular)
        speeds = [
            limits.limit(wanted, before, period_s)
            for limits, wanted, before in zip(
                self._limits, self._reference, self._previous, strict=True
            )
        ]
        self._previous = (speeds[0], speeds[1])
        self.odometry.update(left, right, period_s)
        rim = speeds[1] * self._separation / 2
        return (speeds[0] - rim) / self._radius, (speeds[0] + rim) / self._radius
