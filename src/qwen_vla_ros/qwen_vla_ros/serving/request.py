"""What one client asks, whichever way it said so, and how it is answered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from qwen_vla_ros.serving.websocket import Message
from qwen_vla_ros.serving.wire import Buffer
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question.

    Attributes:
        observation: What the client's robot senses.
        instruction: What it is asked, as the client wrote it.
        committed: Rows that are played whatever the answer is; (d, c).
        is_new_episode: Whether everything before is to be forgotten.
        deadline_s: Seconds after which nobody waits for the answer any more.
    """

    observation: Observation
    instruction: str
    committed: FloatArray | None = None
    is_new_episode: bool = False
    deadline_s: float = math.inf


class Effort(NamedTuple):
    """Seconds that an answer took on the server.

    Attributes:
        queue_s: Until its turn came.
        infer_s: The policy itself.
        total_s: From the request's last byte on.
    """

    queue_s: float
    infer_s: float
    total_s: float


class Dialect(Protocol):
    """One way to speak with a client: this project's or openpi's."""

    name: str

    def read(self, message: Message) -> Request:
        """Understand a request.

        Raises:
            QwenVlaError: It cannot be used; the sentence is for the client.
        """
        ...

    def answer(self, chunk: ActionChunk, effort: Effort) -> Sequence[Buffer]:
        """Return the answer to the last request, as one binary message."""
        ...

    def refuse(self, sentence: str) -> tuple[Sequence[Buffer], int]:
        """Return what tells the client why there is no answer, and its opcode."""
        ...
