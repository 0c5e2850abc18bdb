from __future__ import annotations

import socket
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.websocket import (
    GOING_AWAY,
    PING,
    TEXT,
    ConnectionLostError,
    WebSocket,
)
from qwen_vla_ros.serving.wire import WireError

SOON = 20.0
LARGE = 700_001


def soon() -> Deadline:
    return Deadline(SOON)


@pytest.fixture
def ends(sockets) -> tuple[WebSocket, WebSocket]:
    """A client and a server that have shaken hands."""
    client, server = sockets
    return WebSocket(client, is_client=True), WebSocket(server, is_client=False)


@pytest.fixture
def raw(sockets):
    """A client, and the bare socket of whoever pretends to be its server."""
    client, server = sockets
    return WebSocket(client, is_client=True, max_bytes=2**20), server


@pytest.mark.parametrize("size", [0, 1, 7, 125, 126, 4096, 4097, 65535, 65536, LARGE])
def test_messages_of_every_size_arrive_whole_both_ways(ends, rng, size):
    content = rng.bytes(size)
    for sender, receiver in (ends, ends[::-1]):
        thread = threading.Thread(target=sender.send, args=([content], soon()))
        thread.start()
        assert bytes(receiver.receive(soon())) == content
        thread.join()


def test_parts_are_sent_as_one_message(ends, rng):
    images = rng.integers(0, 256, (2, 100, 100, 3), dtype=np.uint8)
    client, server = ends
    thread = threading.Thread(
        target=client.send, args=([b"head", *(x.data for x in images)], soon())
    )
    thread.start()
    assert bytes(server.receive(soon())) == b"head" + images.tobytes()
    thread.join()


def test_messages_that_arrive_together_are_read_one_by_one(ends):
    client, server = ends
    for content in (b"one", b"two", b"three"):
        client.send([content], soon())
    assert [server.receive(soon()) for _ in range(3)] == [b"one", b"two", b"three"]


def test_what_came_with_the_handshake_is_read_first(sockets):
    first = WebSocket(sockets[0], is_client=False)
    first.send([b"later"], soon())
    second = WebSocket(sockets[1], is_client=True, early=b"\x82\x05early")
    assert [second.receive(soon()) for _ in range(2)] == [b"early", b"later"]


def test_a_text_is_a_str(ends):
    ends[0].send(["größer".encode()], soon(), TEXT)
    assert ends[1].receive(soon()) == "größer"


def test_a_message_in_pieces_is_put_together_and_a_ping_amidst_is_answered(raw):
    client, server = raw
    server.sendall(b"\x02\x03abc" + b"\x89\x02hi" + b"\x00\x02de" + b"\x80\x01f")
    assert bytes(client.receive(soon())) == b"abcdef"
    pong = server.recv(100)
    assert pong[0] == 0x8A
    assert len(pong) == 2 + 4 + 2


def test_a_ping_between_messages_is_answered_and_passed_over(ends):
    client, server = ends
    client.send([b"hi"], soon(), PING)
    client.send([b"message"], soon())
    assert server.poll(SOON, SOON) is None
    assert server.poll(SOON, SOON) == b"message"
    assert client.poll(SOON, SOON) is None  # the pong


def test_silence_is_no_message(ends):
    assert ends[1].poll(0.01, SOON) is None


def test_a_peer_that_says_goodbye_is_understood(ends):
    client, server = ends
    thread = threading.Thread(target=server.close, args=(GOING_AWAY, "enough"))
    thread.start()
    with pytest.raises(ConnectionLostError, match="1001 'enough'"):
        client.receive(soon())
    client.abandon()
    thread.join()


def test_what_was_sent_before_a_goodbye_arrives(ends):
    client, server = ends
    client.send([b"never read"], soon())
    server.send([b"last words"], soon())
    thread = threading.Thread(target=server.close, args=(GOING_AWAY, ""))
    thread.start()
    assert client.receive(soon()) == b"last words"
    client.abandon()
    thread.join()


def test_a_peer_that_is_gone_is_noticed(raw):
    client, server = raw
    server.close()
    with pytest.raises(ConnectionLostError):
        client.receive(soon())


@pytest.mark.parametrize(
    "content",
    [
        b"\x83\x01x",  # unknown opcode
        b"\xc2\x01x",  # reserved bit
        b"\x82\x81abcdx",  # masked by a server
        b"\x09\x01x",  # a ping in pieces
        b"\x89\x7e\x00\x7ex",  # a long ping
        b"\x80\x01x",  # a continuation of nothing
        b"\x02\x01x\x82\x01y",  # begins twice
        b"\x81\x01\xff",  # a text that is none
        b"\x82\x7f\x00\x00\x00\x00\x80\x00\x00\x00",  # two gigabytes
        b"\x02\x7f\x00\x00\x00\x00\x00\x0f\xff\xff" + bytes(2**20 - 1) + b"\x80\x02xx",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=lambda content: repr(content[:10]),
)
def test_what_is_no_message_is_refused(raw, content):
    client, server = raw
    thread = threading.Thread(target=server.sendall, args=(content,))
    thread.start()
    with pytest.raises(WireError):
        client.receive(soon())
    client.abandon()
    thread.join()


def test_a_promise_of_two_gigabytes_takes_no_memory(raw):
    client, server = raw
    server.sendall(b"\x82\x7f" + (2**31).to_bytes(8, "big") + bytes(4096))
    tracemalloc.start()
    with pytest.raises(WireError, match="1048576 are allowed"):
        client.receive(soon())
    assert tracemalloc.get_traced_memory()[1] < 2**18
    tracemalloc.stop()


def test_a_peer_that_drips_does_not_stretch_the_deadline(raw):
    client, server = raw
    end = threading.Event()

    def drip():
        server.sendall(b"\x82\x7e\x10\x00")
        while not end.wait(0.02):
            server.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        client.receive(Deadline(0.2))
    assert time.monotonic() - begin < SOON
    end.set()
    thread.join()


def test_a_peer_that_reads_nothing_does_not_stretch_the_deadline(ends):
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        ends[0].send([bytes(8 * 2**20)], Deadline(0.2))
    assert time.monotonic() - begin < SOON


def test_a_deadline_that_has_passed_is_no_patience_at_all(ends):
    ends[1].send([b"x"], soon())
    with pytest.raises(TimeoutError):
        ends[0].receive(Deadline(0.0))


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_read_or_refused_in_time(content):
    first, second = socket.socketpair()
    with first, second:
        second.sendall(content)
        second.shutdown(socket.SHUT_WR)
        client = WebSocket(first, is_client=True, max_bytes=1000)
        messages = iter(lambda: client.receive(soon()), None)
        with pytest.raises((WireError, ConnectionLostError)):
            assert max(map(len, messages)) <= 1000


def test_a_peer_that_pings_for_ever_keeps_nobody_beyond_the_deadline(raw):
    client, server = raw
    is_over = threading.Event()

    def ping() -> None:
        # The header of the next ping comes with the content of the last: there is always more.
        server.sendall(b"\x89\x7d")
        while not is_over.wait(0.05):
            server.sendall(bytes(125) + b"\x89\x7d")

    thread = threading.Thread(target=ping, daemon=True)
    thread.start()
    try:
        with pytest.raises(TimeoutError, match="nothing within"):
            client.receive(Deadline(0.3))
    finally:
        is_over.set()
        thread.join()
