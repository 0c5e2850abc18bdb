"""The level of safety in force, and the only ways from one level to another (W4, W6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from qwen_vla_ros.clock import NS_PER_S

WELL_NS = NS_PER_S
"""All must have been well for this long before a robot can be armed, or a hold resumes."""
GOOD_TICKS = 10
"""A hold resumes after this many good ticks in a row, and not before `WELL_NS`."""
LIMITED_NS = NS_PER_S // 2
"""How long LIMITED stays after the last limited command, so that the level does not flicker."""


class Level(IntEnum):
    """How much the gate lets pass; the more severe wins. Numbered as in SafetyState."""

    OK = 0
    LIMITED = 1
    HOLD = 2
    STOP = 3


@dataclass(frozen=True)
class Cause:
    """Why a level is in force.

    Attributes:
        name: Short and stable, for programs.
        detail: One sentence, for people.
        patience_s: Seconds after which a hold for this cause becomes a stop; never, by default.
        is_grave: Whether stopping was not enough, so that it takes the place of a stop's cause.
    """

    name: str
    detail: str
    patience_s: float = float("inf")
    is_grave: bool = False


WELL = Cause("", "")
LIMITED = Cause("limited", "the policy asks for more than the envelope allows")
NOT_ARMED = Cause("not_armed", "the gate was not armed since it was activated")


class Latch:
    """The state machine of a gate.

    It begins in STOP. Only `arm` leaves STOP; HOLD resumes by itself once its cause has stayed
    away for `GOOD_TICKS` and `WELL_NS`; nothing else lowers the severity except time for LIMITED.
    """

    def __init__(self) -> None:
        self._level = Level.STOP
        self._cause = NOT_ARMED
        self._before: tuple[Cause, ...] = ()
        self._standing: tuple[Cause, ...] = ()
        self._well_since_ns: int | None = None
        self._held_since_ns = 0
        self._last_held_ns = 0
        self._good_ticks = 0
        self._limited_until_ns = 0

    @property
    def level(self) -> Level:
        """The level in force."""
        return self._level

    @property
    def cause(self) -> Cause:
        """The first cause of the level in force; it stays until the level changes, or worse."""
        return self._cause

    @property
    def is_armed(self) -> bool:
        """Whether commands may ever pass without somebody arming first."""
        return self._level is not Level.STOP

    @property
    def detail(self) -> str:
        """One sentence about the cause, and about other reasons that stand or came first."""
        all_causes = (self._cause, *self._before, *self._standing)
        return "; also ".join(dict.fromkeys(cause.detail for cause in all_causes))

    def update(self, steady_ns: int, stops: Sequence[Cause], holds: Sequence[Cause]) -> None:
        """Take in one tick's findings.

        Args:
            steady_ns: Steady clock.
            stops: Reasons to stop that stand now, the most telling first.
            holds: Reasons to hold that stand now, the most telling first.
        """
        self._standing = tuple(stops)
        for cause in stops:
            self.trip(cause)
        if not stops and self._well_since_ns is None:
            self._well_since_ns = steady_ns
        if self._level is Level.STOP:
            # The cause stays the first one; what became known of it since is told.
            same = (cause for cause in stops if cause.name == self._cause.name)
            self._cause = next(same, self._cause)
            return
        if holds:
            self._hold(steady_ns, holds[0])
        elif self._level is Level.HOLD:
            self._resume(steady_ns)
        elif self._level is Level.LIMITED and steady_ns >= self._limited_until_ns:
            self._become(Level.OK, WELL)

    def trip(self, cause: Cause) -> None:
        """Stop, now; the time to get well restarts.

        A latched stop keeps its first cause, unless a grave one says that it stopped nothing.
        """
        self._well_since_ns = None
        if self._level is not Level.STOP:
            self._become(Level.STOP, cause)
        elif cause.is_grave and not self._cause.is_grave:
            self._before, self._cause = (self._cause,), cause

    def note_limited(self, steady_ns: int, cause: Cause | None = None) -> None:
        """Note that a command had to be limited in this tick; without a cause, by its joints."""
        if self._level <= Level.LIMITED:
            self._limited_until_ns = steady_ns + LIMITED_NS
        if self._level is Level.OK or (self._level is Level.LIMITED and cause is not None):
            self._become(Level.LIMITED, cause or LIMITED)

    def arm(self, steady_ns: int, *, is_still: bool) -> str:
        """Leave STOP if all is well.

        Args:
            steady_ns: Steady clock.
            is_still: Whether the measured speed of the robot is near zero.

        Returns:
            Why not, as a sentence; empty when armed.
        """
        if self.is_armed:
            return ""
        if self._standing:
            return "; also ".join(cause.detail for cause in self._standing)
        well_ns = 0 if self._well_since_ns is None else steady_ns - self._well_since_ns
        if well_ns < WELL_NS:
            return (
                f"all must be well for 1 s before arming, so far it is {well_ns / NS_PER_S:.1f} s"
            )
        if not is_still:
            return "the robot still moves"
        self._become(Level.OK, WELL)
        return ""

    def _hold(self, steady_ns: int, cause: Cause) -> None:
        self._good_ticks = 0
        self._last_held_ns = steady_ns
        if self._level is not Level.HOLD:
            self._held_since_ns = steady_ns
            self._become(Level.HOLD, cause)
        elif cause.name != self._cause.name:
            self._cause = cause
        if steady_ns - self._held_since_ns > cause.patience_s * NS_PER_S:
            self.trip(cause)

    def _resume(self, steady_ns: int) -> None:
        self._good_ticks += 1
        if self._good_ticks >= GOOD_TICKS and steady_ns - self._last_held_ns >= WELL_NS:
            self._become(Level.OK, WELL)

    def _become(self, level: Level, cause: Cause) -> None:
        self._level = level
        self._cause = cause
        self._before = ()
