"""The server's side of a handshake: what a client asks for before it is let in."""

from __future__ import annotations

import hmac
import http
import socket
from collections.abc import Sequence
from typing import Self

from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.http_head import QUIET, SUBPROTOCOL, HandshakeError, feed, read_head
from qwen_vla_ros.serving.websocket import WebSocket


class Knock:
    """One HTTP request, not answered yet."""

    def __init__(
        self,
        connected: socket.socket,
        protocol: ServerProtocol,
        request: Request,
        early: bytes,
        deadline: Deadline,
    ) -> None:
        self._socket = connected
        self._protocol = protocol
        self._request = request
        self._early = early
        self._deadline = deadline

    @classmethod
    def read(cls, connected: socket.socket, deadline: Deadline) -> Self:
        """Read the request of a client that has just connected.

        Raises:
            HandshakeError: It is no HTTP.
            OSError: The client is gone, or not done in time.
        """
        # A browser always says which page it comes from, and no page may drive a robot.
        protocol = ServerProtocol(origins=[None], select_subprotocol=_select, logger=QUIET)
        head, early = read_head(connected, deadline, b"GET /")
        feed(protocol, head)
        for event in protocol.events_received():
            if isinstance(event, Request):
                return cls(connected, protocol, event, early, deadline)
        raise HandshakeError("what it sends is no HTTP request")

    @property
    def page(self) -> str:
        """Path of what is asked for."""
        return self._request.path.partition("?")[0]

    def knows(self, token: str) -> bool:
        """Say whether the client knows the token; an empty one is known to everybody."""
        given = self._request.headers.get_all("Authorization")
        if not token:
            return True
        said = given[0].encode(errors="replace") if len(given) == 1 else b""
        return hmac.compare_digest(said, f"Api-Key {token}".encode())

    def answer(self, status: http.HTTPStatus, text: str) -> None:
        """Answer with a page, or with a refusal."""
        response = self._protocol.reject(status, text)
        if status == http.HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Api-Key"
        self._respond(response)

    def accept(self) -> tuple[WebSocket, bool]:
        """Open the websocket; returns it, and whether the client wants our own messages.

        Raises:
            HandshakeError: The request is for no websocket, or comes from a browser.
        """
        response = self._protocol.accept(self._request)
        self._respond(response)
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            raise HandshakeError(f"{self._protocol.handshake_exc}")
        websocket = WebSocket(self._socket, is_client=False, early=self._early)
        return websocket, self._protocol.subprotocol == SUBPROTOCOL

    def _respond(self, response: Response) -> None:
        self._protocol.send_response(response)
        self._socket.settimeout(self._deadline.left())
        self._socket.sendall(b"".join(self._protocol.data_to_send()))


def _select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return SUBPROTOCOL if SUBPROTOCOL in offered else None
