"""The topics that controllers listen to, and what is written on them."""

from __future__ import annotations

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Twist, TwistStamped
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.schema import OutputSpec
from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.ros.graph import other_publishers, require_sole_publisher, require_subscriber
from qwen_vla_ros.ros.qos import COMMAND
from qwen_vla_ros.safety.arm_gate import JointCommand
from qwen_vla_ros.safety.brake_filter import stopping_points
from qwen_vla_ros.safety.envelope import JointEnvelope
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.types import FloatArray

MESSAGES = {
    "joint_trajectory": (JointTrajectory, "trajectory_msgs/msg/JointTrajectory"),
    "forward_position": (Float64MultiArray, "std_msgs/msg/Float64MultiArray"),
    "twist_stamped": (TwistStamped, "geometry_msgs/msg/TwistStamped"),
    "twist": (Twist, "geometry_msgs/msg/Twist"),
}


class Output:
    """One command topic."""

    def __init__(self, node: Node, spec: OutputSpec) -> None:
        self._node = node
        self._message, self._type = MESSAGES[spec.backend]
        self.spec = spec
        self.publisher = node.create_publisher(self._message, spec.topic, COMMAND)

    def require_ready(self) -> None:
        """Refuse while no controller listens, or while somebody else commands it too.

        Raises:
            NotReadyError: Names the topic and what is wrong with it.
        """
        require_subscriber(self._node, self.spec.topic, self._type)
        require_sole_publisher(self._node, self.spec.topic)
        if self._has_twin():
            raise NotReadyError(
                f"command topic '{self.spec.topic}' has another publisher with this node's own "
                "name. A second gate runs, or one that was killed is not forgotten yet."
            )

    def faults(self) -> list[Cause]:
        """Return what has become wrong with the topic since."""
        causes = []
        intruders = other_publishers(self._node, self.spec.topic)
        if intruders or self._has_twin():
            who = ", ".join(intruders) or "a second gate"
            detail = f"{who} publishes on '{self.spec.topic}' too"
            causes.append(Cause("intruder", detail))
        if self.publisher.get_subscription_count() == 0:
            detail = f"nobody listens on '{self.spec.topic}' any more"
            causes.append(Cause("controller_gone", detail))
        return causes

    def _has_twin(self) -> bool:
        return int(self._node.count_publishers(self.spec.topic)) > 1


class JointOutput(Output):
    """Commands some of the joints."""

    def __init__(
        self, node: Node, spec: OutputSpec, envelope: JointEnvelope, period_s: float
    ) -> None:
        super().__init__(node, spec)
        self._indices = envelope.indices(spec.joints)
        self._acceleration = envelope.acceleration[self._indices]
        self._period_s = period_s

    def publish(self, command: JointCommand) -> None:
        """Send the part of a command that belongs to these joints."""
        if self._message is Float64MultiArray:
            position = command.position[self._indices]
            self.publisher.publish(Float64MultiArray(data=position.tolist()))
        else:
            self.publisher.publish(self._trajectory(command))

    def _trajectory(self, command: JointCommand) -> JointTrajectory:
        i = self._indices
        points = [
            (0.0, command.start_position[i], command.start_velocity[i]),
            *stopping_points(
                command.position[i], command.velocity[i], self._acceleration, self._period_s
            ),
        ]
        # The stamp stays zero, which means now: with any other, a controller whose clock is a
        # little off would take the first points for past ones.
        message = JointTrajectory(joint_names=list(self.spec.joints))
        message.points = [
            JointTrajectoryPoint(
                positions=where.tolist(), velocities=speed.tolist(), time_from_start=_span(seconds)
            )
            for seconds, where, speed in points
        ]
        return message


class TwistOutput(Output):
    """Commands a base."""

    def publish(self, twist: FloatArray) -> None:
        """Send (v m/s, w rad/s)."""
        command = Twist()
        command.linear.x, command.angular.z = float(twist[0]), float(twist[1])
        if self._message is Twist:
            self.publisher.publish(command)
            return
        message = TwistStamped(twist=command)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.header.frame_id = self.spec.frame_id
        self.publisher.publish(message)


def _span(seconds: float) -> Duration:
    ns = round(seconds * NS_PER_S)
    return Duration(sec=ns // NS_PER_S, nanosec=ns % NS_PER_S)
