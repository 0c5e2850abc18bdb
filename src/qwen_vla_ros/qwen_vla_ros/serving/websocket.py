"""One websocket (RFC 6455) after its handshake: whole messages, each within a deadline and a size.

The frames are read and written here and not by a library, because a camera image then crosses
memory twice instead of six times, and because every wait ends at the caller's deadline: a peer
that drips, stalls or promises two gigabytes costs neither time nor memory.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from websockets.speedups import apply_mask

from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.wire import MAX_BYTES, Buffer, WireError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODES = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
NORMAL, GOING_AWAY, PROTOCOL_ERROR, INTERNAL_ERROR = 1000, 1001, 1002, 1011

CONTROL_S = 1.0
"""How long a frame of a few bytes may take, once it has begun."""
HEADER_BYTES = 16
"""Room for the longest header, 14 bytes, so that the payload begins on a multiple of 8."""
SMALL_BYTES = 4096
"""Up to here a message is put together anew; beyond, memory is used again, which is faster."""
WORD_BYTES = 8
"""Masks are applied by whole words, and may change up to 7 bytes behind the end."""
INBOX_BYTES = 16 * 1024
"""What is read ahead: a small message needs one system call."""


class ConnectionLostError(ConnectionError):
    """The peer has closed the connection, or is gone."""


Message = bytes | memoryview | str
"""One whole message, a text as `str`. A memoryview is valid until the next message is received."""


class _Header(NamedTuple):
    is_final: bool
    opcode: int
    length: int
    key: bytes


class WebSocket:
    """Owns a connected socket, TLS or not. For one thread at a time."""

    def __init__(
        self,
        connected: socket.socket,
        *,
        is_client: bool,
        early: bytes = b"",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Take over a socket whose handshake is done.

        Args:
            connected: The socket.
            is_client: Clients mask what they send, servers do not.
            early: Bytes that came behind the handshake.
            max_bytes: Longest message that is received.
        """
        self._socket = connected
        self._is_client = is_client
        self._max_bytes = max_bytes
        self._inbox = bytearray(max(INBOX_BYTES, len(early)))
        self._inbox[: len(early)] = early
        self._begin, self._end = 0, len(early)  # what of the inbox is still to be looked at
        self._received = bytearray(INBOX_BYTES)
        self._sent = bytearray(INBOX_BYTES)
        self.bytes_received = len(early)
        self.bytes_sent = 0

    def send(self, parts: Sequence[Buffer], deadline: Deadline, opcode: int = BINARY) -> None:
        """Send one message that consists of the `parts`, one after the other.

        Raises:
            TimeoutError: The peer does not take it in time. The connection is of no more use.
            ConnectionLostError: The peer is gone.
        """
        length = 0
        for part in parts:
            length += memoryview(part).nbytes
        key = os.urandom(4) if self._is_client else b""
        header = _header_bytes(opcode, length, key)
        if length <= SMALL_BYTES:
            content = b"".join(parts)
            self.send_raw(header + (apply_mask(content, key) if key else content), deadline)
            return
        if len(self._sent) < HEADER_BYTES + length + WORD_BYTES:
            self._sent = bytearray(HEADER_BYTES + length + WORD_BYTES)
        end = HEADER_BYTES
        for part in parts:
            view = memoryview(part).cast("B")
            self._sent[end : end + len(view)] = view
            end += len(view)
        _mask(self._sent, HEADER_BYTES, length, key)
        begin = HEADER_BYTES - len(header)
        self._sent[begin:HEADER_BYTES] = header
        self.send_raw(memoryview(self._sent)[begin:end], deadline)

    def send_raw(self, content: Buffer, deadline: Deadline) -> None:
        """Send bytes that need be no message: the last step, or what a broken peer does.

        Raises:
            TimeoutError: The peer does not take them in time.
            ConnectionLostError: The peer is gone.
        """
        view = memoryview(content)
        while view:
            try:
                self._socket.settimeout(deadline.left())
                count = self._socket.send(view)
            except TimeoutError as error:
                raise deadline.error() from error
            except OSError as error:
                raise ConnectionLostError(f"the connection broke: {error}") from error
            self.bytes_sent += count
            view = view[count:]

    def receive(self, deadline: Deadline) -> Message:
        """Return the next message; a ping that comes before it is answered.

        Raises:
            TimeoutError: It is not there in time. The connection is of no more use.
            ConnectionLostError: The peer has closed the connection, or is gone.
            WireError: It is too long, or no websocket message.
        """
        while (message := self._next(deadline)) is None:
            pass
        return message

    def poll(self, silence_s: float, message_s: float) -> Message | None:
        """Return the next message, or None when nothing comes, or nothing but a ping.

        Args:
            silence_s: How long to wait for its first byte.
            message_s: How long it may take from there.

        Raises:
            TimeoutError: It has begun, and takes longer. The connection is of no more use.
            ConnectionLostError: The peer has closed the connection, or is gone.
            WireError: It is too long, or no websocket message.
        """
        if self._begin == self._end:
            try:
                self._fill(Deadline(silence_s))
            except TimeoutError:
                return None
        return self._next(Deadline(message_s))

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self.send([], Deadline(CONTROL_S), PING)

    def abandon(self) -> None:
        """Close at once: nothing is waited for, and nothing that was sent need arrive."""
        self._socket.close()

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye and close; what was sent before still arrives. Waits for 1 s at most."""
        with contextlib.suppress(OSError):  # it is closed either way
            farewell = struct.pack("!H", code) + reason.encode()[:120]
            self.send([farewell], Deadline(CONTROL_S), CLOSE)
            self._socket.shutdown(socket.SHUT_WR)
            # To close over unread bytes would take back what was sent.
            deadline = Deadline(CONTROL_S)
            while True:
                self._receive_into(memoryview(self._inbox), deadline)
        self._socket.close()

    def _next(self, deadline: Deadline) -> Message | None:
        """Return the next message; None after a ping or a pong."""
        if self._begin == self._end:
            self._fill(deadline)
        size, opcode = 0, CONTINUATION
        while True:
            deadline.left()  # a peer that sends nothing but pings keeps nobody either
            header = self._header(deadline)
            if header.opcode >= CLOSE:
                self._answer_control(header, deadline)
                if opcode == CONTINUATION:
                    return None
                continue  # it came amidst the pieces of a message
            if (header.opcode == CONTINUATION) == (opcode == CONTINUATION):
                raise WireError("a websocket message that begins twice, or never.")
            if header.is_final and not opcode and header.length <= self._end - self._begin:
                return _message(header.opcode, self._take(header))
            opcode = opcode or header.opcode
            end = size + header.length
            if end > self._max_bytes:
                raise WireError(f"a message of {end} bytes; {self._max_bytes} are allowed.")
            self._make_room(size, end)
            self._read(memoryview(self._received)[size:end], deadline)
            _mask(self._received, size, header.length, header.key)
            size = end
            if header.is_final:
                return _message(opcode, memoryview(self._received)[:size])

    def _header(self, deadline: Deadline) -> _Header:
        self._need(2, deadline)
        first, second = self._inbox[self._begin], self._inbox[self._begin + 1]
        is_final, opcode = first >= 0x80, first & 0x0F
        is_masked, length = second >= 0x80, second & 0x7F
        is_long_control = opcode >= CLOSE and (length > 125 or not is_final)
        is_strange = first & 0x70 or opcode not in OPCODES or is_masked == self._is_client
        if is_strange or is_long_control:
            raise WireError("bytes that are no websocket frame.")
        wide = 0 if length < 126 else 2 if length == 126 else 8
        count = 2 + wide + 4 * is_masked
        self._need(count, deadline)
        head = bytes(self._inbox[self._begin + 2 : self._begin + count])
        self._begin += count
        if wide:
            length = int.from_bytes(head[:wide], "big")
        return _Header(is_final, opcode, length, head[wide:])

    def _answer_control(self, header: _Header, deadline: Deadline) -> None:
        """Answer a ping, end at a close, pass over a pong."""
        self._need(header.length, deadline)
        content = self._take(header)
        if header.opcode == PING:
            self.send([content], deadline, PONG)
        elif header.opcode == CLOSE:
            with contextlib.suppress(OSError):
                self.send([content[:2]], deadline, CLOSE)
            code, reason = int.from_bytes(content[:2], "big"), content[2:].decode(errors="replace")
            raise ConnectionLostError(f"the peer closed the connection ({code} {reason!r})")

    def _take(self, header: _Header) -> bytes:
        """Return the content of a frame that is in the inbox as a whole."""
        begin, self._begin = self._begin, self._begin + header.length
        content = bytes(self._inbox[begin : self._begin])
        return apply_mask(content, header.key) if header.key else content

    def _make_room(self, size: int, end: int) -> None:
        """Have room for `end` bytes, of which `size` are there."""
        if len(self._received) < end + WORD_BYTES:
            grown = bytearray(end + WORD_BYTES)
            grown[:size] = memoryview(self._received)[:size]
            self._received = grown

    def _need(self, count: int, deadline: Deadline) -> None:
        """Have at least `count` bytes in the inbox; it is for headers and control frames."""
        while self._end - self._begin < count:
            self._fill(deadline)

    def _fill(self, deadline: Deadline) -> None:
        """Read ahead into the inbox."""
        left = self._inbox[self._begin : self._end]
        self._inbox[: len(left)] = left
        self._begin, self._end = 0, len(left)
        self._end += self._receive_into(memoryview(self._inbox)[len(left) :], deadline)

    def _read(self, view: memoryview, deadline: Deadline) -> None:
        """Fill `view`: from the inbox what is there, from the socket the rest."""
        count = min(len(view), self._end - self._begin)
        view[:count] = self._inbox[self._begin : self._begin + count]
        self._begin += count
        view = view[count:]
        while view:
            view = view[self._receive_into(view, deadline) :]

    def _receive_into(self, view: memoryview, deadline: Deadline) -> int:
        try:
            self._socket.settimeout(deadline.left())
            count = self._socket.recv_into(view)
        except TimeoutError as error:
            raise deadline.error() from error
        except OSError as error:
            raise ConnectionLostError(f"the connection broke: {error}") from error
        if count == 0:
            raise ConnectionLostError("the peer closed the connection")
        self.bytes_received += count
        return count


def _message(opcode: int, data: bytes | memoryview) -> Message:
    if opcode == BINARY:
        return data
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise WireError("a text that is no UTF-8.") from error


def _header_bytes(opcode: int, length: int, key: bytes) -> bytes:
    masked = 0x80 if key else 0
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, masked | length)
    elif length < 2**16:
        head = struct.pack("!BBH", 0x80 | opcode, masked | 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, masked | 127, length)
    return head + key


def _mask(content: bytearray, begin: int, length: int, key: bytes) -> None:
    """Mask or unmask in place, by whole words."""
    if key and length:
        words = np.frombuffer(content, np.uint64, -(-length // WORD_BYTES), begin)
        np.bitwise_xor(words, np.frombuffer(key * 2, np.uint64), out=words)
