"""The last thing that software can do about a robot that moves on: take its controllers away."""

from __future__ import annotations

import importlib
from typing import Any

from rclpy.node import Node

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import NotReadyError, QwenVlaError
from qwen_vla_ros.ros.graph import subscribers
from qwen_vla_ros.safety.latch import Latch

PACKAGE = "controller_manager_msgs"


class ControllerSwitch:
    """Has ros2_control's controller manager deactivate the controllers of a robot (W12).

    Only where its file says so: hardware that takes positions or speeds then holds, but joints
    that take efforts would fall.
    """

    def __init__(self, node: Node, embodiment: Embodiment) -> None:
        """Prepare to ask.

        Raises:
            QwenVlaError: The file wants it, and the service's type is not installed.
        """
        self._node = node
        self._topics = [output.topic for output in embodiment.file.command.outputs]
        self._has_asked = False
        self._client: Any = None
        manager = embodiment.file.command.controller_manager
        if manager is None:
            return
        try:
            self._type = importlib.import_module(f"{PACKAGE}.srv").SwitchController
        except ImportError as error:
            raise QwenVlaError(
                f"{embodiment.path}: command.controller_manager: needs {PACKAGE}, which is not "
                "installed here. Install it, or leave the key out."
            ) from error
        service = node.resolve_service_name(f"{manager}/switch_controller")
        self._client = node.create_client(self._type, service)

    def require_ready(self) -> None:
        """Refuse while the manager that the file names is not there.

        Raises:
            NotReadyError: Names its service.
        """
        if self._client is not None and not self._client.service_is_ready():
            raise NotReadyError(
                f"'{self._client.srv_name}' does not answer; command.controller_manager in the "
                "robot's file says that it can deactivate the controllers."
            )

    def look(self, latch: Latch) -> None:
        """Ask once, when stopping turns out not to be enough."""
        is_needed = latch.cause.is_grave and not latch.is_armed
        if is_needed and not self._has_asked and self._client is not None:
            self._ask()
        self._has_asked = is_needed

    def _ask(self) -> None:
        own = self._node.get_fully_qualified_name()
        listeners = {name for topic in self._topics for name in subscribers(self._node, topic)}
        # A controller is a node of its own, of the name by which its manager knows it.
        controllers = sorted(name.rpartition("/")[2] for name in listeners - {own})
        self._node.get_logger().fatal(
            f"the robot moves although it is held: asking for {', '.join(controllers)} to be "
            "deactivated"
        )
        request = self._type.Request(
            deactivate_controllers=controllers, strictness=self._type.Request.BEST_EFFORT
        )
        self._client.call_async(request).add_done_callback(self._on_answer)

    def _on_answer(self, future: Any) -> None:
        is_done = future.exception() is None and future.result().ok
        what = "deactivated" if is_done else "NOT deactivated: use the emergency stop"
        self._node.get_logger().fatal(f"the controllers are {what}")
