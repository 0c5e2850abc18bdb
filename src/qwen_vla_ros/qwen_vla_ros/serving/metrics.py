"""What a server has done, for Prometheus."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from qwen_vla_ros.serving.request import ServerTiming

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PREFIX = "qwen_vla_server"


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._registry = CollectorRegistry()
        count = partial(Counter, registry=self._registry, namespace=PREFIX)
        self.clients = Gauge(
            "clients", "Clients that are connected.", registry=self._registry, namespace=PREFIX
        )
        self._requests = count("requests", "Questions.", ["dialect"])
        self._errors = count("errors", "Questions without an answer.", ["kind"])
        self._refusals = count("refused_connections", "Connections that were not let in.", ["why"])
        self._bytes = count("bytes", "Bytes of messages.", ["direction"])
        self._seconds = Histogram(
            "seconds",
            "Seconds of an answer.",
            ["stage"],
            buckets=BUCKETS_S,
            registry=self._registry,
            namespace=PREFIX,
        )
        self._stages = [self._seconds.labels(stage) for stage in ("queue", "infer", "total")]

    def on_refusal(self, why: str) -> None:
        """Note a connection that did not become a client."""
        self._refusals.labels(why).inc()

    def on_message(self, direction: str, size: int) -> None:
        """Note a message, `received` or `sent`."""
        self._bytes.labels(direction).inc(size)

    def on_answer(self, dialect: str, timing: ServerTiming) -> None:
        """Note an answer, and the seconds of its stages."""
        self._requests.labels(dialect).inc()
        for stage, seconds in zip(self._stages, timing, strict=True):
            stage.observe(seconds)

    def on_error(self, dialect: str, kind: str) -> None:
        """Note a request without an answer."""
        self._requests.labels(dialect).inc()
        self._errors.labels(kind).inc()

    def text(self) -> str:
        """Return everything as Prometheus reads it."""
        return generate_latest(self._registry).decode()
