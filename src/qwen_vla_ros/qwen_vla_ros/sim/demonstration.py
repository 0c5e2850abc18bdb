"""Demonstrations of a scripted expert: what is right to do, row by row, where noise leads to.

Every answer of the expert is one row: where the physics was, what the robot measured, and what
was right to do. What is played is that and noise, so that the way back is shown, too. Pictures
are not kept: they are drawn from the physics, as often and as varied as they are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.sim.robot import SimulatedRobot
from qwen_vla_ros.sim.rollout import BEGIN_NS, run_episode
from qwen_vla_ros.sim.target import SYNONYMS, named_object
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Policy, Prompt

KEPT = 0.8
"""Share of the noise of one answer that is still there at the next."""
RISE_ROWS = 3
"""Over so many rows after those committed the noise comes in: a step would be no motion."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One episode that succeeded.

    Attributes:
        instruction: What was asked.
        rows: Arrays of N rows, one per answer of the expert: `qpos` (N, nq), `state` (N, c),
            `actions` (N, H, c) in robot units and without noise, `objects` (N, n, 7) with NaN for
            those that are not in the scene, `target` (N,) an index to the world's object names,
            `phase` (N,), `time_s` (N,) from the episode's begin.
    """

    instruction: str
    rows: dict[str, Any]


def demonstrate(
    embodiment: Embodiment,
    robot: SimulatedRobot,
    expert: Policy,
    seed: int,
    noise: float,
    time_limit_s: float,
) -> Demonstration | None:
    """Run one episode and return it, or None when it did not succeed.

    Args:
        embodiment: The robot's file.
        robot: Built from it.
        expert: Who shows; where it has a `phase`, that is kept.
        seed: Of the scene, the noise, and the words.
        noise: Standard deviation of what each answer adds to what is wrong with its rows already,
            as a share of how far a channel may move in one row.
        time_limit_s: Simulated time after which it has failed.
    """
    robot.reset(seed)
    instruction = vary_instruction(robot.world.suggest_instruction(), robot, seed)
    recorder = Recorder(embodiment, robot, expert, seed, noise)
    outcome = run_episode(
        embodiment,
        robot,
        recorder,
        seed,
        time_limit_s,
        instruction=instruction,
        see=recorder.see,
    )
    if not outcome.success:
        return None
    rows = {name: np.array([row[name] for row in recorder.rows]) for name in recorder.rows[0]}
    return Demonstration(instruction=instruction, rows=rows)


def vary_instruction(instruction: str, robot: SimulatedRobot, seed: int) -> str:
    """Say the same in other words: a phrase of the world's, and another noun for the thing."""
    rng = np.random.default_rng([seed, 2])
    world = robot.world
    color, _, noun = named_object(instruction, world.objects()).partition("_")
    words = rng.choice(SYNONYMS.get(noun, (noun,)))
    return str(rng.choice(world.phrases)).format(thing=f"{color} {words}")


class Recorder:
    """A `Policy` that answers as an expert does, with noise, and keeps what the expert said.

    Attributes:
        rows: One per answer but the last, which only ends the episode.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        robot: SimulatedRobot,
        expert: Policy,
        seed: int,
        noise: float,
    ) -> None:
        """Record an expert; the other arguments are those of `demonstrate`."""
        self._world = robot.world
        self._expert = expert
        self._rng = np.random.default_rng([seed, 1])
        self._scale = noise * row_limits(embodiment)
        self._off: FloatArray = np.zeros(self._scale.size)
        self._is_position = not embodiment.has_base
        self._qpos: FloatArray = np.empty(0)
        self.rows: list[Row] = []

    def reset(self) -> None:
        """Let the expert begin an episode."""
        self._expert.reset()

    def see(self, _: Observation) -> None:
        """Note where the physics is while an observation is made."""
        self._qpos = self._world.snapshot().positions

    def infer(
        self, observation: Observation, prompt: Prompt, committed: FloatArray | None = None
    ) -> ActionChunk:
        """Answer as the expert does, with noise."""
        chunk = self._expert.infer(observation, prompt, committed)
        if chunk.rest:
            return chunk
        target = named_object(prompt.instruction, observation.scene)
        names, absent = self._world.object_names, np.full(7, np.nan)
        self.rows.append(
            {
                "qpos": self._qpos.astype(np.float32),
                "state": observation.state.astype(np.float32),
                "actions": chunk.actions.astype(np.float32),
                "objects": np.array(
                    [observation.scene.get(name, absent) for name in names], np.float32
                ),
                "target": np.int32(names.index(target)),
                "phase": np.int8(getattr(self._expert, "phase", -1)),
                "time_s": np.float32((observation.stamp_ns - BEGIN_NS) / NS_PER_S),
            }
        )
        return self._disturb(chunk, committed)

    def _disturb(self, chunk: ActionChunk, committed: FloatArray | None) -> ActionChunk:
        """Add noise to what the answer decides."""
        self._off = KEPT * self._off + self._scale * self._rng.standard_normal(self._off.size)
        if not chunk.actions.any():
            return chunk  # a base that is to stop
        rows = np.arange(1, len(chunk.actions) + 1)
        if self._is_position and committed is not None:
            rise = np.clip((rows - len(committed)) / RISE_ROWS, 0.0, 1.0)
        else:
            rise = np.ones(rows.size)
        return replace(chunk, actions=chunk.actions + rise[:, np.newaxis] * self._off)


def row_limits(embodiment: Embodiment) -> FloatArray:
    """Return how far each channel (c,) may move in one row; 0 where no noise belongs.

    A gripper that lets go ends the episode, and a base with two wheels cannot go sideways.
    """
    file, dt = embodiment.file, embodiment.dt
    limits = np.zeros(len(file.action))
    for column, channel in enumerate(file.action):
        if channel.kind == "joint_position" and channel.joint:
            limits[column] = file.safety.joints[channel.joint].velocity * dt
        elif file.safety.base is not None and channel.kind == "waypoint_x":
            limits[column] = file.safety.base.linear_velocity * dt
        elif file.safety.base is not None and channel.kind == "waypoint_yaw":
            limits[column] = file.safety.base.angular_velocity * dt
    return limits
