"""The nouns that cross the walls between rooms. NumPy only: tensors and messages stay inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
ImageArray = npt.NDArray[np.uint8]
"""An image of shape (H, W, 3), RGB."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One consistent set of what the robot sensed.

    Attributes:
        stamp_ns: ROS time of the oldest image in the set, or of the state where there is no image.
        images: RGB image (H, W, 3) by camera name, at the sizes of the embodiment's cameras.
        state: Position of every action channel, in channel order and channel units (shape (c,));
            for a planar base its odometry pose (x m, y m, yaw rad).
        history: Earlier images of the cameras whose file entry asks for them, oldest first; empty
            for all others. Where the episode is younger than its history, the oldest repeats.
        scene: Pose (x, y, z m, then quaternion w, x, y, z) of named objects. Only a simulator
            knows these, and only a scripted expert reads them; empty on a robot.
    """

    stamp_ns: int
    images: Mapping[str, ImageArray]
    state: FloatArray
    history: Mapping[str, tuple[ImageArray, ...]] = field(default_factory=dict)
    scene: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ActionChunk:
    """What the policy proposes to do, played by absolute time.

    Attributes:
        stamp_ns: ROS time of the observation. Row h is meant for `stamp_ns + h * dt`; a waypoint
            row h is the motion between `stamp_ns + h * dt` and `stamp_ns + (h + 1) * dt`.
        dt: Seconds between two rows.
        channels: Names of the columns, as in the embodiment file.
        actions: Shape (H, c), in channel units. Empty (0, c) when `rest` is true.
        rest: True says that the episode is over: come to rest, nothing follows.
        sequence: Rises by one with every chunk of this policy process.
        episode: Identifier of the instruction that is being executed.
        embodiment: Name of the robot the chunk was made for.
        embodiment_hash: Hash of the embodiment file and URDF it was made with.
        timings: Seconds spent per stage while making the chunk.
    """

    stamp_ns: int
    dt: float
    channels: tuple[str, ...]
    actions: FloatArray
    rest: bool = False
    sequence: int = 0
    episode: str = ""
    embodiment: str = ""
    embodiment_hash: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)


def rest_chunk(stamp_ns: int, dt: float, channels: tuple[str, ...]) -> ActionChunk:
    """Return the chunk that ends an episode: come to rest, nothing follows."""
    nothing = np.empty((0, len(channels)))
    return ActionChunk(stamp_ns=stamp_ns, dt=dt, channels=channels, actions=nothing, rest=True)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What the model reads.

    Attributes:
        instruction: The human's words, cleaned.
        text: The whole prompt: view tags with their image places, then the sentence.
        cameras: Camera names in the order of the image places in `text`.
    """

    instruction: str
    text: str
    cameras: tuple[str, ...]


class Policy(Protocol):
    """Anything that turns what the robot sees and what it is asked into a chunk of actions."""

    def infer(
        self, observation: Observation, prompt: Prompt, committed: FloatArray | None = None
    ) -> ActionChunk:
        """Propose the next actions; row 0 is meant for the observation's own time.

        Args:
            observation: What the robot senses.
            prompt: What it is asked.
            committed: Rows (d, c), in channel units, that are played from the observation's time
                on whatever the answer is, because the answer takes time: the last rows of the
                chunk before. A policy that can continues them; others ignore them. `None` when
                nothing is being played.
        """
        ...

    def reset(self) -> None:
        """Forget the episode so far."""
        ...
