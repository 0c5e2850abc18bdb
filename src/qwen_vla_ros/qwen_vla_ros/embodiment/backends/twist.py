"""A bare twist. A relay in front of the controller stamps it when it comes."""

from __future__ import annotations

from typing import Any

from qwen_vla_ros.embodiment.backend import Backend, NewMessage, StampedTwist
from qwen_vla_ros.embodiment.schema import OutputSpec

TYPE = "geometry_msgs/msg/Twist"


def _write(new: NewMessage, command: StampedTwist, _: OutputSpec) -> Any:
    linear = new("geometry_msgs/msg/Vector3", x=command.linear, y=0.0, z=0.0)
    angular = new("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=command.angular)
    return new(TYPE, linear=linear, angular=angular)


def _read(message: Any, _: OutputSpec) -> StampedTwist:
    return StampedTwist(linear=message.linear.x, angular=message.angular.z)


BACKEND = Backend(moves="base", type=TYPE, write=_write, read=_read)
