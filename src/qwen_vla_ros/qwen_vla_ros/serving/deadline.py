"""A moment after which nobody waits any more."""

from __future__ import annotations

import time


class Deadline:
    """Counts down on the steady clock. Everything that waits for a peer is given one."""

    def __init__(self, seconds: float) -> None:
        """Begin to count; `seconds` may be 0, which is a deadline that has passed."""
        self._end_s = time.monotonic() + seconds
        self.seconds = seconds

    def left(self) -> float:
        """Return the seconds that are left, above 0.

        Raises:
            TimeoutError: None are left.
        """
        left = self._end_s - time.monotonic()
        if left <= 0:
            raise self.error()
        return left

    def error(self) -> TimeoutError:
        """Return the error of who has waited for it."""
        return TimeoutError(f"nothing within {self.seconds:g} s")

    @property
    def has_passed(self) -> bool:
        """Whether none are left."""
        return time.monotonic() >= self._end_s
