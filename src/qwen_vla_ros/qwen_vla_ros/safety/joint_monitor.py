"""What the joints really do: takes in one source of joint states and says what is wrong there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.safety.envelope import JointEnvelope
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.source import Source
from qwen_vla_ros.safety.watchdog import Debounce
from qwen_vla_ros.types import FloatArray

JUMP_FACTOR = 1.5
"""A joint may be seen this much faster than it is allowed to be driven, and no encoder jumped."""
NOISE_FRACTION = 1 / 3
"""Noise of a position that no jump is made of, as a fraction of the tracking tolerance."""
TRACKING_NS = NS_PER_S // 5
"""How long a tracking error may last before the gate holds (C9)."""
TRACKING_PATIENCE_S = 1.0
STUCK = 1e-9
"""A position (rad or m) that changes less than this between samples has not changed at all."""


class JointMonitor:
    """Watches the commanded joints that one JointState topic reports."""

    def __init__(
        self, envelope: JointEnvelope, joints: Sequence[str], topic: str, max_age_s: float
    ) -> None:
        """Watch `joints`, all of them in `envelope`; samples older than `max_age_s` are stale."""
        self._joints = tuple(joints)
        self.indices = envelope.indices(self._joints)
        self._speed = envelope.velocity[self.indices]
        self._tracking = envelope.tracking[self.indices]
        self._source = Source("joint_states", topic, max_age_s)
        self._missing = ""
        self._off = Debounce(TRACKING_NS)
        self.position: FloatArray | None = None
        self.velocity: FloatArray = np.zeros(len(self._joints))
        self._anchor: tuple[FloatArray, FloatArray] | None = None
        self._aim_at_sample: FloatArray | None = None

    @property
    def topic(self) -> str:
        """Where the joint states come from."""
        return self._source.topic

    @property
    def rejected(self) -> int:
        """How many samples were not taken."""
        return self._source.rejected

    def forget(self) -> None:
        """Forget what was measured, because the clock of its stamps has jumped."""
        self._source.forget()
        self.position = None
        self._anchor = None

    def observe(
        self,
        names: Sequence[str],
        positions: Sequence[float],
        velocities: Sequence[float],
        stamp_ns: int,
        now_ns: int,
        steady_ns: int,
    ) -> None:
        """Take in one message; joints are found by name, in any order, among any others.

        Args:
            names: Joint names.
            positions: rad or m, as many as names.
            velocities: rad/s or m/s, as many as names: a stop is over when they say so.
            stamp_ns: ROS time of the measurement.
            now_ns: ROS time.
            steady_ns: Steady clock.
        """
        place = {name: i for i, name in enumerate(names)}
        missing = [joint for joint in self._joints if joint not in place]
        if len(missing) == len(self._joints):
            return  # somebody else's joints on the same topic
        self._missing = missing[0] if missing else ""
        if missing:
            self._source.reject(f"joint '{missing[0]}' is missing")
        elif len(place) != len(names):
            self._source.reject("a joint is named twice")
        elif len(positions) != len(names) or len(velocities) != len(names):
            self._source.reject(
                f"{len(names)} names, {len(positions)} positions, {len(velocities)} velocities"
            )
        else:
            columns = [place[joint] for joint in self._joints]
            position = np.array([positions[i] for i in columns], dtype=np.float64)
            velocity = np.array([velocities[i] for i in columns], dtype=np.float64)
            self._take(position, velocity, stamp_ns, now_ns, steady_ns)

    def stops(self, steady_ns: int) -> list[Cause]:
        """Return the reasons to stop that stand now, or that happened since the last call."""
        causes = self._source.stops(steady_ns)
        if self._missing:
            detail = f"'{self._source.topic}' no longer reports '{self._missing}'"
            causes.insert(0, Cause("joint_missing", detail))
        return causes

    def find_stuck(self, commanded: FloatArray) -> Cause | None:
        """Return a reason to stop when a joint (of J commanded) should move and never did (C7).

        Its measured value did not change at all, while its command went away by more than the
        tolerance. Where no sample came since, there is nothing that could have changed: that is
        a silent driver's fault and no encoder's.
        """
        if self.position is None:
            return None
        if self._aim_at_sample is None:
            self._aim_at_sample = commanded[self.indices]
        aim = self._aim_at_sample
        if self._anchor is None:
            self._anchor = self.position, aim
        seen, aim_then = self._anchor
        has_moved = np.abs(self.position - seen) > STUCK
        aim_then = np.where(has_moved, aim, aim_then)
        self._anchor = np.where(has_moved, self.position, seen), aim_then
        off = np.abs(aim - self.position) > self._tracking
        frozen = off & (np.abs(aim - aim_then) > self._tracking)
        if not frozen.any():
            return None
        joint = self._joints[int(np.argmax(frozen))]
        return Cause("encoder_stuck", f"'{joint}' was commanded to move, its encoder never did")

    def compare(self, commanded: FloatArray, steady_ns: int) -> Cause | None:
        """Return a reason to hold when a joint (of J commanded) does not follow (C9)."""
        if self.position is None:
            return None
        aim = commanded[self.indices]
        share = np.abs(aim - self.position) / self._tracking
        if not self._off.holds(steady_ns, is_so=bool((share > 1).any())):
            return None
        worst = int(np.argmax(share))
        return Cause(
            "tracking_error",
            f"'{self._joints[worst]}' is at {self.position[worst]:.3f}, "
            f"commanded to {aim[worst]:.3f}, tolerance {self._tracking[worst]:g}",
            patience_s=TRACKING_PATIENCE_S,
        )

    def _take(
        self,
        position: FloatArray,
        velocity: FloatArray,
        stamp_ns: int,
        now_ns: int,
        steady_ns: int,
    ) -> None:
        if not (np.isfinite(position).all() and np.isfinite(velocity).all()):
            self._source.reject("a position or velocity is not finite")
        elif self._source.is_next(stamp_ns, now_ns):
            self._check_jump(position, (stamp_ns - self._source.stamp_ns) / NS_PER_S)
            self._source.accept(stamp_ns, steady_ns)
            self.position, self.velocity = position, velocity
            self._aim_at_sample = None

    def _check_jump(self, position: FloatArray, seconds: float) -> None:
        if self.position is None:
            return
        allowed = JUMP_FACTOR * self._speed * seconds + NOISE_FRACTION * self._tracking
        excess = np.abs(position - self.position) / allowed
        worst = int(np.argmax(excess))
        if excess[worst] > 1:
            self._source.report(
                "encoder_jump",
                f"'{self._joints[worst]}' jumped from {self.position[worst]:.3f} to "
                f"{position[worst]:.3f} within {seconds:.3f} s",
            )
