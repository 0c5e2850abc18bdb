"""What a file commands: joints that move by themselves, or a base."""

from __future__ import annotations

from qwen_vla_ros.embodiment.problems import Loc, Problems
from qwen_vla_ros.embodiment.schema import EmbodimentFile
from qwen_vla_ros.embodiment.urdf import Urdf
from qwen_vla_ros.errors import suggest

JOINT_KINDS = ("joint_position", "gripper")
WAYPOINT_KINDS = ("waypoint_x", "waypoint_y", "waypoint_yaw")


def commandable(robot: Urdf) -> list[str]:
    """Return the joints that can be commanded: those that move, and by themselves."""
    return [j.name for j in robot.joints.values() if j.is_movable and j.mimic is None]


def commanded_joints(file: EmbodimentFile, robot: Urdf) -> list[str]:
    """Return the joints that the action channels command, in their order, each once."""
    wanted = [channel.joint for channel in file.action if channel.kind in JOINT_KINDS]
    usable = set(commandable(robot))
    return list(dict.fromkeys(joint for joint in wanted if joint in usable))


def has_unusable_joint(file: EmbodimentFile, robot: Urdf) -> bool:
    """Return whether some channel names a joint that does not exist or cannot be commanded."""
    usable = set(commandable(robot))
    return any(
        channel.joint not in usable for channel in file.action if channel.kind in JOINT_KINDS
    )


def moves_base(file: EmbodimentFile) -> bool:
    """Return whether any channel is a waypoint."""
    return any(channel.kind in WAYPOINT_KINDS for channel in file.action)


def is_commandable(name: str, robot: Urdf, loc: Loc, problems: Problems) -> bool:
    """Return whether a joint can be commanded; where it cannot, say why at `loc`."""
    joint = robot.joints.get(name)
    if joint is None:
        problems.add(loc, f"unknown joint '{name}'.{suggest(name, commandable(robot))}")
    elif joint.mimic is not None:
        leader = joint.mimic.joint
        problems.add(loc, f"joint '{name}' only follows '{leader}'; command '{leader}' instead.")
    elif not joint.is_movable:
        problems.add(loc, f"joint '{name}' is {joint.type} and cannot be commanded.")
    else:
        return True
    return False
