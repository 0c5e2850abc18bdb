"""Serves one robot's policy to several clients, on one port: this project's own and openpi's."""

from __future__ import annotations

import contextlib
import http
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.problems import printable
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.address import is_loopback
from qwen_vla_ros.serving.card import Card
from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.http_head import tune
from qwen_vla_ros.serving.image_block import ImageBlock
from qwen_vla_ros.serving.knock import Knock
from qwen_vla_ros.serving.native import NativeDialect
from qwen_vla_ros.serving.openpi_dialect import OpenpiDialect
from qwen_vla_ros.serving.recording import Recorder
from qwen_vla_ros.serving.request import Dialect
from qwen_vla_ros.serving.session import Send, Service, Session, send
from qwen_vla_ros.serving.websocket import PROTOCOL_ERROR, WebSocket
from qwen_vla_ros.types import Policy

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0
ACCEPT_S = 0.05
"""How often the listening thread looks whether the server is ending."""
ENDING_S = 2.0
"""How long clients may take to hear that the server ends."""
SPARE_CONNECTIONS = 16
"""Connections beyond the clients: for monitors, and for those that are being refused."""
OPEN_PAGE = "/healthz"
METRICS_PAGE = "/metrics"


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a server listens.

    Attributes:
        host: Address to listen on. Other machines can reach it unless it is a loopback address.
        port: 0 lets the system choose.
        token: What clients must know; needed on every host but loopback.
        tls: Certificate and key, for wss.
        max_clients: More are sent away.
        request_s: How long a request may wait for its answer, at most.
        instruction: What the robot is asked where a dictionary of openpi's says nothing.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    max_clients: int = 16
    request_s: float = 10.0
    instruction: str = ""


