"""The command topics of a simulated robot: what its controllers listen to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import Twist, TwistStamped
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from qwen_vla_ros.embodiment.schema import OutputSpec
from qwen_vla_ros.ros.conversions import ns_from_stamp
from qwen_vla_ros.ros.driver_messages import trajectory_from_message
from qwen_vla_ros.ros.qos import COMMAND
from qwen_vla_ros.sim.forward_command_controller import ForwardCommandController
from qwen_vla_ros.sim.robot import JointController, SimulatedBase, SimulatedRobot

REFUSAL_LOG_S = 1.0

Accept = Callable[[Any], str]
"""Gives a message to a controller; returns why it was refused, or an empty string."""


class DriverInputs:
    """Hands every command to its controller, and logs what a controller refuses."""

    def __init__(
        self,
        node: Node,
        robot: SimulatedRobot,
        outputs: tuple[OutputSpec, ...],
        now_ns: Callable[[], int],
    ) -> None:
        """Subscribe.

        Args:
            node: Whose topics these are.
            robot: Whose controllers these are.
            outputs: The command topics of the embodiment file.
            now_ns: The controllers' clock.
        """
        self._node = node
        self._now_ns = now_ns
        for output in outputs:
            if isinstance(robot, SimulatedBase):
                kind, accept = self._for_base(robot, output)
            else:
                kind, accept = self._for_joints(robot.controllers[output.topic])
            self._subscribe(kind, output.topic, accept)

    def _for_base(self, robot: SimulatedBase, output: OutputSpec) -> tuple[type, Accept]:
        def accept(stamp_ns: int, twist: Twist) -> str:
            linear, angular = twist.linear.x, twist.angular.z
            return robot.controller.accept(stamp_ns, linear, angular, self._now_ns())

        if output.backend == "twist":
            # A relay in front of the controller stamps it when it comes.
            return Twist, lambda message: accept(0, message)
        return TwistStamped, lambda message: accept(
            ns_from_stamp(message.header.stamp), message.twist
        )

    def _for_joints(self, controller: JointController) -> tuple[type, Accept]:
        if isinstance(controller, ForwardCommandController):
            forward = controller.accept
            return Float64MultiArray, lambda message: forward(message.data)
        follow = controller.accept
        return JointTrajectory, lambda message: follow(
            trajectory_from_message(message), self._now_ns()
        )

    def _subscribe(self, kind: type, topic: str, accept: Accept) -> None:
        def on_message(message: object) -> None:
            reason = accept(message)
            if reason:
                self._node.get_logger().error(
                    f"{topic}: {reason}", throttle_duration_sec=REFUSAL_LOG_S
                )

        self._node.create_subscription(kind, topic, on_message, COMMAND)
