"""Are the commanded joints, or the base, measured and sent exactly once?"""

from __future__ import annotations

from collections.abc import Sequence

from qwen_vla_ros.embodiment.backend import Backend, load_backend
from qwen_vla_ros.embodiment.commanded import (
    commandable,
    commanded_joints,
    has_unusable_joint,
    is_commandable,
    moves_base,
)
from qwen_vla_ros.embodiment.problems import Loc, Problems
from qwen_vla_ros.embodiment.schema import BACKENDS, EmbodimentFile, OutputSpec
from qwen_vla_ros.embodiment.urdf import Urdf
from qwen_vla_ros.errors import suggest
from qwen_vla_ros.plugins import plugin_names

RESERVED = (
    *("policy", "gate", "monitor", "simulator", "scene", "stop"),
    *("clock", "rosout", "diagnostics", "parameter_events"),
)
"""First words of names that this stack or ROS itself uses."""


def check_sources(file: EmbodimentFile, robot: Urdf, problems: Problems) -> None:
    """Add a sentence where a commanded joint or base is not measured exactly once."""
    base = moves_base(file)
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
                problems.add(place, f"unknown joint '{name}'.{suggest(name, commandable(robot))}")
            elif not robot.joints[name].is_movable:
                problems.add(
                    place, f"joint '{name}' is {robot.joints[name].type}; it has no state."
                )
    problems.refuse_twice(measured)
    if base and len(file.state) > 1:
        problems.add(("state",), "a base has exactly one Odometry; two could disagree.")
    commanded = commanded_joints(file, robot)
    _require_all(commanded, [name for _, name in measured], ("state",), "measured", problems)


def check_outputs(file: EmbodimentFile, robot: Urdf, problems: Problems) -> None:
    """Add a sentence where a commanded joint or base is not sent by exactly one output."""
    base = moves_base(file)
    outputs = file.command.outputs
    backends = {name: load_backend(name) for name in plugin_names(BACKENDS)}
    fitting = [name for name in backends if (backends[name].moves == "base") == base]
    commanded = commanded_joints(file, robot)
    # Where a channel's joint is misspelt, its right spelling elsewhere is no second mistake.
    all_usable = not has_unusable_joint(file, robot)
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
