"""Bare positions, as ros2_controllers' forward_command_controller passes them on."""

from __future__ import annotations

from typing import Any

from qwen_vla_ros.embodiment.backend import Backend, JointTrajectory, NewMessage, TrajectoryPoint
from qwen_vla_ros.embodiment.schema import OutputSpec

TYPE = "std_msgs/msg/Float64MultiArray"


def _write(new: NewMessage, command: JointTrajectory, _: OutputSpec) -> Any:
    return new(TYPE, data=command.points[1].positions)


def _read(message: Any, output: OutputSpec) -> JointTrajectory:
    point = TrajectoryPoint(time_from_start_ns=0, positions=tuple(message.data))
    return JointTrajectory(start_ns=0, joints=output.joints, points=(point,))


BACKEND = Backend(
    moves="joints",
    type=TYPE,
    write=_write,
    read=_read,
    ends="a joint stays at the last position, one step of a period away at most",
)
