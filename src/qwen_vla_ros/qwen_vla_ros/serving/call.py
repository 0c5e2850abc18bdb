"""The client's side of a handshake: from an address to a websocket."""

from __future__ import annotations

import socket

from websockets.client import ClientProtocol

from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.serving.address import ServerAddress
from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.http_head import (
    QUIET,
    SUBPROTOCOL,
    HandshakeError,
    feed,
    read_head,
    tune,
)
from qwen_vla_ros.serving.websocket import WebSocket

REFUSALS = {
    "401": "it wants a token, or another one: set $QWEN_VLA_TOKEN or server_token_file",
    "503": "it has no room for another client",
}


def call(
    address: ServerAddress, deadline: Deadline, *, wants_own: bool, max_bytes: int
) -> WebSocket:
    """Connect to a server.

    Args:
        address: Where it is.
        deadline: For all of it, but the look-up of the host's name.
        wants_own: Speak this project's messages, and not openpi's.
        max_bytes: Longest message that is received later.

    Raises:
        NotReadyError: The server cannot be reached.
        HandshakeError: It refuses, or is another kind of server.
    """
    uri, tls = address.parsed, address.tls()
    try:
        connected = socket.create_connection((uri.host, uri.port), timeout=deadline.left())
    except OSError as error:
        raise NotReadyError(f"it cannot be reached: {error}") from error
    try:
        tune(connected)
        if tls is not None:
            connected = tls.wrap_socket(connected, server_hostname=uri.host)
        early = _shake_hands(connected, address, deadline, wants_own=wants_own)
    except OSError as error:
        connected.close()
        raise HandshakeError(f"no handshake: {error}") from error
    except HandshakeError:
        connected.close()
        raise
    return WebSocket(connected, is_client=True, early=early, max_bytes=max_bytes)


def _shake_hands(
    connected: socket.socket, address: ServerAddress, deadline: Deadline, *, wants_own: bool
) -> bytes:
    offered = [SUBPROTOCOL] if wants_own else None
    protocol = ClientProtocol(address.parsed, subprotocols=offered, logger=QUIET)
    request = protocol.connect()
    if address.token:
        request.headers["Authorization"] = f"Api-Key {address.token}"
    protocol.send_request(request)
    connected.settimeout(deadline.left())
    connected.sendall(b"".join(protocol.data_to_send()))
    head, early = read_head(connected, deadline, b"HTTP/1.1 ")
    status = head.partition(b"\r\n")[0].decode("ascii", "replace")
    if " 101 " not in status:
        raise HandshakeError(REFUSALS.get(status[9:12], f"it answers {status[:60]!r}"))
    feed(protocol, head)
    if wants_own and protocol.subprotocol != SUBPROTOCOL:
        raise HandshakeError(
            f"it does not speak {SUBPROTOCOL}; if it is one of openpi's, set server_protocol to "
            "openpi"
        )
    return early
