"""Everything between a policy's chunk and a controller's command, for one robot and without ROS.

The gate node, the simulator's rollouts and the evaluation all hold this object: what is true of a
motion in one of them is true in all.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.backend import Commands
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.profile import NORMAL, Profile
from qwen_vla_ros.safety.admission import NOBODY, STRANGER, Admission, Verdict
from qwen_vla_ros.safety.arms import Arms
from qwen_vla_ros.safety.base import Base
from qwen_vla_ros.safety.interlock import Counters
from qwen_vla_ros.safety.latch import Cause, Latch
from qwen_vla_ros.safety.shared_clock import SharedClock
from qwen_vla_ros.types import ActionChunk

CONFLICT_NS = NS_PER_S
"""Two policies that both spoke within this time are a reason to stop."""


class RobotGate:
    """Judges chunks, and decides in every tick what may move. It begins stopped."""

    def __init__(self, embodiment: Embodiment, profile: Profile = NORMAL) -> None:
        """Read the limits, no faster than a profile allows.

        Raises:
            EmbodimentError: The file lacks one, or nothing reports what is commanded.
        """
        profile.require_tools(embodiment)
        self.profile = profile
        self.mechanism: Arms | Base = (
            Base(embodiment) if embodiment.has_base else Arms(embodiment, profile)
        )
        self.admission = Admission.from_embodiment(embodiment)
        self.clock = SharedClock(1.0 / embodiment.file.command.rate_hz)
        self._period_ns = round(NS_PER_S / embodiment.file.command.rate_hz)
        self._slot = self._ticked_ns = 0
        self._outside: tuple[Cause, ...] = ()
        self._conflict: Cause | None = None
        self._conflict_ns = 0

    @property
    def latch(self) -> Latch:
        """Level, cause, and whether commands may pass."""
        return self.mechanism.interlock.latch

    @property
    def counters(self) -> Counters:
        """What was done since the gate was made."""
        return self.mechanism.interlock.counters

    def on_chunk(
        self,
        chunk: ActionChunk | None,
        now_ns: int,
        steady_ns: int,
        *,
        source: Hashable = "",
        name: str = NOBODY,
    ) -> Verdict:
        """Play a chunk, or say why not.

        Args:
            chunk: What arrived; None when it could not even be read.
            now_ns: ROS time.
            steady_ns: Steady clock.
            source: Who published it; a second one beside the first is a reason to stop.
            name: What people call the publisher.
        """
        verdict = self.admission.judge(chunk, now_ns, steady_ns, source, name)
        if verdict.cause == STRANGER:
            self._conflict, self._conflict_ns = Cause(STRANGER, verdict.detail), steady_ns
            self.latch.trip(self._conflict)
            return verdict
        if verdict.chunk is not None:
            unplayable = self.mechanism.accept(verdict.chunk, steady_ns)
            return Verdict("unplayable", unplayable) if unplayable else verdict
        if self.admission.is_exhausted(steady_ns):
            detail = f"too many chunks were rejected; the last one: {verdict.detail}"
            self.latch.trip(Cause("chunks_rejected", detail))
        return verdict

    def on_chunk_publishers(self, present: Collection[Hashable]) -> None:
        """Take in who publishes chunks now."""
        self.admission.on_publishers(present)

    def on_stop_input(
        self, *, is_asserted: bool, steady_ns: int, source: Hashable = "", name: str = ""
    ) -> None:
        """Take in what one publisher says on a stop input; "" is the one of every robot."""
        self.mechanism.interlock.on_stop_input(
            is_asserted=is_asserted, steady_ns=steady_ns, source=source, name=name
        )

    def on_stop_publishers(self, present: Collection[Hashable], name: str = "") -> None:
        """Take in who publishes on a stop input now."""
        self.mechanism.interlock.on_stop_publishers(present, name)

    def on_outside(self, causes: Sequence[Cause]) -> None:
        """Take in the reasons to stop that stand outside of what is watched here."""
        self._outside = tuple(causes)

    def stop(self, cause: Cause) -> None:
        """Stop; the ticks go on until the robot rests."""
        self.latch.trip(cause)

    def arm(self, steady_ns: int) -> str:
        """Let commands pass from now on, beginning where the robot is.

        Returns:
            Why not, as a sentence; empty when armed.
        """
        was_armed = self.latch.is_armed
        if not was_armed:
            if why_not := self.clock.why_not:
                return why_not
            # What was said before somebody armed must not move anything.
            self.mechanism.clear()
            self.admission.forget()
        why_not = self.mechanism.arm(steady_ns)
        if not why_not and not was_armed:
            self.admission.release()
        return why_not

    def is_due(self, now_ns: int, steady_ns: int) -> bool:
        """Say whether a tick now would be the first in its slot of the grid of periods.

        Where ROS time stands still, every period of the steady clock is one.
        """
        is_new = now_ns // self._period_ns != self._slot
        return is_new or steady_ns - self._ticked_ns >= self._period_ns

    def tick(self, now_ns: int, steady_ns: int) -> Commands:
        """Decide on the next command of every output; empty when none is to be sent.

        May be called several times a period; only one that `is_due` counts.
        """
        if not self.is_due(now_ns, steady_ns):
            return []
        self._slot, self._ticked_ns = now_ns // self._period_ns, steady_ns
        if self._conflict is not None and steady_ns - self._conflict_ns > CONFLICT_NS:
            self._conflict = None
        conflict = () if self._conflict is None else (self._conflict,)
        self.mechanism.interlock.outside = (*conflict, *self._outside)
        return self.mechanism.tick(now_ns, steady_ns)
