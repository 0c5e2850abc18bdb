"""Scripted expert for driving to a thing: turns toward it, keeps clear of the others, stops."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import EmbodimentError, InstructionError
from qwen_vla_ros.execution.planar import compose, difference, motion_of, wrap
from qwen_vla_ros.sim.target import named_object
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Prompt

STOP_M = 0.42
"""From the centre of the thing: a hand's breadth from its side, well within the judge's 0.5."""

KEEP_CLEAR_M = 0.55
"""From the centre of any other thing: the base, the thing, and 0.2 m of air."""

SPEED_SHARE = 0.75
TURN_GAIN = 1.2
APPROACH_GAIN = 0.8
ARRIVED_M = 0.02

DRIVE, STAY = 0, 1
"""What it is at, as `phase` says."""


class Expert:
    """A `Policy` for the room. It remembers nothing: every chunk follows from one observation."""

    def __init__(self, embodiment: Embodiment) -> None:
        limits = embodiment.file.safety.base
        if limits is None:
            raise EmbodimentError(f"{embodiment.name} has no base that could drive anywhere.")
        self._embodiment = embodiment
        self._speed = SPEED_SHARE * limits.linear_velocity
        self._turn = SPEED_SHARE * limits.angular_velocity

        self.phase = DRIVE

    def reset(self) -> None:
        """Forget what it was at."""
        self.phase = DRIVE

    def infer(
        self,
        observation: Observation,
        prompt: Prompt,
        committed: FloatArray | None = None,  # noqa: ARG002 - an expert plans from what is
    ) -> ActionChunk:
        """Propose the next waypoints; all zero, which means stop, once the base is there.

        Raises:
            InstructionError: The instruction names nothing that stands in the room.
        """
        started = time.perf_counter()
        target = named_object(prompt.instruction, observation.scene)
        if not target:
            known = ", ".join(sorted(observation.scene)) or "nothing"
            raise InstructionError(f"the instruction names no object here. In the room: {known}.")
        goal = observation.scene[target][:2]
        others = [pose[:2] for name, pose in observation.scene.items() if name != target]
        rows = np.zeros(
            (self._embodiment.file.prompt.action_horizon, len(self._embodiment.channels))
        )
        pose = observation.state
        for row in rows:
            moved = self._drive(pose, goal, others)
            row[:], pose = difference(pose, moved), moved
        self.phase = DRIVE if rows.any() else STAY
        return ActionChunk(
            stamp_ns=observation.stamp_ns,
            dt=self._embodiment.dt,
            channels=self._embodiment.channels,
            actions=rows,
            timings={"plan": time.perf_counter() - started},
        )

    def _drive(
        self, pose: FloatArray, goal: FloatArray, others: Sequence[FloatArray]
    ) -> FloatArray:
        """Return the pose (x m, y m, yaw rad) one waypoint later: at the end of an arc."""
        gap = float(np.linalg.norm(goal - pose[:2])) - STOP_M
        if gap <= ARRIVED_M:
            return pose
        error = wrap(_steer(pose[:2], goal, others) - pose[2])
        turn = np.clip(TURN_GAIN * error, -self._turn, self._turn)
        speed = min(self._speed, APPROACH_GAIN * gap) * max(0.0, np.cos(error)) ** 2
        return compose(pose, motion_of(np.array([speed, 0.0, turn]) * self._embodiment.dt))


def _steer(place: FloatArray, goal: FloatArray, others: Sequence[FloatArray]) -> float:
    """Return the direction to the goal, or the tangent around the first thing in the way."""
    way = goal - place
    direction = float(np.arctan2(way[1], way[0]))
    blocking: list[tuple[float, FloatArray]] = []
    for other in others:
        offset = other - place
        along, aside = difference(np.array([*place, direction]), np.array([*other, 0.0]))[:2]
        if 0 < along < np.linalg.norm(way) and abs(aside) < KEEP_CLEAR_M:
            blocking.append((along, offset))
    if not blocking:
        return direction
    offset = min(blocking, key=lambda found: found[0])[1]
    bearing = float(np.arctan2(offset[1], offset[0]))
    distance = max(float(np.linalg.norm(offset)), KEEP_CLEAR_M)
    half = float(np.arcsin(KEEP_CLEAR_M / distance))
    return bearing + half if wrap(direction - bearing) >= 0 else bearing - half
