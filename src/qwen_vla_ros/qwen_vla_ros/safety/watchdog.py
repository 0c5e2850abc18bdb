"""Ages and clocks: the steady clock decides, and the stamp is a second, independent test (W1)."""

from __future__ import annotations

from qwen_vla_ros.clock import NS_PER_S

MAX_AHEAD_NS = NS_PER_S // 20
"""A stamp further ahead of our clock than this belongs to another clock."""
MAX_JUMP_NS = NS_PER_S // 10
"""ROS time that moves this much apart from the steady clock in one tick has jumped (W10)."""
PAUSED_NS = NS_PER_S // 10
"""ROS time that stands still for this long is paused (D2)."""


def judge_stamp(stamp_ns: int, now_ns: int, max_age_s: float) -> str:
    """Return what is wrong with a time stamp, as a cause's name; empty when nothing is.

    Args:
        stamp_ns: ROS time that the sender claims.
        now_ns: ROS time here.
        max_age_s: Oldest that is taken, in seconds.
    """
    if stamp_ns <= 0:
        return "stamp_zero"
    if stamp_ns - now_ns > MAX_AHEAD_NS:
        return "stamp_ahead"
    if now_ns - stamp_ns > max_age_s * NS_PER_S:
        return "stamp_old"
    return ""


class Freshness:
    """How long ago something good arrived, by the receiver's steady clock."""

    def __init__(self, max_age_s: float) -> None:
        """Call stale what is older than `max_age_s` (s), or what never came."""
        self._max_age_ns = round(max_age_s * NS_PER_S)
        self._renewed_ns: int | None = None

    def renew(self, steady_ns: int) -> None:
        """Note an arrival."""
        self._renewed_ns = steady_ns

    def forget(self) -> None:
        """Note that nothing ever came."""
        self._renewed_ns = None

    def is_stale(self, steady_ns: int) -> bool:
        """Whether the last arrival is too long ago; true when there was none."""
        return self._renewed_ns is None or steady_ns - self._renewed_ns > self._max_age_ns

    def age_s(self, steady_ns: int) -> float:
        """Seconds since the last arrival; infinite when there was none."""
        if self._renewed_ns is None:
            return float("inf")
        return (steady_ns - self._renewed_ns) / NS_PER_S


class Debounce:
    """A finding that only counts once it has stood for a while without a break."""

    def __init__(self, span_ns: int) -> None:
        """Count what has stood for `span_ns` of the steady clock."""
        self._span_ns = span_ns
        self._since_ns: int | None = None

    def holds(self, steady_ns: int, *, is_so: bool) -> bool:
        """Take in whether it is so now; returns whether it has been so for long enough."""
        if not is_so:
            self._since_ns = None
            return False
        if self._since_ns is None:
            self._since_ns = steady_ns
        return steady_ns - self._since_ns >= self._span_ns


class ClockGuard:
    """Compares ROS time with the steady clock, tick by tick.

    A simulation may run slower than the world, so that the two may drift; they may not jump.
    """

    def __init__(self) -> None:
        self._now_ns: int | None = None
        self._steady_ns = 0
        self._moved_ns = 0

    def step(self, now_ns: int, steady_ns: int) -> float:
        """Take in both clocks; returns the jump of ROS time in seconds, 0 when it did not jump."""
        if self._now_ns is None:
            self._now_ns, self._steady_ns, self._moved_ns = now_ns, steady_ns, steady_ns
            return 0.0
        jump_ns = (now_ns - self._now_ns) - (steady_ns - self._steady_ns)
        stood_still = now_ns == self._now_ns
        if not stood_still:
            self._moved_ns = steady_ns
        self._now_ns, self._steady_ns = now_ns, steady_ns
        # A clock that stands still is paused, however late this tick came; not a jump.
        return jump_ns / NS_PER_S if abs(jump_ns) > MAX_JUMP_NS and not stood_still else 0.0

    def is_paused(self, steady_ns: int) -> bool:
        """Whether ROS time has stood still for a while."""
        return steady_ns - self._moved_ns > PAUSED_NS
