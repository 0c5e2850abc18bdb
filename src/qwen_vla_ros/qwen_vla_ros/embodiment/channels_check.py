"""Does every action channel fit its joint, and is that measured and sent exactly once?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from qwen_vla_ros.embodiment.backend import Backend, load_backend
from qwen_vla_ros.embodiment.limits_check import is_suspect
from qwen_vla_ros.embodiment.schema import BACKENDS, ChannelSpec, EmbodimentFile, OutputSpec
from qwen_vla_ros.embodiment.urdf import Urdf
from qwen_vla_ros.errors import suggest
from qwen_vla_ros.plugins import plugin_names
from qwen_vla_ros.problems import Loc, Problems

# A millimetre is a thousandth of a metre, a step of a usual encoder 0.0015 rad; no two units that
# people measure a joint in lie further apart.
MIN_SCALE = 1e-3
MAX_SCALE = 1e3
# Farther than this from its zero no slide is counted; an angle is never a whole turn away.
MAX_OFFSET = {"rad": math.tau, "m": 2.0}

RESERVED = (
    *("policy", "gate", "monitor", "simulator", "scene", "stop"),
    *("clock", "rosout", "diagnostics", "parameter_events"),
)
"""First words of names that this stack or ROS itself uses."""

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


def check_sources(file: EmbodimentFile, robot: Urdf, problems: Problems) -> None:
    """Add a sentence where a commanded joint or base is not measured exactly once."""
    base = file.moves_base
    measured: list[tuple[Loc, str]] = []
    for i, source in enumerate(file.state):
        loc: Loc = ("state", i)
        is_odometry = source.type == "nav_msgs/msg/Odometry"
        if is_odometry != base:
            wanted = "nav_msgs/msg/Odometry" if base else "sensor_msgs/msg/JointState"
            mover = "a base needs" if base else "joints need"
            problems.add((*loc, "type"), f"nothing reads it: {mover} {wanted}.")
        if is_odometry and source.joints:
            problems.add((*loc, "joints"), "an Odometry holds no joints; leave the key out.")
        if not is_odometry and not source.joints:
            problems.add((*loc, "joints"), "is missing; name what the JointState must hold.")
        for k, name in enumerate(source.joints):
            place: Loc = (*loc, "joints", k)
            measured.append((place, name))
            if name not in robot.joints:
                problems.add(place, f"unknown joint '{name}'.{suggest(name, robot.commandable)}")
            elif not robot.joints[name].is_movable:
                problems.add(
                    place, f"joint '{name}' is {robot.joints[name].type}; it has no state."
                )
    problems.refuse_twice(measured)
    if base and len(file.state) > 1:
        problems.add(("state",), "a base has exactly one Odometry; two could disagree.")
    commanded = [joint for joint in file.joints if joint in robot.commandable]
    _require_all(commanded, [name for _, name in measured], ("state",), "measured", problems)


def check_outputs(file: EmbodimentFile, robot: Urdf, problems: Problems) -> None:
    """Add a sentence where a commanded joint or base is not sent by exactly one output."""
    base = file.moves_base
    outputs = file.command.outputs
    backends = {name: load_backend(name) for name in plugin_names(BACKENDS)}
    fitting = [name for name in backends if (backends[name].moves == "base") == base]
    commanded = [joint for joint in file.joints if joint in robot.commandable]
    # Where a channel's joint is misspelt, its right spelling elsewhere is no second mistake.
    all_usable = len(commanded) == len(file.joints)
    sent: list[tuple[Loc, str]] = []
    heard = {camera.topic for camera in file.cameras} | {source.topic for source in file.state}
    for i, output in enumerate(outputs):
        if output.topic.strip("/").split("/")[0] in RESERVED or output.topic in heard:
            problems.add(
                ("command", "outputs", i, "topic"),
                f"'{output.topic}' is not a controller's: this stack itself uses the name.",
            )
    for i, output in enumerate(outputs):
        loc: Loc = ("command", "outputs", i)
        if output.backend not in fitting:
            problems.add(
                (*loc, "backend"),
                f"'{output.backend}' cannot command {'a base' if base else 'joints'}. "
                f"Allowed: {', '.join(fitting)}.",
            )
        _check_output_keys(output, backends[output.backend], loc, problems)
        for k, name in enumerate(output.joints):
            place: Loc = (*loc, "joints", k)
            sent.append((place, name))
            if name in commanded or not is_commandable(name, robot, place, problems):
                continue
            if all_usable:
                problems.add(place, f"no action channel commands joint '{name}'.")
    problems.refuse_twice(sent)
    if base and len(outputs) > 1:
        problems.add(("command", "outputs"), "a base has exactly one output.")
    _require_all(commanded, [name for _, name in sent], ("command", "outputs"), "sent", problems)


def _check_output_keys(output: OutputSpec, backend: Backend, loc: Loc, problems: Problems) -> None:
    if backend.moves == "joints" and not output.joints:
        problems.add((*loc, "joints"), f"is missing; a {output.backend} output needs joints.")
    if backend.moves == "base" and output.joints:
        problems.add((*loc, "joints"), f"a {output.backend} output has no joints.")
    if backend.has_frame and not output.frame_id:
        problems.add((*loc, "frame_id"), "is missing; a stamped twist is in a frame: base_link.")
    if not backend.has_frame and output.frame_id:
        problems.add((*loc, "frame_id"), f"a {output.backend} output does not read it.")


def _require_all(
    wanted: Sequence[str], found: Sequence[str], loc: Loc, what: str, problems: Problems
) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        subject = (
            f"joint '{missing[0]}' is"
            if len(missing) == 1
            else (f"joints {', '.join(missing)} are")
        )
        problems.add(loc, f"{subject} commanded but not {what} by any entry.")
