"""What the owner of a robot wants to see before it moves: the whole file, next to the URDF.

Angles are given in degrees too, since a wrong one is easier to see there.
"""

from __future__ import annotations

import math

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.limits_check import (
    BASE_PERIODS,
    JOINT_PERIODS,
    stop_time,
    stop_travel,
)
from qwen_vla_ros.embodiment.profile import NORMAL, Profile
from qwen_vla_ros.embodiment.schema import BaseLimits, CameraSpec, ChannelSpec, Fit
from qwen_vla_ros.problems import label

# The cap for a joint that a policy drives, unless its owner says why it should be faster.
USUAL_VELOCITY = 1.0

_FITS: dict[Fit, str] = {"stretch": "stretched", "crop": "cropped", "pad": "padded"}


def report(
    embodiment: Embodiment, prompt: str, profile: Profile = NORMAL, contacts: str = ""
) -> RenderableType:
    """Return the tables that `qwen-vla check` prints.

    Args:
        embodiment: The robot.
        prompt: An example of the prompt.
        profile: Under which it is to run.
        contacts: What is watched so that nothing touches, in sentences.
    """
    base = embodiment.file.safety.base
    envelope = _joints(embodiment, profile) if base is None else _base(base, embodiment)
    parts: list[RenderableType] = [_head(embodiment, profile)]
    parts += [Text(f"\n{prompt}", style="italic"), _cameras(embodiment), _state(embodiment)]
    parts += [envelope]
    if embodiment.file.safety.tools:
        parts.append(_tools(embodiment, profile))
    if contacts:
        parts.append(Text(f"{contacts}\n"))
    return Group(*parts, _outputs(embodiment), _foot(embodiment))


def _head(embodiment: Embodiment, profile: Profile) -> RenderableType:
    file = embodiment.file
    head = Table.grid(padding=(0, 2))
    head.add_row("robot", Text(f"{file.name}: {file.description}", style="bold"))
    head.add_row("file", Text(label(embodiment.path)))
    head.add_row("urdf", Text(f"{file.urdf} (root link {embodiment.robot.root})"))
    head.add_row("hash", Text(embodiment.hash))
    head.add_row("profile", Text(profile.name))
    return head


def _foot(embodiment: Embodiment) -> RenderableType:
    safety = embodiment.file.safety
    heartbeat = (
        "the stop input need not be alive"
        if safety.stop_heartbeat_s is None
        else f"a stop input silent for {safety.stop_heartbeat_s:g} s stops the robot"
    )
    stops = "".join(
        f"\nStop input '{stop.name}': {stop.topic} stops the robot unless {stop.field} is "
        f"{str(stop.runs_when).lower()}, and when silent for {stop.max_age_s:g} s."
        for stop in safety.stops
    )
    return Text(
        f"\nA chunk is played for at most {safety.max_observation_age_s:g} s after its "
        f"observation; {heartbeat}.{stops}\n"
        "This stop keeps the power on. It is not an emergency stop."
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        header_style="",
    )
    for column in columns:
        table.add_column(column)
    return table


def _cameras(embodiment: Embodiment) -> Table:
    table = _table(
        "cameras", "name", "view", "topic", "size", "model sees", "history", "rate", "oldest"
    )
    for camera in embodiment.file.cameras:
        table.add_row(
            camera.name,
            camera.view,
            camera.topic,
            f"{camera.width_px} x {camera.height_px}",
            f"{camera.input_width_px} x {camera.input_height_px}{_fit(camera)}",
            _history(camera),
            f"{camera.rate_hz:g} Hz",
            f"{camera.max_age_s:g} s",
        )
    return table


def _fit(camera: CameraSpec) -> str:
    """Return how the image gets to its size, where it has another shape."""
    bends = camera.width_px * camera.input_height_px != camera.height_px * camera.input_width_px
    return f", {_FITS[camera.fit]}" if bends else ""


def _history(camera: CameraSpec) -> str:
    if camera.history is None:
        return "-"
    return f"{camera.history.frames} images, {camera.history.spacing_s:g} s apart"


def _state(embodiment: Embodiment) -> Table:
    table = _table("state", "topic", "type", "joints", "rate", "oldest")
    for source in embodiment.file.state:
        joints = str(len(source.joints)) if source.joints else "-"
        rate, oldest = f"{source.rate_hz:g} Hz", f"{source.max_age_s:g} s"
        table.add_row(source.topic, source.type, joints, rate, oldest)
    return table


