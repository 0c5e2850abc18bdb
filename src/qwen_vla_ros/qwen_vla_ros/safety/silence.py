"""How long a gate that lets a base drive may say nothing, before somebody ends the motion."""

from __future__ import annotations

LEAST_S = 0.1
MISSED_PERIODS = 2.5


def silence_s(period_s: float) -> float:
    """Return the longest silence, in seconds, of a gate that ticks every `period_s` (s).

    Whoever stands by stops the base after it, and a gate that wakes from a longer one knows that
    its last command is not in force any more.
    """
    return max(LEAST_S, MISSED_PERIODS * period_s)
