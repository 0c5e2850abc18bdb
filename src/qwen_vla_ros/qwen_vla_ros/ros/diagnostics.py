"""How long each stage takes, told on /diagnostics as p50 and p95."""

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


class Diagnostics:
    """Publishes one status of a node on /diagnostics."""

    def __init__(self, node: Node, hardware_id: str) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(
        self,
        message: str,
        latencies: StageLatencies,
        extra: Mapping[str, object],
        *,
        warning: str = "",
    ) -> None:
        """Publish a sentence or the warning in its place, stage latencies, further values."""
        values = [
            KeyValue(key=f"{stage} p50/p95 [ms]", value=f"{p50:.1f} / {p95:.1f}")
            for stage, (p50, p95) in latencies.summary().items()
        ]
        values += [KeyValue(key=key, value=str(value)) for key, value in extra.items()]
        array = DiagnosticArray()
        array.header.stamp = self._node.get_clock().now().to_msg()
        array.status = [
            DiagnosticStatus(
                level=DiagnosticStatus.WARN if warning else DiagnosticStatus.OK,
                name=self._node.get_fully_qualified_name(),
                message=warning or message,
                hardware_id=self._hardware_id,
                values=values,
            )
        ]
        self._publisher.publish(array)
