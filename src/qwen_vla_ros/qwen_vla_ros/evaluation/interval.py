"""How sure a success rate is."""

from __future__ import annotations

import math

Z_95 = 1.959964


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a success rate.

    Unlike the textbook interval it stays inside [0, 1] and is honest at 0 and at 100 %.

    Raises:
        ValueError: There were no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials")
    rate = successes / trials
    scale = 1 + Z_95**2 / trials
    middle = (rate + Z_95**2 / (2 * trials)) / scale
    half = Z_95 * math.sqrt(rate * (1 - rate) / trials + Z_95**2 / (4 * trials**2)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def rate_text(successes: int, trials: int) -> str:
    """Return a rate for people: `19/20 (95 % interval 76 to 99 %)`."""
    low, high = wilson_interval(successes, trials)
    return f"{successes}/{trials} (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
