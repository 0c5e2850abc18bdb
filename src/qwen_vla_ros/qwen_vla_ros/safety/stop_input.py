"""A stop input: any publisher may assert it, and only the one that did may take it back."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace

from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.watchdog import Freshness

STOP_INPUT = Cause("stop_input", "the stop input is asserted")
ORPHANED = Cause(
    "stop_input",
    "the stop input was asserted by a publisher that is gone: have a new one release it",
)
STOP_INPUT_LOST = Cause("stop_input_lost", "the stop input is silent")


@dataclass
class Speaker:
    """One publisher of the stop input, as far as it was heard.

    Attributes:
        arrived: How many words had been heard, of anybody, when it was first known of.
        last: The number of its last word.
        is_asserted: What it said last.
        fresh: How long ago that was; None where nobody has to be alive.
    """

    arrived: int
    last: int
    is_asserted: bool
    fresh: Freshness | None


class StopInput:
    """Keeps apart what each publisher says: with two buttons, one that is pressed stops (G1).

    One that must be held is the same button the other way round: let go of, it stops. It does not
    hold, since a hold resumes by itself, and what a person took back by letting go must not come
    back because something leans on the button.

    A publisher that went away while it asserted stays asserted, since a cut cable is no release.
    A false of one that came after its last word takes its place: the same button restarted, or a
    person who means it.
    """

    def __init__(self, heartbeat_s: float | None, name: str = "") -> None:
        """Listen.

        Args:
            heartbeat_s: Each publisher must speak so often (s); it need not when None.
            name: As the robot's file calls it; "" is the one that every robot has.
        """
        self.asserted = _of(name, STOP_INPUT)
        self._orphaned, self._lost = _of(name, ORPHANED), _of(name, STOP_INPUT_LOST)
        self._heartbeat_s = heartbeat_s
        self._speakers: dict[Hashable, Speaker] = {}
        self._present: dict[Hashable, int] | None = None
        self._words = 0

    def hear(self, source: Hashable, *, is_asserted: bool, steady_ns: int) -> None:
        """Take in what one publisher says."""
        speaker = self._speakers.get(source)
        if speaker is None:
            arrived = (self._present or {}).get(source, self._words)
            fresh = None if self._heartbeat_s is None else Freshness(self._heartbeat_s)
            speaker = self._speakers[source] = Speaker(arrived, 0, is_asserted, fresh)
        self._words += 1
        speaker.last = self._words
        speaker.is_asserted = is_asserted
        if speaker.fresh is not None:
            speaker.fresh.renew(steady_ns)
        self._settle()

    def see(self, present: Collection[Hashable]) -> None:
        """Take in which publishers there are; until then all that were heard count as there."""
        known = self._present or {}
        self._present = {source: known.get(source, self._words) for source in present}
        self._settle()

    def cause(self, steady_ns: int) -> Cause | None:
        """Return a reason to stop while somebody asserts it, or while it is silent (G3)."""
        asserted = [key for key, speaker in self._speakers.items() if speaker.is_asserted]
        if asserted:
            is_there = any(self._is_there(key) for key in asserted)
            return self.asserted if is_there else self._orphaned
        if self._heartbeat_s is None:
            return None
        ages = [s.fresh for key, s in self._speakers.items() if self._is_there(key)]
        is_alive = bool(ages) and not any(age and age.is_stale(steady_ns) for age in ages)
        return None if is_alive else self._lost

    def _is_there(self, source: Hashable) -> bool:
        return self._present is None or source in self._present

    def _settle(self) -> None:
        """Forget who is gone, unless it asserts and nobody took its place."""
        calm = [
            speaker.arrived
            for source, speaker in self._speakers.items()
            if not speaker.is_asserted and self._is_there(source)
        ]
        newest = max(calm, default=-1)
        self._speakers = {
            source: speaker
            for source, speaker in self._speakers.items()
            if self._is_there(source) or (speaker.is_asserted and speaker.last > newest)
        }


def _of(name: str, cause: Cause) -> Cause:
    """Return a cause as that of the stop input with a name."""
    if not name:
        return cause
    detail = cause.detail.replace("the stop input", f"the stop input '{name}'", 1)
    return replace(cause, name=f"{cause.name}:{name}", detail=detail)
