"""The gate of one mobile base: every twist to a controller is the result of one `tick`."""

from __future__ import annotations

from typing import Self

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.safety.envelope import BaseEnvelope
from qwen_vla_ros.safety.gate import Gate, Proposal
from qwen_vla_ros.safety.interlock import Interlock, Tick
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.odometry_monitor import OdometryMonitor
from qwen_vla_ros.safety.policy_monitor import TOO_FAST, PolicyMonitor
from qwen_vla_ros.safety.silence import STEPPED_IN, silence_s
from qwen_vla_ros.safety.twist_filter import TwistFilter
from qwen_vla_ros.types import FloatArray

LOST_NS = NS_PER_S // 5
"""So long a gate that comes back waits for what is measured now; rest is commanded otherwise."""
CAME_BACK = Cause("gate_paused", "the gate paused, and looks first at what the base does now")


class BaseGate(Gate[FloatArray]):
    """The gate of a base: what is wanted and commanded is a twist (v m/s, w rad/s), shape (2,)."""

    def __init__(
        self,
        envelope: BaseEnvelope,
        monitor: OdometryMonitor,
        interlock: Interlock,
        period_s: float,
        timeout_s: float = float("inf"),
    ) -> None:
        """Compose a gate.

        Args:
            envelope: Limits of the base.
            monitor: What the odometry says.
            interlock: What is watched besides the odometry.
            period_s: Nominal time between two ticks, in seconds.
            timeout_s: After which the driver stops by itself, in seconds, as far as it is known.
        """
        super().__init__([monitor], interlock, period_s)
        self._envelope = envelope
        self._monitor = monitor
        self._filter = TwistFilter(envelope)
        self._policy = PolicyMonitor(envelope.velocity, period_s)
        self._is_moved = False
        self._twist: FloatArray = np.zeros(2)
        self._lost_ns: int | None = None
        self._left_running_s = min(silence_s(period_s), timeout_s)

    @classmethod
    def from_embodiment(cls, embodiment: Embodiment) -> Self:
        """Make the gate of one robot's base.

        Raises:
            EmbodimentError: The base has no limits, or nothing reports where it is.
        """
        envelope = BaseEnvelope.from_embodiment(embodiment)
        command = embodiment.file.command
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
            1.0 / command.rate_hz,
            float("inf") if command.timeout_s is None else command.timeout_s,
        )

    @property
    def envelope(self) -> BaseEnvelope:
        """Limits of the base."""
        return self._envelope

    @property
    def twist(self) -> FloatArray:
        """What the next command follows on: (v m/s, w rad/s)."""
        return self._twist

    @property
    def monitor(self) -> OdometryMonitor:
        """What takes in the odometry."""
        return self._monitor

    @property
    def is_still(self) -> bool:
        """Whether the base was measured, and is near rest."""
        return self._monitor.pose is not None and self._envelope.is_still(self._monitor.twist)

    def on_chunk(self, motions: FloatArray, steady_ns: int) -> None:
        """Note that a chunk with these motions (H, 3) was accepted."""
        self._interlock.on_chunk(steady_ns)
        self._policy.on_chunk(motions, np.zeros(3), steady_ns)

    @property
    def _is_lost(self) -> bool:
        return self._lost_ns is not None

    @property
    def _is_commanded(self) -> bool:
        return bool(self._twist.any())

    def _begin(self) -> None:
        self._twist = np.zeros(2)
        self._lost_ns = None
        self._is_moved = False
        self._monitor.begin()

    def _read(self, wanted: FloatArray) -> FloatArray | None:
        return wanted if wanted.shape == (2,) and np.isfinite(wanted).all() else None

    def _find(self, tick: Tick, steady_ns: int, wanted: FloatArray | None) -> None:
        if tick.elapsed_s > self._left_running_s or tick.clock_jumped:
            tick.hold(CAME_BACK)
            if self._is_commanded:
                self._lost_ns = steady_ns
        self._find_again(steady_ns)
        if self._interlock.latch.cause is STEPPED_IN:
            # Rest is commanded already: a brake from what was commanded before would fight it.
            self._twist, self._lost_ns = np.zeros(2), None
        if self._interlock.latch.is_armed:
            tick.stop(self._monitor.push(self._twist, tick.elapsed_s))
            tick.hold(self._monitor.compare(self._twist, steady_ns))
            self._find_senseless(tick, wanted)

    def _find_senseless(self, tick: Tick, wanted: FloatArray | None) -> None:
        if wanted is None:
            return
        if self._is_moved:
            is_far = bool((np.abs(wanted) > TOO_FAST * self._envelope.velocity).any())
            tick.stop(self._policy.find_out_of_reach(is_far=is_far))
            tick.hold(self._policy.find_oscillation(self._twist))

    def _find_again(self, steady_ns: int) -> None:
        """Go on from what is measured, after a pause that may have stopped the base (W13).

        What was measured before says nothing about now. Where nothing comes, rest is the one thing
        that can be commanded.
        """
        if self._lost_ns is None:
            return
        if self._monitor.measured_ns >= self._lost_ns:
            limit = self._envelope.velocity
            self._twist = (
                np.zeros(2) if self.is_still else np.clip(self._monitor.twist, -limit, limit)
            )
        elif steady_ns - self._lost_ns < LOST_NS:
            return
        else:
            self._twist = np.zeros(2)
        self._lost_ns = None

    def _propose(
        self,
        wanted: FloatArray | None,
        dt: float,
    ) -> Proposal[FloatArray]:
        # The controller keeps the last twist until the next one.
        self._is_moved = wanted is not None
        if wanted is None:
            self._policy.rest()
            step = self._filter.brake(self._twist, dt)
        else:
            step = self._filter.step(self._twist, wanted, dt)
        violations = self._envelope.count_violations(self._twist, step.twist, dt)
        return Proposal(step.twist, violations, step.is_limited)

    def _take(self, command: FloatArray) -> None:
        self._twist = command
