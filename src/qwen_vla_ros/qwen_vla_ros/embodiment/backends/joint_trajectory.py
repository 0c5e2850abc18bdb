"""Points in time, as ros2_controllers' joint_trajectory_controller follows them."""

from __future__ import annotations

from typing import Any

from qwen_vla_ros.clock import NS_PER_S, ns_from_stamp
from qwen_vla_ros.embodiment.backend import Backend, JointTrajectory, NewMessage, TrajectoryPoint
from qwen_vla_ros.embodiment.schema import OutputSpec

TYPE = "trajectory_msgs/msg/JointTrajectory"


def _write(new: NewMessage, command: JointTrajectory, _: OutputSpec) -> Any:
    # A stamp of zero would mean now, and let the time of delivery into the motion.
    sec, nanosec = divmod(command.start_ns, NS_PER_S)
    stamp = new("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return new(
        TYPE,
        header=new("std_msgs/msg/Header", stamp=stamp),
        joint_names=list(command.joints),
        points=[
            new(
                f"{TYPE}Point",
                positions=point.positions,
                velocities=point.velocities,
                accelerations=point.accelerations,
                effort=point.effort,
                time_from_start=_duration(new, point.time_from_start_ns),
            )
            for point in command.points
        ],
    )


def _read(message: Any, _: OutputSpec) -> JointTrajectory:
    return JointTrajectory(
        start_ns=ns_from_stamp(message.header.stamp),
        joints=tuple(message.joint_names),
        points=tuple(
            TrajectoryPoint(
                time_from_start_ns=ns_from_stamp(point.time_from_start),
                positions=tuple(point.positions),
                velocities=tuple(point.velocities),
                accelerations=tuple(point.accelerations),
                effort=tuple(point.effort),
            )
            for point in message.points
        ),
    )


def _duration(new: NewMessage, ns: int) -> Any:
    return new("builtin_interfaces/msg/Duration", sec=ns // NS_PER_S, nanosec=ns % NS_PER_S)


BACKEND = Backend(
    moves="joints",
    type=TYPE,
    write=_write,
    read=_read,
    ends="every message ends at rest",
    is_timed=True,
    state_topic="controller_state",
    state_type="control_msgs/msg/JointTrajectoryControllerState",
)
