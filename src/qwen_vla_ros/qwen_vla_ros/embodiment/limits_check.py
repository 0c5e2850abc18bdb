"""Is the safety envelope one that the gate can keep, on this robot, in these units?"""

from __future__ import annotations

import math

from qwen_vla_ros.embodiment.schema import EmbodimentFile, JointLimits
from qwen_vla_ros.embodiment.urdf import Urdf, UrdfJoint
from qwen_vla_ros.errors import suggest
from qwen_vla_ros.problems import Loc, Problems

# Beyond these values nothing moves that a policy drives: the number is in another unit than it
# should be. The accelerations are ten times what a fast research arm allows its joints (Franka's
# data sheet: 20 rad/s^2), five times gravity for a linear axis, and gravity for a base, since
# wheels on a floor grip no better.
MAX_OF_UNIT = {"rad": math.tau, "m": 10.0, "rad/s": 50.0, "m/s": 10.0}
MAX_OF_UNIT |= {"rad/s^2": 200.0, "m/s^2": 50.0}
MAX_BASE_ACCELERATION = {"rad/s^2": 200.0, "m/s^2": 10.0}

# A trajectory given to a controller covers at most 200 ms and ends at rest, so that motion ends
# without any message when everything upstream dies. A joint must be able to stop in that time.
MAX_JOINT_STOP_S = 0.2
# A base may brake softly, since a sudden stop tips it; one second is where the travel of a stop
# from walking speed is still about half a metre.
MAX_BASE_STOP_S = 1.0
# A motion must end within 300 ms of its gate's death, and two missed commands say little yet.
MIN_BASE_RATE_HZ = 10.0
MIN_BASE_TIMEOUT_PERIODS = 2.0


def check_limits(file: EmbodimentFile, robot: Urdf, problems: Problems) -> None:
    """Add a sentence to `problems` for every limit that is missing, unread, unsafe or absurd."""
    commanded = [joint for joint in file.joints if joint in robot.commandable]
    for name in commanded:
        if name not in file.safety.joints:
            problems.add(("safety", "joints"), f"joint '{name}' is commanded but has no limits.")
    for name, limits in file.safety.joints.items():
        loc: Loc = ("safety", "joints", name)
        if name in commanded:
            _check_joint(limits, robot.joints[name], loc, problems)
            if limits.velocity <= robot.joints[name].velocity:
                _check_stop(limits, file.command.rate_hz, loc, problems)
        elif len(commanded) == len(file.joints):
            hint = suggest(name, commanded)
            problems.add(loc, f"nothing would read it: no channel commands this joint.{hint}")
    _check_grippers(file, problems)
    _check_base(file, problems)


def _check_joint(limits: JointLimits, joint: UrdfJoint, loc: Loc, problems: Problems) -> None:
    if limits.lower >= limits.upper:
        problems.add(
            (*loc, "lower"), f"{limits.lower:g} is not below the upper limit {limits.upper:g}."
        )
        return
    unit = "m" if joint.type == "prismatic" else "rad"
    span = limits.upper - limits.lower
    for key, value in (("start_jump", limits.start_jump), ("tracking", limits.tracking)):
        if value >= span:
            problems.add(
                (*loc, key),
                f"{value:g} would never act: the whole range of the joint is {span:g}.",
            )
    for key, position in (("lower", limits.lower), ("upper", limits.upper)):
        if joint.type != "continuous" and is_suspect(position, unit, (*loc, key), problems):
            continue
        if not joint.lower <= position <= joint.upper:
            bounds = f"{joint.lower:g} to {joint.upper:g}"
            problems.add(
                (*loc, key), f"{position:g} is outside the URDF's limits. Allowed: {bounds}."
            )
    is_suspect(limits.acceleration, f"{unit}/s^2", (*loc, "acceleration"), problems)
    if not is_suspect(limits.velocity, f"{unit}/s", (*loc, "velocity"), problems) and (
        limits.velocity > joint.velocity
    ):
        problems.add(
            (*loc, "velocity"),
            f"{limits.velocity:g} is above the URDF's limit. Allowed: up to {joint.velocity:g}.",
        )


JOINT_PERIODS = 2.0
"""Of the gate, from a fault to the first step of the brake: what joints follow is sent ahead."""
BASE_PERIODS = 1.0


def stop_time(velocity: float, acceleration: float, delay_s: float) -> float:
    """Return the seconds from a fault to rest: `delay_s` until the brake begins, then braking."""
    return delay_s + velocity / acceleration


def stop_travel(velocity: float, acceleration: float, delay_s: float) -> float:
    """Return the farthest way from a fault to rest, in the unit of the velocity times seconds."""
    return velocity * delay_s + velocity**2 / (2.0 * acceleration)


