"""One client from its first request to its last."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.problems import printable
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.metrics import Metrics
from qwen_vla_ros.serving.recording import Record, Recorder
from qwen_vla_ros.serving.request import Dialect, Effort, Request
from qwen_vla_ros.serving.sign_of_life import SignOfLife
from qwen_vla_ros.serving.turns import BusyError, Turns
from qwen_vla_ros.serving.websocket import BINARY, GOING_AWAY, INTERNAL_ERROR, WebSocket
from qwen_vla_ros.serving.wire import Buffer
from qwen_vla_ros.types import ActionChunk, Policy, Prompt

log = logging.getLogger(__name__)

LOOK_UP_S = 0.5
"""How often a silent client's thread looks whether the server is ending."""
MESSAGE_S = 10.0
"""How long a request may take from its first byte to its last, or an answer to be taken."""

Send = Callable[[WebSocket, Sequence[Buffer], Deadline, int], None]


def send(websocket: WebSocket, parts: Sequence[Buffer], deadline: Deadline, opcode: int) -> None:
    """Send an answer, as it should be."""
    websocket.send(parts, deadline, opcode)


@dataclass(frozen=True, kw_only=True)
class Service:
    """What all sessions of a server share.

    Attributes:
        embodiment: The robot.
        request_s: How long a request may wait for its answer, whatever it says itself.
        answer: Sends an answer; one that does it badly helps to try out clients.
        recorder: Writes down what was answered.
        turns: Where everybody's inferences queue.
        metrics: What is counted.
        ending: Set when the server ends.
    """

    embodiment: Embodiment
    request_s: float
    answer: Send = send
    recorder: Recorder | None = None
    turns: Turns = field(default_factory=Turns)
    metrics: Metrics = field(default_factory=Metrics)
    ending: threading.Event = field(default_factory=threading.Event)


class Session:
    """Reads one client's requests and answers them, each in its turn."""

    def __init__(
        self, websocket: WebSocket, dialect: Dialect, policy: Policy, service: Service
    ) -> None:
        """Prepare a conversation.

        Args:
            websocket: The connection, greeted.
            dialect: What the client speaks.
            policy: What answers this client; nobody else resets it.
            service: What it shares with other clients.
        """
        self._websocket = websocket
        self._dialect = dialect
        self._policy = policy
        self._service = service
        self._is_fresh = True
        self._begun_s = 0.0
        self._episode = 0
        self._tells_state = service.embodiment.file.prompt.state_text
        self._last_prompt: tuple[str, Prompt] | None = None

    def run(self) -> None:
        """Serve until the client leaves or the server ends.

        Raises:
            OSError: The client is gone, or too slow.
            WireError: It does not speak websocket.
        """
        sign_of_life = SignOfLife(self._websocket)
        while not self._service.ending.is_set():
            message = self._websocket.poll(LOOK_UP_S, MESSAGE_S)
            if message is None:
                sign_of_life.look()
                continue
            begin_s = time.perf_counter()
            try:
                parts, opcode = self._answer(self._dialect.read(message), begin_s)
            except QwenVlaError as error:
                kind = "busy" if isinstance(error, BusyError) else "refused"
                self._service.metrics.on_error(self._dialect.name, kind)
                parts, opcode = self._dialect.refuse(printable(str(error)))
            except Exception as error:
                self._fail(error)
                return
            self._service.answer(self._websocket, parts, Deadline(MESSAGE_S), opcode)
        self._websocket.close(GOING_AWAY, "the server ends")

    def _answer(self, request: Request, begin_s: float) -> tuple[Sequence[Buffer], int]:
        prompt = self._prompt(request)
        self._is_fresh |= request.is_new_episode

        def infer() -> ActionChunk:
            if self._is_fresh:
                self._begin_episode()
            return self._policy.infer(request.observation, prompt, request.committed)

        deadline = Deadline(min(request.deadline_s, self._service.request_s))
        turn = self._service.turns.take(infer, deadline)
        total_s = time.perf_counter() - begin_s
        self._service.metrics.on_answer(self._dialect.name, turn.queue_s, turn.infer_s, total_s)
        self._record(turn.result, prompt)
        effort = Effort(turn.queue_s, turn.infer_s, total_s)
        return self._dialect.answer(turn.result, effort), BINARY

    def _fail(self, error: Exception) -> None:
        """Say goodbye after a defect of the policy, the way openpi's clients know it."""
        log.error("the policy failed", exc_info=error)
        self._service.metrics.on_error(self._dialect.name, "failed")
        sentence = printable(f"the policy failed: {type(error).__name__}: {error}")
        parts, opcode = self._dialect.refuse(sentence)
        self._websocket.send(parts, Deadline(MESSAGE_S), opcode)
        self._websocket.close(INTERNAL_ERROR, "the policy failed")

    def _begin_episode(self) -> None:
        self._policy.reset()
        self._begun_s, self._is_fresh = time.monotonic(), False
        if self._service.recorder is not None:
            self._episode = self._service.recorder.begin_episode()

    def _prompt(self, request: Request) -> Prompt:
        known = self._last_prompt
        if known is None or known[0] != request.instruction or self._tells_state:
            prompt = build_prompt(
                self._service.embodiment, request.instruction, request.observation.state
            )
            known = self._last_prompt = (request.instruction, prompt)
        return known[1]

    def _record(self, chunk: ActionChunk, prompt: Prompt) -> None:
        if self._service.recorder is not None and not chunk.rest:
            self._service.recorder.add(
                Record(
                    episode=self._episode,
                    elapsed_s=time.monotonic() - self._begun_s,
                    instruction=prompt.instruction,
                    actions=chunk.actions,
                )
            )
