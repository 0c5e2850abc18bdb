"""A connection to a policy server that is kept: made, watched, given up, and made again.

It lives on an event loop in a thread of its own. Whatever the server does, a request is answered
or refused within its deadline, and no message is larger than an answer can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import NotReadyError, QwenVlaError
from qwen_vla_ros.problems import printable
from qwen_vla_ros.serving.address import ServerAddress
from qwen_vla_ros.serving.dialect import ClientEnd, RefusalError, load_dialect, open_client
from qwen_vla_ros.serving.request import InferenceRequest
from qwen_vla_ros.serving.wire import WireError
from qwen_vla_ros.types import ActionChunk

log = logging.getLogger(__name__)

QUIET = logging.getLogger(f"{__name__}.library")
"""At DEBUG the library would write every header into the log, and the token is one."""
QUIET.setLevel(logging.CRITICAL)

LONGEST_ANSWER = 2**20
"""Bytes. A chunk of 64 rows and 64 columns has 32 KiB; nobody may fill our memory with more."""
RECONNECT_S = 2.0
"""How long a later connection may take."""
PAUSE_S = 1.0
"""Between the beginnings of two attempts."""
REFUSALS = {
    401: "it wants a token, or another one: set $QWEN_VLA_TOKEN or server_token_file",
    503: "it has no room for another client",
}
T = TypeVar("T")


class RemoteError(QwenVlaError):
    """A request to a server has no answer that can be used."""


class _Open:
    """A connection, and the one message that is being waited for on it."""

    def __init__(self, connection: ClientConnection, end: ClientEnd) -> None:
        self.connection = connection
        self.end = end
        self.listen()

    def listen(self) -> None:
        """Wait for the next message from now on."""
        self.next_message = asyncio.ensure_future(self.connection.recv())
        # A connection that is lost while nobody asks is noticed elsewhere.
        self.next_message.add_done_callback(lambda done: done.cancelled() or done.exception())

    def abort(self) -> None:
        """Let go of it at once."""
        self.next_message.cancel()
        self.connection.transport.abort()


class _Connect(connect):
    """The library's, for one place: a token is not carried to where a stranger points."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow no redirection."""
        return exc


