"""The server's side of a conversation with one of openpi's clients."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.card import Card
from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.openpi_dictionary import OpenpiDictionary, no_openpi
from qwen_vla_ros.serving.request import Effort, Request
from qwen_vla_ros.serving.websocket import TEXT, Message, WebSocket
from qwen_vla_ros.serving.wire import Buffer, pack, unpack
from qwen_vla_ros.types import ActionChunk, FloatArray


class OpenpiDialect:
    """Dictionaries in, `{"actions": (H, c)}` out; an error is a text.

    There is no word for a new episode: every connection is one.
    """

    name = "openpi"

    def __init__(self, embodiment: Embodiment, instruction: str) -> None:
        self._embodiment = embodiment
        self._dictionary = None if embodiment.file.openpi is None else OpenpiDictionary(embodiment)
        self._instruction = instruction
        self._state: FloatArray = np.zeros(len(embodiment.channels))
        self._previous_s: float | None = None

    @classmethod
    def greet(
        cls,
        websocket: WebSocket,
        embodiment: Embodiment,
        card: Card,
        deadline: Deadline,
        *,
        instruction: str,
    ) -> OpenpiDialect:
        """Say who we are, as openpi's servers do before anything else.

        Args:
            websocket: The connection.
            embodiment: The robot.
            card: What is served.
            deadline: For the greeting.
            instruction: What the robot is asked where a dictionary says nothing.
        """
        dialect = cls(embodiment, instruction)
        about = {} if dialect._dictionary is None else {"openpi": dialect._dictionary.about}
        websocket.send([pack({**card.to_wire(), **about})], deadline)
        return dialect

    def read(self, message: Message) -> Request:
        """Understand a dictionary; see `Dialect`."""
        if self._dictionary is None:
            raise QwenVlaError(no_openpi(self._embodiment))
        # Its sender has no clock that we know of: it is as old as its arrival.
        observation, instruction = self._dictionary.observation(
            unpack(message), time.time_ns(), self._instruction
        )
        self._state = observation.state
        return Request(observation=observation, instruction=instruction)

    def answer(self, chunk: ActionChunk, effort: Effort) -> Sequence[Buffer]:
        """Return the actions; see `Dialect`."""
        assert self._dictionary is not None
        actions = chunk.actions
        if chunk.rest:
            # Its clients know no end of an episode: stay where you are.
            actions = np.tile(self._state, (self._embodiment.file.prompt.action_horizon, 1))
        timing = {"infer_ms": effort.infer_s * 1e3, "queue_ms": effort.queue_s * 1e3}
        if self._previous_s is not None:
            timing["prev_total_ms"] = self._previous_s * 1e3
        self._previous_s = effort.total_s
        stages = {f"{name}_ms": seconds * 1e3 for name, seconds in chunk.timings.items()}
        answer = {
            "actions": self._dictionary.actions_to_wire(actions),
            "server_timing": timing,
            "policy_timing": {"infer_ms": effort.infer_s * 1e3, **stages},
        }
        return [pack(answer)]

    def refuse(self, sentence: str) -> tuple[Sequence[Buffer], int]:
        """Return the sentence as a text; see `Dialect`."""
        return [sentence[:2000].encode()], TEXT
