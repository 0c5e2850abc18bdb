from __future__ import annotations

import re

from qwen_vla_ros.serving.metrics import UNSORTED, Metrics
from qwen_vla_ros.serving.websocket import WebSocket

SAMPLE = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+')


def sample(text: str, name: str) -> float:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rsplit(" ", 1)[1])


def test_every_line_is_one_that_prometheus_reads():
    metrics = Metrics()
    metrics.on_answer("openpi", 0.0, 0.1, 0.2)
    metrics.on_error("qwen_vla", "busy")
    metrics.on_refusal("token")
    for line in metrics.text().splitlines():
        assert line.startswith("# TYPE ") or SAMPLE.fullmatch(line), line


def test_answers_and_errors_are_counted():
    metrics = Metrics()
    for _ in range(UNSORTED + 3):
        metrics.on_answer("openpi", 0.0, 0.03, 20.0)
    metrics.on_error("openpi", "busy")
    text = metrics.text()
    count = UNSORTED + 3
    assert sample(text, 'qwen_vla_server_requests_total{dialect="openpi"}') == count + 1
    assert sample(text, 'qwen_vla_server_errors_total{kind="busy"}') == 1
    name = "qwen_vla_server_seconds"
    assert sample(text, f'{name}_bucket{{stage="infer",le="0.025"}}') == 0
    assert sample(text, f'{name}_bucket{{stage="infer",le="0.05"}}') == count
    assert sample(text, f'{name}_bucket{{stage="total",le="10"}}') == 0
    assert sample(text, f'{name}_bucket{{stage="total",le="+Inf"}}') == count
    assert sample(text, f'{name}_count{{stage="queue"}}') == count
    assert abs(sample(text, f'{name}_sum{{stage="infer"}}') - 0.03 * count) < 1e-6


def test_clients_and_their_bytes_are_counted_while_they_are_there_and_after(sockets):
    metrics = Metrics()
    client = WebSocket(sockets[0], is_client=False)
    with metrics.watching(client):
        client.bytes_sent = 5
        assert sample(metrics.text(), "qwen_vla_server_clients") == 1
        assert sample(metrics.text(), 'qwen_vla_server_bytes_total{direction="sent"}') == 5
    assert sample(metrics.text(), "qwen_vla_server_clients") == 0
    assert sample(metrics.text(), 'qwen_vla_server_bytes_total{direction="sent"}') == 5
