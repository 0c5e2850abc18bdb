from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.address import TOKEN_VARIABLE, ServerAddress, is_loopback, read_token

TOKEN = "0123456789abcdef"


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.mark.parametrize(
    "words", ["", "127.0.0.1:8000", "http://127.0.0.1", "ws://", "ws://host:port", "ws://h:99999"]
)
def test_what_is_no_address_is_refused_with_what_is_allowed(words):
    with pytest.raises(QwenVlaError, match="ws://HOST:PORT"):
        ServerAddress.from_strings(words)


def test_a_password_in_an_address_is_refused():
    with pytest.raises(QwenVlaError, match="can be seen by everybody") as refusal:
        ServerAddress.from_strings("ws://me:secret@host:8000")
    assert "secret" not in str(refusal.value)


def test_a_token_comes_from_a_file_or_the_environment(token_file, monkeypatch):
    words = "ws://127.0.0.1:8000"
    assert ServerAddress.from_strings(words, token_file=str(token_file)).token == TOKEN
    monkeypatch.setenv(TOKEN_VARIABLE, "x" * 20)
    assert ServerAddress.from_strings(words).token == "x" * 20


def test_a_token_is_in_no_text(caplog):
    address = ServerAddress(uri="ws://127.0.0.1:8000", token=TOKEN)
    logging.getLogger().warning("%s %r", address, address)
    assert TOKEN not in caplog.text


def test_a_token_file_that_others_can_read_is_refused(token_file):
    token_file.chmod(0o644)
    with pytest.raises(QwenVlaError, match="chmod 600"):
        read_token(token_file)


@pytest.mark.parametrize("content", ["", "short", "with a space in it", "x" * 600, "größer" * 5])
def test_a_file_without_a_token_is_refused(token_file, content):
    token_file.write_text(content)
    with pytest.raises(QwenVlaError, match="token file"):
        read_token(token_file)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(QwenVlaError, match="cannot be read"):
        read_token(tmp_path / "nothing")
    with pytest.raises(QwenVlaError, match="there is no file"):
        ServerAddress.from_strings("wss://host", ca_file=str(tmp_path / "nothing"))


def test_a_ca_file_without_certificates_is_refused(token_file):
    address = ServerAddress.from_strings("wss://host", ca_file=str(token_file))
    with pytest.raises(QwenVlaError, match="has no certificates"):
        address.tls()


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.5", False),
        ("robot.example", False),
        ("localhost.example", False),
    ],
)
def test_loopback_is_told_from_the_rest_of_the_world(host, answer):
    assert is_loopback(host) is answer


@pytest.mark.parametrize(
    ("uri", "token", "answer"),
    [
        ("ws://192.168.0.5:8000", TOKEN, True),
        ("wss://192.168.0.5:8000", TOKEN, False),
        ("ws://127.0.0.1:8000", TOKEN, False),
        ("ws://192.168.0.5:8000", "", False),
    ],
)
def test_a_token_leaks_over_a_network_without_tls(uri, token, answer):
    assert ServerAddress(uri=uri, token=token).leaks_token is answer


@pytest.mark.parametrize("token", ["short", "x" * 20 + "\r\nX: y", "ä" * 20])
def test_a_token_in_the_environment_is_a_token(monkeypatch, token):
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with pytest.raises(QwenVlaError, match="holds no token"):
        ServerAddress.from_strings("ws://127.0.0.1:8000")


@pytest.mark.parametrize("uri", ["ws://a..b:8000", "ws://.:80", f"ws://{'a' * 70}:80"])
def test_a_host_that_cannot_be_looked_up_is_no_address(uri):
    with pytest.raises(QwenVlaError, match="is no address of a policy server"):
        ServerAddress.from_strings(uri)


def test_a_token_is_not_read_from_a_device_or_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(QwenVlaError, match="is no file of a line"):
            read_token(path)
