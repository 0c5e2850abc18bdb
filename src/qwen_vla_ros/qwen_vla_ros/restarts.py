"""Whether a process that has ended is started again, for every runner of the graph."""

from __future__ import annotations

from collections import defaultdict, deque
from enum import Enum, auto
from typing import NamedTuple

from qwen_vla_ros.bringup import NodeSpec

MOST = 3
WITHIN_S = 60.0
"""What dies more often than that does not get well by being started."""
DELAY_S = 1.0
REFUSED = 2
"""Exit status of a node that cannot work as it was started, however often."""


class Next(Enum):
    """What becomes of the graph when one of its processes has ended."""

    GO_ON = auto()
    AGAIN = auto()
    END = auto()


class Verdict(NamedTuple):
    """What happens next, and what people are told."""

    next: Next
    sentence: str


class Restarts:
    """Counts how often each process died."""

    def __init__(self) -> None:
        self._deaths: defaultdict[str, deque[float]] = defaultdict(deque)

    def judge(self, node: NodeSpec, status: int, now_s: float) -> Verdict:
        """Say what follows from the end of a process.

        Args:
            node: What it was.
            status: Its exit status; negative is a signal.
            now_s: Steady clock.
        """
        ended = f"ended with status {status}"
        if status == 0:
            # Somebody stopped it, and may start it again.
            return Verdict(Next.GO_ON, f"{ended}; the others go on")
        if not node.is_restarted or status == REFUSED:
            return Verdict(Next.END, f"{ended}; all come to rest")
        deaths = self._deaths[node.name]
        while deaths and now_s - deaths[0] > WITHIN_S:
            deaths.popleft()
        deaths.append(now_s)
        if len(deaths) > MOST:
            return Verdict(
                Next.END,
                f"{ended}, for the {len(deaths)}th time within {WITHIN_S:g} s; all come to rest",
            )
        return Verdict(
            Next.AGAIN, f"{ended}; it is started again and moves nothing until somebody arms"
        )
