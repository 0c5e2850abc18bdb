"""What a simulated robot's driver says about it, and where the objects of its scene are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.schema import StateSpec
from qwen_vla_ros.ros.conversions import stamp_from_ns
from qwen_vla_ros.ros.qos import STATE
from qwen_vla_ros.sim.pacing import Pace
from qwen_vla_ros.sim.robot import SimulatedArms, SimulatedBase, SimulatedRobot
from qwen_vla_ros.sim.world import World
from qwen_vla_ros.types import FloatArray

BASE_FRAME = "base_link"

SHAPES = {"ball": Marker.SPHERE}
"""Marker type by the noun in an object's name; everything else is a box."""


class DriverOutputs:
    """Publishes objects, and joint states or odometry, each source at its rate."""

    def __init__(self, node: Node, embodiment: Embodiment, robot: SimulatedRobot) -> None:
        self._world = robot.world
        self._objects = node.create_publisher(MarkerArray, "scene/objects", STATE)
        self._sources: list[tuple[Pace, Callable[[Time], None]]] = []
        for source in embodiment.file.state:
            publish = (
                _odometry(node, source, robot)
                if isinstance(robot, SimulatedBase)
                else _joint_states(node, source, robot, _reported(embodiment, source))
            )
            self._sources.append((Pace(source.rate_hz), publish))

    def publish(self, now_ns: int) -> None:
        """Publish the objects, and what else is due."""
        stamp = stamp_from_ns(now_ns)
        for pace, publish in self._sources:
            if pace.is_due(now_ns):
                publish(stamp)
        self._objects.publish(_markers(stamp, self._world))


def _odometry(node: Node, source: StateSpec, robot: SimulatedBase) -> Callable[[Time], None]:
    publisher = node.create_publisher(Odometry, source.topic, STATE)

    def publish(stamp: Time) -> None:
        odometry = robot.controller.odometry
        message = Odometry(child_frame_id=BASE_FRAME)
        message.header.stamp = stamp
        message.header.frame_id = robot.world.frame_id
        x, y, yaw = odometry.pose.tolist()
        message.pose.pose.position = Point(x=x, y=y, z=0.0)
        message.pose.pose.orientation = Quaternion(
            x=0.0, y=0.0, z=float(np.sin(yaw / 2)), w=float(np.cos(yaw / 2))
        )
        message.twist.twist.linear.x, message.twist.twist.angular.z = odometry.twist
        publisher.publish(message)

    return publish


def _joint_states(
    node: Node, source: StateSpec, robot: SimulatedArms, joints: tuple[str, ...]
) -> Callable[[Time], None]:
    publisher = node.create_publisher(JointState, source.topic, STATE)

    def publish(stamp: Time) -> None:
        message = JointState(
            name=list(joints),
            position=robot.measured(joints).tolist(),
            velocity=robot.measured_velocity(joints).tolist(),
        )
        message.header.stamp = stamp
        publisher.publish(message)

    return publish


def _reported(embodiment: Embodiment, source: StateSpec) -> tuple[str, ...]:
    """Return the joints that a source reports: those that the file names, and their mimics."""
    mimics = (
        joint.name
        for joint in embodiment.robot.joints.values()
        if joint.mimic is not None and joint.mimic.joint in source.joints
    )
    return (*source.joints, *mimics)


def _markers(stamp: Time, world: World) -> MarkerArray:
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
