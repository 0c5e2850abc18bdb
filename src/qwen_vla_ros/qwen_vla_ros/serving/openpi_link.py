"""The client's side of openpi's messages: one connection to one of openpi's servers."""

from __future__ import annotations

import math
import time
from typing import Self

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.serving.address import ServerAddress
from qwen_vla_ros.serving.call import call
from qwen_vla_ros.serving.card import Card
from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.fields import Fields
from qwen_vla_ros.serving.link import IDLE_LOOK_S, LONGEST_ANSWER, Question, RefusalError
from qwen_vla_ros.serving.openpi_dictionary import OpenpiDictionary
from qwen_vla_ros.serving.websocket import CONTROL_S, WebSocket
from qwen_vla_ros.serving.wire import WireError, pack, unpack
from qwen_vla_ros.types import ActionChunk

MOST_ROWS = 1024


class OpenpiLink:
    """A connection whose server says little of itself: every answer is looked at all the more."""

    def __init__(
        self, websocket: WebSocket, embodiment: Embodiment, dictionary: OpenpiDictionary
    ) -> None:
        self._websocket = websocket
        self._embodiment = embodiment
        self._dictionary = dictionary

    @classmethod
    def open(cls, address: ServerAddress, embodiment: Embodiment, deadline: Deadline) -> Self:
        """Connect, and hear what the server says of itself.

        Raises:
            QwenVlaError: The server cannot be reached, refuses, or says that it serves another
                robot; or this robot's file has no `openpi` block.
        """
        dictionary = OpenpiDictionary(embodiment)
        websocket = call(address, deadline, wants_own=False, max_bytes=LONGEST_ANSWER)
        try:
            metadata = Fields(unpack(websocket.receive(deadline)))
            if "embodiment_hash" in metadata:
                Card.from_wire(metadata).require(embodiment)
        except BaseException:
            websocket.abandon()
            raise
        return cls(websocket, embodiment, dictionary)

    def ask(self, question: Question, deadline: Deadline) -> ActionChunk:
        """Return the server's answer; see `Link`."""
        begin_s = time.perf_counter()
        entries = self._dictionary.dictionary(question.observation, question.instruction)
        packed = pack(entries)
        packed_s = time.perf_counter()
        self._websocket.send([packed], deadline)
        message = self._websocket.receive(deadline)
        if isinstance(message, str):
            raise RefusalError(f"the server answers: {_last_line(message)}")
        answer = Fields(unpack(message))
        ours = self._embodiment
        actions = answer.rows("actions", len(ours.channels), MOST_ROWS)
        if not len(actions):
            raise WireError("'actions': no rows.")
        horizon = ours.file.prompt.action_horizon
        infer_s = _infer_s(answer)
        return ActionChunk(
            stamp_ns=question.observation.stamp_ns,
            dt=ours.dt,
            channels=ours.channels,
            actions=self._dictionary.actions_from_wire(np.asarray(actions[:horizon])),
            embodiment=ours.name,
            embodiment_hash=ours.hash,
            timings={
                "preprocess": packed_s - begin_s,
                "server": infer_s,
                "network": max(0.0, time.perf_counter() - packed_s - infer_s),
            },
        )

    def is_alive(self) -> bool:
        """Look at what has come meanwhile; see `Link`."""
        return self._websocket.poll(IDLE_LOOK_S, CONTROL_S) is None

    def close(self) -> None:
        """Close at once."""
        self._websocket.abandon()


def _infer_s(answer: Fields) -> float:
    """Return what the server says that it needed, 0 where it says nothing that makes sense."""
    timing = answer.seconds("server_timing") if "server_timing" in answer else {}
    infer_s = timing.get("infer_ms", 0.0) / 1e3
    return infer_s if math.isfinite(infer_s) else 0.0


def _last_line(text: str) -> str:
    """Return the last line of what is usually a traceback."""
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "nothing"
