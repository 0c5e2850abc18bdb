"""The step that can always still brake: position, speed and acceleration bounds at once.

A position clamp alone bounds no deceleration: it lets a joint run into its limit and then asks for
an impossible stop. Here the speed v of a step of dt seconds, with acceleration bound a, satisfies

    |v| <= v_max,   |v - v_before| <= a dt,   q + v dt + v^2 / (2 a) <= q_max   (and mirrored),

that is, a full brake after the step still ends inside. If it holds now, it holds after braking by
a dt', for whatever dt' comes next: the left side of the last bound falls by a dt'^2 / 2. So the
filter never runs into a state in which no step is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qwen_vla_ros.safety.envelope import SLACK, JointEnvelope
from qwen_vla_ros.types import FloatArray

RETURN_FRACTION = 0.1
"""A joint that starts outside its limits comes back at this fraction of its speed (C8)."""
ROUNDING = 1e-6
"""rad or m: what 32-bit actions lose on the wire. A difference so small limited nothing."""


@dataclass(frozen=True, eq=False)
class Step:
    """One command.

    Attributes:
        position: Where the joints are sent, shape (J,), rad or m.
        velocity: Mean speed of the step, shape (J,).
        limited: Which joints were not given what was wanted, shape (J,).
    """

    position: FloatArray
    velocity: FloatArray
    limited: npt.NDArray[np.bool_]


class BrakeFilter:
    """Bounds each command of a set of joints; keeps no state."""

    def __init__(self, envelope: JointEnvelope) -> None:
        self._envelope = envelope

    def step(
        self,
        position: FloatArray,
        velocity: FloatArray,
        wanted: FloatArray,
        wanted_velocity: FloatArray,
        dt: float,
    ) -> Step:
        """Go towards `wanted` as far as the envelope allows.

        A wanted position that is allowed passes bit-identical. Otherwise the whole step is made
        shorter, so that the arm keeps its direction and only loses speed.

        Args:
            position: Last commanded position, shape (J,).
            velocity: Speed of the last command, shape (J,).
            wanted: Position asked for, shape (J,). Anything but finite values brakes all joints:
                half a command is no command.
            wanted_velocity: How fast the wanted position itself moves, shape (J,).
            dt: Seconds between the last command and this one.
        """
        limits = self._envelope
        is_finite = np.isfinite(wanted).all() and np.isfinite(wanted_velocity).all()
        if wanted.shape != position.shape or not is_finite:
            return self.brake(position, velocity, dt)
        low, high = self._speeds(position, velocity, dt)
        nearest, farthest = self._reach(position, low, high, dt)
        moving = np.minimum(np.maximum(wanted_velocity, -limits.velocity), limits.velocity)
        # A joint that is outside its limits is not left there just because that is asked for.
        is_inside = (limits.lower <= wanted) & (wanted <= limits.upper)
        if (is_inside & (nearest <= wanted) & (wanted <= farthest)).all():
            speed = (wanted - position) / dt
            # Within reach is not enough: arriving so fast that the next step cannot take up the
            # pace of the goal would be running past it.
            if (np.abs(speed - moving) <= limits.acceleration * dt + SLACK).all():
                return Step(wanted.copy(), speed, np.zeros(wanted.shape, dtype=bool))
        goal = np.minimum(np.maximum(wanted, limits.lower), limits.upper)
        pursuit = moving + self._close(goal - moving * dt - position, dt)
        stride = self._pace(goal - position, np.minimum(np.maximum(pursuit, low), high) * dt)
        reached = np.minimum(np.maximum(position + stride, nearest), farthest)
        return Step(reached, (reached - position) / dt, np.abs(reached - wanted) > ROUNDING)

    def brake(self, position: FloatArray, velocity: FloatArray, dt: float) -> Step:
        """Take away as much speed as allowed, each joint for itself, and never reverse."""
        slower = self._slower(velocity, dt)
        low, high = self._speeds(position, velocity, dt)
        nearest, farthest = self._reach(position, low, high, dt)
        # Only rounding can make a full brake leave the reach: braking is what it is built on.
        moved = np.minimum(np.maximum(position + slower * dt, nearest), farthest)
        reached = np.where(slower == 0, position, moved)
        return Step(reached, slower, np.zeros(position.shape, dtype=bool))

    def _speeds(
        self, position: FloatArray, velocity: FloatArray, dt: float
    ) -> tuple[FloatArray, FloatArray]:
        """Return the least and greatest speed of the next step, shape (J,) each."""
        limits = self._envelope
        change = limits.acceleration * dt
        high = np.minimum(self._stoppable(limits.upper - position, dt), limits.velocity)
        low = np.maximum(-self._stoppable(position - limits.lower, dt), -limits.velocity)
        above, below = position > limits.upper, position < limits.lower
        if above.any() or below.any():
            # Out there a joint has no way to go further out, and only a slow way back.
            slow = RETURN_FRACTION * limits.velocity
            high = np.where(below, np.minimum(high, slow), high)
            low = np.where(above, np.maximum(low, -slow), low)
        high = np.minimum(high, velocity + change)
        low = np.maximum(low, velocity - change)
        crossed = low > high
        if crossed.any():
            # By rounding, or because a joint is outside and moves further out: then brake.
            braking = self._slower(velocity, dt)
            low, high = np.where(crossed, braking, low), np.where(crossed, braking, high)
        return low, high

    def _slower(self, velocity: FloatArray, dt: float) -> FloatArray:
        change = self._envelope.acceleration * dt
        slower: FloatArray = velocity - np.minimum(np.maximum(velocity, -change), change)
        return slower

    def _reach(
        self, position: FloatArray, low: FloatArray, high: FloatArray, dt: float
    ) -> tuple[FloatArray, FloatArray]:
        """Return the least and greatest position of the next step, exact at the limits."""
        limits = self._envelope
        nearest = position + low * dt
        farthest = position + high * dt
        nearest = np.where(position >= limits.lower, np.maximum(nearest, limits.lower), nearest)
        farthest = np.where(position <= limits.upper, np.minimum(farthest, limits.upper), farthest)
        return nearest, farthest

    def _stoppable(self, room: FloatArray, dt: float) -> FloatArray:
        """Return the speed of a step after which a full brake still ends within `room`."""
        acceleration = self._envelope.acceleration
        change = acceleration * dt
        reachable: FloatArray = np.sqrt(change**2 + 2 * acceleration * np.maximum(room, 0.0))
        return reachable - change

    def _close(self, gap: FloatArray, dt: float) -> FloatArray:
        """Return the speed, relative to a moving goal, that closes a gap and not more."""
        # As if the goal were a wall: otherwise a joint that is late would arrive at full speed,
        # pass, turn, and swing about its goal for ever.
        closing: FloatArray = np.copysign(self._stoppable(np.abs(gap), dt), gap)
        return closing

    def _pace(self, way: FloatArray, stride: FloatArray) -> FloatArray:
        """Shorten the way (J,) so that no paced joint makes more than its own stride (J,)."""
        # The joint that overshoots most sets the pace for all: clamping joints one by one would
        # bend the path, and a bent path is one the policy never proposed.
        paced = self._envelope.is_paced & (np.abs(way) > 1e-9)
        if not paced.any():
            return stride
        share = float(np.clip((stride[paced] / way[paced]).min(), 0.0, 1.0))
        return np.where(self._envelope.is_paced, share * way, stride)
