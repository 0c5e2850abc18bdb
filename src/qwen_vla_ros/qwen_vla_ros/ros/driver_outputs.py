"""The state topics of a simulated robot: what its driver publishes about itself."""

from __future__ import annotations

from collections.abc import Callable

from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import JointState

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.schema import StateSpec
from qwen_vla_ros.ros.conversions import stamp_from_ns
from qwen_vla_ros.ros.driver_messages import joint_state_message, odometry_message
from qwen_vla_ros.ros.qos import STATE
from qwen_vla_ros.sim.pacing import Pace
from qwen_vla_ros.sim.robot import SimulatedArms, SimulatedBase, SimulatedRobot

BASE_FRAME = "base_link"


class DriverOutputs:
    """Publishes joint states or odometry, each source at its rate."""

    def __init__(self, node: Node, embodiment: Embodiment, robot: SimulatedRobot) -> None:
        self._sources: list[tuple[Pace, Callable[[Time], None]]] = []
        for source in embodiment.file.state:
            publish = (
                _odometry(node, source, robot)
                if isinstance(robot, SimulatedBase)
                else _joint_states(node, source, robot, _reported(embodiment, source))
            )
            self._sources.append((Pace(source.rate_hz), publish))

    def publish(self, now_ns: int) -> None:
        """Publish what is due."""
        for pace, publish in self._sources:
            if pace.is_due(now_ns):
                publish(stamp_from_ns(now_ns))


def _odometry(node: Node, source: StateSpec, robot: SimulatedBase) -> Callable[[Time], None]:
    publisher = node.create_publisher(Odometry, source.topic, STATE)

    def publish(stamp: Time) -> None:
        odometry = robot.controller.odometry
        frame = robot.world.frame_id
        publisher.publish(
            odometry_message(stamp, frame, BASE_FRAME, odometry.pose, odometry.twist)
        )

    return publish


def _joint_states(
    node: Node, source: StateSpec, robot: SimulatedArms, joints: tuple[str, ...]
) -> Callable[[Time], None]:
    publisher = node.create_publisher(JointState, source.topic, STATE)

    def publish(stamp: Time) -> None:
        positions, velocities = robot.measured(joints), robot.measured_velocity(joints)
        publisher.publish(joint_state_message(stamp, joints, positions, velocities))

    return publish


def _reported(embodiment: Embodiment, source: StateSpec) -> tuple[str, ...]:
    """Return the joints that a source reports: those that the file names, and their mimics."""
    mimics = (
        joint.name
        for joint in embodiment.robot.joints.values()
        if joint.mimic is not None and joint.mimic.joint in source.joints
    )
    return (*source.joints, *mimics)
