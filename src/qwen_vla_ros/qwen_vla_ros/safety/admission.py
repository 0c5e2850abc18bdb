"""May this chunk be played? Judges what a policy sends before any of it can move anything."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.safety.watchdog import judge_stamp
from qwen_vla_ros.types import ActionChunk, FloatArray

MAX_IN_A_ROW = 3
MAX_IN_A_SECOND = 5
SEQUENCE_MODULUS = 2**32
REMEMBERED_EPISODES = 64
LONGEST_EPISODE = 128
ABSURD = 1e9
"""No channel of a robot has such a value, and products of greater ones are no numbers (A2)."""
LONGEST_QUOTE = 60
"""Characters of a stranger's text that may appear in a sentence of ours."""


STRANGER = "policy_conflict"
"""Why a chunk is not played that comes from another publisher than the episode's."""
NOBODY = "an unknown node"


@dataclass(frozen=True)
class Verdict:
    """What became of a chunk.

    Attributes:
        cause: Why it was rejected, short and stable; empty when it was accepted.
        detail: The same as a sentence.
        chunk: The chunk with its columns in the robot's order and float64 values, or None.
    """

    cause: str = ""
    detail: str = ""
    chunk: ActionChunk | None = None


class Admission:
    """The judge of one robot's chunks. Whatever it is given, it answers and never raises.

    One publisher owns what is played: the first whose chunk is accepted, until somebody arms or
    until it is gone and another one begins an episode of its own.
    """

    def __init__(
        self,
        *,
        embodiment: str,
        embodiment_hash: str,
        channels: Sequence[str],
        dt: float,
        max_rows: int,
        max_age_s: float,
    ) -> None:
        """Accept only what was made for this robot.

        Args:
            embodiment: Name of the robot.
            embodiment_hash: Hash of its embodiment file and description.
            channels: Names of the action's columns, in the robot's order.
            dt: Seconds between two rows.
            max_rows: Longest chunk that is taken.
            max_age_s: How long ago the chunk's observation may have been, in seconds.
        """
        self._embodiment = embodiment
        self._hash = embodiment_hash
        self._channels = tuple(channels)
        self._dt = dt
        self._max_rows = max_rows
        self._max_age_s = max_age_s
        self._episode: str | None = None
        self._sequence = 0
        self._stamp_ns = 0
        self._past_episodes: deque[str] = deque(maxlen=REMEMBERED_EPISODES)
        self._owner: Hashable | None = None
        self._owner_name = NOBODY
        self._is_owner_gone = False
        self._in_a_row = 0
        self._rejected_ns: deque[int] = deque(maxlen=MAX_IN_A_SECOND)
        self.accepted = 0
        self.rejected = 0

    @classmethod
    def from_embodiment(cls, embodiment: Embodiment) -> Self:
        """Make the judge for one robot."""
        return cls(
            embodiment=embodiment.name,
            embodiment_hash=embodiment.hash,
            channels=embodiment.channels,
            dt=embodiment.dt,
            max_rows=embodiment.file.prompt.action_horizon,
            max_age_s=embodiment.file.safety.max_observation_age_s,
        )

    def is_exhausted(self, steady_ns: int) -> bool:
        """Whether so many chunks were rejected that the robot must stop: 3 in a row, 5 in 1 s."""
        recent = [ns for ns in self._rejected_ns if steady_ns - ns <= NS_PER_S]
        return self._in_a_row >= MAX_IN_A_ROW or len(recent) >= MAX_IN_A_SECOND

    def forget(self) -> None:
        """Begin anew after a stop: a restarted policy counts from the start again."""
        self._episode = None
        self._in_a_row = 0
        self._rejected_ns.clear()

    def release(self) -> None:
        """Let whoever is heard next own what is played: somebody has armed."""
        self._owner = None
        self._is_owner_gone = False

    def on_publishers(self, present: Collection[Hashable]) -> None:
        """Take in who publishes chunks now."""
        self._is_owner_gone = self._owner is not None and self._owner not in present

    def judge(
        self,
        chunk: ActionChunk | None,
        now_ns: int,
        steady_ns: int,
        source: Hashable = "",
        name: str = NOBODY,
    ) -> Verdict:
        """Accept or reject a chunk.

        Args:
            chunk: What arrived; None when it could not even be read.
            now_ns: ROS time.
            steady_ns: Steady clock.
            source: Who published it; only whether it is the same one counts.
            name: What people call the publisher.
        """
        if self._is_stranger(chunk, source):
            # No fault of the owner's, so that it is not counted against it.
            self.rejected += 1
            return Verdict(
                STRANGER, f"{name} sends chunks beside {self._owner_name}: end one of the two"
            )
        try:
            verdict = self._judge(chunk, now_ns)
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            # A field of a type that nobody sends by accident; the checks below name the others.
            verdict = Verdict("malformed", f"the chunk cannot be read: {_quote(error)}")
        if verdict.chunk is None:
            self.rejected += 1
            self._in_a_row += 1
            self._rejected_ns.append(steady_ns)
            return verdict
        self.accepted += 1
        self._in_a_row = 0
        self._owner, self._owner_name, self._is_owner_gone = source, name, False
        self._remember(verdict.chunk)
        return verdict

    def _is_stranger(self, chunk: ActionChunk | None, source: Hashable) -> bool:
        if self._owner is None or source == self._owner:
            return False
        takes_over = self._is_owner_gone and chunk is not None and chunk.episode != self._episode
        return not takes_over

    def _judge(self, chunk: ActionChunk | None, now_ns: int) -> Verdict:
        if chunk is None:
            return Verdict("malformed", "the chunk's values do not fill whole rows")
        if not all(isinstance(number, int) for number in (chunk.stamp_ns, chunk.sequence)):
            return Verdict("malformed", "the chunk's stamp and sequence are not whole numbers")
        return (
            self._wrong_robot(chunk)
            or self._wrong_columns(chunk)
            or self._wrong_time(chunk, now_ns)
            or self._wrong_order(chunk)
            or self._read(chunk)
        )

    def _wrong_robot(self, chunk: ActionChunk) -> Verdict | None:
        if chunk.embodiment != self._embodiment:
            return Verdict(
                "wrong_robot",
                f"the chunk is for robot {_quote(chunk.embodiment)}, this is '{self._embodiment}'",
            )
        if chunk.embodiment_hash != self._hash:
            return Verdict(
                "wrong_hash",
                f"the policy has another version of '{self._embodiment}' "
                f"({_quote(chunk.embodiment_hash)}, here {self._hash}): restart it with this file",
            )
        return None

    def _wrong_columns(self, chunk: ActionChunk) -> Verdict | None:
        # Lengths first: nothing is copied or compared before its size is known (A17).
        if len(chunk.channels) > len(self._channels):
            return Verdict("channels", f"the chunk has {len(chunk.channels)} channels, too many")
        known = set(self._channels)
        for name in chunk.channels:
            if name not in known:
                return Verdict("channels", f"channel {_quote(name)} is unknown or named twice")
            known.remove(name)
        if known:
            return Verdict("channels", f"channel '{min(known)}' is missing")
        return None

    def _wrong_time(self, chunk: ActionChunk, now_ns: int) -> Verdict | None:
        if not abs(chunk.dt - self._dt) <= 1e-6 * self._dt:
            return Verdict("dt", f"the rows are {chunk.dt:g} s apart, expected {self._dt:g} s")
        if chunk.rest:
            return None  # it is never too late to come to rest
        cause = judge_stamp(chunk.stamp_ns, now_ns, self._max_age_s)
        if not cause:
            return None
        age_s = (now_ns - chunk.stamp_ns) / NS_PER_S
        return Verdict(
            cause,
            "the chunk's observation has no time"
            if cause == "stamp_zero"
            else f"the chunk's observation is {age_s:.3f} s old, "
            f"allowed are -0.05 to {self._max_age_s:g} s",
        )

    def _wrong_order(self, chunk: ActionChunk) -> Verdict | None:
        if not 0 <= chunk.sequence < SEQUENCE_MODULUS:
            return Verdict("sequence", "the chunk's sequence number does not fit its type")
        if len(chunk.episode) > LONGEST_EPISODE:
            return Verdict("episode", f"the episode's name is over {LONGEST_EPISODE} characters")
        if chunk.episode in self._past_episodes:
            return Verdict("episode", f"episode {_quote(chunk.episode)} is over")
        if chunk.episode != self._episode:
            return None
        # The number rolls over: ahead means less than half the way round.
        ahead = (chunk.sequence - self._sequence) % SEQUENCE_MODULUS
        if not 0 < ahead < SEQUENCE_MODULUS // 2:
            return Verdict(
                "sequence", f"chunk {chunk.sequence} came after {self._sequence}: repeated or late"
            )
        if chunk.stamp_ns < self._stamp_ns and not chunk.rest:
            return Verdict("sequence", "the chunk's observation is older than the last one's")
        return None

    def _read(self, chunk: ActionChunk) -> Verdict:
        if chunk.rest:
            nothing = np.empty((0, len(self._channels)))
            return Verdict(chunk=replace(chunk, channels=self._channels, actions=nothing))
        if not isinstance(chunk.actions, np.ndarray) or chunk.actions.dtype.kind not in "fiu":
            return Verdict("malformed", "the chunk's actions are not an array of numbers")
        rows, columns = chunk.actions.shape if chunk.actions.ndim == 2 else (0, 0)
        if not 1 <= rows <= self._max_rows or columns != len(self._channels):
            return Verdict(
                "shape",
                f"the chunk has shape {chunk.actions.shape}, expected "
                f"(1 to {self._max_rows}, {len(self._channels)})",
            )
        actions = self._in_order(chunk)
        if not np.isfinite(actions).all():
            row, column = np.argwhere(~np.isfinite(actions))[0]
            return Verdict(
                "not_finite", f"row {row} of '{self._channels[column]}' is {actions[row, column]}"
            )
        if np.abs(actions).max() > ABSURD:
            row, column = np.argwhere(np.abs(actions) > ABSURD)[0]
            return Verdict(
                "absurd",
                f"row {row} of '{self._channels[column]}' is {actions[row, column]:g}, "
                f"allowed are {-ABSURD:g} to {ABSURD:g}",
            )
        return Verdict(chunk=replace(chunk, channels=self._channels, actions=actions))

    def _in_order(self, chunk: ActionChunk) -> FloatArray:
        columns = [chunk.channels.index(name) for name in self._channels]
        return chunk.actions[:, columns].astype(np.float64)

    def _remember(self, chunk: ActionChunk) -> None:
        if self._episode is not None and chunk.episode != self._episode:
            self._past_episodes.append(self._episode)
        self._episode = chunk.episode
        self._sequence = chunk.sequence
        if not chunk.rest:
            self._stamp_ns = chunk.stamp_ns


def _quote(text: object) -> str:
    """Return a stranger's text so that it cannot flood or forge a log line."""
    words = repr(str(text)[: LONGEST_QUOTE + 1])
    return words if len(words) <= LONGEST_QUOTE else words[:LONGEST_QUOTE] + "...'"
