from __future__ import annotations

import socket
import threading

import pytest
import websockets.sync.server

from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.serving.address import ServerAddress
from qwen_vla_ros.serving.call import call
from qwen_vla_ros.serving.deadline import Deadline
from qwen_vla_ros.serving.http_head import HandshakeError

SOON = 20.0


def connect(port: int, *, wants_own: bool = False, seconds: float = SOON, token: str = ""):
    address = ServerAddress(uri=f"ws://127.0.0.1:{port}", token=token)
    return call(address, Deadline(seconds), wants_own=wants_own, max_bytes=2**20)


@pytest.fixture
def answering(keep):
    """A port where somebody says one thing and no more."""

    def answer(content: bytes) -> int:
        listener = keep(socket.create_server(("127.0.0.1", 0)))

        def run():
            connected = keep(listener.accept()[0])
            connected.recv(4096)
            connected.sendall(content)

        threading.Thread(target=run, daemon=True).start()
        return listener.getsockname()[1]

    return answer


def test_the_librarys_server_understands_us_and_we_understand_it(rng):
    def echo(connection):
        connection.send(b"metadata")
        for message in connection:
            connection.send(message)

    content = rng.bytes(700_001)
    with websockets.sync.server.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        ours = connect(server.socket.getsockname()[1])
        assert ours.receive(Deadline(SOON)) == b"metadata"
        for part in (content, b"", content[:300]):
            ours.send([part], Deadline(SOON))
            assert bytes(ours.receive(Deadline(SOON))) == part
        ours.abandon()
        server.shutdown()
        thread.join()


def test_a_server_that_speaks_only_openpi_is_told_from_ours():
    with websockets.sync.server.serve(lambda _: None, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(HandshakeError, match="set server_protocol to openpi"):
            connect(server.socket.getsockname()[1], wants_own=True)
        server.shutdown()
        thread.join()


def test_nobody_there_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotReadyError, match="cannot be reached"):
        connect(port)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "wants a token"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "no room"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "it answers 'HTTP/1.1 404 Not Found'"),
        (b"SSH-2.0-OpenSSH\r\n", "is no HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "Connection header"),
        (b"x" * 100_000, "no HTTP, or does not end"),
        (b"HTTP/1.1 5\x1b[31m\r\n\r\n", r"it answers 'HTTP/1.1 5\\x1b"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_another_kind_of_server_is_a_sentence(answering, content, sentence):
    with pytest.raises(HandshakeError, match=sentence):
        connect(answering(content), wants_own=True)


def test_a_server_that_says_nothing_is_a_sentence_in_time(answering):
    with pytest.raises(HandshakeError, match="no handshake"):
        connect(answering(b""), seconds=0.2)


def test_a_server_that_hangs_up_is_a_sentence(keep):
    listener = keep(socket.create_server(("127.0.0.1", 0)))
    threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
    with pytest.raises(HandshakeError, match=r"no handshake|no HTTP"):
        connect(listener.getsockname()[1])
