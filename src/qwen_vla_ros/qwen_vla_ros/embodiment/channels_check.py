"""Does every action channel fit its kind, its unit and its joint?"""

from __future__ import annotations

import math

from qwen_vla_ros.embodiment.limits_check import is_suspect
from qwen_vla_ros.embodiment.schema import ChannelSpec, EmbodimentFile
from qwen_vla_ros.embodiment.urdf import Urdf
from qwen_vla_ros.errors import suggest
from qwen_vla_ros.problems import Loc, Problems

# A millimetre is a thousandth of a metre, a step of a usual encoder 0.0015 rad; no two units that
# people measure a joint in lie further apart.
MIN_SCALE = 1e-3
MAX_SCALE = 1e3
# Farther than this from its zero no slide is counted; an angle is never a whole turn away.
MAX_OFFSET = {"rad": math.tau, "m": 2.0}

_UNIT_OF_TYPE = {"revolute": "rad", "continuous": "rad", "prismatic": "m"}
_UNIT_OF_KIND = {"gripper": "1", "waypoint_x": "m", "waypoint_y": "m", "waypoint_yaw": "rad"}
# What each kind of channel must have; every other one of these keys would not be read.
_JOINT_KEYS = ("joint", "scale", "offset", "closed", "open")
_NEEDED_KEYS = {"joint_position": ("joint",), "gripper": ("joint", "closed", "open")}
_ALLOWED_KEYS = {
    "joint_position": ("joint", "scale", "offset"),
    "gripper": ("joint", "closed", "open"),
}


def check_channels(file: EmbodimentFile, robot: Urdf, problems: Problems) -> None:
    """Add a sentence for every channel that does not fit its joint or its kind."""
    for i, channel in enumerate(file.action):
        loc: Loc = ("action", i)
        _check_keys(channel, loc, problems)
        unit = _UNIT_OF_KIND.get(channel.kind)
        if channel.joint is not None:
            joint = robot.joints.get(channel.joint)
            if not is_commandable(channel.joint, robot, (*loc, "joint"), problems) or not joint:
                continue
            unit = unit or _UNIT_OF_TYPE[joint.type]
        if unit is not None and channel.unit != unit:
            problems.add(
                (*loc, "unit"),
                f"'{channel.unit}' does not fit a {channel.kind} channel"
                f"{f' of joint {channel.joint!r}' if channel.joint else ''}. Allowed: {unit}.",
            )
        _check_map(channel, loc, problems)
        if channel.closed is not None and channel.closed == channel.open:
            problems.add((*loc, "open"), "is the same position as closed.")
    joints = ((i, channel.joint) for i, channel in enumerate(file.action) if channel.joint)
    problems.refuse_twice(((("action", i, "joint"), joint) for i, joint in joints))


def is_commandable(name: str, robot: Urdf, loc: Loc, problems: Problems) -> bool:
    """Return whether a joint can be commanded; where it cannot, say why at `loc`."""
    joint = robot.joints.get(name)
    if joint is None:
        problems.add(loc, f"unknown joint '{name}'.{suggest(name, robot.commandable)}")
    elif joint.mimic is not None:
        leader = joint.mimic.joint
        problems.add(loc, f"joint '{name}' only follows '{leader}'; command '{leader}' instead.")
    elif not joint.is_movable:
        problems.add(loc, f"joint '{name}' is {joint.type} and cannot be commanded.")
    else:
        return True
    return False


def _check_map(channel: ChannelSpec, loc: Loc, problems: Problems) -> None:
    """Refuse a scale or an offset that no pair of zero, sign and unit explains."""
    scale, offset = channel.scale, channel.offset
    if scale == 0:
        problems.add((*loc, "scale"), "0 would freeze the joint; it must not be 0.")
    elif scale is not None and not MIN_SCALE <= abs(scale) <= MAX_SCALE:
        problems.add(
            (*loc, "scale"),
            f"{scale:g} lies between no two units of one quantity. "
            f"Allowed: {MIN_SCALE:g} to {MAX_SCALE:g}, of either sign.",
        )
    if offset is not None and channel.unit in MAX_OFFSET:
        is_suspect(offset, channel.unit, (*loc, "offset"), problems, MAX_OFFSET[channel.unit])


def _check_keys(channel: ChannelSpec, loc: Loc, problems: Problems) -> None:
    for key in _NEEDED_KEYS.get(channel.kind, ()):
        if getattr(channel, key) is None:
            problems.add((*loc, key), f"is missing; a {channel.kind} channel needs it.")
    allowed = _ALLOWED_KEYS.get(channel.kind, ())
    for key in _JOINT_KEYS:
        if key not in allowed and getattr(channel, key) is not None:
            hint = f"Allowed: {', '.join(allowed)}" if allowed else "It has no joint"
            problems.add((*loc, key), f"a {channel.kind} channel does not read it. {hint}.")
