"""The clock of a robot's controllers, as far as they tell it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node

from qwen_vla_ros.clock import ns_from_stamp
from qwen_vla_ros.embodiment.backend import load_backend
from qwen_vla_ros.embodiment.schema import OutputSpec
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.ros.conversions import message_class
from qwen_vla_ros.ros.qos import SENSOR


def listen_to_clock(node: Node, output: OutputSpec, hear: Callable[[str, int], None]) -> None:
    """Hand a controller's topic and the stamps (ns) of its own state to `hear`.

    Where the type of that state is not installed no such controller can run either, unless on
    another machine: then only the joint states tell what the time is there.
    """
    backend = load_backend(output.backend)
    topic = f"{output.topic.rpartition('/')[0]}/{backend.state_topic}".lstrip("/")
    if not backend.state_topic:
        return
    try:
        kind = message_class(backend.state_type)
    except QwenVlaError as error:
        node.get_logger().debug(f"the clock of '{topic}' is not compared: {error}")
        return

    def on_state(topic: str, message: Any) -> None:
        hear(topic, ns_from_stamp(message.header.stamp))

    node.create_subscription(kind, topic, partial(on_state, topic), SENSOR)