def _joints(embodiment: Embodiment, profile: Profile) -> Table:
    delay_s = JOINT_PERIODS / embodiment.file.command.rate_hz
    title = (
        "action and its envelope: a stop is from top speed to rest, its travel the farthest way"
    )
    position = ("joint", "unit", "position", "degrees", "URDF")
    speed = ("speed", "set by", "deg/s", "URDF", "accel.", "stop", "travel")
    table = _table(title, "channel", *position, *speed)
    for channel in embodiment.file.action:
        joint = embodiment.robot.joints[channel.joint or ""]
        limits = embodiment.file.safety.joints[joint.name]
        speed_limit = profile.velocity(embodiment, joint.name)
        velocity, acceleration = speed_limit.value, limits.acceleration
        turns = joint.type != "prismatic"
        degrees = f"{math.degrees(limits.lower):.0f} to {math.degrees(limits.upper):.0f}"
        table.add_row(
            _channel(channel),
            joint.name,
            "rad" if turns else "m",
            f"{limits.lower:g} to {limits.upper:g}",
            degrees if turns else "-",
            "endless" if math.isinf(joint.lower) else f"{joint.lower:.4g} to {joint.upper:.4g}",
            Text(f"{velocity:g}", style="yellow" if velocity > USUAL_VELOCITY else ""),
            speed_limit.source,
            f"{math.degrees(velocity):.0f}" if turns else "-",
            f"{joint.velocity:.4g}",
            f"{acceleration:g}",
            f"{1000 * stop_time(velocity, acceleration, delay_s):.0f} ms",
            f"{stop_travel(velocity, acceleration, delay_s):.3f}",
        )
    return table


def _tools(embodiment: Embodiment, profile: Profile) -> Table:
    table = _table("tools", "name", "link", "point", "speed", "set by", "workspace")
    for name, tool in embodiment.file.safety.tools.items():
        limit, box = profile.tool_speed(tool), tool.workspace
        corners = () if box is None else zip("xyz", box.lower, box.upper, strict=True)
        table.add_row(
            name,
            tool.link,
            ", ".join(f"{value:g}" for value in tool.point),
            "any" if math.isinf(limit.value) else f"{limit.value:g} m/s",
            limit.source,
            ", ".join(f"{axis} {low:g} to {high:g}" for axis, low, high in corners) or "-",
        )
    return table


def _base(base: BaseLimits, embodiment: Embodiment) -> Table:
    delay_s = BASE_PERIODS / embodiment.file.command.rate_hz
    channels = ", ".join(f"{c.name} [{c.unit}]" for c in embodiment.file.action)
    table = _table(
        f"waypoints ({channels}) and envelope", "", "speed", "acceleration", "stop", "travel"
    )
    rows = (
        ("linear", base.linear_velocity, base.linear_acceleration, "m", 1.0, "m"),
        ("angular", base.angular_velocity, base.angular_acceleration, "rad", 180 / math.pi, "deg"),
    )
    for name, velocity, acceleration, unit, factor, travel_unit in rows:
        travel = factor * stop_travel(velocity, acceleration, delay_s)
        table.add_row(
            name,
            f"{velocity:g} {unit}/s",
            f"{acceleration:g} {unit}/s^2",
            f"{1000 * stop_time(velocity, acceleration, delay_s):.0f} ms",
            f"{travel:.3g} {travel_unit}",
        )
    return table


def _outputs(embodiment: Embodiment) -> Table:
    title = f"outputs at {embodiment.file.command.rate_hz:g} Hz"
    table = _table(title, "topic", "backend", "joints or frame")
    for output in embodiment.file.command.outputs:
        table.add_row(output.topic, output.backend, ", ".join(output.joints) or output.frame_id)
    return table


def _channel(channel: ChannelSpec) -> str:
    """Return the channel with what maps it to its joint, where that is not one to one."""
    if channel.kind == "gripper":
        return f"{channel.name} 0..1"
    scale = f" * {channel.scale:g}" if channel.scale is not None else ""
    offset = f" {channel.offset:+g}" if channel.offset is not None else ""
    return f"{channel.name}{scale}{offset}"