class PolicyServer:
    """Listens from the moment it exists; `serve` answers until `end`."""

    def __init__(
        self,
        embodiment: Embodiment,
        open_policy: Callable[[], Policy],
        model: str,
        settings: ServerSettings,
        *,
        answer: Send = send,
        recorder: Recorder | None = None,
    ) -> None:
        """Begin to listen.

        Args:
            embodiment: The robot that is served.
            open_policy: Makes the policy of one client; those of several may share a model, since
                they are only ever used one after the other, in one thread.
            model: What answers, in a word or two.
            settings: How to listen.
            answer: Sends an answer; one that does it badly helps to try out clients.
            recorder: Writes down what was answered.

        Raises:
            QwenVlaError: The address cannot be had, or is open to others without a token.
        """
        ImageBlock(embodiment)  # refuses a robot whose images no message could hold
        self._service = Service(
            embodiment=embodiment,
            request_s=settings.request_s,
            answer=answer,
            recorder=recorder,
        )
        self._embodiment = embodiment
        self._open_policy = open_policy
        self._card = Card.of(embodiment, model)
        self._settings = settings
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._clients = 0
        self._listener = _listen(settings)
        self.port = int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Answer until `end` is called, then say goodbye to every client."""
        self._listener.settimeout(ACCEPT_S)
        while not self._service.ending.is_set():
            try:
                connected, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                log.warning("no connection can be taken: %s", error)
                self._service.ending.wait(ACCEPT_S)
                continue
            self._take(connected)
        self._listener.close()
        self._part()

    def end(self) -> None:
        """Make `serve` return soon; a signal handler may call this."""
        self._service.ending.set()

    def _take(self, connected: socket.socket) -> None:
        thread = threading.Thread(target=self._run, args=(connected,), daemon=True)
        with self._lock:
            has_room = len(self._connections) < self._settings.max_clients + SPARE_CONNECTIONS
            if has_room:
                self._connections[thread] = connected
        if has_room:
            thread.start()
        else:
            connected.close()
            self._service.metrics.on_refusal("too many connections")

    def _part(self) -> None:
        """Let every client's thread say goodbye; break off what takes too long."""
        end_s = time.monotonic() + ENDING_S
        with self._lock:
            left = dict(self._connections)
        for thread, connected in left.items():
            thread.join(max(0.0, end_s - time.monotonic()))
            if thread.is_alive():
                with contextlib.suppress(OSError):  # it may just have ended
                    connected.shutdown(socket.SHUT_RDWR)

    def _run(self, connected: socket.socket) -> None:
        try:
            self._open_door(connected)
        except (OSError, QwenVlaError) as error:
            log.info("a connection ends: %s", printable(str(error))[:300])
        except Exception:
            log.exception("a connection ends by a defect of this server")
        finally:
            with self._lock:
                self._connections.pop(threading.current_thread()).close()

    def _open_door(self, connected: socket.socket) -> None:
        deadline = Deadline(HANDSHAKE_S)
        tune(connected)
        if self._settings.tls is not None:
            connected.settimeout(deadline.left())
            connected = self._settings.tls.wrap_socket(connected, server_side=True)
            with self._lock:
                self._connections[threading.current_thread()] = connected
        try:
            knock = Knock.read(connected, deadline)
        except (OSError, QwenVlaError):
            self._service.metrics.on_refusal("handshake")
            raise
        if knock.page == OPEN_PAGE:
            knock.answer(http.HTTPStatus.OK, "OK\n")
        elif not knock.knows(self._settings.token):
            self._service.metrics.on_refusal("token")
            log.warning("a client without the right token is refused")
            knock.answer(http.HTTPStatus.UNAUTHORIZED, "A token is needed.\n")
        elif knock.page == METRICS_PAGE:
            knock.answer(http.HTTPStatus.OK, self._service.metrics.text())
        else:
            self._let_in(knock, deadline)

    def _let_in(self, knock: Knock, deadline: Deadline) -> None:
        with self._place() as has_place:
            if not has_place:
                self._service.metrics.on_refusal("full")
                knock.answer(http.HTTPStatus.SERVICE_UNAVAILABLE, "Too many clients.\n")
                return
            websocket, is_own = knock.accept()
            with self._service.metrics.watching(websocket):
                self._converse(websocket, deadline, is_own=is_own)

    def _converse(self, websocket: WebSocket, deadline: Deadline, *, is_own: bool) -> None:
        dialect: Dialect
        if is_own:
            dialect = NativeDialect.greet(websocket, self._embodiment, self._card, deadline)
        else:
            dialect = OpenpiDialect.greet(
                websocket,
                self._embodiment,
                self._card,
                deadline,
                instruction=self._settings.instruction,
            )
        session = Session(websocket, dialect, self._open_policy(), self._service)
        log.info("a client comes, speaking %s", dialect.name)
        try:
            session.run()
        except QwenVlaError as error:
            websocket.close(PROTOCOL_ERROR, str(error))
            raise

    @contextmanager
    def _place(self) -> Iterator[bool]:
        with self._lock:
            has_place = self._clients < self._settings.max_clients
            self._clients += has_place
        try:
            yield has_place
        finally:
            with self._lock:
                self._clients -= has_place


def _listen(settings: ServerSettings) -> socket.socket:
    """Return the listening socket, if nobody but this machine or who knows the token gets in.

    Raises:
        QwenVlaError: The address cannot be had, or is open to others without a token.
    """
    if not settings.token and not is_loopback(settings.host):
        raise QwenVlaError(
            f"host: on '{settings.host}' every machine that reaches this one could use the "
            "policy; give a token file, or listen on 127.0.0.1."
        )
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        if not settings.token and not is_loopback(str(address[0])):
            raise QwenVlaError(f"host: '{settings.host}' is {address[0]}, which needs a token.")
        return socket.create_server((str(address[0]), settings.port), family=family)
    except OSError as error:
        raise QwenVlaError(
            f"host: cannot listen on {settings.host}:{settings.port}: {error}."
        ) from error
