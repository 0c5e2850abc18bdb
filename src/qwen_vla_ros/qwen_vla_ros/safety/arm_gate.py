"""The gate of one robot's joints: every command to a controller is the result of one `tick`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.backend import JointTrajectory, TrajectoryPoint, load_backend
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.safety.brake_filter import BrakeFilter, Step, coast, stopping_points
from qwen_vla_ros.safety.envelope import JointEnvelope
from qwen_vla_ros.safety.gate import Gate, Proposal
from qwen_vla_ros.safety.interlock import Interlock, Tick
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

    def trajectory(
        self, joints: tuple[str, ...], envelope: JointEnvelope, period_s: float
    ) -> JointTrajectory:
        """Return what some joints are to do: reach the command in `period_s`, and then brake."""
        i = envelope.indices(joints)
        points = [
            (0.0, self.start_position[i], self.start_velocity[i]),
            *stopping_points(
                self.position[i], self.velocity[i], envelope.acceleration[i], period_s
            ),
        ]
        return JointTrajectory(
            start_ns=0,
            joints=joints,
            points=tuple(
                TrajectoryPoint(
                    time_from_start_ns=round(seconds * NS_PER_S),
                    positions=tuple(position.tolist()),
                    velocities=tuple(velocity.tolist()),
                )
                for seconds, position, velocity in points
            ),
        )


class ArmGate(Gate[JointCommand]):
    """The gate of joints: what is wanted is a position (J,) at one period from now."""

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
        super().__init__(monitors, interlock, period_s)
        self._envelope = envelope
        self._monitors = tuple(monitors)
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
            ends_at_rest=all(load_backend(output.backend).is_timed for output in command.outputs),
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

    def on_chunk(self, actions: FloatArray, steady_ns: int) -> None:
        """Note that a chunk with these rows (H, c) was accepted."""
        self._interlock.on_chunk(steady_ns)
        self._policy.on_chunk(actions, steady_ns)

    @property
    def _is_commanded(self) -> bool:
        return self._reference is not None and bool(self._reference.velocity.any())

    def _begin(self) -> None:
        measured = self.measured
        if measured is None:
            raise ValueError("armed before every joint was measured")
        self._reference = JointCommand.at_rest(self._envelope.settle(measured))
        self._is_moved = False

    def _read(self, wanted: FloatArray) -> FloatArray | None:
        if wanted.shape != self._envelope.lower.shape or not np.isfinite(wanted).all():
            return None
        return np.clip(wanted, -FAR, FAR)

    def _propose(
        self, wanted: FloatArray | None, dt: float, elapsed_s: float
    ) -> Proposal[JointCommand]:
        if self._reference is None:
            raise ValueError("a gate that was never armed has no command")
        # A late tick finds the controller in the brake that the last command ended with.
        before = self._left_alone(self._reference, elapsed_s - self._period_s)
        self._reference = before
        step = self._step(before, wanted, dt, elapsed_s)
        return Proposal(
            JointCommand(step.position, step.velocity, before.position, before.velocity),
            self._envelope.count_violations(before.position, before.velocity, step.position, dt),
            bool(step.limited.any()),
        )

    def _take(self, command: JointCommand) -> None:
        self._reference = command

    def _distrust(self, dt: float) -> None:
        if self._reference is not None:
            self._reference = self._left_alone(self._reference, dt)

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
