"""The policy process: sees, is asked, proposes chunks. It never speaks to a controller."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, replace

from qwen_vla_msgs.action import ExecuteInstruction
from qwen_vla_msgs.msg import ActionChunk as ActionChunkMessage
from qwen_vla_msgs.msg import SafetyState, TaskStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from std_msgs.msg import String

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import InstructionError, NotReadyError
from qwen_vla_ros.execution.replan import ReplanSchedule
from qwen_vla_ros.observation.buffer import Gap
from qwen_vla_ros.policy.worker import Answer, InferenceWorker
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.ros.conversions import chunk_to_message
from qwen_vla_ros.ros.diagnostics import Diagnostics, StageLatencies
from qwen_vla_ros.ros.episode import Ending, Episode, Result
from qwen_vla_ros.ros.lifecycle import ManagedNode
from qwen_vla_ros.ros.load_policy import PolicyParameters, load_policy
from qwen_vla_ros.ros.parameters import declare, parameter
from qwen_vla_ros.ros.process import main_of
from qwen_vla_ros.ros.qos import COMMAND, LATCHED, SENSOR
from qwen_vla_ros.ros.sensors import Sensors
from qwen_vla_ros.types import ActionChunk, rest_chunk

TICK_S = 0.01
FEEDBACK_S = 0.2
DIAGNOSTICS_S = 1.0
GOAL_SPACING_S = 0.5
LONGEST_EPISODE_S = 3600.0
GOODBYE_S = 0.2
"""How long the node stays for the result of an interrupted goal to leave it."""


@dataclass(frozen=True, kw_only=True)
class Parameters(PolicyParameters):
    """Parameters of the policy node."""

    embodiment: str = parameter("Name or path of the embodiment file.")


class PolicyNode(ManagedNode):
    """Serves `execute_instruction` with one policy for one embodiment."""

    def __init__(self) -> None:
        super().__init__("policy")
        self._settings = declare(self, Parameters)
        self._episode: Episode | None = None
        self._lock = threading.Lock()  # the inference thread publishes too
        self._sequence = itertools.count(1)
        self._latencies = StageLatencies()
        self._last_goal_s = -GOAL_SPACING_S
        self._leave_after_s = 0.0
        self._endings: dict[bytes, ExecuteInstruction.Result] = {}

    def on_setup(self) -> None:
        """Load the embodiment and the policy, then listen."""
        self._embodiment = load_embodiment(self._settings.embodiment)
        policy = load_policy(self._settings, self._embodiment)
        prompting = self._embodiment.file.prompt
        self._schedule = ReplanSchedule(self._embodiment.dt, prompting.execution_horizon)
        self._sensors = Sensors(
            self, self._embodiment, needs_scene=self._settings.policy == "expert"
        )
        self._chunks = self.create_publisher(ActionChunkMessage, "~/output/action_chunk", COMMAND)
        self._prompt = self.create_publisher(String, "~/output/prompt", LATCHED)
        self._instruction = self.create_publisher(String, "~/output/instruction", LATCHED)
        self._diagnostics = Diagnostics(self, self._embodiment.name)
        self.create_subscription(SafetyState, "~/input/safety_state", self._on_gate, LATCHED)
        self.create_subscription(TaskStatus, "~/input/task_status", self._on_judge, SENSOR)
        self._worker = InferenceWorker(policy, self._on_answer)
        self._server = ActionServer(
            self,
            ExecuteInstruction,
            "execute_instruction",
            execute_callback=self._send_result,
            goal_callback=self._on_goal_request,
            handle_accepted_callback=self._on_goal,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )
        self.create_steady_timer(TICK_S, self._tick)
        self.create_steady_timer(FEEDBACK_S, self._give_feedback)
        self.create_steady_timer(DIAGNOSTICS_S, self._diagnose)

    def on_start(self) -> None:
        """Refuse while a stream that the policy needs is missing."""
        self._sensors.require_publishers()
        sample = self._sensors.sample()
        if isinstance(sample, Gap):
            raise NotReadyError(sample.reason)

    def on_stop(self) -> None:
        """End the episode, so that the gate brings the robot to rest."""
        if self._episode is not None:
            self._finish(self._episode, Ending(Result.ABORTED, "the policy was deactivated"))
            self._leave_after_s = time.monotonic() + GOODBYE_S

    def on_teardown(self) -> None:
        """Let go of the model."""
        self._worker.close()
        self._server.destroy()

    def at_rest(self) -> bool:
        """Wait for the last result to leave."""
        return time.monotonic() >= self._leave_after_s

    def _on_gate(self, message: SafetyState) -> None:
        if self._episode is not None:
            self._episode.gate = message

    def _on_judge(self, message: TaskStatus) -> None:
        if self._episode is not None:
            self._episode.on_judge(message)

    # Goals -----------------------------------------------------------------------------------

    def _on_goal_request(self, request: ExecuteInstruction.Goal) -> GoalResponse:
        now_s = time.monotonic()
        try:
            if not self.is_active:
                raise InstructionError("the policy is not active")
            if not 0 < request.time_limit_s <= LONGEST_EPISODE_S:
                raise InstructionError(
                    f"time_limit_s must be above 0 and at most {LONGEST_EPISODE_S:g}"
                )
            build_prompt(self._embodiment, request.instruction)
            if now_s - self._last_goal_s < GOAL_SPACING_S:
                raise InstructionError(f"goals must be {GOAL_SPACING_S} s apart")
        except InstructionError as error:
            self.get_logger().warning(f"goal refused: {error}", throttle_duration_sec=1.0)
            return GoalResponse.REJECT
        self._last_goal_s = now_s
        return GoalResponse.ACCEPT

    def _on_goal(self, goal: ServerGoalHandle) -> None:
        if self._episode is not None:
            self._finish(self._episode, Ending(Result.ABORTED, "a newer instruction took over"))
        prompt = build_prompt(self._embodiment, goal.request.instruction)
        self._prompt.publish(String(data=prompt.text))
        self._instruction.publish(String(data=prompt.instruction))
        self._schedule.restart()
        self._episode = Episode(
            goal=goal, prompt=prompt, time_limit_s=float(goal.request.time_limit_s)
        )
        self.get_logger().info(f"episode {self._episode.id}: {prompt.instruction}")

    def _tick(self) -> None:
        episode = self._episode
        if episode is None:
            return
        ending = episode.ending()
        if ending is not None:
            self._finish(episode, ending)
        elif episode.rested_s is None and not self._worker.is_busy:
            self._ask(episode)

    def _ask(self, episode: Episode) -> None:
        if not self._schedule.is_due(self.now_ns()):
            return
        sample = self._sensors.sample()
        if isinstance(sample, Gap):
            episode.gap = sample.reason
            return
        if sample.stamp_ns <= episode.asked_ns:
            return  # the same pictures would only give the same answer
        episode.asked_ns = sample.stamp_ns
        is_first = episode.chunks == 0
        self._worker.submit(sample, episode.prompt, episode.id, is_first=is_first)

    def _on_answer(self, answer: Answer) -> None:
        """Publish a chunk as soon as it is there; called in the inference thread."""
        with self._lock:
            episode = self._episode
            if episode is None or answer.episode != episode.id:
                return  # the instruction changed meanwhile: what was thought is void
            if answer.chunk is None:
                if answer.error is not None:
                    episode.on_error(answer.error)
                return
            now_ns = self.now_ns()
            total = {"infer": answer.seconds, "age": (now_ns - answer.chunk.stamp_ns) / 1e9}
            chunk = replace(answer.chunk, timings={**answer.chunk.timings, **total})
            self._publish(chunk, episode.id)
            self._schedule.on_chunk(chunk.stamp_ns, now_ns)
            self._latencies.add(chunk.timings)
            episode.on_chunk(chunk)

    def _publish(self, chunk: ActionChunk, episode_id: str) -> None:
        chunk = replace(
            chunk,
            sequence=next(self._sequence),
            episode=episode_id,
            embodiment=self._embodiment.name,
            embodiment_hash=self._embodiment.hash,
        )
        self._chunks.publish(chunk_to_message(chunk))

    def _finish(self, episode: Episode, ending: Ending) -> None:
        with self._lock:
            self._episode = None
            rest = rest_chunk(self.now_ns(), self._embodiment.dt, self._embodiment.channels)
            self._publish(rest, episode.id)
        self.get_logger().info(f"episode {episode.id} ended: {ending.why}")
        self._endings[bytes(episode.goal.goal_id.uuid)] = episode.result(ending)
        episode.goal.execute()

    def _send_result(self, goal: ServerGoalHandle) -> ExecuteInstruction.Result:
        result = self._endings.pop(bytes(goal.goal_id.uuid))
        if result.outcome == Result.CANCELED:
            goal.canceled()
        elif result.outcome == Result.ABORTED:
            goal.abort()
        else:
            goal.succeed()
        return result

    def _give_feedback(self) -> None:
        if self._episode is not None:
            self._episode.goal.publish_feedback(self._episode.feedback())

    def _diagnose(self) -> None:
        message = "idle" if self._episode is None else self._episode.prompt.instruction
        self._diagnostics.publish(message, self._latencies, self._sensors.dropped())


def main() -> int:
    """Run the policy node."""
    return main_of(PolicyNode)


if __name__ == "__main__":
    raise SystemExit(main())
