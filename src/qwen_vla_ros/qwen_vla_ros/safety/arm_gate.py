"""The gate of one robot's joints: every command to a controller is the result of one `tick`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.safety.brake_filter import BrakeFilter, Step, coast
from qwen_vla_ros.safety.envelope import JointEnvelope
from qwen_vla_ros.safety.interlock import POLICY_SILENT, Interlock, Tick
from qwen_vla_ros.safety.joint_monitor import JointMonitor
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.policy_monitor import PolicyMonitor
from qwen_vla_ros.types import FloatArray

FAR = 1e6
"""rad or m; further away is just as wrong, and differences cannot overflow."""


@dataclass(frozen=True, eq=False)
class JointCommand:
    """Where the joints are to be one gate period from now.

    Attributes:
        position: Shape (J,), rad or m, in the envelope's order.
        velocity: Speed at which that position is reached, shape (J,).
        start_position: Where the command before has brought them by now, shape (J,). A
            controller that began where the joints are measured would turn their lag into jerk.
        start_velocity: Speed there, shape (J,).
    """

    position: FloatArray
    velocity: FloatArray
    start_position: FloatArray
    start_velocity: FloatArray

    @classmethod
    def at_rest(cls, position: FloatArray) -> Self:
        """Return the command to stay at `position` (J,)."""
        still = np.zeros_like(position)
        return cls(position, still, position, still)


class ArmGate:
    """Lets a policy move joints inside an envelope, while all that it watches is well.

    What is commanded is the reference for the next command: positions that were wanted and not
    given never count. It begins stopped; `arm` takes the measured position as its reference.
    """

    def __init__(
        self,
        envelope: JointEnvelope,
        monitors: Sequence[JointMonitor],
        interlock: Interlock,
        period_s: float,
        *,
        ends_at_rest: bool = True,
    ) -> None:
        """Compose a gate.

        Args:
            envelope: Limits of the joints.
            monitors: One per source of joint states; together they report every joint.
            interlock: What is watched besides the joints.
            period_s: Nominal time between two ticks, in seconds.
            ends_at_rest: Whether each command is sent with the brake that follows it, so that
                the controller brakes by itself when the next command is late.
        """
        self._envelope = envelope
        self._monitors = tuple(monitors)
        self._interlock = interlock
        self._period_s = period_s
        self._ends_at_rest = ends_at_rest
        self._filter = BrakeFilter(envelope)
        self._reference: JointCommand | None = None
        self._wanted: FloatArray | None = None
        self._policy = PolicyMonitor(envelope, period_s)
        self._is_moved = False

    @classmethod
    def from_embodiment(cls, embodiment: Embodiment) -> Self:
        """Make the gate of one robot's joints.

        Raises:
            EmbodimentError: No joint is commanded, one has no limits, or nothing reports it.
        """
        if not embodiment.joints:
            raise EmbodimentError(f"{embodiment.path}: action: no channel commands a joint")
        envelope = JointEnvelope.from_embodiment(embodiment)
        monitors = []
        unreported = set(envelope.names)
        for source in embodiment.file.state:
            joints = [joint for joint in source.joints if joint in unreported]
            if joints:
                monitors.append(JointMonitor(envelope, joints, source.topic, source.max_age_s))
                unreported -= set(joints)
        if unreported:
            raise EmbodimentError(
                f"{embodiment.path}: state: no source reports '{min(unreported)}', "
                "but it is commanded"
            )
        command = embodiment.file.command
        return cls(
            envelope,
            monitors,
            Interlock.from_embodiment(embodiment),
            1.0 / command.rate_hz,
            ends_at_rest=all(output.backend == "joint_trajectory" for output in command.outputs),
        )

    @property
    def envelope(self) -> JointEnvelope:
        """Limits of the joints."""
        return self._envelope

    @property
    def monitors(self) -> tuple[JointMonitor, ...]:
        """What takes in the joint states, one per source."""
        return self._monitors

    @property
    def interlock(self) -> Interlock:
        """Level, cause and counters."""
        return self._interlock

    @property
    def measured(self) -> FloatArray | None:
        """Measured positions (J,), or None while a joint was not reported yet."""
        values = np.empty(len(self._envelope.names))
        for monitor in self._monitors:
            if monitor.position is None:
                return None
            values[monitor.indices] = monitor.position
        return values

    @property
    def is_still(self) -> bool:
        """Whether every joint was measured, and is near rest."""
        velocity = np.zeros(len(self._envelope.names))
        for monitor in self._monitors:
            velocity[monitor.indices] = monitor.velocity
        return self.measured is not None and self._envelope.is_still(velocity)

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing moves, neither as commanded nor as measured."""
        return not self._is_commanded_to_move() and (self._reference is None or self.is_still)

    def arm(self, steady_ns: int) -> str:
        """Let commands pass from now on, beginning at the measured position.

        Returns:
            Why not, as a sentence; empty when armed.
        """
        if self._interlock.latch.is_armed:
            return ""
        why_not = self._interlock.latch.arm(steady_ns, is_still=self.is_still)
        measured = self.measured
        if not why_not and measured is not None:
            self._reference = JointCommand.at_rest(self._envelope.settle(measured))
            self._is_moved = False
        return why_not

    def on_chunk(self, actions: FloatArray, steady_ns: int) -> None:
        """Note that a chunk with these rows (H, c) was accepted."""
        self._interlock.on_chunk(steady_ns)
        self._policy.on_chunk(actions, steady_ns)

    def tick(
        self, now_ns: int, steady_ns: int, wanted: FloatArray | None, *, is_silent: bool = False
    ) -> JointCommand | None:
        """Decide what to command now.

        Args:
            now_ns: ROS time.
            steady_ns: Steady clock.
            wanted: Position asked for at one period from now, shape (J,); None to rest.
            is_silent: Whether nothing is wanted although an episode is under way.

        Returns:
            The command to send, or None when nothing is to be sent: before the gate was first
            armed, well after a stop, and when the last tick was only just before.
        """
        tick = self._interlock.begin(now_ns, steady_ns)
        if tick is None:
            return None
        if tick.clock_jumped:
            for monitor in self._monitors:
                monitor.forget()
        if wanted is not None:
            wanted = self._read(wanted, steady_ns)
            is_silent = wanted is None
        self._find(tick, steady_ns, wanted)
        tick.hold(POLICY_SILENT if is_silent else None)
        may_move = self._interlock.judge(tick, steady_ns)
        if self._reference is None:
            return None
        # A late tick finds the controller in the brake that the last command ended with.
        reference = self._left_alone(self._reference, tick.elapsed_s - self._period_s)
        dt = min(tick.elapsed_s, self._period_s)
        step = self._step(reference, wanted if may_move else None, dt, tick.elapsed_s)
        bad = self._envelope.count_violations(
            reference.position, reference.velocity, step.position, dt
        )
        if not self._interlock.trusts(bad):
            self._reference = self._left_alone(reference, dt)
            return None
        self._reference = JointCommand(
            step.position, step.velocity, reference.position, reference.velocity
        )
        goes_out = self._interlock.finish(
            steady_ns,
            is_limited=bool(step.limited.any()),
            is_commanded=self._is_commanded_to_move(),
        )
        return self._reference if goes_out else None

    def _read(self, wanted: FloatArray, steady_ns: int) -> FloatArray | None:
        """Return what is wanted, or None when it means nothing or is played past its time."""
        means_something = wanted.shape == self._envelope.lower.shape and np.isfinite(wanted).all()
        if not means_something or not self._interlock.has_policy(steady_ns):
            return None
        return np.clip(wanted, -FAR, FAR)

    def _step(
        self, reference: JointCommand, wanted: FloatArray | None, dt: float, elapsed_s: float
    ) -> Step:
        before, self._wanted = self._wanted, wanted
        self._is_moved = wanted is not None
        if wanted is None:
            self._policy.rest()
            return self._filter.brake(reference.position, reference.velocity, dt)
        speed = np.zeros_like(wanted) if before is None else (wanted - before) / elapsed_s
        return self._filter.step(reference.position, reference.velocity, wanted, speed, dt)

    def _left_alone(self, command: JointCommand, seconds: float) -> JointCommand:
        """Return what the controller does when no command comes for `seconds` after this one."""
        if seconds <= 0:
            return command
        position, velocity = coast(
            command.position, command.velocity, self._envelope.acceleration, seconds
        )
        if not self._ends_at_rest:
            position = command.position
        return replace(command, position=position, velocity=velocity)

    def _find(self, tick: Tick, steady_ns: int, wanted: FloatArray | None) -> None:
        """Add the reasons to stop and to hold that stand in this tick."""
        for monitor in self._monitors:
            tick.stop(*monitor.stops(steady_ns))
        if not tick.stops:  # otherwise the measured speed may be an old one
            tick.stop(self._judge_rest(steady_ns))
        if wanted is not None:
            tick.hold(self._policy.find_frozen())
            tick.hold(None if self._is_moved else self._judge_start(wanted))
        if self._reference is None or not self._interlock.latch.is_armed:
            return
        position, velocity = self._reference.position, self._reference.velocity
        for monitor in self._monitors:
            tick.stop(monitor.find_stuck(position))
            tick.hold(monitor.compare(position, steady_ns))
        if wanted is not None and self._is_moved:
            tick.stop(self._policy.find_out_of_reach(wanted, position))
            tick.hold(self._policy.find_oscillation(velocity))

    def _judge_rest(self, steady_ns: int) -> Cause | None:
        """Return a reason to stop when the joints go on after the command came to rest."""
        is_commanded = self._is_commanded_to_move()
        quiet = self._interlock.is_quiet(is_commanded=is_commanded, steady_ns=steady_ns)
        if self._reference is None or quiet:
            return None
        return self._interlock.watch_rest(
            is_commanded=is_commanded, is_still=self.is_still, steady_ns=steady_ns
        )

    def _judge_start(self, wanted: FloatArray) -> Cause | None:
        """Return a reason to hold when a motion begins far from where the robot is (A7).

        A ramp to a far start would be a motion that no policy proposed and no camera watched.
        """
        measured = self.measured
        if measured is None:
            return None
        share = np.abs(wanted - measured) / self._envelope.start_jump
        worst = int(np.argmax(share))
        if share[worst] <= 1:
            return None
        return Cause(
            "start_jump",
            f"the policy begins with '{self._envelope.names[worst]}' at {wanted[worst]:.3f}, "
            f"measured {measured[worst]:.3f}, allowed jump {self._envelope.start_jump[worst]:g}",
        )

    def _is_commanded_to_move(self) -> bool:
        return self._reference is not None and bool(self._reference.velocity.any())
