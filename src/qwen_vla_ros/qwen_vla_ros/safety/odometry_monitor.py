"""What the base really does: takes in odometry and says what is wrong with it."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.safety.envelope import BaseEnvelope
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.pose_lag import PoseLag, moved
from qwen_vla_ros.safety.source import Source
from qwen_vla_ros.safety.watchdog import Debounce
from qwen_vla_ros.types import FloatArray

JUMP_FACTOR = 1.5
"""A base may be seen this much faster than it is allowed to drive, and nothing jumped."""
JUMP_NOISE = np.array([0.1, 0.1])
"""Metres and radians between two samples that no jump is made of."""
TRACKING_FRACTION = 0.5
TRACKING_NS = NS_PER_S // 2
"""A base whose speed stays off by half of what it may do for half a second does not follow."""
TRACKING_PATIENCE_S = 1.0
FROZEN_FRACTION = 0.05
FROZEN_S = 0.75
"""A pose is stuck (C7) that stands still for so long under a twentieth of the base's speed."""
PUSHED_FRACTION = 0.1
BLOCKED_S = 0.8
"""A base that stands still for so long while it is told to drive at a tenth of its speed is
blocked, has no power, or is measured by nobody: all the same to who cannot see it (C9)."""


class OdometryMonitor:
    """Watches the pose and twist that one Odometry topic reports."""

    def __init__(self, envelope: BaseEnvelope, topic: str, max_age_s: float) -> None:
        """Watch `topic`; samples older than `max_age_s` are stale."""
        self._envelope = envelope
        self._speed = envelope.velocity
        self._source = Source("odometry", topic, max_age_s)
        self._off = Debounce(TRACKING_NS)
        self._told = PoseLag(FROZEN_FRACTION * envelope.velocity)
        self._pushed = PoseLag(PUSHED_FRACTION * envelope.velocity)
        self.pose: FloatArray | None = None
        self.twist: FloatArray = np.zeros(2)
        self.measured_ns = 0
        """When that was, by the steady clock."""

    @property
    def topic(self) -> str:
        """Where the odometry comes from."""
        return self._source.topic

    @property
    def rejected(self) -> int:
        """How many samples were not taken."""
        return self._source.rejected

    def forget(self) -> None:
        """Forget what was measured, because the clock of its stamps has jumped."""
        self._source.forget()
        self._told.reset()
        self._pushed.reset()
        self.pose = None
        self.measured_ns = 0

    def observe(
        self, pose: FloatArray, twist: FloatArray, stamp_ns: int, now_ns: int, steady_ns: int
    ) -> bool:
        """Take in one message; returns whether it was good.

        Args:
            pose: (x m, y m, yaw rad) in the odometry's frame.
            twist: (v m/s, w rad/s) in the base's frame.
            stamp_ns: ROS time of the measurement.
            now_ns: ROS time.
            steady_ns: Steady clock.
        """
        if not (np.isfinite(pose).all() and np.isfinite(twist).all()):
            self._source.reject("a pose or twist is not finite")
            return False
        if not self._source.is_next(stamp_ns, now_ns):
            return False
        seconds = (stamp_ns - self._source.stamp_ns) / NS_PER_S
        self._check_jump(pose, seconds)
        self._check_frozen(pose, twist, seconds)
        self._source.accept(stamp_ns, steady_ns)
        self.pose, self.twist = pose, twist
        self.measured_ns = steady_ns - (now_ns - stamp_ns)
        return True

    def stops(self, steady_ns: int) -> list[Cause]:
        """Return the reasons to stop that stand now, or that happened since the last call."""
        return self._source.stops(steady_ns)

    def compare(self, commanded: FloatArray, steady_ns: int) -> Cause | None:
        """Return a reason to hold when the base does not drive as commanded (v, w)."""
        off = np.abs(commanded - self.twist) > TRACKING_FRACTION * self._speed
        if not self._off.holds(steady_ns, is_so=bool(off.any())):
            return None
        return Cause(
            "tracking_error",
            f"the base drives at {self.twist[0]:.2f} m/s, {self.twist[1]:.2f} rad/s, "
            f"commanded were {commanded[0]:.2f} m/s, {commanded[1]:.2f} rad/s",
            patience_s=TRACKING_PATIENCE_S,
        )

    def begin(self) -> None:
        """Forget what was commanded so far: the gate has just been armed."""
        self._pushed.reset()

    def push(self, commanded: FloatArray, seconds: float) -> Cause | None:
        """Return a reason to stop when the base stands still however it is told to drive.

        Args:
            commanded: The last command (v, w). Pauses at rest between two tries do not count.
            seconds: For how long it has been in force since the last call.
        """
        if self.pose is None or not self._envelope.is_still(self.twist):
            self._pushed.reset()
            return None
        if (np.abs(commanded) <= PUSHED_FRACTION * self._speed).all():
            return None
        if self._pushed.step(self.pose, commanded, seconds) < BLOCKED_S:
            return None
        return Cause(
            "base_blocked",
            f"the base stands still, commanded are {commanded[0]:.2f} m/s, "
            f"{commanded[1]:.2f} rad/s: it is blocked or has no power, or its odometry is wrong",
        )

    def _check_frozen(self, pose: FloatArray, twist: FloatArray, seconds: float) -> None:
        if self.pose is None or self._envelope.is_still(twist):
            self._told.reset()
        if self._told.step(pose, twist, seconds) >= FROZEN_S:
            self._source.report(
                "odometry_frozen",
                f"'{self.topic}' tells of {twist[0]:.2f} m/s, {twist[1]:.2f} rad/s, "
                "but of a pose that does not follow",
            )

    def _check_jump(self, pose: FloatArray, seconds: float) -> None:
        if self.pose is None:
            return
        way = moved(self.pose, pose)
        if (way > JUMP_FACTOR * self._speed * seconds + JUMP_NOISE).any():
            self._source.report(
                "odometry_jump",
                f"the base jumped by {way[0]:.2f} m, {way[1]:.2f} rad within {seconds:.3f} s",
            )
