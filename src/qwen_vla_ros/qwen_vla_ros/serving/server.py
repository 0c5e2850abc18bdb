"""Serves one robot's policy to several clients, in one dialect or more, each on its port."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import http
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.address import is_loopback
from qwen_vla_ros.serving.dialect import load_dialect, open_server
from qwen_vla_ros.serving.dictionary import require_message_fits
from qwen_vla_ros.serving.inference import InferenceThread
from qwen_vla_ros.serving.metadata import ServerMetadata
from qwen_vla_ros.serving.recording import Recorder
from qwen_vla_ros.serving.session import Send, Service, Session, send
from qwen_vla_ros.serving.wire import MAX_BYTES
from qwen_vla_ros.types import Policy

log = logging.getLogger(__name__)

QUIET = logging.getLogger(f"{__name__}.library")
"""At DEBUG the library would write every header into the log, and the token is one."""
QUIET.setLevel(logging.CRITICAL)

HANDSHAKE_S = 5.0
ENDING_S = 2.0
"""How long clients may take to hear that the server ends."""
HEALTH_PAGE, METRICS_PAGE = "/healthz", "/metrics"


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a server listens.

    Attributes:
        host: Address to listen on. Other machines can reach it unless it is a loopback address.
        ports: By dialect; 0 lets the system choose.
        token: What clients must know; needed on every host but loopback.
        tls: Certificate and key, for wss.
        max_clients: More are sent away.
        request_s: How long a request may wait for its answer, at most.
        instruction: What the robot is asked where a client says nothing.
    """

    host: str = "127.0.0.1"
    ports: tuple[tuple[str, int], ...] = (("openpi", 8000),)
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
        send: Send = send,
        inference: InferenceThread | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Begin to listen.

        Args:
            embodiment: The robot that is served.
            open_policy: Makes the policy of one client; those of several may share a model, since
                they are only ever used one after the other, in one thread.
            model: What answers, in a word or two.
            settings: How to listen.
            send: Sends an answer; one that does it badly helps to try out clients.
            inference: The thread that the policies are used in, where the model was loaded in it.
            recorder: Writes down what was answered.

        Raises:
            QwenVlaError: The address cannot be had, or is open to others without a token; a
                dialect does not exist; or no message could hold what this robot sees.
        """
        require_message_fits(embodiment)
        self._metadata = ServerMetadata.of(embodiment, model)
        self._open_policy = open_policy
        self._settings = settings
        self._service = Service(
            embodiment=embodiment,
            request_s=settings.request_s,
            inference=inference or InferenceThread(),
            send=send,
            recorder=recorder,
        )
        self._clients = 0
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._ending = asyncio.Event()
        self._keepalive_s = {name: load_dialect(name).KEEPALIVE_S for name, _ in settings.ports}
        self._sockets = _listen(settings)
        self.ports = {name: int(taken.getsockname()[1]) for name, taken in self._sockets.items()}

    def serve(self) -> None:
        """Answer until `end` is called, then say goodbye to every client."""
        with self._runner:
            self._runner.run(self._serve())
        self._service.inference.close()

    def end(self) -> None:
        """Make `serve` return soon; any thread and a signal handler may call this."""
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._ending.set)

    async def _serve(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for dialect in self._sockets:
                await stack.enter_async_context(self._listening(dialect))
            await self._ending.wait()

    @contextlib.asynccontextmanager
    async def _listening(self, dialect: str) -> AsyncIterator[None]:
        async def handle(connection: ServerConnection) -> None:
            await self._handle_connection(connection, dialect)

        server = await serve(
            handle,
            sock=self._sockets[dialect],
            ssl=self._settings.tls,
            # A browser always says which page it comes from, and no page may drive a robot.
            origins=[None],
            process_request=self._check_handshake,
            compression=None,
            max_size=MAX_BYTES,
            max_queue=16,
            open_timeout=HANDSHAKE_S,
            ping_interval=self._keepalive_s[dialect],
            ping_timeout=self._keepalive_s[dialect],
            close_timeout=ENDING_S,
            logger=QUIET,
        )
        try:
            yield
        finally:
            await self._shut_down(server)

    async def _handle_connection(self, connection: ServerConnection, dialect: str) -> None:
        if self._clients >= self._settings.max_clients:
            # Several may have been let in at the same time.
            await connection.close(CloseCode.TRY_AGAIN_LATER, "too many clients")
            return
        ours = self._service.embodiment
        end = open_server(dialect, ours, self._metadata, self._settings.instruction)
        session = Session(dialect, end, self._open_policy(), self._service)
        log.info("a client comes, speaking %s", dialect)
        self._clients += 1
        try:
            with self._service.metrics.clients.track_inprogress():
                await session.run(connection)
        finally:
            self._clients -= 1

    async def _shut_down(self, server: Server) -> None:
        """Let every client hear that the server ends; break off what takes too long."""
        server.close(reason="the server ends")
        try:
            await asyncio.wait_for(server.wait_closed(), 2 * ENDING_S)
        except TimeoutError:
            for connection in server.connections:
                connection.transport.abort()

    def _check_handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer the pages, and refuse whoever may not come in."""
        page = request.path.partition("?")[0]
        if page == HEALTH_PAGE:
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if not self._knows_token(request):
            self._service.metrics.on_refusal("token")
            log.warning("a client without the right token is refused")
            refusal = connection.respond(http.HTTPStatus.UNAUTHORIZED, "A token is needed.\n")
            refusal.headers["WWW-Authenticate"] = "Api-Key"
            return refusal
        if page == METRICS_PAGE:
            return connection.respond(http.HTTPStatus.OK, self._service.metrics.text())
        if self._clients >= self._settings.max_clients:
            self._service.metrics.on_refusal("full")
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "Too many clients.\n")
        return None

    def _knows_token(self, request: Request) -> bool:
        if not self._settings.token:
            return True
        given = request.headers.get_all("Authorization")
        said = given[0].encode(errors="replace") if len(given) == 1 else b""
        return hmac.compare_digest(said, f"Api-Key {self._settings.token}".encode())


