"""Whether a gate and those that follow it go by one clock: asked before anything moves (D4)."""

from __future__ import annotations

from collections import deque
from statistics import median

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.safety.watchdog import MAX_AHEAD_NS

WINDOW = 25
"""Messages whose lateness is compared: one that was late says nothing about a clock."""
OTHER_TIME_S = 3600.0
"""Clocks that are further apart do not run wrong: one of them is simulated."""


class SharedClock:
    """Compares the stamps of others with the clock here, as far as they were heard.

    A message takes its time to come, so that a stamp seems behind by that; the median of many is
    taken. What a controller says counts to within one period: it plays what it is sent by stamps.
    Who only reports may take as long for it as the robot's file allows, so that a clock which is a
    little behind looks like a slow driver.
    """

    def __init__(self, period_s: float) -> None:
        """Take clocks for one that are less than `period_s` (s) apart."""
        self._period_s = period_s
        self._behind_s: dict[str, deque[float]] = {}
        self._bounds_s: dict[str, tuple[float, float]] = {}

    def hear(self, topic: str, stamp_ns: int, now_ns: int, max_age_s: float | None = None) -> None:
        """Take in a stamp; zero is none.

        Args:
            topic: Where it came from.
            stamp_ns: What the sender claims.
            now_ns: ROS time here.
            max_age_s: How old (s) what is reported may be; None for a controller, which plays
                what it is sent.
        """
        if stamp_ns <= 0:
            return
        recent = self._behind_s.setdefault(topic, deque(maxlen=WINDOW))
        recent.append((now_ns - stamp_ns) / NS_PER_S)
        ahead_s, late_s = self._period_s, self._period_s
        if max_age_s is not None:
            ahead_s, late_s = MAX_AHEAD_NS / NS_PER_S, max_age_s
        self._bounds_s[topic] = ahead_s, late_s

    @property
    def why_not(self) -> str:
        """Say whose clock is another one, and by how much; empty when all go by this one."""
        for topic, recent in self._behind_s.items():
            behind_s, (ahead_s, late_s) = median(recent), self._bounds_s[topic]
            if -ahead_s <= behind_s <= late_s:
                continue
            where, bound_s = ("behind", late_s) if behind_s > 0 else ("ahead of", ahead_s)
            hint = "synchronize the two machines"
            if abs(behind_s) > OTHER_TIME_S:
                hint = "use_sim_time is set on one side and not on the other"
            return (
                f"'{topic}' is stamped {abs(behind_s):.3f} s {where} the gate's clock, more than "
                f"{bound_s:g} s: {hint}"
            )
        return ""
