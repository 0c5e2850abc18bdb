"""What training learns from: one moment of a demonstration, and where moments come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from qwen_vla_ros.checkpoint.manifest import DatasetRecord
from qwen_vla_ros.checkpoint.normalization import Normalization
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.types import FloatArray, Observation


@dataclass(frozen=True, kw_only=True)
class Example:
    """One moment: what was seen, what was asked, and what had to be done.

    Attributes:
        observation: As a policy would be given it.
        instruction: As a human would say it.
        actions: What a good policy answers; (H, c), in channel units.
        places: Where named things are in the pictures, by thing and by camera: column and row,
            each 0 to 1 from the top left corner; outside of that range where out of sight. Empty
            where nobody knows.
        named: The things that the instruction is about, in its order.
        phase: What the demonstrator was at, for reports; empty where there is no such thing.
    """

    observation: Observation
    instruction: str
    actions: FloatArray
    places: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    named: Sequence[str] = ()
    phase: str = ""


class Source(Protocol):
    """Demonstrations of one robot, as many as are asked for.

    Attributes:
        embodiment: The robot.
        things: Names of what may lie about, in a fixed order.
    """

    embodiment: Embodiment
    things: tuple[str, ...]

    def draw(self, rng: np.random.Generator, count: int) -> Sequence[Example]:
        """Return `count` moments, the same ones for the same state of `rng`."""
        ...


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The demonstrations of one robot, in two parts that share no episode.

    Attributes:
        train: To learn from.
        held_out: To measure with.
        record: What a checkpoint says about them.
        normalization: Of the actions to learn from.
    """

    train: Source
    held_out: Source
    record: DatasetRecord
    normalization: Normalization
