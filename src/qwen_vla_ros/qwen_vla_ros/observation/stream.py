"""A short memory of one sensor, that says how old it is and what it refused."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from qwen_vla_ros.clock import NS_PER_S

T = TypeVar("T")

MAX_AHEAD_NS = 50_000_000
"""A stamp further than this in the future is a clock fault, not a measurement (W1)."""

MAX_REASONS = 16


class Stream(Generic[T]):
    """The last samples of one sensor, by their stamps.

    Age is judged twice: by the receiver's steady clock, which no clock step touches, and by the
    stamp, which a replayed or delayed message cannot hide.
    """

    def __init__(self, name: str, max_age_s: float, depth: int) -> None:
        """Remember `depth` samples; data older than `max_age_s` counts as absent."""
        self.name = name
        self.max_age_s = max_age_s
        self.dropped: dict[str, int] = {}
        self._samples: deque[tuple[int, T]] = deque(maxlen=depth)
        self._received_ns = 0

    def put(self, stamp_ns: int, value: T, *, now_ns: int, steady_ns: int) -> bool:
        """Take one sample in, or count why not; return whether it was taken."""
        if stamp_ns <= 0:
            self.drop("no stamp")
            return False
        if stamp_ns > now_ns + MAX_AHEAD_NS:
            self.drop("stamp in the future")
            return False
        if self._samples and stamp_ns <= self._samples[-1][0]:
            # A simulation that was put back starts its clock again: what we remember lies in the
            # future then, and keeping it would refuse everything that follows.
            if self._samples[-1][0] <= now_ns + MAX_AHEAD_NS:
                self.drop("a stamp that does not advance")
                return False
            self._samples.clear()
        self._samples.append((stamp_ns, value))
        self._received_ns = steady_ns
        return True

    def drop(self, why: str) -> None:
        """Count a sample that was refused."""
        if len(self.dropped) >= MAX_REASONS and why not in self.dropped:
            why = "other reasons"  # a stranger may say something new every time
        self.dropped[why] = self.dropped.get(why, 0) + 1

    def gap(self, now_ns: int, steady_ns: int) -> str:
        """Return why there is no fresh data, or an empty string."""
        if not self._samples:
            dropped = ", ".join(f"{count} with {why}" for why, count in self.dropped.items())
            return f"'{self.name}' never came" + (f" ({dropped} refused)" if dropped else "")
        received_age = (steady_ns - self._received_ns) / NS_PER_S
        stamp_age = (now_ns - self._samples[-1][0]) / NS_PER_S
        age = max(received_age, stamp_age)
        if age > self.max_age_s:
            return f"'{self.name}' is {age:.2f} s old, {self.max_age_s:g} s are allowed"
        return ""

    @property
    def newest_ns(self) -> int:
        """Stamp of the newest sample; 0 where there is none."""
        return self._samples[-1][0] if self._samples else 0

    def nearest(self, stamp_ns: int) -> tuple[int, T]:
        """Return the stamp and value of the sample nearest in time; the stream is not empty."""
        return min(self._samples, key=lambda sample: abs(sample[0] - stamp_ns))
