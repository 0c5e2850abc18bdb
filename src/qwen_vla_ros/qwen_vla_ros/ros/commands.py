"""The command topics: a gate speaks on them; simulated controllers and an audit listen."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile

from qwen_vla_ros.embodiment.backend import Command, load_backend
from qwen_vla_ros.embodiment.schema import OutputSpec
from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.ros.conversions import message_class, new_message
from qwen_vla_ros.ros.graph import Publishers, require_sole_publisher, require_subscriber
from qwen_vla_ros.ros.qos import COMMAND
from qwen_vla_ros.safety.latch import Cause


class Output:
    """One command topic."""

    def __init__(self, node: Node, spec: OutputSpec) -> None:
        self._node = node
        self._publishers = Publishers(node, spec.topic)
        self._backend = load_backend(spec.backend)
        self.spec = spec
        self.publisher = node.create_publisher(
            message_class(self._backend.type), spec.topic, COMMAND
        )

    def publish(self, command: Command) -> None:
        """Send a command to this topic's joints, or base."""
        self.publisher.publish(self._backend.write(new_message, command, self.spec))

    def require_ready(self) -> None:
        """Refuse while no controller listens, or while somebody else commands it too.

        Raises:
            NotReadyError: Names the topic and what is wrong with it.
        """
        require_subscriber(self._node, self.spec.topic, self._backend.type)
        require_sole_publisher(self._node, self.spec.topic)
        if self._has_twin():
            raise NotReadyError(
                f"command topic '{self.spec.topic}' has another publisher with this node's own "
                "name. A second gate runs, or one that was killed is not forgotten yet."
            )

    def faults(self) -> list[Cause]:
        """Return what has become wrong with the topic since."""
        causes = []
        names = self._publishers.look().values()
        if len(names) > 1:
            intruders = sorted(set(names) - {self._node.get_fully_qualified_name()})
            who = ", ".join(intruders) or "a second gate"
            detail = f"{who} publishes on '{self.spec.topic}' too"
            causes.append(Cause("intruder", detail))
        if self.publisher.get_subscription_count() == 0:
            detail = f"nobody listens on '{self.spec.topic}' any more"
            causes.append(Cause("controller_gone", detail))
        return causes

    def _has_twin(self) -> bool:
        return int(self._node.count_publishers(self.spec.topic)) > 1


def listen(
    node: Node, output: OutputSpec, hear: Callable[[Command], None], qos: QoSProfile = COMMAND
) -> None:
    """Hand every command on a topic to `hear`."""
    backend = load_backend(output.backend)
    node.create_subscription(
        message_class(backend.type),
        output.topic,
        lambda message: hear(backend.read(message, output)),
        qos,
    )
