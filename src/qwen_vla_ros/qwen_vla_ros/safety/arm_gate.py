"""The gate of one robot's joints: every command to a controller is the result of one `tick`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.backend import JointTrajectory, TrajectoryPoint
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.profile import NORMAL, Profile
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.safety.brake_filter import BrakeFilter, Step
from qwen_vla_ros.safety.envelope import JointEnvelope
from qwen_vla_ros.safety.gate import Gate, Proposal
from qwen_vla_ros.safety.interlock import Interlock, Tick
from qwen_vla_ros.safety.joint_monitor import JointMonitor
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.motion_guard import MotionGuard
from qwen_vla_ros.safety.policy_monitor import OUT_OF_REACH, PolicyMonitor
from qwen_vla_ros.types import FloatArray

FAR = 1e6
"""rad or m; further away is just as wrong, and differences cannot overflow."""
LEAD = 2
"""Knots ahead of the one at which a tick's slot begins: the next one was sent before, so that a
message may be a whole period on its way and change nothing that is being played."""
SMOOTH_LEAD = 3
"""The same where a jerk is declared: then a knot is known only with the command after its own."""
TRIES = 3
"""Steps that are judged in one tick, each shorter than the one before; then it is the brake."""
MOST_MISSED = 50
"""Cells without a tick, after which the controller has long come to rest by itself."""


@dataclass(frozen=True, eq=False)
class State:
    """A command of the filter: position and speed of a step, shape (J,) each."""

    position: FloatArray
    velocity: FloatArray

    def knot(self, period_s: float) -> FloatArray:
        """Return where the played curve is when the command's slot begins, at its speed.

        Between two such knots a controller's cubic is a parabola of the acceleration that the
        filter allowed: the curve is the quadratic B-spline of the commands, and lies in their
        convex hull. Sent as they are, the same cubic would accelerate four times as much.
        """
        return self.position - self.velocity * (period_s / 2)

    def smooth_knot(self, after: State, period_s: float) -> State:
        """Return place and speed of the played curve where a jerk is declared.

        Between two such knots a cubic's acceleration goes straight from one command's to the next
        one's: the curve is the cubic B-spline of the commands, and lies in their convex hull.
        """
        change = after.velocity - self.velocity
        return State(self.position + change * (period_s / 6), self.velocity + change / 2)


@dataclass(frozen=True, eq=False)
class JointCommand:
    """The curve that the joints follow from the beginning of this slot on, until they rest.

    Attributes:
        slot: Index of the first state on the grid of periods.
        states: What was sent before (two states), what is new, and the brake that follows if
            nothing else does; the last one is at rest.
        lead: How many states were sent before; SMOOTH_LEAD where a jerk is declared.
    """

    slot: int
    states: tuple[State, ...]
    lead: int = LEAD

    @classmethod
    def at_rest(cls, position: FloatArray, slot: int, lead: int = LEAD) -> Self:
        """Return the command to stay at `position` (J,)."""
        return cls(slot, (State(position, np.zeros_like(position)),) * (lead + 1), lead)

    @property
    def newest(self) -> State:
        """The state that this command adds."""
        return self.states[self.lead]

    @property
    def position(self) -> FloatArray:
        """Where the joints are sent, shape (J,), rad or m."""
        return self.newest.position

    @property
    def velocity(self) -> FloatArray:
        """At which speed, shape (J,)."""
        return self.newest.velocity

    @property
    def is_moving(self) -> bool:
        """Whether any joint moves before the brake begins."""
        return any(state.velocity.any() for state in self.states[: self.lead + 1])

    def next_knot(self, period_s: float) -> FloatArray:
        """Return where the controller is when the next slot begins, shape (J,)."""
        return self.knots(period_s)[1].position

    def knots(self, period_s: float) -> list[State]:
        """Return place and speed of the curve at the beginning of every slot from this one on."""
        if self.lead == LEAD:
            return [State(state.knot(period_s), state.velocity) for state in self.states]
        after = (*self.states[1:], self.states[-1])
        return [
            state.smooth_knot(other, period_s)
            for state, other in zip(self.states, after, strict=True)
        ]

    def trajectory(
        self, joints: tuple[str, ...], envelope: JointEnvelope, period_s: float
    ) -> JointTrajectory:
        """Return what some joints are to do, on the clock of the controllers."""
        i, period_ns = envelope.indices(joints), round(period_s * NS_PER_S)
        return JointTrajectory(
            start_ns=self.slot * period_ns,
            joints=joints,
            points=tuple(
                TrajectoryPoint(
                    time_from_start_ns=k * period_ns,
                    positions=tuple(knot.position[i].tolist()),
                    velocities=tuple(knot.velocity[i].tolist()),
                )
                for k, knot in enumerate(self.knots(period_s))
            ),
        )


class ArmGate(Gate[JointCommand]):
    """The gate of joints: what is wanted is the position (J,) of the newest state.

    Time is a grid of periods. The tick in slot k plans state k + 2; a second tick in a slot plans
    nothing, and a slot without a tick is one step of the brake that the last command ended with.
    So what is planned is what is played, whenever the ticks come.
    """

    def __init__(
        self,
        envelope: JointEnvelope,
        monitors: Sequence[JointMonitor],
        interlock: Interlock,
        period_s: float,
        guard: MotionGuard | None = None,
    ) -> None:
        """Compose a gate.

        Args:
            envelope: Limits of the joints.
            monitors: One per source of joint states; together they report every joint.
            interlock: What is watched besides the joints.
            period_s: Nominal time between two ticks, in seconds.
            guard: What is watched in space; None for joints whose links nobody knows.
        """
        super().__init__(monitors, interlock, period_s)
        self._envelope = envelope
        self._guard = guard
        self._monitors = tuple(monitors)
        self._filter = BrakeFilter(envelope)
        self._lead = LEAD if envelope.jerk is None else SMOOTH_LEAD
        self._slot = 0
        self._reference: JointCommand | None = None
        self._wanted: FloatArray | None = None
        self._policy = PolicyMonitor(envelope.velocity, period_s)
        self._is_moved = False

    @classmethod
    def from_embodiment(cls, embodiment: Embodiment, profile: Profile = NORMAL) -> Self:
        """Make the gate of one robot's joints, no faster than a profile allows.

        Raises:
            EmbodimentError: No joint is commanded, one has no limits, or nothing reports it.
        """
        if not embodiment.joints:
            raise EmbodimentError(f"{embodiment.path}: action: no channel commands a joint")
        envelope = JointEnvelope.from_embodiment(embodiment, profile)
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
            MotionGuard(embodiment, envelope, profile),
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
        if len(actions):
            self._policy.on_chunk(actions, actions[0], steady_ns)

    def tick(
        self, now_ns: int, steady_ns: int, wanted: FloatArray | None, *, is_silent: bool = False
    ) -> JointCommand | None:
        """Decide what to command now; see `Gate`. `wanted` is for `wanted_at(now_ns)`."""
        self._slot = now_ns // round(self._period_s * NS_PER_S)
        return super().tick(now_ns, steady_ns, wanted, is_silent=is_silent)

    def wanted_at(self, now_ns: int) -> int:
        """Return the ROS time (ns) for which a tick at `now_ns` asks what is wanted.

        A state is where the curve is half a period after its knot, or at it for a smooth one.
        """
        period_ns = round(self._period_s * NS_PER_S)
        later_ns = period_ns // 2 if self._lead == LEAD else 0
        return (now_ns // period_ns + self._lead) * period_ns + later_ns

    @property
    def _is_commanded(self) -> bool:
        return self._reference is not None and self._reference.is_moving

    def _begin(self) -> None:
        measured = self.measured
        if measured is None:
            raise ValueError("armed before every joint was measured")
        self._reference = JointCommand.at_rest(
            self._envelope.settle(measured), self._slot, self._lead
        )
        self._wanted = None
        self._is_moved = False
        if self._guard is not None:
            self._guard.begin(self._reference.position)

    def _read(self, wanted: FloatArray) -> FloatArray | None:
        if wanted.shape != self._envelope.lower.shape or not np.isfinite(wanted).all():
            return None
        return np.clip(wanted, -FAR, FAR)

    def _propose(
        self,
        wanted: FloatArray | None,
        dt: float,  # noqa: ARG002
    ) -> Proposal[JointCommand]:
        if self._reference is None:
            raise ValueError("a gate that was never armed has no command")
        last = self._caught_up(self._reference)
        if last.slot == self._slot:  # a second tick in this slot
            return Proposal(last, 0, is_limited=False)
        before = last.newest
        step = self._step(before, wanted)
        ahead, refused = self._allowed(before, step, is_braking=wanted is None)
        return Proposal(
            JointCommand(self._slot, (*last.states[1 : self._lead + 1], *ahead), self._lead),
            self._envelope.count_violations(
                before.position, before.velocity, ahead[0].position, self._period_s
            ),
            refused is not None or bool(step.limited.any()),
            refused,
        )

    def _take(self, command: JointCommand) -> None:
        self._reference = command

    def _caught_up(self, command: JointCommand) -> JointCommand:
        """Return what was played up to the slot before this one: a missed slot is a brake step."""
        missed = self._slot - command.slot - 1
        if missed > 0:
            self._wanted = None  # what is wanted now is no continuation
        if missed > MOST_MISSED:
            return JointCommand(self._slot - 1, command.states[-1:] * (self._lead + 1), self._lead)
        if missed < -1:
            # The clock went back: the gate has stopped for it, and brakes from here.
            return replace(command, slot=self._slot - 1)
        for _ in range(missed):
            tail = command.states[1:]
            states = tail if len(tail) > self._lead else (*tail, tail[-1])
            command = replace(command, slot=command.slot + 1, states=states)
        return command

    def _allowed(
        self, before: State, step: Step, *, is_braking: bool
    ) -> tuple[list[State], Cause | None]:
        """Return what to do from `before` on until rest, and why it is not the wanted step.

        It begins with a step whose path is free to its end, or else with the brake: the rest of
        the path that was found free before.
        """
        cause: Cause | None = None
        for _ in range(TRIES):
            ahead = self._and_brake(step)
            if self._guard is None or is_braking:
                return ahead, None
            commands = np.array([state.position for state in (before, *ahead)])
            refusal = self._guard.judge(commands)
            if refusal is None:
                return ahead, cause
            cause = cause or refusal.cause
            way = refusal.share * (step.position - before.position)
            wanted, speed = before.position + way, way / self._period_s
            step = self._filter.step(
                before.position, before.velocity, wanted, speed, self._period_s
            )
        return self._and_brake(
            self._filter.brake(before.position, before.velocity, self._period_s)
        ), cause

    def _and_brake(self, step: Step) -> list[State]:
        new = State(step.position, step.velocity)
        return [new, *self._brake(new)]

    def _brake(self, state: State) -> list[State]:
        """Return the states after one, until the joints rest: those that later ticks would add."""
        states: list[State] = []
        while state.velocity.any():
            step = self._filter.brake(state.position, state.velocity, self._period_s)
            state = State(step.position, step.velocity)
            states.append(state)
        return states

    def _step(self, before: State, wanted: FloatArray | None) -> Step:
        last, self._wanted = self._wanted, wanted
        self._is_moved = wanted is not None
        if wanted is None:
            self._policy.rest()
            return self._filter.brake(before.position, before.velocity, self._period_s)
        speed = np.zeros_like(wanted) if last is None else (wanted - last) / self._period_s
        return self._filter.step(before.position, before.velocity, wanted, speed, self._period_s)

    def _find(self, tick: Tick, steady_ns: int, wanted: FloatArray | None) -> None:
        if wanted is not None:
            tick.hold(self._policy.find_frozen())
            tick.hold(None if self._is_moved else self._judge_start(wanted))
        if self._reference is None or not self._interlock.latch.is_armed:
            return
        played = self._reference.next_knot(self._period_s)
        for monitor in self._monitors:
            tick.stop(monitor.find_stuck(played))
            tick.hold(monitor.compare(played, steady_ns))
        if wanted is not None and self._is_moved:
            distance = np.abs(wanted - self._reference.position)
            is_far = bool((distance > OUT_OF_REACH * self._envelope.start_jump).any())
            tick.stop(self._policy.find_out_of_reach(is_far=is_far))
            tick.hold(self._policy.find_oscillation(self._reference.velocity))

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
