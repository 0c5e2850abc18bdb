"""What a robot's driver and its controllers say and hear, as messages; for the simulated ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState
from std_msgs.msg import ColorRGBA
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage
from visualization_msgs.msg import Marker, MarkerArray

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.ros.conversions import ns_from_stamp
from qwen_vla_ros.sim.trajectory import JointTrajectory, TrajectoryPoint
from qwen_vla_ros.sim.world import World
from qwen_vla_ros.types import FloatArray

SHAPES = {"ball": Marker.SPHERE}
"""Marker type by the noun in an object's name; everything else is a box."""


def trajectory_from_message(message: JointTrajectoryMessage) -> JointTrajectory:
    """Take a trajectory off the wire, unchecked: that is the controller's work."""
    return JointTrajectory(
        start_ns=ns_from_stamp(message.header.stamp),
        joints=tuple(message.joint_names),
        points=tuple(
            TrajectoryPoint(
                time_from_start_ns=_ns(point.time_from_start),
                positions=tuple(point.positions),
                velocities=tuple(point.velocities),
                accelerations=tuple(point.accelerations),
                effort=tuple(point.effort),
            )
            for point in message.points
        ),
    )


def joint_state_message(
    stamp: Time, joints: Sequence[str], positions: FloatArray, velocities: FloatArray
) -> JointState:
    """Return measured positions (rad, m) and velocities (rad/s, m/s), shape (J,) each."""
    message = JointState()
    message.header.stamp = stamp
    message.name = list(joints)
    message.position = positions.tolist()
    message.velocity = velocities.tolist()
    return message


def odometry_message(
    stamp: Time, frame_id: str, child_frame_id: str, pose: FloatArray, twist: tuple[float, float]
) -> Odometry:
    """Return a planar pose (x m, y m, yaw rad) and twist (m/s, rad/s)."""
    message = Odometry()
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.child_frame_id = child_frame_id
    x, y, yaw = (float(value) for value in pose)
    message.pose.pose.position = Point(x=x, y=y, z=0.0)
    message.pose.pose.orientation = Quaternion(
        x=0.0, y=0.0, z=float(np.sin(yaw / 2)), w=float(np.cos(yaw / 2))
    )
    message.twist.twist.linear.x, message.twist.twist.angular.z = twist
    return message


def marker_array(stamp: Time, world: World) -> MarkerArray:
    """Return one marker per object, with its name as the namespace."""
    return MarkerArray(
        markers=[_marker(stamp, world, name, pose) for name, pose in world.objects().items()]
    )


def _marker(stamp: Time, world: World, name: str, pose: FloatArray) -> Marker:
    x, y, z, qw, qx, qy, qz = (float(value) for value in pose)
    red, green, blue, alpha = world.object_color(name)
    marker = Marker(
        ns=name,
        type=SHAPES.get(name.rpartition("_")[2], Marker.CUBE),
        action=Marker.ADD,
        pose=Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw)),
        scale=Vector3(**dict(zip("xyz", world.object_size(name), strict=True))),
        color=ColorRGBA(r=red, g=green, b=blue, a=alpha),
    )
    marker.header.stamp = stamp
    marker.header.frame_id = world.frame_id
    return marker


def _ns(duration: Duration) -> int:
    return int(duration.sec) * NS_PER_S + int(duration.nanosec)
