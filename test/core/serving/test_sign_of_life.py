from __future__ import annotations

import pytest

from qwen_vla_ros.serving.sign_of_life import SILENCE_S, SignOfLife


class Client:
    """A connection on which nothing comes but what the test says."""

    def __init__(self):
        self.bytes_received = 0
        self.pings = 0

    def ping(self):
        self.pings += 1


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("qwen_vla_ros.serving.sign_of_life.time.monotonic", lambda: now[0])
    return now


def test_a_silent_client_is_asked_once_and_given_up_later(clock):
    client = Client()
    sign = SignOfLife(client)
    sign.look()
    clock[0] += SILENCE_S + 1
    for _ in range(3):
        sign.look()
    assert client.pings == 1
    clock[0] += SILENCE_S
    with pytest.raises(TimeoutError, match="no sign of life"):
        sign.look()


def test_a_client_that_answers_is_kept(clock):
    client = Client()
    sign = SignOfLife(client)
    for turn in range(10):
        client.bytes_received = turn
        sign.look()
        clock[0] += SILENCE_S + 1
        sign.look()
    assert client.pings == 10