def _check_stop(limits: JointLimits, rate_hz: float, loc: Loc, problems: Problems) -> None:
    velocity, acceleration = limits.velocity, limits.acceleration
    seconds = stop_time(velocity, acceleration, JOINT_PERIODS / rate_hz)
    braking = MAX_JOINT_STOP_S - JOINT_PERIODS / rate_hz
    if seconds <= MAX_JOINT_STOP_S + 1e-9:
        return
    if braking <= 0:
        problems.add(
            ("command", "rate_hz"),
            f"{rate_hz:g} Hz leaves no time to stop a joint within {MAX_JOINT_STOP_S:g} s; "
            f"it must be above {JOINT_PERIODS / MAX_JOINT_STOP_S:g}.",
        )
        return
    problems.add(
        (*loc, "acceleration"),
        f"a stop from {velocity:g} with {acceleration:g} takes {seconds:.3f} s, more than "
        f"{MAX_JOINT_STOP_S:g} s. Allowed: an acceleration of at least "
        f"{_rounded_up(velocity / braking)}, or a lower velocity.",
    )


def _rounded_up(value: float) -> str:
    digits = 2 - math.floor(math.log10(value))
    return f"{math.ceil(value * 10**digits) / 10**digits:g}"


def _check_grippers(file: EmbodimentFile, problems: Problems) -> None:
    for i, channel in enumerate(file.action):
        limits = file.safety.joints.get(channel.joint or "")
        if channel.kind != "gripper" or limits is None:
            continue
        for key, value in (("closed", channel.closed), ("open", channel.open)):
            if value is not None and not limits.lower <= value <= limits.upper:
                problems.add(
                    ("action", i, key),
                    f"{value:g} is outside safety.joints.{channel.joint}. "
                    f"Allowed: {limits.lower:g} to {limits.upper:g}.",
                )


def _check_base(file: EmbodimentFile, problems: Problems) -> None:
    base = file.safety.base
    if file.command.timeout_s is not None and not file.moves_base:
        problems.add(("command", "timeout_s"), "nothing would read it: no base is commanded.")
    if base is None:
        if file.moves_base:
            problems.add(("safety", "base"), "is missing; waypoint channels need it.")
        return
    loc: Loc = ("safety", "base")
    if not file.moves_base:
        problems.add(loc, "nothing would read it: the action has no waypoint channels.")
        return
    if file.command.rate_hz < MIN_BASE_RATE_HZ:
        problems.add(
            ("command", "rate_hz"),
            f"{file.command.rate_hz:g} Hz is too slow to notice in time that commands cease; a "
            f"base needs at least {MIN_BASE_RATE_HZ:g}.",
        )
    timeout_s = file.command.timeout_s
    if timeout_s is not None and timeout_s * file.command.rate_hz < MIN_BASE_TIMEOUT_PERIODS:
        problems.add(
            ("command", "timeout_s"),
            f"{timeout_s:g} s would stop the base between two commands at "
            f"{file.command.rate_hz:g} Hz.",
        )
    for axis, unit, velocity, acceleration in (
        ("linear", "m", base.linear_velocity, base.linear_acceleration),
        ("angular", "rad", base.angular_velocity, base.angular_acceleration),
    ):
        place: Loc = (*loc, f"{axis}_acceleration")
        rate = f"{unit}/s^2"
        is_suspect(acceleration, rate, place, problems, MAX_BASE_ACCELERATION[rate])
        if is_suspect(velocity, f"{unit}/s", (*loc, f"{axis}_velocity"), problems):
            continue
        seconds = stop_time(velocity, acceleration, BASE_PERIODS / file.command.rate_hz)
        if seconds > MAX_BASE_STOP_S + 1e-9:
            problems.add(
                place,
                f"a stop from {velocity:g} with {acceleration:g} takes {seconds:.3f} s, more than "
                f"{MAX_BASE_STOP_S:g} s.",
            )


def is_suspect(
    value: float, unit: str, loc: Loc, problems: Problems, most: float | None = None
) -> bool:
    """Return whether a value is too great for its unit, and say at `loc` which it may be in."""
    most = MAX_OF_UNIT[unit] if most is None else most
    if abs(value) <= most:
        return False
    base, slash, per = unit.partition("/")
    if base == "rad":
        meant, other, mended = "Degrees", "deg", f"{math.radians(value):.4f}"
    else:
        meant, other, mended = "Millimetres", "mm", f"{value / 1000:g}"
    words = {"rad": "more than a turn", "m": "very far", "s": "very fast"}
    what = words.get(per or base, "more than a robot can do")
    allowed = f" Allowed: up to {most:g}." if per == "s^2" else ""
    problems.add(
        loc,
        f"{value:g} {unit} is {what}. {meant}? {value:g} {other}{slash}{per} is {mended} {unit}."
        f"{allowed}",
    )
    return True
