"""What both ends of a websocket handshake share: one HTTP head, read by the library.

Only the head is left to the library. What comes behind it are frames, and those are read by
`WebSocket`.
"""

from __future__ import annotations

import logging
import socket

from websockets.client import ClientProtocol
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.deadline import Deadline

SUBPROTOCOL = Subprotocol("qwen-vla.1")
"""Asks for this project's own messages. A client that does not is one of openpi's."""

MAX_HEAD_BYTES = 64 * 1024
END_OF_HEAD = b"\r\n\r\n"
KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2))

QUIET = logging.getLogger(f"{__name__}.library")
"""At DEBUG the library would write every header into the log, and the token is one."""
QUIET.setLevel(logging.CRITICAL)


class HandshakeError(QwenVlaError):
    """The other end is not what was asked for, or does not want us."""


def read_head(
    connected: socket.socket, deadline: Deadline, begins_with: bytes
) -> tuple[bytes, bytes]:
    """Return one HTTP head, and what came behind it.

    Args:
        connected: The socket.
        deadline: For all of it.
        begins_with: How every such head begins; anything else is not waited for.

    Raises:
        HandshakeError: The other end closes, or sends something else.
        OSError: The connection is lost, or nothing comes in time.
    """
    head = b""
    while END_OF_HEAD not in head:
        connected.settimeout(deadline.left())
        received = connected.recv(MAX_HEAD_BYTES)
        head += received
        count = min(len(head), len(begins_with))
        is_http = head[:count] == begins_with[:count]
        if not received or not is_http or len(head) > MAX_HEAD_BYTES:
            raise HandshakeError("what it sends is no HTTP, or does not end")
    end = head.index(END_OF_HEAD) + len(END_OF_HEAD)
    return head[:end], head[end:]


def feed(protocol: ClientProtocol | ServerProtocol, head: bytes) -> None:
    """Let the library read a head.

    Raises:
        HandshakeError: It does not like it.
    """
    protocol.receive_data(head)
    if protocol.handshake_exc is not None:
        raise HandshakeError(f"{protocol.handshake_exc}")


def tune(connected: socket.socket) -> None:
    """Send small messages at once, and notice a peer whose machine is gone within 15 s."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        if hasattr(socket, option):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
