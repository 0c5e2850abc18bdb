"""One client from its first message to its last."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.problems import printable
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.serving.dialect import Message, ServerEnd
from qwen_vla_ros.serving.inference import BusyError, InferenceThread
from qwen_vla_ros.serving.metrics import Metrics
from qwen_vla_ros.serving.recording import Record, Recorder
from qwen_vla_ros.serving.request import InferenceRequest
from qwen_vla_ros.types import ActionChunk, Policy, Prompt

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""How long a client may take to receive an answer."""

Send = Callable[[ServerConnection, Message], Awaitable[None]]


async def send(connection: ServerConnection, message: Message) -> None:
    """Send an answer, as it should be."""
    await connection.send(message)


@dataclass(frozen=True, kw_only=True)
class Service:
    """What all sessions of a server share.

    Attributes:
        embodiment: The robot.
        request_s: How long a request may wait for its answer, whatever it says itself.
        inference: The thread in which everybody's requests queue.
        send: Sends an answer; one that does it badly helps to try out clients.
        recorder: Writes down what was answered.
        metrics: What is counted.
    """

    embodiment: Embodiment
    request_s: float
    inference: InferenceThread
    send: Send = send
    recorder: Recorder | None = None
    metrics: Metrics = field(default_factory=Metrics)


class Session:
    """Reads one client's messages and answers them, one after the other."""

    def __init__(self, dialect: str, end: ServerEnd, policy: Policy, service: Service) -> None:
        """Prepare a conversation.

        Args:
            dialect: What the client speaks, by name.
            end: The same, in deed.
            policy: What answers this client; nobody else resets it.
            service: What it shares with other clients.
        """
        self._dialect = dialect
        self._end = end
        self._policy = policy
        self._service = service
        self._is_new_episode = True
        self._episode = 0
        self._begun_s = 0.0
        self._last_prompt: tuple[str, Prompt] | None = None

    async def run(self, connection: ServerConnection) -> None:
        """Serve until the client leaves, is lost, or the server ends."""
        try:
            if (greeting := self._end.greeting()) is not None:
                await connection.send(greeting)
            async for message in connection:
                self._service.metrics.on_message("received", len(message))
                if (reply := await self._reply(message)) is not None:
                    await self._answer(connection, reply)
        except ConnectionClosed as error:
            log.info("a client is lost: %s", printable(str(error))[:300])
        except TimeoutError:
            connection.transport.abort()
            log.info("a client is given up: it takes no answer within %g s", ANSWER_S)
        except Exception as error:
            log.exception("the policy failed")
            self._service.metrics.on_error(self._dialect, "failed")
            sentence = printable(f"the policy failed: {type(error).__name__}: {error}")
            await self._answer(connection, self._end.refuse(sentence))
            await connection.close(CloseCode.INTERNAL_ERROR, "the policy failed")

    async def _answer(self, connection: ServerConnection, message: Message) -> None:
        self._service.metrics.on_message("sent", len(message))
        async with asyncio.timeout(ANSWER_S):
            await self._service.send(connection, message)

    async def _reply(self, message: Message) -> Message | None:
        try:
            request = self._end.read(message)
            return await self._infer(request) if isinstance(request, InferenceRequest) else request
        except QwenVlaError as error:
            kind = "busy" if isinstance(error, BusyError) else "refused"
            self._service.metrics.on_error(self._dialect, kind)
            return self._end.refuse(printable(str(error)))

    async def _infer(self, request: InferenceRequest) -> bytes:
        prompt = self._prompt(request)
        self._is_new_episode |= request.is_new_episode

        def infer() -> ActionChunk:
            if self._is_new_episode:
                self._begin_episode()
            return self._policy.infer(request.observation, prompt, request.committed)

        deadline_s = min(request.deadline_s, self._service.request_s)
        chunk, timing = await self._service.inference.infer(infer, deadline_s)
        self._service.metrics.on_answer(self._dialect, timing)
        if self._service.recorder is not None and not chunk.rest:
            self._service.recorder.add(
                Record(
                    episode=self._episode,
                    elapsed_s=time.monotonic() - self._begun_s,
                    instruction=prompt.instruction,
                    actions=chunk.actions.tolist(),
                )
            )
        return self._end.answer(chunk, timing)

    def _begin_episode(self) -> None:
        self._policy.reset()
        self._begun_s, self._is_new_episode = time.monotonic(), False
        if self._service.recorder is not None:
            self._episode = self._service.recorder.begin_episode()

    def _prompt(self, request: InferenceRequest) -> Prompt:
        """Return the prompt; the last one again where nothing in it can have changed."""
        known = self._last_prompt
        ours = self._service.embodiment
        if known is None or known[0] != request.instruction or ours.file.prompt.state_text:
            prompt = build_prompt(ours, request.instruction, request.observation.state)
            known = self._last_prompt = (request.instruction, prompt)
        return known[1]
