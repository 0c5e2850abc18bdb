"""Stands by while a gate lets a base drive, and commands rest when the gate falls silent.

It is a process of its own, because whatever stops the gate's process stops all that is in it.
"""

from __future__ import annotations

import time

from rclpy.logging import get_logger
from rclpy.node import Node
from std_msgs.msg import Bool

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.backend import Command, StampedTwist
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.options import NodeOptions
from qwen_vla_ros.ros.commands import Output, listen
from qwen_vla_ros.ros.lifecycle import STEADY
from qwen_vla_ros.ros.parameters import declare
from qwen_vla_ros.ros.priority import raise_priority, settle_memory
from qwen_vla_ros.ros.process import main_of
from qwen_vla_ros.ros.qos import COMMAND
from qwen_vla_ros.safety.silence import SilenceWatch, silence_s

LOOK_S = 0.01
TELL_NS = NS_PER_S // 20
"""The gate is told so often that somebody stands by; from the loop that does so (W3)."""


class MonitorNode(Node):
    """Listens to what the gate commands, on the topic of the controller itself."""

    def __init__(self) -> None:
        super().__init__("monitor")
        embodiment = load_embodiment(declare(self, NodeOptions).embodiment)
        if embodiment.ends:
            raise QwenVlaError(
                f"monitor: {embodiment.name} needs none; without its gate {embodiment.ends}."
            )
        command = embodiment.file.command
        self._watch = SilenceWatch(silence_s(1.0 / command.rate_hz))
        self._outputs = [Output(self, output) for output in command.outputs]
        self._word = self.create_publisher(Bool, "~/output/steps_in", COMMAND)
        self._told_ns = 0
        self._said = False
        for output in command.outputs:
            listen(self, output, self._on_command)
        self.create_timer(LOOK_S, self._look, clock=STEADY)
        settle_memory()

    def begin_leaving(self) -> None:
        """Go on: the gate may still be braking."""

    def at_rest(self) -> bool:
        """Say whether nothing moves that might have to be stopped."""
        return not self._watch.is_needed

    def _on_command(self, command: Command) -> None:
        if isinstance(command, StampedTwist):
            moves = command.linear != 0.0 or command.angular != 0.0
            self._watch.hear(moves=moves, steady_ns=time.monotonic_ns())

    def _look(self) -> None:
        steady_ns = time.monotonic_ns()
        steps_in = self._watch.look(steady_ns)
        if steps_in:
            now_ns = int(self.get_clock().now().nanoseconds)
            for output in self._outputs:
                output.publish(StampedTwist(linear=0.0, angular=0.0, stamp_ns=now_ns))
        if steps_in != self._said or steady_ns - self._told_ns >= TELL_NS:
            self._told_ns = steady_ns
            self._word.publish(Bool(data=steps_in))
        if steps_in != self._said:
            self._say(steps_in=steps_in)
        self._said = steps_in

    def _say(self, *, steps_in: bool) -> None:
        if steps_in:
            self.get_logger().error("the gate fell silent while the base moved: it is stopped")
        else:
            self.get_logger().info("stands by again")


def main() -> int:
    """Run the monitor."""
    get_logger("monitor").info(raise_priority())
    return main_of(MonitorNode)


if __name__ == "__main__":
    raise SystemExit(main())
