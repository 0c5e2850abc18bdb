"""A twist with its time and frame, as ros2_controllers' diff_drive_controller takes it."""

from __future__ import annotations

from typing import Any

from qwen_vla_ros.clock import NS_PER_S, ns_from_stamp
from qwen_vla_ros.embodiment.backend import Backend, NewMessage, StampedTwist
from qwen_vla_ros.embodiment.backends import twist
from qwen_vla_ros.embodiment.schema import OutputSpec

TYPE = "geometry_msgs/msg/TwistStamped"


def _write(new: NewMessage, command: StampedTwist, output: OutputSpec) -> Any:
    sec, nanosec = divmod(command.stamp_ns, NS_PER_S)
    stamp = new("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    header = new("std_msgs/msg/Header", stamp=stamp, frame_id=output.frame_id)
    return new(TYPE, header=header, twist=twist.BACKEND.write(new, command, output))


def _read(message: Any, _: OutputSpec) -> StampedTwist:
    speed, stamp_ns = message.twist, ns_from_stamp(message.header.stamp)
    return StampedTwist(linear=speed.linear.x, angular=speed.angular.z, stamp_ns=stamp_ns)


BACKEND = Backend(moves="base", type=TYPE, write=_write, read=_read, has_frame=True)
