"""Time as every room tells it: whole nanoseconds, as in a message's stamp."""

from __future__ import annotations

from typing import Any

NS_PER_S = 1_000_000_000


def ns_from_stamp(stamp: Any) -> int:
    """Return a message's time or duration in nanoseconds."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)
