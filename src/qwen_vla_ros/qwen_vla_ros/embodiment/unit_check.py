"""Is a number a robot's, or one in another unit than it should be?

Beyond the greatest values here nothing moves that a policy drives. The accelerations are ten
times what a fast research arm allows its joints (Franka's data sheet: 20 rad/s^2), five times
gravity for a linear axis, and gravity for a base, since wheels on a floor grip no better.
"""

from __future__ import annotations

import math
from typing import Literal

from qwen_vla_ros.embodiment.problems import Loc, Problems

Kind = Literal["angular", "linear"]

MAX_ANGLE = 2 * math.pi
MAX_LENGTH = 10.0
MAX_VELOCITY: dict[Kind, float] = {"angular": 50.0, "linear": 10.0}
MAX_ACCELERATION: dict[Kind, float] = {"angular": 200.0, "linear": 50.0}
MAX_BASE_ACCELERATION: dict[Kind, float] = {"angular": 200.0, "linear": 10.0}


def suspect_angle(value: float, loc: Loc, problems: Problems) -> bool:
    """Return whether an angle (rad) is more than a turn, and say so at `loc`."""
    if abs(value) <= MAX_ANGLE:
        return False
    radians = math.radians(value)
    problems.add(
        loc, f"{value:g} rad is more than a turn. Degrees? {value:g} deg is {radians:.4f} rad."
    )
    return True


def suspect_length(
    value: float, loc: Loc, problems: Problems, greatest: float = MAX_LENGTH
) -> bool:
    """Return whether a length (m) is above the greatest, and say so at `loc`."""
    if abs(value) <= greatest:
        return False
    problems.add(loc, f"{value:g} m is very far. Millimetres? {value:g} mm is {value / 1000:g} m.")
    return True


def suspect_velocity(value: float, kind: Kind, loc: Loc, problems: Problems) -> bool:
    """Return whether a speed (rad/s or m/s) is above the greatest, and say so at `loc`."""
    if value <= MAX_VELOCITY[kind]:
        return False
    problems.add(loc, _hint(value, kind, "/s", "very fast"))
    return True


def suspect_acceleration(
    value: float,
    kind: Kind,
    loc: Loc,
    problems: Problems,
    greatest: dict[Kind, float] = MAX_ACCELERATION,
) -> bool:
    """Return whether an acceleration (rad/s^2 or m/s^2) is too great, and say so at `loc`."""
    if value <= greatest[kind]:
        return False
    allowed = f" Allowed: up to {greatest[kind]:g}."
    problems.add(loc, _hint(value, kind, "/s^2", "more than a robot can do") + allowed)
    return True


def _hint(value: float, kind: Kind, per: str, what: str) -> str:
    if kind == "angular":
        radians = math.radians(value)
        return (
            f"{value:g} rad{per} is {what}. Degrees? {value:g} deg{per} is {radians:.4f} rad{per}."
        )
    metres = value / 1000
    return f"{value:g} m{per} is {what}. Millimetres? {value:g} mm{per} is {metres:g} m{per}."
