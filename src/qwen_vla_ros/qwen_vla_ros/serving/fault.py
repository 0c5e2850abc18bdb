"""Faults on request: what a broken server does, so that its clients can be tried out."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.websocket import WebSocket
from qwen_vla_ros.serving.wire import Buffer

OF_THE_POLICY = ("nan", "wrong_robot", "slow")
OF_THE_CONNECTION = ("hang", "drip", "huge", "garbage", "close", "half_open")
FAULTS = (*OF_THE_POLICY, *OF_THE_CONNECTION)

DRIP_S = 0.05
HUGE_BYTES = 2 * 2**30
LONGEST_FAULT_S = 3600.0


@dataclass(kw_only=True)
class Fault:
    """One kind of fault, and when it strikes.

    Attributes:
        kind: One of `FAULTS`: `nan` and `wrong_robot` spoil the answer, `slow` delays it by 1 s,
            `hang` never answers, `drip` answers a byte at a time, `huge` announces and sends two
            gigabytes, `garbage` is no message, `close` breaks the connection off, `half_open`
            falls silent for good without closing.
        after: How many answers are good at first.
        every: Which of the answers after those are bad; 1 is all of them.
        ending: Set when the server ends, and with it every fault that lasts.
    """

    kind: str
    after: int = 0
    every: int = 1
    ending: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Begin to count."""
        self._lock = threading.Lock()
        self._answers = 0

    def strikes(self, kind: str) -> bool:
        """Count an answer if it is this fault's to spoil, and say whether it is spoilt."""
        if kind != self.kind:
            return False
        with self._lock:
            self._answers += 1
            return (
                self._answers > self.after and (self._answers - self.after - 1) % self.every == 0
            )

    def send(
        self, websocket: WebSocket, parts: Sequence[Buffer], deadline: Deadline, opcode: int
    ) -> None:
        """Send an answer well, or badly."""
        if self.kind not in OF_THE_CONNECTION or not self.strikes(self.kind):
            websocket.send(parts, deadline, opcode)
        elif self.kind == "hang":
            self._wait_for_the_end_of(websocket)
        elif self.kind == "half_open":
            self.ending.wait(LONGEST_FAULT_S)
        elif self.kind == "drip":
            self._drip(websocket, parts)
        elif self.kind == "huge":
            self._flood(websocket)
        elif self.kind == "garbage":
            websocket.send_raw(secrets.token_bytes(4096), deadline)
        else:
            websocket.abandon()

    def _wait_for_the_end_of(self, websocket: WebSocket) -> None:
        while not self.ending.is_set() and websocket.poll(0.2, 1.0) is None:
            pass

    def _drip(self, websocket: WebSocket, parts: Sequence[Buffer]) -> None:
        # The header promises the whole answer; after that one byte comes at a time.
        content = b"".join(bytes(part) for part in parts)
        websocket.send_raw(b"\x82\x7f" + len(content).to_bytes(8, "big"), Deadline(DRIP_S))
        for byte in content:
            if self.ending.wait(DRIP_S):
                return
            websocket.send_raw(bytes([byte]), Deadline(DRIP_S))

    def _flood(self, websocket: WebSocket) -> None:
        piece = bytes(2**20)
        websocket.send_raw(b"\x82\x7f" + HUGE_BYTES.to_bytes(8, "big"), Deadline(1.0))
        for _ in range(HUGE_BYTES // len(piece)):
            if self.ending.is_set():
                return
            websocket.send_raw(piece, Deadline(1.0))
