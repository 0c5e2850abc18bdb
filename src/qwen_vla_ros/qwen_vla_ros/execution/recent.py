"""The last values of something that is measured again and again, and how large they mostly are."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque


class Recent:
    """A window of the last values, kept in order: asking for a quantile costs nothing."""

    def __init__(self, depth: int) -> None:
        """Remember the last `depth` values."""
        self._values: deque[float] = deque(maxlen=depth)
        self._ordered: list[float] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: float) -> None:
        """Take in a value; the oldest one is forgotten once there are too many."""
        if len(self._values) == self._values.maxlen:
            del self._ordered[bisect_left(self._ordered, self._values[0])]
        self._values.append(value)
        insort(self._ordered, value)

    def quantile(self, share: float) -> float:
        """Return the smallest value that `share` (0 to 1) of all do not exceed; 0 without any.

        One of the values themselves, never something between two: of few values, a high quantile
        is the largest.
        """
        if not self._ordered:
            return 0.0
        return self._ordered[max(0, math.ceil(share * len(self._ordered)) - 1)]
