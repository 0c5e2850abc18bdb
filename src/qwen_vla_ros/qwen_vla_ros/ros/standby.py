"""What ends a base's motion when its gate cannot: a monitor (F3), or its driver's time-out."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import Bool

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.ros.driver_timeout import DriverTimeout
from qwen_vla_ros.ros.graph import UNKNOWN, Publishers
from qwen_vla_ros.ros.qos import COMMAND
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.silence import STEPPED_IN
from qwen_vla_ros.safety.watchdog import Freshness

WORD_TOPIC = "~/input/monitor"
WORD_AGE_S = 0.2
"""A monitor speaks every 0.05 s; one that has not for so long is none. Its gate stops one tick
later, which is 0.1 s at the slowest: 0.3 s in all."""
LATE_NS = NS_PER_S // 10
"""Who looks in every tick and was away for so long has not read yet what was said meanwhile."""
LONGEST_TIMEOUT_S = 0.25
"""Nothing may move 0.3 s after its gate: what is left is for the message and the tick."""


class Standby:
    """Knows a gate's monitor and its driver's time-out; one of the two must do."""

    def __init__(
        self, node: Node, topic: str, declared_s: float | None, stop: Callable[[Cause], None]
    ) -> None:
        """Listen for a monitor, and ask the driver.

        Args:
            node: The gate.
            topic: Where it commands the base.
            declared_s: What the robot's file says of the driver's time-out (s), if anything.
            stop: Called when the monitor steps in.
        """
        self._node = node
        self._topic = topic
        self._stop = stop
        self._word = Freshness(WORD_AGE_S)
        self._looked_ns = 0
        self._declared = None
        if declared_s is not None:
            self._declared = ("command.timeout_s of its file", declared_s)
        self._driver = DriverTimeout(node, topic)
        self._speakers = Publishers(node, WORD_TOPIC)
        node.create_subscription(Bool, WORD_TOPIC, self._on_word, COMMAND)

    @property
    def names(self) -> set[str]:
        """Full name of the monitor: it may speak on the command topic too. Empty without one."""
        speakers = set(self._speakers.look().values()) - {UNKNOWN}
        return speakers if len(speakers) == 1 else set()

    def require(self) -> None:
        """Refuse while nobody would end a motion that the gate leaves behind.

        Raises:
            NotReadyError: Says what is missing.
        """
        self._driver.ask()
        if why_not := self._why_not():
            raise NotReadyError(why_not)

    def faults(self) -> list[Cause]:
        """Return what has become wrong since; to be asked in every tick."""
        steady_ns = time.monotonic_ns()
        is_late = steady_ns - self._looked_ns > LATE_NS
        self._looked_ns = steady_ns
        if is_late:
            return []  # what the monitor said meanwhile is not read yet
        why_not = self._why_not()
        return [Cause("monitor_gone", why_not)] if why_not else []

    def _why_not(self) -> str:
        if not self._word.is_stale(time.monotonic_ns()):
            return ""
        topic = self._node.resolve_topic_name(self._topic)
        known = [said for said in (self._driver.longest, self._declared) if said is not None]
        if not known:
            return (
                f"no monitor is heard, and nobody says when the driver of '{topic}' stops by "
                "itself. Start the monitor, or declare command.timeout_s in the robot's file."
            )
        who, seconds = max(known, key=lambda said: said[1])
        if seconds <= LONGEST_TIMEOUT_S:
            return ""
        when = f"only {seconds:g} s after the last command" if seconds < float("inf") else "never"
        return (
            f"no monitor is heard, and the driver of '{topic}' stops by itself {when} ({who}). "
            f"Start the monitor, or lower that to {LONGEST_TIMEOUT_S} s."
        )

    def _on_word(self, message: Bool) -> None:
        self._word.renew(time.monotonic_ns())
        if message.data:
            self._stop(STEPPED_IN)
