"""What every gate does in one tick, whatever it drives; what differs is told by its subclasses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from qwen_vla_ros.safety.interlock import POLICY_SILENT, Interlock, Tick
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.types import FloatArray

Command = TypeVar("Command")

REST_SAID = 3
"""Commands of rest after a motion before a robot counts as resting: the last word before a process
ends may be lost with it."""


class Monitor(Protocol):
    """Takes in one source of measurements."""

    def stops(self, steady_ns: int) -> list[Cause]:
        """Return the reasons to stop that stand in it."""
        ...

    def forget(self) -> None:
        """Forget what was measured: its stamps mean nothing any more."""
        ...


@dataclass(frozen=True, eq=False)
class Proposal(Generic[Command]):
    """What a gate would command.

    Attributes:
        command: The command itself.
        violations: How many of its values lie outside the envelope; the filters promise 0.
        is_limited: Whether it is not what was wanted.
        cause: Why it is not, where that is more than the limits of single joints.
    """

    command: Command
    violations: int
    is_limited: bool
    cause: Cause | None = None


class Gate(ABC, Generic[Command]):
    """Lets a policy move something inside an envelope, while all that it watches is well.

    What is commanded is the reference for the next command: what was wanted and not given never
    counts. It begins stopped.
    """

    def __init__(self, monitors: Sequence[Monitor], interlock: Interlock, period_s: float) -> None:
        """Watch `monitors` and the `interlock`; ticks are `period_s` (s) apart."""
        self._sources = tuple(monitors)
        self._interlock = interlock
        self._period_s = period_s
        self._was_armed = False
        self._rests_to_say = 0

    @property
    def interlock(self) -> Interlock:
        """Level, cause and counters."""
        return self._interlock

    @property
    @abstractmethod
    def is_still(self) -> bool:
        """Whether all that moves was measured, and is near rest."""

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing moves, neither as commanded nor as measured."""
        is_commanded = self._is_commanded or self._rests_to_say > 0
        return not is_commanded and (not self._was_armed or self.is_still)

    def step_s(self, steady_ns: int) -> float:
        """Return the seconds in which a command of a tick at this time may change."""
        # Time that a late tick lost does not allow a greater change.
        return min(self._interlock.elapsed_s(steady_ns), self._period_s)

    def arm(self, steady_ns: int) -> str:
        """Let commands pass from now on, beginning where the robot is.

        Returns:
            Why not, as a sentence; empty when armed.
        """
        if self._interlock.latch.is_armed:
            return ""
        why_not = self._interlock.latch.arm(steady_ns, is_still=self.is_still)
        if not why_not:
            self._begin()
            self._was_armed = True
        return why_not

    def tick(
        self, now_ns: int, steady_ns: int, wanted: FloatArray | None, *, is_silent: bool = False
    ) -> Command | None:
        """Decide what to command now.

        Args:
            now_ns: ROS time.
            steady_ns: Steady clock.
            wanted: What is asked for, in the subclass's terms; None to rest.
            is_silent: Whether nothing is wanted although an episode is under way.

        Returns:
            The command to send, or None when nothing is to be sent: before the gate was first
            armed, well after a stop, while the gate is lost, and when the last tick was only just
            before.
        """
        dt = self.step_s(steady_ns)
        tick = self._interlock.begin(now_ns, steady_ns)
        if tick is None:
            return None
        if tick.clock_jumped:
            for source in self._sources:
                source.forget()
        if wanted is not None:
            wanted = self._read(wanted) if self._interlock.has_policy(steady_ns) else None
            is_silent = wanted is None
        for source in self._sources:
            tick.stop(*source.stops(steady_ns))
        if not tick.stops:  # otherwise the measured speed may be an old one
            tick.stop(self._judge_rest(steady_ns))
        self._find(tick, steady_ns, wanted)
        tick.hold(POLICY_SILENT if is_silent else None)
        may_move = self._interlock.judge(tick, steady_ns)
        if not self._was_armed or self._is_lost:
            return None
        proposal = self._propose(wanted if may_move else None, dt)
        if not self._interlock.trusts(proposal.violations):
            return None
        self._take(proposal.command)
        self._rests_to_say = REST_SAID if self._is_commanded else max(0, self._rests_to_say - 1)
        goes_out = self._interlock.finish(
            steady_ns,
            is_limited=proposal.is_limited,
            is_commanded=self._is_commanded,
            cause=proposal.cause,
        )
        return proposal.command if goes_out else None

    def _judge_rest(self, steady_ns: int) -> Cause | None:
        """Return a reason to stop when the robot goes on after the command came to rest."""
        quiet = self._interlock.is_quiet(is_commanded=self._is_commanded, steady_ns=steady_ns)
        if not self._was_armed or quiet:
            return None
        return self._interlock.watch_rest(
            is_commanded=self._is_commanded, is_still=self.is_still, steady_ns=steady_ns
        )

    @property
    def _is_lost(self) -> bool:
        """Whether it is not known yet what a command would follow on; nothing is sent then."""
        return False

    @property
    @abstractmethod
    def _is_commanded(self) -> bool:
        """Whether the last command moves anything."""

    @abstractmethod
    def _begin(self) -> None:
        """Take what is measured as the reference: the gate has just been armed."""

    @abstractmethod
    def _read(self, wanted: FloatArray) -> FloatArray | None:
        """Return what is wanted; None where its shape or its values mean nothing."""

    @abstractmethod
    def _find(self, tick: Tick, steady_ns: int, wanted: FloatArray | None) -> None:
        """Add the reasons to stop and to hold that only this kind of gate knows."""

    @abstractmethod
    def _propose(self, wanted: FloatArray | None, dt: float) -> Proposal[Command]:
        """Return the next command.

        Args:
            wanted: What is asked for; None to brake.
            dt: Seconds in which the command may change.
        """

    @abstractmethod
    def _take(self, command: Command) -> None:
        """Make a command the reference for the next one; one that is not trusted is none."""
