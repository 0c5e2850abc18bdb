"""When something is due: on a fixed grid, without drift, and without bursts after a delay."""

from __future__ import annotations

from qwen_vla_ros.clock import NS_PER_S


class Pace:
    """Says yes at a rate; what was missed stays missed."""

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = round(NS_PER_S / rate_hz)
        self._next_ns: int | None = None

    def is_due(self, now_ns: int) -> bool:
        """Say whether the next one is due; asking takes it."""
        if self._next_ns is None:
            self._next_ns = now_ns
        if now_ns < self._next_ns:
            return False
        missed = (now_ns - self._next_ns) // self._period_ns
        self._next_ns += (missed + 1) * self._period_ns
        return True


class StepBudget:
    """How many periods a simulation must step so that it keeps up with a clock."""

    def __init__(self, period_s: float, factor: float, most: int) -> None:
        """Step periods of `period_s`.

        Args:
            period_s: Simulated seconds per step.
            factor: Simulated seconds per second of the clock.
            most: Steps at once; time beyond that is given up, since a robot that jumps after a
                stall is worse than one that was slow.
        """
        self._cost_ns = round(period_s / factor * NS_PER_S)
        self._most = most
        self._done_ns: int | None = None

    def take(self, clock_ns: int) -> int:
        """Return the steps that are due now."""
        if self._done_ns is None:
            self._done_ns = clock_ns - self._cost_ns
        due = (clock_ns - self._done_ns) // self._cost_ns
        steps = min(due, self._most)
        self._done_ns = clock_ns if due > self._most else self._done_ns + steps * self._cost_ns
        return int(steps)
