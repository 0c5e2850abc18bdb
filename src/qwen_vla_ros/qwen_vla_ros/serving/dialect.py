"""One way to speak: what a dialect's file has, for either end of a connection.

Both ends are free of input and output: they read one message and say what is sent next, so that a
recorded conversation is their test.
"""

from __future__ import annotations

from types import ModuleType
from typing import Protocol

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.options import DIALECTS
from qwen_vla_ros.plugins import load_plugin
from qwen_vla_ros.serving.metadata import ServerMetadata
from qwen_vla_ros.serving.request import InferenceRequest, ServerTiming
from qwen_vla_ros.types import ActionChunk

Message = bytes | str
"""A message of the websocket, binary or text."""


class RefusalError(QwenVlaError):
    """The server says why it has no answer; the connection is as good as before."""


class ServerEnd(Protocol):
    """The server's end of one connection; a dialect's `Server(embodiment, metadata, instruction)`.

    `instruction` is what the robot is asked where a client says nothing.
    """

    def greeting(self) -> bytes | None:
        """Return what the server says before anything else, if it does."""
        ...

    def read(self, message: Message) -> InferenceRequest | bytes | None:
        """Understand a message: a request, or what is sent back at once, or neither.

        Raises:
            QwenVlaError: It cannot be used; the sentence is for the client.
        """
        ...

    def answer(self, chunk: ActionChunk, timing: ServerTiming) -> bytes:
        """Return the answer to the last request."""
        ...

    def refuse(self, sentence: str) -> Message:
        """Return what tells the client why there is no answer to its last message."""
        ...


class ClientEnd(Protocol):
    """The client's end of one connection; a dialect's `Client(embodiment)`.

    Attributes:
        knows_robot: Whether the welcome has shown that the server serves this very robot; where
            it has not, only an answer can.
    """

    knows_robot: bool

    def hello(self) -> bytes | None:
        """Return what the client says before it listens, if it does."""
        ...

    def welcome(self, message: Message) -> None:
        """Read the first message of the server.

        Raises:
            QwenVlaError: It is none that can be used, or the server serves another robot.
        """
        ...

    def ask(self, request: InferenceRequest) -> list[bytes]:
        """Return the messages that ask a request; the last one is answered."""
        ...

    def read(self, message: Message, request: InferenceRequest) -> ActionChunk:
        """Return the answer to the request.

        Raises:
            RefusalError: The server has none, and says why.
            WireError: It is no answer to this request. The connection is of no more use.
        """
        ...


def load_dialect(name: str) -> ModuleType:
    """Return a dialect's module.

    Raises:
        QwenVlaError: There is none of that name.
    """
    return load_plugin(DIALECTS, name)


def open_server(
    name: str, embodiment: Embodiment, metadata: ServerMetadata, instruction: str
) -> ServerEnd:
    """Return the server's end of a new connection."""
    end: ServerEnd = load_dialect(name).Server(embodiment, metadata, instruction)
    return end


def open_client(name: str, embodiment: Embodiment) -> ClientEnd:
    """Return the client's end of a new connection."""
    end: ClientEnd = load_dialect(name).Client(embodiment)
    return end
