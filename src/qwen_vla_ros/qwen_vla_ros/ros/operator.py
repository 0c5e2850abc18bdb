"""The person at the robot, as an object: arms, stops, asks, and watches."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from qwen_vla_msgs.action import ExecuteInstruction
from qwen_vla_msgs.msg import SafetyState
from qwen_vla_msgs.srv import ResetScene
from rcl_interfaces.srv import GetParameters
from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.executors import Executor
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from qwen_vla_ros.errors import NotReadyError, QwenVlaError
from qwen_vla_ros.ros.presence import Presence
from qwen_vla_ros.ros.qos import LATCHED

SPIN_S = 0.05
ANSWER_S = 5.0
POLICY_PATIENCE_S = 0.8
"""A policy gives feedback five times a second; one that does not is dead, or hangs."""
STOP_SETTLE_S = 1.2
RESET_SETTLE_S = 0.3
DIAGNOSTICS_S = 1.5
"""A policy says once a second what it does, or why it does nothing."""


class Operator:
    """A client of one robot's policy and gate; spins only while one of its methods waits."""

    def __init__(self, robot: str, namespace: str = "") -> None:
        """Join the graph of the robot named `robot`, whose nodes live in `namespace`."""
        self._robot = robot
        self.node = Node("operator", namespace=namespace)
        self._executor: Executor = EventsExecutor()
        self._executor.add_node(self.node)
        self._safety: SafetyState | None = None
        self.node.create_subscription(
            SafetyState, "gate/output/safety_state", self._on_safety, LATCHED
        )
        self._policy_says = ""
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._arm = self.node.create_client(Trigger, "gate/arm")
        self._stop = self.node.create_client(Trigger, "gate/stop")
        self._parameters = self.node.create_client(GetParameters, "gate/get_parameters")
        self._reset = self.node.create_client(ResetScene, "simulator/reset")
        self._action = ActionClient(self.node, ExecuteInstruction, "execute_instruction")

    @property
    def safety(self) -> SafetyState:
        """What the gate said last.

        Raises:
            NotReadyError: It has said nothing yet.
        """
        if self._safety is None:
            raise NotReadyError("the gate has not said its safety state.")
        return self._safety

    def ask_policy(self) -> str:
        """Return what the policy does, or why it does nothing; "silent" where none is heard."""
        self.spin_until(lambda: bool(self._policy_says), DIAGNOSTICS_S)
        return self._policy_says or "silent"

    def close(self) -> None:
        """Leave the graph."""
        self._executor.remove_node(self.node)
        self.node.destroy_node()

    def spin(self, seconds: float) -> None:
        """Let callbacks run for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=SPIN_S)

    def spin_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Let callbacks run until `done()`, at most `seconds`; returns whether it came true."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline or not rclpy.ok():
                return False
            self._executor.spin_once(timeout_sec=SPIN_S)
        return True

    def arm(self, patience_s: float = 20.0) -> None:
        """Arm the gate, waiting until it has seen proof of life.

        Raises:
            NotReadyError: The gate is absent or refuses; the sentence is the gate's.
        """
        self.require_robot(patience_s)
        why = ""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if self._arm.service_is_ready():
                answer = self._call(self._arm, Trigger.Request())
                if answer.success:
                    return
                why = answer.message
            self.spin(0.2)
        raise NotReadyError(why)

    def require_robot(self, patience_s: float) -> None:
        """Refuse to speak to another robot than the one that was named.

        Raises:
            NotReadyError: No robot is up here, or another one is.
        """
        if not self.spin_until(lambda: self._safety is not None, patience_s):
            raise self._unavailable()
        if self.safety.embodiment != self._robot:
            raise NotReadyError(
                f"the robot that is up here is '{self.safety.embodiment}', not '{self._robot}'."
            )

    def stop(self) -> None:
        """Bring the robot to rest; only `arm` lets it move again.

        Raises:
            NotReadyError: No gate answers, or it says that it failed; the sentence is the gate's.
        """
        answer = self._call(self._stop, Trigger.Request())
        if not answer.success:
            raise NotReadyError(answer.message)

    def profile(self) -> str:
        """Return the run profile of the gate.

        Raises:
            NotReadyError: No gate answers.
        """
        answer = self._call(self._parameters, GetParameters.Request(names=["profile"]))
        return str(answer.values[0].string_value)

    def reset(self, seed: int) -> str:
        """Stop, and put the simulated scene to its start; returns an instruction that fits it.

        A gate that is armed would take the jump of the joints for a fault, and one that has just
        stopped commands rest for a second, which would pull the robot back to where it was.

        Raises:
            NotReadyError: No simulator answers.
            QwenVlaError: The simulator refuses.
        """
        self.stop()
        self.spin(STOP_SETTLE_S)
        answer = self._call(self._reset, ResetScene.Request(seed=seed))
        if not answer.success:
            raise QwenVlaError(f"the simulator did not reset: {answer.message}")
        # Armed before it has seen the jump, the gate would stop for it.
        self.spin(RESET_SETTLE_S)
        return str(answer.instruction)

    def wait_for_policy(self, patience_s: float) -> None:
        """Wait until the policy takes goals.

        Raises:
            NotReadyError: It does not in time.
        """
        if not self.spin_until(self._action.server_is_ready, patience_s):
            raise self._unavailable("policy")

    def execute(
        self,
        instruction: str,
        time_limit_s: float,
        on_feedback: Callable[[ExecuteInstruction.Feedback], None],
        patience_s: float = 20.0,
    ) -> ExecuteInstruction.Result:
        """Have an instruction carried out; a KeyboardInterrupt cancels it.

        A policy that falls silent meanwhile is told as a result, too.

        Raises:
            NotReadyError: No policy answers, or it refuses the goal for `patience_s`.
        """
        self.wait_for_policy(patience_s)
        presence, chunks = Presence(POLICY_PATIENCE_S), 0

        def hear(message: Any) -> None:
            nonlocal chunks
            presence.hear()
            chunks = message.feedback.chunks
            on_feedback(message.feedback)

        # A whole number in a float field would end the process inside rosidl.
        goal = ExecuteInstruction.Goal(instruction=instruction, time_limit_s=float(time_limit_s))
        deadline = time.monotonic() + patience_s
        while True:
            handle = self._await(self._action.send_goal_async(goal, feedback_callback=hear))
            if handle.accepted:
                break
            if time.monotonic() > deadline:
                raise NotReadyError("the policy refused the instruction; its log says why.")
            self.spin(1.0)  # it may still be waiting for its cameras
        result: Future = handle.get_result_async()
        begin_s = time.monotonic()
        presence.hear()
        try:
            if not self.spin_until(
                lambda: result.done() or presence.is_lost(time.monotonic()),
                time_limit_s + ANSWER_S,
            ):
                raise NotReadyError(f"no result within {time_limit_s + ANSWER_S:g} s.")
        except KeyboardInterrupt:
            self._await(handle.cancel_goal_async())
            self._await(result)
        if result.done():
            return result.result().result
        handle.cancel_goal_async()  # in case it only hangs
        self.spin(SPIN_S)
        return ExecuteInstruction.Result(
            outcome=ExecuteInstruction.Result.ABORTED,
            why=f"the policy is silent: not a word of it for {presence.patience_s:g} s",
            chunks=chunks,
            duration_s=time.monotonic() - begin_s,
        )

    def _unavailable(self, who: str = "gate") -> NotReadyError:
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        return NotReadyError(
            f"no {who} of '{self._robot}' answers in ROS domain {domain}. Is the robot up? "
            f"Start it with: qwen-vla up --robot {self._robot}"
        )

    def _on_safety(self, message: SafetyState) -> None:
        self._safety = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        policy = f"{self.node.get_namespace().rstrip('/')}/policy"
        for status in message.status:
            if status.name == policy:
                self._policy_says = status.message

    def _call(self, client: Client, request: Any) -> Any:
        if not self.spin_until(client.service_is_ready, ANSWER_S):
            raise self._unavailable(client.srv_name)
        return self._await(client.call_async(request))

    def _await(self, future: Future, seconds: float = ANSWER_S) -> Any:
        if not self.spin_until(future.done, seconds):
            raise NotReadyError(f"no answer within {seconds:g} s.")
        return future.result()
