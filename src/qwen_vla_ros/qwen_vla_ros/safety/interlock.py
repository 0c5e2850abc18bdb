"""What every gate watches, whatever it drives: clocks, its pace, the stop input, the policy."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.safety.latch import Cause, Latch, Level
from qwen_vla_ros.safety.stop_input import StopInput
from qwen_vla_ros.safety.watchdog import ClockGuard, Debounce, Freshness

EARLIEST = 0.2
LATE = 1.5
TOO_LATE = 5.0
"""In gate periods: a tick sooner is none; from here on it is late, and from here on a fault."""
SAY_STOP_NS = NS_PER_S
"""After a stop, rest is commanded for this long (W5). Then the controller holds by itself, and
whoever moves the robot otherwise meanwhile is not fought."""
STOPPING_NS = 3 * NS_PER_S // 10
"""How long a robot may still be seen moving after its command has come to rest (G6, W12)."""
SILENCE_PATIENCE_S = 10.0
"""A policy that is silent for so long is gone, and nobody expects it to move the robot again."""
STILL_MOVING = Cause(
    "still_moving", "the robot moves although it is held: use its emergency stop", is_grave=True
)
POLICY_SILENT = Cause(
    "policy_silent", "the last chunk is over and the policy sent no other", SILENCE_PATIENCE_S
)


@dataclass
class Counters:
    """What a gate has done since it was configured; the names are those of SafetyState."""

    ticks: int = 0
    ticks_limited: int = 0
    ticks_late: int = 0
    violations: int = 0


@dataclass
class Tick:
    """One tick of a gate, and what was found in it so far.

    Attributes:
        elapsed_s: Seconds since the last tick.
        clock_jumped: ROS time jumped: what was stamped before means nothing now.
        stops: Reasons to stop, the most telling first.
        holds: Reasons to hold, the most telling first.
    """

    elapsed_s: float
    clock_jumped: bool = False
    stops: list[Cause] = field(default_factory=list)
    holds: list[Cause] = field(default_factory=list)

    def stop(self, *causes: Cause | None) -> None:
        """Add reasons to stop; None is no reason."""
        self.stops += [cause for cause in causes if cause is not None]

    def hold(self, *causes: Cause | None) -> None:
        """Add reasons to hold; None is no reason."""
        self.holds += [cause for cause in causes if cause is not None]


class Interlock:
    """The part of a gate that arm and base share; its latch decides whether anything moves."""

    def __init__(
        self,
        period_s: float,
        max_chunk_age_s: float,
        stop_heartbeat_s: float | None,
        named_stops: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Watch with these times, all in seconds.

        Args:
            period_s: Nominal time between two ticks.
            max_chunk_age_s: How long a chunk may be played after it arrived.
            stop_heartbeat_s: How old the stop input may grow; None when it need not be alive.
            named_stops: How old each further stop input may grow.
        """
        self.latch = Latch()
        self.counters = Counters()
        self.outside: tuple[Cause, ...] = ()
        """Reasons to stop that somebody else has found and keeps up to date."""
        self._period_s = period_s
        self._clock = ClockGuard()
        self._last_tick_ns: int | None = None
        self._chunk = Freshness(max_chunk_age_s)
        self._stop_inputs = {"": StopInput(stop_heartbeat_s)} | {
            name: StopInput(heartbeat_s, name) for name, heartbeat_s in named_stops.items()
        }
        self._still_moving = Debounce(STOPPING_NS)
        self._said_stop = Debounce(SAY_STOP_NS)

    @classmethod
    def from_embodiment(cls, embodiment: Embodiment) -> Self:
        """Make the interlock of one robot."""
        safety = embodiment.file.safety
        period_s = 1.0 / embodiment.file.command.rate_hz
        named_stops = {stop.name: stop.max_age_s for stop in safety.stops}
        return cls(period_s, safety.max_observation_age_s, safety.stop_heartbeat_s, named_stops)

    def on_chunk(self, steady_ns: int) -> None:
        """Note that a chunk was accepted."""
        self._chunk.renew(steady_ns)

    def on_stop_input(
        self, *, is_asserted: bool, steady_ns: int, source: Hashable = "", name: str = ""
    ) -> None:
        """Take in what one publisher says on a stop input; its first edge is latched (G4)."""
        stop_input = self._stop_inputs[name]
        stop_input.hear(source, is_asserted=is_asserted, steady_ns=steady_ns)
        if is_asserted:
            self.latch.trip(stop_input.asserted)

    def on_stop_publishers(self, present: Collection[Hashable], name: str = "") -> None:
        """Take in who publishes on a stop input now."""
        self._stop_inputs[name].see(present)

    def has_policy(self, steady_ns: int) -> bool:
        """Whether a chunk came lately by our own clock, whatever its stamps say (W1)."""
        return not self._chunk.is_stale(steady_ns)

    def begin(self, now_ns: int, steady_ns: int) -> Tick | None:
        """Begin a tick; returns None when the last one was only just before."""
        elapsed_s = self.elapsed_s(steady_ns)
        if elapsed_s < EARLIEST * self._period_s:
            return None
        self._last_tick_ns = steady_ns
        jump_s = self._clock.step(now_ns, steady_ns)
        tick = Tick(elapsed_s, clock_jumped=jump_s != 0)
        tick.stop(*(each.cause(steady_ns) for each in self._stop_inputs.values()), *self.outside)
        if tick.clock_jumped:
            tick.stop(Cause("clock_jump", f"ROS time jumped by {jump_s:+.3f} s"))
        if self._clock.is_paused(steady_ns):
            tick.hold(Cause("clock_paused", "ROS time stands still"))
        if elapsed_s > LATE * self._period_s:
            self.counters.ticks_late += 1
        if elapsed_s > TOO_LATE * self._period_s:
            tick.stop(Cause("gate_late", f"the gate was late by {elapsed_s:.3f} s"))
        return tick

    def watch_rest(self, *, is_commanded: bool, is_still: bool, steady_ns: int) -> Cause | None:
        """Return a reason to stop when the robot moves on although its command rests.

        Args:
            is_commanded: Whether the last command moves the robot.
            is_still: Whether the measured speed is near zero.
            steady_ns: Steady clock.
        """
        is_wrong = not is_commanded and not is_still and self.latch.level >= Level.HOLD
        if not self._still_moving.holds(steady_ns, is_so=is_wrong):
            return None
        return STILL_MOVING

    def is_quiet(self, *, is_commanded: bool, steady_ns: int) -> bool:
        """Whether a stop has been said for long enough that nothing more is sent.

        Args:
            is_commanded: Whether the last command moves the robot.
            steady_ns: Steady clock.
        """
        is_stopped = not self.latch.is_armed and not is_commanded
        return self._said_stop.holds(steady_ns, is_so=is_stopped)

    def judge(self, tick: Tick, steady_ns: int) -> bool:
        """Let the latch decide; returns whether a wanted motion may be made in this tick."""
        self.latch.update(steady_ns, tick.stops, tick.holds)
        return self.latch.level < Level.HOLD

    def trusts(self, violations: int) -> bool:
        """Whether a command may be used, of which `violations` values lie outside the envelope."""
        if violations:
            # The filter promises that there are none; a broken promise ends all trust in it.
            self.counters.violations += violations
            self.latch.trip(Cause("internal", "a filtered command left the envelope"))
        return not violations

    def finish(
        self,
        steady_ns: int,
        *,
        is_limited: bool,
        is_commanded: bool,
        cause: Cause | None = None,
    ) -> bool:
        """End a tick; returns whether its command goes out.

        Args:
            steady_ns: Steady clock.
            is_limited: Whether the command is not what was wanted.
            is_commanded: Whether the command moves the robot.
            cause: Why it is not what was wanted; None for the limits of single joints.
        """
        if self.is_quiet(is_commanded=is_commanded, steady_ns=steady_ns):
            return False
        self.counters.ticks += 1
        if is_limited:
            self.counters.ticks_limited += 1
            self.latch.note_limited(steady_ns, cause)
        return True

    def elapsed_s(self, steady_ns: int) -> float:
        """Return the seconds since the last tick; one period before the first one."""
        if self._last_tick_ns is None:
            return self._period_s
        return (steady_ns - self._last_tick_ns) / NS_PER_S
