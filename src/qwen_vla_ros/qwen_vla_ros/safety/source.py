"""One topic of measurements: its order in time, its age, and whether it makes sense."""

from __future__ import annotations

from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.watchdog import Freshness, judge_stamp

MAX_BAD_IN_A_ROW = 3


class Source:
    """Keeps the books of one topic; what is measured is its owner's business."""

    def __init__(self, kind: str, topic: str, max_age_s: float) -> None:
        """Begin with nothing received.

        Args:
            kind: First part of the causes' names, such as `joint_states`.
            topic: Where it comes from, for sentences.
            max_age_s: Age from which the source is stale, in seconds.
        """
        self.topic = topic
        self.rejected = 0
        self.stamp_ns = 0
        self._kind = kind
        self._max_age_s = max_age_s
        self._fresh = Freshness(max_age_s)
        self._bad_in_a_row = 0
        self._bad_detail = ""
        self._event: Cause | None = None

    def forget(self) -> None:
        """Note that nothing ever came."""
        self.stamp_ns = 0
        self._fresh.forget()

    def is_next(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether a stamp is plausible and newer than the last one; counts it if not.

        A repeated stamp is no fault by itself, since a driver may be faster than its clock. It is
        no proof of life either: when nothing else comes, the source goes stale.
        """
        is_next = not judge_stamp(stamp_ns, now_ns, self._max_age_s) and stamp_ns > self.stamp_ns
        self.rejected += not is_next
        return is_next

    def accept(self, stamp_ns: int, steady_ns: int) -> None:
        """Note a good sample."""
        self.stamp_ns = stamp_ns
        self._bad_in_a_row = 0
        self._fresh.renew(steady_ns)

    def reject(self, why: str) -> None:
        """Note a sample that makes no sense; several in a row are a reason to stop (C5)."""
        self.rejected += 1
        self._bad_in_a_row += 1
        self._bad_detail = why

    def report(self, name: str, detail: str) -> None:
        """Have the next tick stop for something that happened."""
        self._event = Cause(name, detail)

    def stops(self, steady_ns: int) -> list[Cause]:
        """Return the reasons to stop that stand now, or that happened since the last call."""
        causes = [] if self._event is None else [self._event]
        self._event = None
        if self._bad_in_a_row >= MAX_BAD_IN_A_ROW:
            detail = f"'{self.topic}' is unusable: {self._bad_detail}"
            causes.append(Cause(f"{self._kind}_invalid", detail))
        if self._fresh.is_stale(steady_ns):
            age_s = self._fresh.age_s(steady_ns)
            detail = (
                f"'{self.topic}' is {age_s:.2f} s old, allowed is {self._max_age_s:g} s"
                if age_s < float("inf")
                else f"nothing usable came on '{self.topic}' yet"
            )
            causes.append(Cause(f"{self._kind}_stale", detail))
        return causes
