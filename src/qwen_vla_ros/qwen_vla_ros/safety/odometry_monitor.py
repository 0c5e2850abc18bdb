"""What the base really does: takes in odometry and says what is wrong with it."""

from __future__ import annotations

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.safety.envelope import BaseEnvelope
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.source import Source
from qwen_vla_ros.safety.watchdog import Lasting
from qwen_vla_ros.types import FloatArray

JUMP_FACTOR = 1.5
"""A base may be seen this much faster than it is allowed to drive, and nothing jumped."""
JUMP_NOISE = np.array([0.1, 0.1])
"""Metres and radians between two samples that no jump is made of."""
TRACKING_FRACTION = 0.5
TRACKING_NS = NS_PER_S // 2
"""A base whose speed stays off by half of what it may do for half a second does not follow."""
TRACKING_PATIENCE_S = 1.0


class OdometryMonitor:
    """Watches the pose and twist that one Odometry topic reports."""

    def __init__(self, envelope: BaseEnvelope, topic: str, max_age_s: float) -> None:
        """Watch `topic`; samples older than `max_age_s` are stale."""
        self._speed = envelope.velocity
        self._source = Source("odometry", topic, max_age_s)
        self._off = Lasting(TRACKING_NS)
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
        self._check_jump(pose, (stamp_ns - self._source.stamp_ns) / NS_PER_S)
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
        if not self._off.stands(steady_ns, is_so=bool(off.any())):
            return None
        return Cause(
            "tracking_error",
            f"the base drives at {self.twist[0]:.2f} m/s, {self.twist[1]:.2f} rad/s, "
            f"commanded were {commanded[0]:.2f} m/s, {commanded[1]:.2f} rad/s",
            patience_s=TRACKING_PATIENCE_S,
        )

    def _check_jump(self, pose: FloatArray, seconds: float) -> None:
        if self.pose is None:
            return
        turn = (pose[2] - self.pose[2] + np.pi) % (2 * np.pi) - np.pi
        moved = np.array([np.hypot(*(pose[:2] - self.pose[:2])), abs(turn)])
        if (moved > JUMP_FACTOR * self._speed * seconds + JUMP_NOISE).any():
            self._source.report(
                "odometry_jump",
                f"the base jumped by {moved[0]:.2f} m, {moved[1]:.2f} rad within {seconds:.3f} s",
            )
