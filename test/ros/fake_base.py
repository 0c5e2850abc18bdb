"""A differential drive with the true topics and types, and a policy that wants one waypoint."""

from __future__ import annotations

import math
import time

import numpy as np
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from qwen_vla_msgs.msg import ActionChunk as ActionChunkMessage
from rclpy.node import Node

from qwen_vla_ros.embodiment.backend import StampedTwist
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.evaluation.command_audit import CommandAudit
from qwen_vla_ros.execution.planar import compose, motion_of
from qwen_vla_ros.ros.conversions import chunk_to_message
from qwen_vla_ros.ros.qos import COMMAND, STATE
from qwen_vla_ros.types import ActionChunk

PERIOD_S = 0.02
TOPIC = "diff_drive_controller/cmd_vel"


class FakeBase:
    """Drives as it is told, and rests when nobody has told it anything for `timeout_s`."""

    def __init__(self, node: Node, robot: Embodiment, timeout_s: float) -> None:
        self.audit = CommandAudit(robot)
        self.commands: list[tuple[float, TwistStamped]] = []
        self.pose, self.twist = np.zeros(3), np.zeros(2)
        self.moved_s = 0.0
        self.is_paused = False
        self._node = node
        self._timeout_s = timeout_s
        self._odometry = node.create_publisher(Odometry, "odom", STATE)
        node.create_subscription(TwistStamped, TOPIC, self._on_twist, COMMAND)
        node.create_timer(PERIOD_S, self._step)

    def rests(self) -> bool:
        """Whether nothing moves."""
        return not self.twist.any()

    def _on_twist(self, message: TwistStamped) -> None:
        v, w = message.twist.linear.x, message.twist.angular.z
        self.commands.append((time.monotonic(), message))
        self.audit.on_command(StampedTwist(linear=v, angular=w))
        self.twist = np.array([v, w])

    def _step(self) -> None:
        now_s = time.monotonic()
        if self.commands and now_s - self.commands[-1][0] > self._timeout_s:
            self.twist = np.zeros(2)
        if self.twist.any():
            self.moved_s = now_s
        v, w = self.twist
        self.pose = compose(self.pose, motion_of(np.array([v, 0.0, w]) * PERIOD_S))
        if self.is_paused:
            return
        message = Odometry()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.pose.pose.position.x, message.pose.pose.position.y = map(float, self.pose[:2])
        message.pose.pose.orientation.w = math.cos(self.pose[2] / 2)
        message.pose.pose.orientation.z = math.sin(self.pose[2] / 2)
        message.twist.twist.linear.x, message.twist.twist.angular.z = map(float, self.twist)
        self._odometry.publish(message)


class FakeNavigator:
    """Proposes the same waypoint again and again, from wherever the base is; none at first."""

    def __init__(self, node: Node, robot: Embodiment, topic: str, period_s: float) -> None:
        self.waypoint: np.ndarray | None = None
        self._node = node
        self._robot = robot
        self._sequence = 0
        self._publisher = node.create_publisher(ActionChunkMessage, topic, COMMAND)
        node.create_timer(period_s, self._propose)

    def _propose(self) -> None:
        if self.waypoint is None:
            return
        self._sequence += 1
        chunk = ActionChunk(
            stamp_ns=self._node.get_clock().now().nanoseconds - 100_000_000,
            dt=self._robot.dt,
            channels=self._robot.channels,
            actions=np.tile(self.waypoint, (8, 1)),
            sequence=self._sequence,
            episode="tour",
            embodiment=self._robot.name,
            embodiment_hash=self._robot.hash,
        )
        self._publisher.publish(chunk_to_message(chunk))
