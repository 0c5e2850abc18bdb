"""Messages to the core's nouns and back."""

from __future__ import annotations

import array
import importlib
import math
from functools import cache
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Quaternion
from nav_msgs.msg import Odometry
from qwen_vla_msgs.msg import ActionChunk as ActionChunkMessage
from visualization_msgs.msg import MarkerArray

from qwen_vla_ros.clock import NS_PER_S, ns_from_stamp
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.types import ActionChunk, FloatArray

try:
    from tf_transformations import euler_from_quaternion
except ImportError:
    # Part of every ROS installation but on no Python registry; it wraps this library.
    from transforms3d.euler import quat2euler

    def euler_from_quaternion(
        quaternion: tuple[float, float, float, float],
    ) -> tuple[float, float, float]:
        """Return (roll, pitch, yaw) of a quaternion (x, y, z, w)."""
        x, y, z, w = quaternion
        roll, pitch, yaw = quat2euler((w, x, y, z))
        return roll, pitch, yaw


UNIT_TOLERANCE = 1e-2
"""How far the squared length of a quaternion may be from 1."""


@cache
def message_class(name: str) -> type:
    """Return the class of a message, such as `std_msgs/msg/Bool`.

    Raises:
        QwenVlaError: Its package is not installed.
    """
    package, folder, kind = name.split("/")
    try:
        found: type = getattr(importlib.import_module(f"{package}.{folder}"), kind)
    except (ImportError, AttributeError) as error:
        raise QwenVlaError(f"message {name} is not here: install {package}.") from error
    return found


def new_message(name: str, /, **fields: Any) -> Any:
    """Make a message of a type."""
    return message_class(name)(**fields)


def stamp_from_ns(stamp_ns: int) -> Time:
    """Return a time stamp message."""
    return Time(sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S)


def yaw_from_quaternion(quaternion: Quaternion) -> float:
    """Return the rotation about z in radians, exact for a planar base.

    A quaternion that is no rotation gives NaN, not the rotation by zero that libraries make of it.
    """
    x, y, z, w = quaternion.x, quaternion.y, quaternion.z, quaternion.w
    if not abs(x * x + y * y + z * z + w * w - 1.0) < UNIT_TOLERANCE:
        return math.nan
    return float(euler_from_quaternion((x, y, z, w))[2])


def planar_pose(message: Odometry) -> FloatArray:
    """Return (x m, y m, yaw rad) in the odometry's own frame."""
    pose = message.pose.pose
    return np.array([pose.position.x, pose.position.y, yaw_from_quaternion(pose.orientation)])


def pose_array(pose: Pose) -> FloatArray:
    """Return (x, y, z, then quaternion w, x, y, z)."""
    p, q = pose.position, pose.orientation
    return np.array([p.x, p.y, p.z, q.w, q.x, q.y, q.z])


def scene_from_markers(message: MarkerArray) -> dict[str, FloatArray]:
    """Return the pose of every named object; the marker's namespace is the name."""
    return {marker.ns: pose_array(marker.pose) for marker in message.markers}


def chunk_to_message(chunk: ActionChunk) -> ActionChunkMessage:
    """Put a chunk on the wire; the stamp is the observation's time."""
    message = ActionChunkMessage()
    message.header.stamp = stamp_from_ns(chunk.stamp_ns)
    message.sequence = chunk.sequence % 2**32
    message.episode = chunk.episode
    message.embodiment = chunk.embodiment
    message.embodiment_hash = chunk.embodiment_hash
    message.rest = chunk.rest
    message.dt = chunk.dt
    message.channels = list(chunk.channels)
    message.actions = array.array("f", chunk.actions.astype(np.float32).ravel().tobytes())
    message.stages = list(chunk.timings)
    message.stage_seconds = [float(seconds) for seconds in chunk.timings.values()]
    return message


def chunk_from_message(message: ActionChunkMessage) -> ActionChunk | None:
    """Take a chunk off the wire, or None when its values do not fill whole rows."""
    columns = len(message.channels)
    values = np.asarray(message.actions, dtype=np.float64)
    if columns == 0 or values.size % columns:
        return None
    return ActionChunk(
        stamp_ns=ns_from_stamp(message.header.stamp),
        dt=float(message.dt),
        channels=tuple(message.channels),
        actions=values.reshape(-1, columns),
        rest=bool(message.rest),
        sequence=int(message.sequence),
        episode=message.episode,
        embodiment=message.embodiment,
        embodiment_hash=message.embodiment_hash,
        timings=dict(zip(message.stages, message.stage_seconds, strict=False)),
    )
