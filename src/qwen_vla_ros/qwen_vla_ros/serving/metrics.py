"""What a server has done, in Prometheus' text format."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from qwen_vla_ros.serving.websocket import WebSocket

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
UNSORTED = 256
PREFIX = "qwen_vla_server"


class Histogram:
    """How often something took how long."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)  # by the bucket alone; the last is all the rest
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._sum_s += seconds
        self._counts[bisect_left(BUCKETS_S, seconds)] += 1

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """Return the samples of the format."""
        upto = list(itertools.accumulate(self._counts))
        for bound, count in zip((*map("{:g}".format, BUCKETS_S), "+Inf"), upto, strict=True):
            yield f'{name}_bucket{{{labels},le="{bound}"}} {count}'
        yield f"{name}_sum{{{labels}}} {self._sum_s:.6f}"
        yield f"{name}_count{{{labels}}} {upto[-1]}"


class Metrics:
    """Counters of one server; any thread may add to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._received, self._sent = 0, 0  # by clients that have gone
        self._seconds = {stage: Histogram() for stage in ("queue", "infer", "total")}
        self._answers: list[tuple[float, float, float]] = []
        self._clients: set[WebSocket] = set()

    @contextmanager
    def watching(self, client: WebSocket) -> Iterator[None]:
        """Count a client, and what crosses the network for it, as long as it is there."""
        with self._lock:
            self._clients.add(client)
        try:
            yield
        finally:
            with self._lock:
                self._clients.discard(client)
                self._received += client.bytes_received
                self._sent += client.bytes_sent

    def on_refusal(self, why: str) -> None:
        """Note a connection that did not become a client."""
        with self._lock:
            self._refusals[why] += 1

    def on_answer(self, dialect: str, queue_s: float, infer_s: float, total_s: float) -> None:
        """Note an answer, and the seconds of its stages."""
        with self._lock:
            self._requests[dialect] += 1
            self._answers.append((queue_s, infer_s, total_s))
            if len(self._answers) >= UNSORTED:
                self._sort()

    def on_error(self, dialect: str, kind: str) -> None:
        """Note a request without an answer."""
        with self._lock:
            self._requests[dialect] += 1
            self._errors[kind] += 1

    def text(self) -> str:
        """Return everything as Prometheus reads it."""
        with self._lock:
            self._sort()
            return "\n".join(self._lines()) + "\n"

    def _sort(self) -> None:
        """Put what came lately into the histograms; it is faster to do many at once."""
        for answer in self._answers:
            for histogram, seconds in zip(self._seconds.values(), answer, strict=True):
                histogram.add(seconds)
        self._answers.clear()

    def _lines(self) -> Iterator[str]:
        yield f"# TYPE {PREFIX}_clients gauge"
        yield f"{PREFIX}_clients {len(self._clients)}"
        received = self._received + sum(client.bytes_received for client in self._clients)
        sent = self._sent + sum(client.bytes_sent for client in self._clients)
        for name, label, counter in (
            ("requests_total", "dialect", self._requests),
            ("errors_total", "kind", self._errors),
            ("refused_connections_total", "why", self._refusals),
            ("bytes_total", "direction", {"received": received, "sent": sent}),
        ):
            yield f"# TYPE {PREFIX}_{name} counter"
            for value, count in sorted(counter.items()):
                yield f'{PREFIX}_{name}{{{label}="{value}"}} {count}'
        yield f"# TYPE {PREFIX}_seconds histogram"
        for stage, histogram in self._seconds.items():
            yield from histogram.lines(f"{PREFIX}_seconds", f'stage="{stage}"')
