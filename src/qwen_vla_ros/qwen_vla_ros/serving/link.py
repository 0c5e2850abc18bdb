"""What a remote policy needs of a connection, whatever the server speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation

LONGEST_ANSWER = 2**20
"""Bytes. A chunk of 64 rows and 64 columns has 32 KiB; nobody may fill our memory with more."""

IDLE_LOOK_S = 0.001
"""As good as not to wait."""


class RefusalError(QwenVlaError):
    """The server says why it has no answer; the connection is as good as before."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a server.

    Attributes:
        observation: What the robot senses.
        instruction: What it is asked to do.
        committed: Rows that are played whatever the answer is; (d, c).
        is_new_episode: Whether this is the first question of an episode.
    """

    observation: Observation
    instruction: str
    committed: FloatArray | None
    is_new_episode: bool


class Link(Protocol):
    """One connection to one server."""

    def ask(self, question: Question, deadline: Deadline) -> ActionChunk:
        """Return the server's answer, checked.

        Raises:
            RefusalError: The server has none, and says why.
            WireError: What came is no answer to this question. The link is of no more use.
            OSError: Nothing came in time, or the connection is lost. The same.
        """
        ...

    def is_alive(self) -> bool:
        """Look at what came between two questions, and answer what needs an answer.

        Raises:
            WireError: Something came that should not.
            OSError: The connection is lost.
        """
        ...

    def close(self) -> None:
        """Close at once, without waiting for anything."""
        ...
