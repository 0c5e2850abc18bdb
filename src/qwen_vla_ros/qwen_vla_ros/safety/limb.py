"""What a robot's gate drives: the part that differs between joints and a base."""

from __future__ import annotations

from typing import Protocol

from qwen_vla_ros.embodiment.backend import Command
from qwen_vla_ros.embodiment.schema import OutputSpec
from qwen_vla_ros.safety.interlock import Interlock
from qwen_vla_ros.types import ActionChunk

Commands = list[tuple[OutputSpec, Command]]
"""What is sent in one tick, by command topic."""


class Limb(Protocol):
    """Plays chunks through its gate to its command topics."""

    @property
    def interlock(self) -> Interlock:
        """Level, cause and counters."""
        ...

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing moves, neither as commanded nor as measured."""
        ...

    @property
    def is_resting(self) -> bool:
        """Whether the newest chunk asked for rest."""
        ...

    def missing(self, steady_ns: int) -> str:
        """Say what must be measured before the gate may activate; empty when nothing."""
        ...

    def accept(self, chunk: ActionChunk, steady_ns: int) -> str:
        """Play a chunk that was admitted; returns why it cannot be played, or nothing."""
        ...

    def clear(self) -> None:
        """Drop what was asked for so far."""
        ...

    def arm(self, steady_ns: int) -> str:
        """Let commands pass from now on; returns why not, or nothing."""
        ...

    def tick(self, now_ns: int, steady_ns: int) -> Commands:
        """Decide on one command."""
        ...
