"""The client's side of this project's own messages: one connection to one server."""

from __future__ import annotations

import itertools
import secrets
import time
from typing import Self

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.serving.address import ServerAddress
from qwen_vla_ros.serving.call import call
from qwen_vla_ros.serving.card import PROTOCOL, Card
from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.fields import Fields
from qwen_vla_ros.serving.http_head import HandshakeError
from qwen_vla_ros.serving.image_block import ImageBlock
from qwen_vla_ros.serving.link import IDLE_LOOK_S, Question, RefusalError
from qwen_vla_ros.serving.native_messages import (
    CLIENT_LETTERS,
    ERROR,
    REST,
    Answer,
    read_answer,
    write_request,
)
from qwen_vla_ros.serving.websocket import CONTROL_S, WebSocket
from qwen_vla_ros.serving.wire import SMALL_BYTES, WireError, pack, unpack_small
from qwen_vla_ros.types import ActionChunk, rest_chunk


class NativeLink:
    """A connection whose server has shown that it serves this very robot."""

    def __init__(self, websocket: WebSocket, embodiment: Embodiment, card: Card) -> None:
        self._websocket = websocket
        self._embodiment = embodiment
        self._block = ImageBlock(embodiment)
        self._robot = embodiment.name.encode(), embodiment.hash.encode()
        self._client = secrets.token_hex(CLIENT_LETTERS // 2).encode()
        self._ids = itertools.count(1)
        self._horizon = embodiment.file.prompt.action_horizon
        self.model = card.model

    @classmethod
    def open(cls, address: ServerAddress, embodiment: Embodiment, deadline: Deadline) -> Self:
        """Connect, and check that the answers will be for this robot.

        Args:
            address: Where the server is.
            embodiment: The robot.
            deadline: For all of it.

        Raises:
            QwenVlaError: The server cannot be reached, refuses, or serves another robot.
        """
        websocket = call(address, deadline, wants_own=True, max_bytes=SMALL_BYTES)
        try:
            card = Card.from_wire(Fields(unpack_small(websocket.receive(deadline))))
            card.require(embodiment)
            link = cls(websocket, embodiment, card)
            link._greet(deadline)
        except BaseException:
            websocket.abandon()
            raise
        return link

    def ask(self, question: Question, deadline: Deadline) -> ActionChunk:
        """Return the server's answer; see `Link`."""
        begin_s = time.perf_counter()
        number = next(self._ids)
        images = self._block.parts(question.observation)
        parts = write_request(question, number=number, deadline_s=deadline.left())
        parts += [np.ascontiguousarray(image).data for image in images]
        self._websocket.send(parts, deadline)
        message = self._websocket.receive(deadline)
        answer = read_answer(message, len(self._embodiment.channels), self._horizon)
        if answer.id != number or answer.client != self._client:
            raise WireError("the answer is for another client, or to another question.")
        stamp_ns = question.observation.stamp_ns
        return self._chunk(answer, stamp_ns, time.perf_counter() - begin_s)

    def is_alive(self) -> bool:
        """Look at what has come meanwhile; see `Link`."""
        # Between two questions a server says nothing but pings.
        return self._websocket.poll(IDLE_LOOK_S, CONTROL_S) is None

    def close(self) -> None:
        """Close at once."""
        self._websocket.abandon()

    def _greet(self, deadline: Deadline) -> None:
        hello = {
            "protocol": PROTOCOL,
            "client": self._client.decode(),
            "embodiment": self._embodiment.name,
            "embodiment_hash": self._embodiment.hash,
        }
        self._websocket.send([pack(hello)], deadline)
        welcome = Fields(unpack_small(self._websocket.receive(deadline)))
        if "error" in welcome:
            raise HandshakeError(f"the server refuses: {welcome.text('error', 1000)}")
        if welcome.text("welcome").encode() != self._client:
            raise WireError("the server greets somebody else.")

    def _chunk(self, answer: Answer, stamp_ns: int, round_trip_s: float) -> ActionChunk:
        ours = self._embodiment
        robot, version = answer.embodiment, answer.embodiment_hash
        if answer.flags & ERROR:
            raise RefusalError(f"the server answers: {robot.decode(errors='replace')}")
        if (robot, version) != self._robot:
            raise WireError(
                f"the answer is for robot {robot!r} ({version!r}), not '{ours.name}' "
                f"({ours.hash})."
            )
        if answer.flags & REST:
            return rest_chunk(stamp_ns, ours.dt, ours.channels)
        if not len(answer.actions):
            raise WireError("an answer without rows.")
        timings = {
            **answer.timings,
            "queue": answer.queue_s,
            "network": max(0.0, round_trip_s - answer.total_s),
        }
        return ActionChunk(
            stamp_ns=stamp_ns,
            dt=ours.dt,
            channels=ours.channels,
            actions=answer.actions,
            embodiment=ours.name,
            embodiment_hash=ours.hash,
            timings=timings,
        )
