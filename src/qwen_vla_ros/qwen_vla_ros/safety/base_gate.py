"""The gate of one mobile base: every twist to a controller is the result of one `tick`."""

from __future__ import annotations

from typing import Self

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.safety.envelope import BaseEnvelope
from qwen_vla_ros.safety.interlock import POLICY_SILENT, Interlock
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.odometry_monitor import OdometryMonitor
from qwen_vla_ros.safety.twist_filter import TwistFilter
from qwen_vla_ros.types import FloatArray


class BaseGate:
    """Lets a policy drive a base inside an envelope, while all that it watches is well.

    It begins stopped. What is commanded is the reference for the next command.
    """

    def __init__(
        self,
        envelope: BaseEnvelope,
        monitor: OdometryMonitor,
        interlock: Interlock,
        period_s: float,
    ) -> None:
        """Compose a gate.

        Args:
            envelope: Limits of the base.
            monitor: What the odometry says.
            interlock: What is watched besides the odometry.
            period_s: Nominal time between two ticks, in seconds.
        """
        self._envelope = envelope
        self._monitor = monitor
        self._interlock = interlock
        self._period_s = period_s
        self._filter = TwistFilter(envelope)
        self._twist: FloatArray = np.zeros(2)
        self._was_armed = False

    @classmethod
    def from_embodiment(cls, embodiment: Embodiment) -> Self:
        """Make the gate of one robot's base.

        Raises:
            EmbodimentError: The base has no limits, or nothing reports where it is.
        """
        envelope = BaseEnvelope.from_embodiment(embodiment)
        sources = [s for s in embodiment.file.state if s.type == "nav_msgs/msg/Odometry"]
        if len(sources) != 1:
            raise EmbodimentError(
                f"{embodiment.path}: state: a base needs one source of type "
                f"nav_msgs/msg/Odometry, found {len(sources)}"
            )
        return cls(
            envelope,
            OdometryMonitor(envelope, sources[0].topic, sources[0].max_age_s),
            Interlock.from_embodiment(embodiment),
            1.0 / embodiment.file.command.rate_hz,
        )

    @property
    def monitor(self) -> OdometryMonitor:
        """What takes in the odometry."""
        return self._monitor

    @property
    def interlock(self) -> Interlock:
        """Level, cause and counters."""
        return self._interlock

    @property
    def is_still(self) -> bool:
        """Whether the base was measured, and is near rest."""
        return self._monitor.pose is not None and self._envelope.is_still(self._monitor.twist)

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing moves, neither as commanded nor as measured."""
        return not self._twist.any() and (not self._was_armed or self.is_still)

    def arm(self, steady_ns: int) -> str:
        """Let commands pass from now on, beginning at rest.

        Returns:
            Why not, as a sentence; empty when armed.
        """
        if self._interlock.latch.is_armed:
            return ""
        why_not = self._interlock.latch.arm(steady_ns, is_still=self.is_still)
        if not why_not:
            self._twist = np.zeros(2)
            self._was_armed = True
        return why_not

    def tick(
        self, now_ns: int, steady_ns: int, wanted: FloatArray | None, *, is_silent: bool = False
    ) -> FloatArray | None:
        """Decide what to command now.

        Args:
            now_ns: ROS time.
            steady_ns: Steady clock.
            wanted: Twist asked for (v m/s, w rad/s), shape (2,); None to rest.
            is_silent: Whether nothing is wanted although an episode is under way.

        Returns:
            The twist (2,) to send, or None when nothing is to be sent: before the gate was first
            armed, well after a stop, and when the last tick was only just before.
        """
        tick = self._interlock.begin(now_ns, steady_ns)
        if tick is None:
            return None
        if tick.clock_jumped:
            self._monitor.forget()
        if wanted is not None and not self._interlock.has_policy(steady_ns):
            wanted, is_silent = None, True
        tick.stop(*self._monitor.stops(steady_ns))
        if not tick.stops:  # otherwise the measured speed may be an old one
            tick.stop(self._judge_rest(steady_ns))
        if self._interlock.latch.is_armed:
            tick.hold(self._monitor.compare(self._twist, steady_ns))
        tick.hold(POLICY_SILENT if is_silent else None)
        may_move = self._interlock.judge(tick, steady_ns)
        if not self._was_armed:
            return None
        return self._command(wanted if may_move else None, tick.elapsed_s, steady_ns)

    def _command(
        self, wanted: FloatArray | None, elapsed_s: float, steady_ns: int
    ) -> FloatArray | None:
        # The controller keeps the last twist until the next one; time that a late tick lost does
        # not allow a greater change.
        dt = min(elapsed_s, self._period_s)
        if wanted is None:
            step = self._filter.brake(self._twist, dt)
        else:
            step = self._filter.step(self._twist, wanted, dt)
        if not self._interlock.trusts(
            self._envelope.count_violations(self._twist, step.twist, dt)
        ):
            return None
        self._twist = step.twist
        goes_out = self._interlock.finish(
            steady_ns, is_limited=step.is_limited, is_commanded=bool(step.twist.any())
        )
        return self._twist if goes_out else None

    def _judge_rest(self, steady_ns: int) -> Cause | None:
        """Return a reason to stop when the base goes on after the command came to rest."""
        is_commanded = bool(self._twist.any())
        quiet = self._interlock.is_quiet(is_commanded=is_commanded, steady_ns=steady_ns)
        if not self._was_armed or quiet:
            return None
        return self._interlock.watch_rest(
            is_commanded=is_commanded, is_still=self.is_still, steady_ns=steady_ns
        )
