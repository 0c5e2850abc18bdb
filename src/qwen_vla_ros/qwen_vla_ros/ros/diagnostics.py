"""What a node tells on /diagnostics, and how long each stage takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from qwen_vla_ros.execution.recent import Recent

WINDOW = 200


class StageLatencies:
    """The last durations of every stage, in seconds."""

    def __init__(self) -> None:
        self._seconds: dict[str, Recent] = defaultdict(lambda: Recent(WINDOW))

    def add(self, timings: Mapping[str, float]) -> None:
        """Add one duration (s) per stage."""
        for stage, seconds in timings.items():
            self._seconds[stage].add(seconds)

    def summary(self) -> dict[str, tuple[float, float]]:
        """Return (p50, p95) in milliseconds by stage."""
        return {
            stage: (recent.quantile(0.5) * 1e3, recent.quantile(0.95) * 1e3)
            for stage, recent in list(self._seconds.items())
        }

    def values(self) -> dict[str, str]:
        """Return p50 and p95 of every stage as values of a diagnostic status."""
        return {
            f"{stage} p50/p95 [ms]": f"{p50:.1f} / {p95:.1f}"
            for stage, (p50, p95) in self.summary().items()
        }


class Diagnostics:
    """Publishes one status of a node on /diagnostics."""

    def __init__(self, node: Node, hardware_id: str) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(
        self, message: str, values: Mapping[str, object], level: bytes = DiagnosticStatus.OK
    ) -> None:
        """Publish a sentence, its level, and values beside it."""
        array = DiagnosticArray()
        array.header.stamp = self._node.get_clock().now().to_msg()
        array.status = [
            DiagnosticStatus(
                level=level,
                name=self._node.get_fully_qualified_name(),
                message=message,
                hardware_id=self._hardware_id,
                values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
            )
        ]
        self._publisher.publish(array)
