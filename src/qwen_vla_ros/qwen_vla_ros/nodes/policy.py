"""The policy process: sees, is asked, proposes chunks. It never speaks to a controller."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from qwen_vla_msgs.msg import ActionChunk as ActionChunkMessage
from qwen_vla_msgs.msg import SafetyState, TaskStatus
from rclpy.action.server import ServerGoalHandle
from std_msgs.msg import String

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.execution.replanner import Replanner
from qwen_vla_ros.load_policy import load_policy
from qwen_vla_ros.observation.buffer import Gap
from qwen_vla_ros.options import NodeOptions, PolicyOptions
from qwen_vla_ros.policy.worker import Answer, InferenceWorker
from qwen_vla_ros.prompt.build import build_prompt, with_state
from qwen_vla_ros.ros.conversions import chunk_to_message
from qwen_vla_ros.ros.diagnostics import Diagnostics, StageLatencies
from qwen_vla_ros.ros.episode import GATE_PATIENCE_S, Ending, Episode, Result
from qwen_vla_ros.ros.instruction_server import InstructionServer
from qwen_vla_ros.ros.lifecycle import ManagedNode
from qwen_vla_ros.ros.parameters import declare
from qwen_vla_ros.ros.presence import Presence
from qwen_vla_ros.ros.process import main_of
from qwen_vla_ros.ros.qos import COMMAND, LATCHED, SENSOR
from qwen_vla_ros.ros.sensors import Sensors
from qwen_vla_ros.types import ActionChunk, rest_chunk

TICK_S = 0.005
"""How long an answer may wait for the next question; new pictures do not wait for it."""
FEEDBACK_S = 0.2
DIAGNOSTICS_S = 1.0
GOODBYE_S = 0.2
"""How long the node stays for the result of an interrupted goal to leave it."""


@dataclass(frozen=True, kw_only=True)
class Parameters(NodeOptions, PolicyOptions):
    """Parameters of the policy node."""


class PolicyNode(ManagedNode):
    """Serves `execute_instruction` with one policy for one embodiment."""

    def __init__(self) -> None:
        super().__init__("policy")
        self._settings = declare(self, Parameters)
        self._episode: Episode | None = None
        self._lock = threading.Lock()  # the inference thread publishes too
        self._sequence = itertools.count(1)
        self._latencies = StageLatencies()
        self._sensing: dict[str, float] = {}
        self._told = ""
        self._leave_after_s = 0.0
        self._gate_presence = Presence(GATE_PATIENCE_S)

    def on_setup(self) -> None:
        """Load the embodiment and the policy, then listen."""
        self._embodiment = load_embodiment(self._settings.embodiment)
        policy = load_policy(self._settings, self._embodiment, sees_scene=True)()
        self._replanner = Replanner.from_embodiment(self._embodiment)
        self._sensors = Sensors(
            self,
            self._embodiment,
            needs_scene=self._settings.policy == "expert",
            on_image=self._tick,
        )
        self._chunks = self.create_publisher(ActionChunkMessage, "~/output/action_chunk", COMMAND)
        self._told = ""
        self._prompt = self.create_publisher(String, "~/output/prompt", LATCHED)
        self._instruction = self.create_publisher(String, "~/output/instruction", LATCHED)
        self._diagnostics = Diagnostics(self, self._embodiment.name)
        self.create_subscription(SafetyState, "~/input/safety_state", self._on_gate, LATCHED)
        self.create_subscription(TaskStatus, "~/input/task_status", self._on_judge, SENSOR)
        self._worker = InferenceWorker(policy, self.guarded(self._on_answer))
        self._server = InstructionServer(self, self._on_goal)
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

    def on_broken(self, what: str) -> None:
        """Have the episode end: nobody knows what the failed callback has left undone."""
        if self._episode is not None:
            self._episode.broken = what

    def _on_gate(self, message: SafetyState) -> None:
        self._gate_presence.hear()
        is_playing = message.level < SafetyState.HOLD
        with self._lock:
            self._replanner.on_gate(is_playing=is_playing, rejected=message.chunks_rejected)
        if self._episode is not None:
            self._episode.gate = message

    def _on_judge(self, message: TaskStatus) -> None:
        if self._episode is not None:
            self._episode.on_judge(message)

    def _on_goal(self, goal: ServerGoalHandle) -> None:
        if self._episode is not None:
            self._finish(self._episode, Ending(Result.ABORTED, "a newer instruction took over"))
        # A prompt that tells the state is made anew for every observation.
        nowhere = np.zeros(len(self._embodiment.channels))
        prompt = build_prompt(self._embodiment, goal.request.instruction, nowhere)
        self._instruction.publish(String(data=prompt.instruction))
        self._replanner.restart()
        self._sensors.begin_episode()
        self._episode = Episode(
            goal=goal, prompt=prompt, time_limit_s=float(goal.request.time_limit_s)
        )
        self.get_logger().info(f"episode {self._episode.id}: {prompt.instruction}")

    def _tick(self) -> None:
        episode = self._episode
        if episode is None:
            return
        episode.is_gate_lost = self._gate_presence.is_lost(time.monotonic())
        ending = episode.ending()
        if ending is not None:
            self._finish(episode, ending)
        elif episode.rested_s is None and not self._worker.is_busy:
            self._ask(episode)

    def _ask(self, episode: Episode) -> None:
        if not self._replanner.is_due(self.now_ns()):
            return
        sample = self._sensors.sample()
        if isinstance(sample, Gap):
            episode.gap = sample.reason
            return
        if episode.asked_ns > self.now_ns():
            episode.asked_ns = 0  # the clock went back
        if sample.stamp_ns <= episode.asked_ns:
            return  # the same pictures would only give the same answer
        episode.asked_ns = sample.stamp_ns
        self._sensing = self._sensors.timings()
        prompt = with_state(self._embodiment, episode.prompt, sample.state)
        if prompt.text != self._told:
            self._told = prompt.text
            self._prompt.publish(String(data=prompt.text))
        self._worker.submit(
            sample,
            prompt,
            episode.id,
            is_first=episode.chunks == 0,
            committed=self._replanner.committed(sample.stamp_ns),
        )

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
            now_ns, begin_s = self.now_ns(), time.monotonic()
            total = {"infer": answer.seconds, "age": (now_ns - answer.chunk.stamp_ns) / 1e9}
            timings = {**self._sensing, **answer.chunk.timings, **total}
            lateness = self._replanner.lateness(answer.chunk, now_ns)
            self._replanner.on_chunk(answer.chunk, now_ns, answer.seconds)
            if lateness:
                # The gate would reject it, and stop for good after three; so it only holds.
                self._latencies.add(timings)
                episode.gap = lateness
                return
            self._publish(replace(answer.chunk, timings=timings), episode.id)
            timings["publish"] = time.monotonic() - begin_s
            self._latencies.add(timings)
            episode.on_chunk(answer.chunk, timings)

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
        self._server.finish(episode.goal, episode.result(ending))

    def _give_feedback(self) -> None:
        if self._episode is not None:
            self._episode.goal.publish_feedback(self._episode.feedback())

    def _diagnose(self) -> None:
        episode = self._episode
        sample = self._sensors.sample()
        with self._lock:
            warning = "" if episode is None else self._replanner.shortage()
            if isinstance(sample, Gap):
                warning = sample.reason
            doing = "idle" if episode is None else episode.prompt.instruction
            self._diagnostics.publish(
                warning or doing,
                {**self._latencies.values(), **self._sensors.dropped()},
                DiagnosticStatus.WARN if warning else DiagnosticStatus.OK,
            )


def main() -> int:
    """Run the policy node."""
    return main_of(PolicyNode)


if __name__ == "__main__":
    raise SystemExit(main())
