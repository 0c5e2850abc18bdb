"""Who lets a base drive must go on speaking; who stands by ends the motion otherwise.

A controller that is given twists keeps the last one until its own time-out, which is often half
a second. What is sent to joints ends by itself, and needs nobody.
"""

from __future__ import annotations

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.safety.latch import Cause

LEAST_S = 0.1
MISSED_PERIODS = 2.5
REST_NS = NS_PER_S
"""For so long rest is commanded (W5); then the controller holds by itself."""
LATE_NS = 3 * NS_PER_S // 100
"""Who looks so long after the last time has not read yet what came meanwhile."""
STEPPED_IN = Cause("monitor_stop", "the monitor heard nothing from the gate and stopped the base")


def silence_s(period_s: float) -> float:
    """Return the longest silence, in seconds, of a gate that ticks every `period_s` (s).

    Whoever stands by stops the base after it, and a gate that wakes from a longer one knows that
    its last command is not in force any more.
    """
    return max(LEAST_S, MISSED_PERIODS * period_s)


class SilenceWatch:
    """Decides when rest is to be commanded for a gate that has died or hangs (W9).

    It goes by the commands themselves: they prove that the loop that decides still does (W3).
    """

    def __init__(self, limit_s: float) -> None:
        """Step in after a silence of more than `limit_s` (s)."""
        self._limit_ns = round(limit_s * NS_PER_S)
        self._moves = False
        self._heard_ns = 0
        self._looked_ns = 0
        self._until_ns: int | None = None

    @property
    def is_needed(self) -> bool:
        """Whether something moves, or is being stopped."""
        return self._moves or self.steps_in

    @property
    def steps_in(self) -> bool:
        """Whether rest is being commanded."""
        return self._until_ns is not None

    def hear(self, *, moves: bool, steady_ns: int) -> None:
        """Note a command, and whether it moves the base."""
        self._moves, self._heard_ns = moves, steady_ns

    def look(self, steady_ns: int) -> bool:
        """Return whether rest is to be commanded now; to be asked every few milliseconds."""
        is_late = steady_ns - self._looked_ns > LATE_NS
        self._looked_ns = steady_ns
        if self._until_ns is not None:
            if steady_ns < self._until_ns:
                return True
            self._until_ns = None
        if not self._moves or is_late or steady_ns - self._heard_ns <= self._limit_ns:
            return False
        self._moves = False
        self._until_ns = steady_ns + REST_NS
        return True
