"""The server's side of a conversation with one `RemotePolicy`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.card import PROTOCOL, Card
from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.fields import Fields
from qwen_vla_ros.serving.image_block import ImageBlock
from qwen_vla_ros.serving.native_messages import (
    CLIENT_LETTERS,
    ERROR,
    REST,
    Answer,
    number_of,
    read_request,
    write_answer,
)
from qwen_vla_ros.serving.request import Effort, Request
from qwen_vla_ros.serving.websocket import BINARY, Message, WebSocket
from qwen_vla_ros.serving.wire import Buffer, WireError, pack, unpack_small
from qwen_vla_ros.types import ActionChunk


class NativeDialect:
    """Requests of this project's own, with images behind them."""

    name = "qwen_vla"

    def __init__(self, embodiment: Embodiment, client: str) -> None:
        self._embodiment = embodiment
        self._client = client.encode()
        self._block = ImageBlock(embodiment)
        self._id = 0

    @classmethod
    def greet(
        cls, websocket: WebSocket, embodiment: Embodiment, card: Card, deadline: Deadline
    ) -> NativeDialect:
        """Say who we are, and hear who the client is.

        Raises:
            QwenVlaError: The client is for another robot; it has been told.
        """
        websocket.send([pack(card.to_wire())], deadline)
        hello = Fields(unpack_small(websocket.receive(deadline)))
        dialect = cls(embodiment, hello.text("client", CLIENT_LETTERS))
        try:
            dialect._require(hello)
        except QwenVlaError as error:
            websocket.send([pack({"error": str(error)})], deadline)
            raise
        websocket.send([pack({"welcome": hello.text("client")})], deadline)
        return dialect

    def read(self, message: Message) -> Request:
        """Understand a request; see `Dialect`."""
        # First of all the number: a refusal is an answer to this question, not to the last one.
        self._id = number_of(message)
        return read_request(message, self._block, self._embodiment)

    def answer(self, chunk: ActionChunk, effort: Effort) -> Sequence[Buffer]:
        """Return an answer; see `Dialect`."""
        return write_answer(
            Answer(
                self._id,
                self._client,
                (chunk.embodiment or self._embodiment.name).encode(),
                (chunk.embodiment_hash or self._embodiment.hash).encode(),
                chunk.actions,
                REST if chunk.rest else 0,
                effort.queue_s,
                effort.total_s,
                chunk.timings,
            )
        )

    def refuse(self, sentence: str) -> tuple[Sequence[Buffer], int]:
        """Return what tells the client why there is no answer; see `Dialect`."""
        words, nothing = sentence[:1000].encode(), np.empty((0, len(self._embodiment.channels)))
        answer = Answer(self._id, self._client, words, b"", nothing, ERROR, 0.0, 0.0, {})
        return write_answer(answer), BINARY

    def _require(self, hello: Fields) -> None:
        if hello.whole("protocol") != PROTOCOL:
            raise WireError(
                f"this server speaks version {PROTOCOL} of the protocol, and only that."
            )
        name, version = hello.text("embodiment"), hello.text("embodiment_hash")
        if (name, version) != (self._embodiment.name, self._embodiment.hash):
            raise WireError(
                f"this server serves robot '{self._embodiment.name}' ({self._embodiment.hash}), "
                f"not '{name}' ({version})."
            )
