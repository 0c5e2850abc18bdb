"""One instruction being carried out: its goal, its bookkeeping, and how it ends."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from qwen_vla_msgs.action import ExecuteInstruction
from qwen_vla_msgs.msg import SafetyState, TaskStatus
from rclpy.action.server import ServerGoalHandle

from qwen_vla_ros.errors import NotReadyError, QwenVlaError
from qwen_vla_ros.types import ActionChunk, Prompt

Result = ExecuteInstruction.Result

MAX_ERRORS_IN_A_ROW = 3
GATE_GRACE_S = 0.5
"""How old the gate's state may be from before the goal: an arming may still be on its way."""
GATE_PATIENCE_S = 0.7
"""A gate says its state five times a second. Without one nobody watches over what is proposed."""
SILENT = "policy_silent"
"""What a gate calls it that no chunk comes; why none comes is known here."""
JUDGE_GRACE_S = 3.0
"""How long a judge may look at the scene after the policy ended the episode."""


@dataclass(frozen=True)
class Ending:
    """How an episode ended, and why."""

    outcome: int
    why: str


@dataclass(kw_only=True)
class Episode:
    """What is known about the instruction in force."""

    goal: ServerGoalHandle
    prompt: Prompt
    time_limit_s: float
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    begun_s: float = field(default_factory=time.monotonic)
    chunks: int = 0
    asked_ns: int = 0
    errors_in_a_row: int = 0
    last_error: str = ""
    gap: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    rested_s: float | None = None
    judged: TaskStatus | None = None
    gate: SafetyState | None = None
    is_gate_lost: bool = False
    broken: str = ""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the goal was accepted."""
        return time.monotonic() - self.begun_s

    def on_chunk(self, chunk: ActionChunk, timings: Mapping[str, float]) -> None:
        """Note a chunk that was published, and the seconds that each stage of it took."""
        self.chunks += 1
        self.errors_in_a_row = 0
        self.gap = ""
        self.timings = dict(timings)
        if chunk.rest and self.rested_s is None:
            self.rested_s = time.monotonic()

    def on_error(self, error: Exception) -> None:
        """Note an inference that failed.

        A policy that is only away, such as one on another computer, is waited for: the robot
        holds meanwhile, and no failure is counted.
        """
        if isinstance(error, NotReadyError):
            self.gap = str(error)
            return
        self.errors_in_a_row += 1
        is_sentence = isinstance(error, QwenVlaError)
        self.last_error = str(error) if is_sentence else f"{type(error).__name__}: {error}"

    def on_judge(self, status: TaskStatus) -> None:
        """Note a judge's verdict, if it is about this instruction."""
        if status.instruction == self.prompt.instruction:
            self.judged = status

    def hold_reason(self) -> str:
        """Say why the robot is not being moved now; empty while it is."""
        if self.gate is not None and self.gate.level >= SafetyState.HOLD:
            if self.gap and self.gate.cause == SILENT:
                return self.gap  # why it is silent
            return f"gate: {self.gate.cause}: {self.gate.detail}"
        if self.errors_in_a_row:
            return f"inference failed: {self.last_error}"
        return self.gap

    def progress(self) -> float:
        """Return 0 to 1: the judge's view where there is one, else the time used."""
        if self.judged is not None:
            return float(self.judged.progress)
        return min(1.0, self.elapsed_s / self.time_limit_s)

    def ending(self) -> Ending | None:
        """Return how the episode has ended, or None while it goes on."""
        if self.goal.is_cancel_requested:
            return Ending(Result.CANCELED, "canceled by the client")
        if self.broken:
            return Ending(Result.ABORTED, f"the policy failed: {self.broken}")
        if self.is_gate_lost:
            return Ending(
                Result.ABORTED, f"the gate is silent: not a word of it for {GATE_PATIENCE_S:g} s"
            )
        if self._is_stopped_by_gate():
            assert self.gate is not None
            is_silence = bool(self.gap) and self.gate.cause == SILENT
            why = self.gap if is_silence else self.gate.detail
            return Ending(Result.ABORTED, f"the gate: {self.gate.cause}: {why}")
        # A robot that must not move has not done what it finds done.
        may_move = self.gate is None or self.gate.level < SafetyState.STOP
        if self.judged is not None and self.judged.success and may_move and self._knows_gate():
            return Ending(Result.SUCCEEDED, f"the judge saw it: {self.judged.target}")
        if self.errors_in_a_row >= MAX_ERRORS_IN_A_ROW:
            return Ending(Result.ABORTED, f"inference failed: {self.last_error}")
        if self._is_finished():
            judged = ", but the judge saw no success" if self.judged is not None else ""
            return Ending(Result.FINISHED, "the policy ended the episode" + judged)
        if self.elapsed_s > self.time_limit_s:
            held = self.hold_reason()
            return Ending(
                Result.FINISHED,
                f"time limit of {self.time_limit_s:g} s" + (f", held by {held}" if held else ""),
            )
        return None

    def result(self, ending: Ending) -> ExecuteInstruction.Result:
        """Return the ending as the action's result."""
        return Result(
            outcome=ending.outcome, why=ending.why, chunks=self.chunks, duration_s=self.elapsed_s
        )

    def feedback(self) -> ExecuteInstruction.Feedback:
        """Return the state of the episode as the action's feedback."""
        message = ExecuteInstruction.Feedback()
        message.elapsed_s = self.elapsed_s
        message.progress = self.progress()
        message.hold_reason = self.hold_reason()
        message.chunks = self.chunks
        message.stages = list(self.timings)
        message.stage_seconds = [float(seconds) for seconds in self.timings.values()]
        return message

    def _knows_gate(self) -> bool:
        return self.gate is not None or self.elapsed_s > 2 * GATE_GRACE_S

    def _is_stopped_by_gate(self) -> bool:
        return (
            self.gate is not None
            and self.gate.level == SafetyState.STOP
            and self.elapsed_s > GATE_GRACE_S
        )

    def _is_finished(self) -> bool:
        if self.rested_s is None:
            return False
        return self.judged is None or time.monotonic() - self.rested_s > JUDGE_GRACE_S
