"""The topics that report what a robot does: a gate moves nothing without exactly one reporter."""

from __future__ import annotations

from rclpy.node import Node

from qwen_vla_ros.embodiment.schema import StateSpec
from qwen_vla_ros.ros.graph import Publishers, require_publisher
from qwen_vla_ros.safety.latch import Cause


class StateSource:
    """One topic of joint states or odometry, as far as the graph tells of it."""

    def __init__(self, node: Node, spec: StateSpec) -> None:
        self._node = node
        self._spec = spec
        self._publishers = Publishers(node, spec.topic)

    def require_ready(self) -> None:
        """Refuse while nobody reports.

        Raises:
            NotReadyError: Names the topic.
        """
        require_publisher(self._node, self._spec.topic, self._spec.type)

    def faults(self) -> list[Cause]:
        """Return what has become wrong with the topic since (C10, F5)."""
        names = sorted(self._publishers.look().values())
        topic = self._spec.topic
        if len(names) > 1:
            detail = f"{len(names)} publishers report on '{topic}': {', '.join(names)}"
            return [Cause("state_conflict", detail)]
        if not names:
            detail = f"the driver is gone: nobody reports on '{topic}' any more"
            return [Cause("driver_gone", detail)]
        return []
