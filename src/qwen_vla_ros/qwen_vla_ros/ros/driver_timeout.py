"""After which time does a base's driver stop by itself, when no command comes any more?"""

from __future__ import annotations

from functools import partial
from typing import Any

from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node

from qwen_vla_ros.ros.graph import subscribers

PARAMETERS = ("cmd_vel_timeout", "velocity_timeout")
"""As ros2_controllers' diff_drive_controller and Nav2's velocity_smoother call it, in seconds."""


class DriverTimeout:
    """Asks whoever listens on a command topic; the answers come when the node spins."""

    def __init__(self, node: Node, topic: str) -> None:
        self._node = node
        self._topic = topic
        self._clients: dict[str, Any] = {}
        self._answers: dict[str, tuple[str, float]] = {}

    def ask(self) -> None:
        """Ask every listener of the topic again."""
        names = subscribers(self._node, self._topic)
        self._answers = {name: said for name, said in self._answers.items() if name in names}
        for name in names:
            if name not in self._clients:
                service = f"{name}/get_parameters"
                self._clients[name] = self._node.create_client(GetParameters, service)
            if not self._clients[name].service_is_ready():
                continue
            for parameter in PARAMETERS:
                # One at a time: a node refuses all when it lacks one of them.
                request = GetParameters.Request(names=[parameter])
                future = self._clients[name].call_async(request)
                future.add_done_callback(partial(self._on_answer, name, parameter))

    @property
    def longest(self) -> tuple[str, float] | None:
        """Who is last to stop, in words, and after how many seconds; None when nobody says.

        A time-out of zero is none: such a driver never stops (W11).
        """
        return max(self._answers.values(), key=lambda said: said[1], default=None)

    def _on_answer(self, name: str, parameter: str, future: Any) -> None:
        answer = future.result()
        if answer is None or not answer.values:
            return
        value = answer.values[0]
        seconds = {
            ParameterType.PARAMETER_DOUBLE: value.double_value,
            ParameterType.PARAMETER_INTEGER: float(value.integer_value),
        }.get(value.type)
        if seconds is not None:
            timeout_s = seconds if seconds > 0 else float("inf")
            self._answers[name] = (f"{parameter} of {name}", timeout_s)