class PersistentConnection:
    """Asks one request at a time; between them it notices by itself when the server is lost."""

    def __init__(self, address: ServerAddress, embodiment: Embodiment, dialect: str) -> None:
        """Start the thread; `connect` makes the connection.

        Raises:
            QwenVlaError: There is no such dialect, it cannot serve this robot, or the address's
                certificates cannot be read.
        """
        self._address = address
        self._embodiment = embodiment
        self._dialect = dialect
        self._keepalive_s = load_dialect(dialect).KEEPALIVE_S
        open_client(dialect, embodiment)  # refuses a robot that it is not for
        self._tls = address.tls()
        self._open: _Open | None = None
        self._is_new_episode = True
        self._is_closed = False
        self.lost_reason = "never connected"
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self.thread = threading.Thread(target=self._run, name="connection", daemon=True)
        self.thread.start()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as one knows."""
        return self._open is not None

    def connect(self, seconds: float, probe: InferenceRequest, probe_s: float) -> None:
        """Make the first connection; from now on it is kept.

        Args:
            seconds: How long it may take.
            probe: Is asked where the server's welcome says nothing that could be checked.
            probe_s: How long that may take; a server may compile for its first answer.

        Raises:
            NotReadyError: The server cannot be reached.
            QwenVlaError: It refuses, or serves another robot.
        """
        self._call(self._connect(seconds))
        if self._open is not None and not self._open.end.knows_robot:
            self._call(self._ask(replace(probe, deadline_s=probe_s)))
        self._loop.call_soon_threadsafe(self._start_reconnecting)

    def ask(self, request: InferenceRequest) -> ActionChunk:
        """Return the answer, with the seconds on the `network` among its timings.

        Raises:
            NotReadyError: There is no connection.
            RemoteError: No answer in time, or none that can be used.
        """
        return self._call(self._ask(request))

    def close(self) -> None:
        """Let go of the server; any thread may call this, more than once."""
        self._is_closed = True
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._closing.set)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        await self._closing.wait()
        if self._open is not None:
            self._open.abort()
            self._open = None

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the loop, from another thread."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (CancelledError, RuntimeError) as error:
            work.close()
            if not self._is_closed:
                raise
            raise NotReadyError(f"{self._address.uri}: no connection: closed.") from error

    def _start_reconnecting(self) -> None:
        self._reconnecting = self._loop.create_task(self._reconnect_when_lost())

    async def _reconnect_when_lost(self) -> None:
        while True:
            if self._open is not None:
                connection = self._open.connection
                await connection.wait_closed()
                if self._open is not None and self._open.connection is connection:
                    self._drop(f"the server closed it, code {connection.close_code}")
            begin_s = time.monotonic()
            try:
                await self._connect(RECONNECT_S)
                log.info("%s: connected again", self._address.uri)
            except QwenVlaError as error:
                self.lost_reason = printable(str(error)).removeprefix(f"{self._address.uri}: ")
                await asyncio.sleep(max(0.0, PAUSE_S - (time.monotonic() - begin_s)))

    async def _connect(self, seconds: float) -> None:
        end = open_client(self._dialect, self._embodiment)
        connection: ClientConnection | None = None
        try:
            async with asyncio.timeout(seconds):
                connection = await self._handshake()
                if (hello := end.hello()) is not None:
                    await connection.send(hello)
                end.welcome(await connection.recv())
        except BaseException as error:
            if connection is not None:
                connection.transport.abort()
            if isinstance(error, QwenVlaError | OSError | InvalidHandshake | ConnectionClosed):
                raise self._refusal(error, seconds) from error
            raise
        self._open, self._is_new_episode = _Open(connection, end), True

    async def _handshake(self) -> ClientConnection:
        token = self._address.token
        return await _Connect(
            self._address.uri,
            ssl=self._tls,
            additional_headers={"Authorization": f"Api-Key {token}"} if token else None,
            compression=None,
            proxy=None,
            max_size=LONGEST_ANSWER,
            max_queue=1,
            open_timeout=None,
            ping_interval=self._keepalive_s,
            ping_timeout=self._keepalive_s,
            close_timeout=0,
            logger=QUIET,
        )

    def _refusal(self, error: Exception, seconds: float) -> QwenVlaError:
        """Return the error for a person: who is not there may come, the wrong one stays wrong."""
        uri = self._address.uri
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            return QwenVlaError(f"{uri}: {REFUSALS.get(status, f'it answers HTTP {status}')}.")
        if isinstance(error, QwenVlaError | ssl.SSLError | InvalidHandshake):
            kind = "" if isinstance(error, QwenVlaError) else "no handshake: "
            return QwenVlaError(f"{uri}: {kind}{printable(str(error)).rstrip('.')}.")
        return NotReadyError(f"{uri}: it cannot be reached: {_reason(error, seconds)}.")

    async def _ask(self, request: InferenceRequest) -> ActionChunk:
        uri = self._address.uri
        if self._open is None:
            raise NotReadyError(f"{uri}: no connection: {self.lost_reason.rstrip('.')}.")
        open_now, end = self._open, self._open.end
        begin_s = time.perf_counter()
        is_new_episode = request.is_new_episode or self._is_new_episode
        request = replace(request, is_new_episode=is_new_episode)
        try:
            if open_now.next_message.done() and not open_now.next_message.exception():
                # Its next answer would be taken for an old one.
                raise WireError("the server speaks without being asked")
            async with asyncio.timeout(request.deadline_s):
                for message in end.ask(request):
                    await open_now.connection.send(message)
                answer = await open_now.next_message
            open_now.listen()
            chunk = end.read(answer, request)
        except RefusalError as error:
            raise RemoteError(f"{uri}: {printable(str(error)).rstrip('.')}.") from error
        except (WireError, OSError, ConnectionClosed) as error:
            why = _reason(error, request.deadline_s)
            self._drop(why)
            raise RemoteError(f"{uri}: {why}.") from error
        self._is_new_episode = False
        network_s = time.perf_counter() - begin_s - sum(chunk.timings.values())
        return replace(chunk, timings={**chunk.timings, "network": max(0.0, network_s)})

    def _drop(self, why: str) -> None:
        """Give the connection up at once, without waiting for anything."""
        if self._open is not None:
            self._open.abort()
            self._open = None
            self.lost_reason = why
            log.warning("%s: connection lost: %s", self._address.uri, why)


def _reason(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {seconds:g} s"
    if isinstance(error, ConnectionClosed):
        if error.sent is not None and not error.rcvd_then_sent:
            return printable(error.sent.reason or "the connection broke")  # what we could not take
        if error.rcvd is not None:
            return printable(f"the server closed it, code {error.rcvd.code} {error.rcvd.reason}")
        return "the connection broke"
    return printable(str(error) or type(error).__name__)[:500].rstrip(".")