def _listen(settings: ServerSettings) -> dict[str, socket.socket]:
    """Return a listening socket a dialect; only this machine or who knows the token gets in.

    Raises:
        QwenVlaError: The address cannot be had, or is open to others without a token.
    """
    if not settings.token and not is_loopback(settings.host):
        raise QwenVlaError(
            f"host: on '{settings.host}' every machine that reaches this one could use the "
            "policy; give a token file, or listen on 127.0.0.1."
        )
    sockets: dict[str, socket.socket] = {}
    for dialect, port in settings.ports:
        try:
            found = socket.getaddrinfo(
                settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, _, _, _, address = found[0]
            if not settings.token and not is_loopback(str(address[0])):
                raise QwenVlaError(
                    f"host: '{settings.host}' is {address[0]}, which needs a token."
                )
            sockets[dialect] = socket.create_server((str(address[0]), port), family=family)
        except OSError as error:
            for taken in sockets.values():
                taken.close()
            raise QwenVlaError(
                f"listen: cannot listen on {settings.host}:{port}: {error}."
            ) from error
    return sockets


def read_ports(words: str) -> tuple[tuple[str, int], ...]:
    """Return what `openpi:8000,vla-eval:8001` says.

    Raises:
        QwenVlaError: It says something else, or one dialect or port twice.
    """
    ports = []
    for entry in words.split(","):
        dialect, _, port = entry.strip().partition(":")
        if not port.isdecimal() or int(port) > 65535:
            raise QwenVlaError(f"listen: '{entry[:40]}' is no DIALECT:PORT, such as openpi:8000.")
        load_dialect(dialect)
        ports.append((dialect, int(port)))
    taken = [port for _, port in ports if port]
    if len({dialect for dialect, _ in ports}) < len(ports) or len(set(taken)) < len(taken):
        raise QwenVlaError(f"listen: '{words[:80]}' names a dialect or a port twice.")
    return tuple(ports)
