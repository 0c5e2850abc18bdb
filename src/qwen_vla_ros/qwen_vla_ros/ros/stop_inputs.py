"""Hears every topic that may stop a robot: the one of each gate, and those that its file names."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from rclpy.qos import DurabilityPolicy

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.schema import StopSpec
from qwen_vla_ros.errors import QwenVlaError, suggest
from qwen_vla_ros.ros.conversions import message_class
from qwen_vla_ros.ros.graph import Publishers, require_publisher
from qwen_vla_ros.ros.qos import LATCHED_STOP, STOP
from qwen_vla_ros.ros.sturdy import SturdyNode
from qwen_vla_ros.safety.robot_gate import RobotGate

STOP_TOPIC = "~/input/stop"
BOOL = "std_msgs/msg/Bool"
WHOLE = re.compile(r"boolean|u?int(8|16|32|64)")
MANY = re.compile(r"sequence<(?P<item>[^,>]+)(, \d+)?>|(?P<same>.+)\[\d+\]")


class StopInputs:
    """The stop inputs of one gate."""

    def __init__(self, node: SturdyNode, embodiment: Embodiment, gate: RobotGate) -> None:
        """Listen.

        Raises:
            QwenVlaError: The file names a type that is not installed, or no field of it.
        """
        self._gate = gate
        self._inputs = [_Input(node, "", STOP_TOPIC, BOOL, lambda message: bool(message.data))]
        for i, spec in enumerate(embodiment.file.safety.stops):
            _require_field(spec, f"{embodiment.path}: safety.stops[{i}]")
            self._inputs.append(_Input(node, spec.name, spec.topic, spec.type, _reader(spec)))

    def require_ready(self) -> None:
        """Refuse while nobody publishes on a topic that the file names.

        Raises:
            NotReadyError: Names the topic.
        """
        for each in self._inputs:
            each.listen_for_latched()
            if each.name:
                require_publisher(each.node, each.topic, each.type)

    def listen_for_latched(self) -> None:
        """Look for publishers that said something before this node was there (G5)."""
        for each in self._inputs:
            each.listen_for_latched()

    def take(self) -> None:
        """Tell the gate who is there, and what was said since the last call."""
        for each in self._inputs:
            self._gate.on_stop_publishers(each.publishers.look(), each.name)
            for subscription in each.attributed:
                for message, source, is_again in subscription.take():
                    if is_again:
                        continue  # in a flood (J4): it was acted upon a moment ago
                    self._gate.on_stop_input(
                        is_asserted=each.is_asserted(message),
                        steady_ns=time.monotonic_ns(),
                        source=source,
                        name=each.name,
                    )


class _Input:
    def __init__(
        self,
        node: SturdyNode,
        name: str,
        topic: str,
        type_name: str,
        is_asserted: Callable[[Any], bool],
    ) -> None:
        self.node, self.name, self.topic, self.type = node, name, topic, type_name
        self.is_asserted = is_asserted
        self.publishers = Publishers(node, topic)
        # The quality of service matches every publisher of a stop.
        self.attributed = [
            node.create_attributed_subscription(message_class(type_name), topic, STOP)
        ]

    def listen_for_latched(self) -> None:
        """Hear latched publishers too, once there is one.

        With any other publisher such a subscription does not match, and both sides would complain.
        """
        if len(self.attributed) > 1:
            return
        infos = self.node.get_publishers_info_by_topic(self.node.resolve_topic_name(self.topic))
        if any(info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for info in infos):
            self.attributed.append(
                self.node.create_attributed_subscription(
                    message_class(self.type), self.topic, LATCHED_STOP
                )
            )


def _reader(spec: StopSpec) -> Callable[[Any], bool]:
    """Return what tells whether a message stops: all but the one value, or no value at all."""

    def is_asserted(message: Any) -> bool:
        value = message
        for part in spec.field.split("."):
            if not part.isdigit():
                value = getattr(value, part)
            elif int(part) < len(value):
                value = value[int(part)]
            else:
                return True  # another device than the file means, with fewer buttons
        return bool(value != spec.runs_when)

    return is_asserted


def _require_field(spec: StopSpec, place: str) -> None:
    """Refuse a field that the message does not have, or that is neither true, false nor whole.

    Raises:
        QwenVlaError: Says what there is.
    """
    kind = spec.type
    for part in spec.field.split("."):
        if part.isdigit():
            many = MANY.fullmatch(kind)
            if many is None:
                raise QwenVlaError(f"{place}.field: '{kind}' has no places to count.")
            kind = many["item"] or many["same"]
            continue
        fields: dict[str, str] = {}
        if "/" in kind and not MANY.fullmatch(kind):
            package, *_, name = kind.split("/")
            message: Any = message_class(f"{package}/msg/{name}")
            fields = message.get_fields_and_field_types()
        if part not in fields:
            raise QwenVlaError(f"{place}.field: '{kind}' has no '{part}'.{suggest(part, fields)}")
        kind = fields[part]
    if not WHOLE.fullmatch(kind):
        raise QwenVlaError(
            f"{place}.field: '{spec.field}' is a {kind}; a boolean or a whole number is needed."
        )
    if kind == "boolean" and not isinstance(spec.runs_when, bool):
        raise QwenVlaError(
            f"{place}.runs_when: {spec.runs_when} is never what '{spec.field}' says. "
            "Allowed: true, false."
        )
