"""How a policy behaves over time: commands that are each allowed, and together make no sense."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.watchdog import Debounce
from qwen_vla_ros.types import FloatArray

OUT_OF_REACH = 2.0
"""Wanted positions further from the command than this many start jumps follow no motion: degrees
taken for radians, actions that were not denormalised."""
TOO_FAST = 1.25
"""Wanted twists beyond this many speed limits are no error of a policy that knows the base."""
OUT_OF_REACH_S = 0.5
OUT_OF_REACH_SHARE = 0.2
"""Share of the ticks in `OUT_OF_REACH_S` that may be out of reach (A11)."""

OSCILLATION_S = 1.0
MAX_REVERSALS = 5
"""What turns round more often than this within `OSCILLATION_S` oscillates (A9) ..."""
REVERSAL_FRACTION = 0.1
"""... where only speeds over this fraction of what is allowed count as a motion."""

FROZEN_NS = 5 * NS_PER_S
"""A policy that proposes the very same motion for so long does not look any more (A10)."""


class PolicyMonitor:
    """Watches what a policy asks a mechanism to do, whose axes are joints or (v, w)."""

    def __init__(self, velocity: FloatArray, period_s: float) -> None:
        """Watch commands that are `period_s` (s) apart; `velocity` (n,) is the greatest speed."""
        self._far: deque[bool] = deque(maxlen=round(OUT_OF_REACH_S / period_s))
        self._moving_speed = REVERSAL_FRACTION * velocity
        self._direction: FloatArray = np.zeros_like(velocity)
        self._turns: deque[npt.NDArray[np.bool_]] = deque(maxlen=round(OSCILLATION_S / period_s))
        self._actions: FloatArray | None = None
        self._same = Debounce(FROZEN_NS)
        self._is_frozen = False

    def on_chunk(self, actions: FloatArray, rest: FloatArray, steady_ns: int) -> None:
        """Take in the rows (H, c) of an accepted chunk; each would be `rest` (c,) to stand still.

        The same rest again and again is what a robot that waits looks like.
        """
        same = self._actions is not None and np.array_equal(actions, self._actions)
        is_motion = bool((actions != rest).any())
        self._is_frozen = self._same.holds(steady_ns, is_so=same and is_motion)
        self._actions = actions

    def rest(self) -> None:
        """Forget the motion so far: it has ended."""
        self._far.clear()
        self._direction = np.zeros_like(self._direction)
        self._turns.clear()

    def find_frozen(self) -> Cause | None:
        """Return a reason to hold when the newest chunks all propose the very same motion."""
        if not self._is_frozen:
            return None
        return Cause("policy_frozen", "the policy has proposed the very same motion for 5 s")

    def find_out_of_reach(self, *, is_far: bool) -> Cause | None:
        """Return a reason to stop when what is wanted stays far from what can be."""
        self._far.append(is_far)
        if sum(self._far) <= OUT_OF_REACH_SHARE * (self._far.maxlen or 0):
            return None
        return Cause("out_of_reach", "the policy keeps asking for far more than the robot can do")

    def find_oscillation(self, velocity: FloatArray) -> Cause | None:
        """Return a reason to hold when the command's speed (n,) turns round too often."""
        if not self._oscillates(velocity):
            return None
        return Cause("oscillation", "the policy makes the robot turn round again and again")

    def _oscillates(self, velocity: FloatArray) -> bool:
        direction = np.where(np.abs(velocity) > self._moving_speed, np.sign(velocity), 0.0)
        turned = direction * self._direction < 0
        self._direction = np.where(direction == 0, self._direction, direction)
        self._turns.append(turned)
        # Only a turn can make one too many; the sum need not be made in every tick.
        return bool(turned.any()) and bool((np.sum(self._turns, axis=0) > MAX_REVERSALS).any())
