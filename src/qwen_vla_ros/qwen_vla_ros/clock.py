"""Time as every room tells it: whole nanoseconds, as in a message's stamp."""

from __future__ import annotations

NS_PER_S = 1_000_000_000
