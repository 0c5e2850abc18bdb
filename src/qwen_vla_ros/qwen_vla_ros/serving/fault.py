"""Faults on request: what a broken server does, so that its clients can be tried out."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
from dataclasses import dataclass

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from qwen_vla_ros.options import CONNECTION_FAULTS
from qwen_vla_ros.serving.dialect import Message

DRIP_S = 0.05
HUGE_BYTES = 2 * 2**30
LARGE_HEAD = b"\x82\x7f"
"""Begins a binary frame whose length follows in 8 bytes (RFC 6455, 5.2)."""


@dataclass(kw_only=True)
class Fault:
    """One kind of fault, and which answers it spoils.

    Attributes:
        kind: What goes wrong: `nan` and `wrong_robot` spoil the answer, `slow` delays it by 1 s,
            `hang` never answers, `drip` answers a byte at a time, `huge` announces and sends two
            gigabytes, `garbage` is no message, `close` breaks the connection off, `half_open`
            falls silent for good, pings included, without closing.
        after: How many answers are good at first.
        every: Which of the answers after those are bad; 1 is all of them.
    """

    kind: str
    after: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        """Begin to count."""
        self._lock = threading.Lock()
        self._answers = itertools.count()

    def applies_to(self, kind: str) -> bool:
        """Count an answer if it is this fault's to spoil, and say whether it is spoilt."""
        if kind != self.kind:
            return False
        with self._lock:
            number = next(self._answers) - self.after
        return number >= 0 and number % self.every == 0

    async def send(self, connection: ServerConnection, message: Message) -> None:
        """Send an answer well, or badly; what lasts is ended by the session's patience."""
        if self.kind not in CONNECTION_FAULTS or not self.applies_to(self.kind):
            await connection.send(message)
        elif self.kind == "hang":
            await connection.wait_closed()
        elif self.kind == "half_open":
            connection.transport.pause_reading()
            await asyncio.Event().wait()
        elif self.kind == "drip":
            await self._drip(connection, message)
        elif self.kind == "huge":
            await self._flood(connection)
        elif self.kind == "garbage":
            connection.transport.write(secrets.token_bytes(4096))
        else:
            connection.transport.abort()

    async def _drip(self, connection: ServerConnection, message: Message) -> None:
        # The head promises the whole answer; after that one byte comes at a time.
        wire = connection.transport
        content = message.encode() if isinstance(message, str) else message
        wire.write(LARGE_HEAD + len(content).to_bytes(8, "big"))
        for byte in content:
            await asyncio.sleep(DRIP_S)
            if connection.state is not State.OPEN:
                return  # the client has had enough
            wire.write(bytes([byte]))

    async def _flood(self, connection: ServerConnection) -> None:
        wire = connection.transport
        piece = bytes(2**20)
        wire.write(LARGE_HEAD + HUGE_BYTES.to_bytes(8, "big"))
        for _ in range(HUGE_BYTES // len(piece)):
            while wire.get_write_buffer_size() > len(piece):
                await asyncio.sleep(0.001)
            if connection.state is not State.OPEN:
                return
            wire.write(piece)
