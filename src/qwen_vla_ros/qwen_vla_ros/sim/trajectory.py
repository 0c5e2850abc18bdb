"""Interpolation of a joint trajectory, as ros2_controllers does it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class State:
    """Joints at a time; an empty array is a derivative that is not known.

    Attributes:
        time_ns: Absolute time.
        positions: Shape (J,), rad or m.
        velocities: Shape (J,) or (0,).
        accelerations: Shape (J,) or (0,).
    """

    time_ns: int
    positions: FloatArray
    velocities: FloatArray
    accelerations: FloatArray


def interpolate(a: State, b: State, time_ns: int) -> State:
    """Return the state at a time between two states.

    A straight line where only positions are known on both sides, a cubic with velocities, a
    quintic with accelerations too. A time outside of [a, b] is held at the nearer end, on the
    straight line.
    """
    duration = (b.time_ns - a.time_ns) / NS_PER_S
    t = (time_ns - a.time_ns) / NS_PER_S
    has_velocity = a.velocities.size > 0 and b.velocities.size > 0
    has_acceleration = a.accelerations.size > 0 and b.accelerations.size > 0
    if not 0.0 <= t <= duration:
        t = min(max(t, 0.0), duration)
        has_velocity = has_acceleration = False
    c = np.zeros((6, a.positions.size))
    c[0] = a.positions
    if not has_velocity:
        if duration > 0:
            c[1] = (b.positions - a.positions) / duration
    elif not has_acceleration:
        _fit_cubic(c, a, b, duration)
    else:
        _fit_quintic(c, a, b, duration)
    powers = t ** np.arange(6)
    return State(
        time_ns=time_ns,
        positions=powers @ c,
        velocities=(powers[:5] * np.arange(1, 6)) @ c[1:],
        accelerations=(powers[:4] * np.array([2, 6, 12, 20])) @ c[2:],
    )


def _fit_cubic(c: FloatArray, a: State, b: State, duration: float) -> None:
    c[1] = a.velocities
    if duration > 0:
        distance = b.positions - a.positions
        c[2] = (3 * distance / duration - 2 * a.velocities - b.velocities) / duration
        c[3] = (-2 * distance / duration + a.velocities + b.velocities) / duration**2


def _fit_quintic(c: FloatArray, a: State, b: State, duration: float) -> None:
    c[1] = a.velocities
    c[2] = a.accelerations / 2
    if duration > 0:
        d = duration
        distance = b.positions - a.positions
        speed_a, speed_b = a.velocities * d, b.velocities * d
        bend_a, bend_b = a.accelerations * d**2, b.accelerations * d**2
        c[3] = (20 * distance - 12 * speed_a - 8 * speed_b - 3 * bend_a + bend_b) / (2 * d**3)
        c[4] = (-30 * distance + 16 * speed_a + 14 * speed_b + 3 * bend_a - 2 * bend_b) / (
            2 * d**4
        )
        c[5] = (12 * distance - 6 * speed_a - 6 * speed_b - bend_a + bend_b) / (2 * d**5)
