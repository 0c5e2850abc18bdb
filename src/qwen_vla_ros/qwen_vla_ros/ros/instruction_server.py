"""The action `execute_instruction`: what it refuses, and how every goal learns its end."""

from __future__ import annotations

import time
from collections.abc import Callable

from qwen_vla_msgs.action import ExecuteInstruction
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle

from qwen_vla_ros.errors import InstructionError
from qwen_vla_ros.prompt.instruction import clean_instruction
from qwen_vla_ros.ros.lifecycle import ManagedNode

GOAL_SPACING_S = 0.5
LONGEST_EPISODE_S = 3600.0


class InstructionServer:
    """Takes instructions for a node while it is active, at most two a second."""

    def __init__(self, node: ManagedNode, begin: Callable[[ServerGoalHandle], None]) -> None:
        """Serve the action; `begin` is called with every goal that was accepted."""
        self._node = node
        self._last_goal_s = -GOAL_SPACING_S
        self._results: dict[bytes, ExecuteInstruction.Result] = {}
        self._server = ActionServer(
            node,
            ExecuteInstruction,
            "execute_instruction",
            execute_callback=self._send_result,
            goal_callback=self._judge,
            handle_accepted_callback=node.guarded(begin),
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )

    def finish(self, goal: ServerGoalHandle, result: ExecuteInstruction.Result) -> None:
        """End a goal with this result."""
        self._results[bytes(goal.goal_id.uuid)] = result
        goal.execute()

    def destroy(self) -> None:
        """Serve no longer."""
        self._server.destroy()

    def _judge(self, request: ExecuteInstruction.Goal) -> GoalResponse:
        now_s = time.monotonic()
        try:
            if not self._node.is_active:
                raise InstructionError("the policy is not active")
            if not 0 < request.time_limit_s <= LONGEST_EPISODE_S:
                raise InstructionError(
                    f"time_limit_s must be above 0 and at most {LONGEST_EPISODE_S:g}"
                )
            clean_instruction(request.instruction)
            if now_s - self._last_goal_s < GOAL_SPACING_S:
                raise InstructionError(f"goals must be {GOAL_SPACING_S} s apart")
        except InstructionError as error:
            self._node.get_logger().warning(f"goal refused: {error}", throttle_duration_sec=1.0)
            return GoalResponse.REJECT
        self._last_goal_s = now_s
        return GoalResponse.ACCEPT

    def _send_result(self, goal: ServerGoalHandle) -> ExecuteInstruction.Result:
        result = self._results.pop(bytes(goal.goal_id.uuid))
        if result.outcome == result.CANCELED:
            goal.canceled()
        elif result.outcome == result.ABORTED:
            goal.abort()
        else:
            goal.succeed()
        return result
