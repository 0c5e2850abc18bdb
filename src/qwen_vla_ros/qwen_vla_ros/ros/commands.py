"""The command topics: a gate speaks on them; simulated controllers and an audit listen."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile

from qwen_vla_ros.embodiment.backend import Command, load_backend
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.schema import OutputSpec
from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.ros.conversions import message_class, new_message
from qwen_vla_ros.ros.graph import (
    UNKNOWN,
    Publishers,
    publishers,
    require_sole_publisher,
    require_subscriber,
    subscribers,
)
from qwen_vla_ros.ros.qos import COMMAND
from qwen_vla_ros.ros.standby import Standby
from qwen_vla_ros.safety.latch import Cause


class Output:
    """One command topic."""

    def __init__(self, node: Node, spec: OutputSpec, standby: Standby | None = None) -> None:
        """Speak on a topic; `standby` is who ends a motion there in the node's place."""
        self._node = node
        self._standby = standby
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
        partners = self._partners()
        require_subscriber(self._node, self.spec.topic, self._backend.type, partners)
        require_sole_publisher(self._node, self.spec.topic, partners)
        if self._has_twin():
            raise NotReadyError(
                f"command topic '{self.spec.topic}' has another publisher with this node's own "
                "name. A second gate runs, or one that was killed is not forgotten yet."
            )
        if self._standby is not None:
            self._standby.require()

    def faults(self) -> list[Cause]:
        """Return what has become wrong with the topic since."""
        causes = [] if self._standby is None else self._standby.faults()
        partners, own = self._partners(), self._node.get_fully_qualified_name()
        names = list(self._publishers.look().values())
        # A monitor that has just come has no name yet; it is looked at again in a moment.
        known = {UNKNOWN, *partners} if self._standby is not None else set()
        intruders = sorted(set(names) - {own} - known)
        if intruders or names.count(own) > 1:
            who = ", ".join(intruders) or "a second gate"
            detail = f"{who} publishes on '{self.spec.topic}' too"
            causes.append(Cause("intruder", detail))
        count = self.publisher.get_subscription_count()
        if count <= len(partners) and count <= len(
            partners & {*subscribers(self._node, self.spec.topic)}
        ):
            detail = f"nobody listens on '{self.spec.topic}' any more"
            causes.append(Cause("controller_gone", detail))
        return causes

    def _partners(self) -> set[str]:
        return set() if self._standby is None else self._standby.names

    def _has_twin(self) -> bool:
        own = self._node.get_fully_qualified_name()
        return publishers(self._node, self.spec.topic).count(own) > 1


def gate_outputs(
    node: Node, embodiment: Embodiment, stop: Callable[[Cause], None]
) -> dict[str, Output]:
    """Return the outputs of a robot's gate, by topic.

    Args:
        node: The gate.
        embodiment: Its robot.
        stop: Called when somebody has ended a motion in the gate's place.
    """
    command = embodiment.file.command
    return {
        output.topic: Output(
            node,
            output,
            Standby(node, output.topic, command.timeout_s, stop) if not embodiment.ends else None,
        )
        for output in command.outputs
    }


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
