from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from qwen_vla_ros.serving.metrics import Metrics
from qwen_vla_ros.serving.request import ServerTiming


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """What Prometheus reads, by name and labels."""
    return {
        (
            sample.name,
            *(sample.labels[key] for key in sorted(sample.labels, reverse=True)),
        ): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
    }


def test_answers_and_errors_are_counted():
    metrics = Metrics()
    for _ in range(7):
        metrics.on_answer("openpi", ServerTiming(0.0, 0.03, 20.0))
    metrics.on_error("openpi", "busy")
    metrics.on_refusal("token")
    metrics.on_message("sent", 5)
    read = samples(metrics)
    assert read["qwen_vla_server_requests_total", "openpi"] == 8
    assert read["qwen_vla_server_errors_total", "busy"] == 1
    assert read["qwen_vla_server_refused_connections_total", "token"] == 1
    assert read["qwen_vla_server_bytes_total", "sent"] == 5
    bucket = "qwen_vla_server_seconds_bucket"
    assert read[bucket, "infer", "0.025"] == 0
    assert read[bucket, "infer", "0.05"] == 7
    assert read[bucket, "total", "10.0"] == 0
    assert read[bucket, "total", "+Inf"] == 7
    assert abs(read["qwen_vla_server_seconds_sum", "infer"] - 0.21) < 1e-9


def test_two_servers_of_one_process_count_apart():
    first, second = Metrics(), Metrics()
    first.on_refusal("full")
    assert ("qwen_vla_server_refused_connections_total", "full") not in samples(second)
