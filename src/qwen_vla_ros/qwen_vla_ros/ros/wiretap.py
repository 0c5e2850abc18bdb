"""Listens on a robot's command topics and hands every command to an audit."""

from __future__ import annotations

from geometry_msgs.msg import Twist, TwistStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from trajectory_msgs.msg import JointTrajectory

from qwen_vla_ros.evaluation.command_audit import CommandAudit

MESSAGES = {"joint_trajectory": JointTrajectory, "twist_stamped": TwistStamped, "twist": Twist}


EVERYTHING = QoSProfile(depth=500, reliability=ReliabilityPolicy.RELIABLE)
"""A witness may be late, but must not miss a command."""


def tap_commands(node: Node, audit: CommandAudit) -> None:
    """Subscribe `audit` to every command topic that the embodiment names."""

    def on_trajectory(message: JointTrajectory) -> None:
        audit.on_trajectory(
            message.joint_names,
            [point.positions for point in message.points],
            [point.velocities for point in message.points],
        )

    def on_twist(message: Twist | TwistStamped) -> None:
        twist = message.twist if isinstance(message, TwistStamped) else message
        audit.on_twist(twist.linear.x, twist.angular.z)

    for output in audit.embodiment.file.command.outputs:
        kind = MESSAGES[output.backend]
        callback = on_trajectory if kind is JointTrajectory else on_twist
        node.create_subscription(kind, output.topic, callback, EVERYTHING)
