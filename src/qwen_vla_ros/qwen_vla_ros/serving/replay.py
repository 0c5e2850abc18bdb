"""A policy that answers what was answered before, whatever it sees."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.serving.recording import Record
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Prompt, rest_chunk


class ReplayPolicy:
    """Plays recorded episodes: each new episode of the client the next one, and then rest."""

    def __init__(self, embodiment: Embodiment, episodes: Sequence[Sequence[Record]]) -> None:
        """Play from the first episode on; after the last one comes the first again."""
        self._embodiment = embodiment
        self._episodes = itertools.cycle(episodes)
        self._left: Iterator[Record] = iter(())

    def reset(self) -> None:
        """Begin the next recorded episode."""
        self._left = iter(next(self._episodes))

    def infer(
        self,
        observation: Observation,
        prompt: Prompt,  # noqa: ARG002
        committed: FloatArray | None = None,  # noqa: ARG002
    ) -> ActionChunk:
        """Return the next answer, stamped with this observation's time."""
        ours = self._embodiment
        record = next(self._left, None)
        if record is None:
            return rest_chunk(observation.stamp_ns, ours.dt, ours.channels)
        return ActionChunk(
            stamp_ns=observation.stamp_ns,
            dt=ours.dt,
            channels=ours.channels,
            actions=np.array(record.actions),
            embodiment=ours.name,
            embodiment_hash=ours.hash,
        )
