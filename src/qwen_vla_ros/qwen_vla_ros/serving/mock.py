"""A policy without a model, for trying out everything around one."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.serving.fault import Fault
from qwen_vla_ros.types import ActionChunk, FloatArray, Observation, Prompt

SWING_SHARE = 0.1
"""How far `sine` moves a joint: this share of its range, and `MOST_SWING` at most."""
MOST_SWING = 0.3
SWING_HZ = 0.25
CIRCLE_M_S, CIRCLE_RAD_S = 0.15, 0.3
SLOW_S = 1.0
P95 = 1.6449
"""Standard deviations between the median and the 95th percentile of a normal distribution."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long answers take: a log-normal distribution, by its median and 95th percentile."""

    p50_s: float = 0.0
    p95_s: float = 0.0

    def sample(self, rng: np.random.Generator) -> float:
        """Return how long the next answer takes, in seconds."""
        if self.p50_s <= 0:
            return 0.0
        spread = np.log(max(self.p95_s, self.p50_s) / self.p50_s) / P95
        return float(self.p50_s * np.exp(spread * rng.standard_normal()))


class MockPolicy:
    """Holds what is measured, or swings joints gently around where the episode began.

    A base stands still with `hold`, and drives in a circle with `sine`.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        *,
        motion: str = "hold",
        latency: Latency | None = None,
        fault: Fault | None = None,
        seed: int = 0,
    ) -> None:
        """Prepare a policy.

        Args:
            embodiment: The robot.
            motion: `hold` or `sine`.
            latency: How long answers take; at once when absent.
            fault: What goes wrong with some answers.
            seed: Of the latencies.
        """
        self._embodiment = embodiment
        self._motion = motion
        self._latency = latency or Latency()
        self._fault = fault
        self._seed = seed
        self._amplitude = _amplitude(embodiment)
        self.reset()

    def reset(self) -> None:
        """Begin anew: the same latencies, and a motion around the next state."""
        self._rng = np.random.default_rng(self._seed)
        self._begun: tuple[int, FloatArray] | None = None

    def infer(
        self,
        observation: Observation,
        prompt: Prompt,  # noqa: ARG002
        committed: FloatArray | None = None,  # noqa: ARG002
    ) -> ActionChunk:
        """Return the motion from the observation's time on."""
        wait_s = self._latency.sample(self._rng)
        if self._fault is not None and self._fault.applies_to("slow"):
            wait_s += SLOW_S
        if wait_s:
            time.sleep(wait_s)
        ours = self._embodiment
        chunk = ActionChunk(
            stamp_ns=observation.stamp_ns,
            dt=ours.dt,
            channels=ours.channels,
            actions=self._actions(observation),
            embodiment=ours.name,
            embodiment_hash=ours.hash,
        )
        return chunk if self._fault is None else self._corrupted(chunk, self._fault)

    def _actions(self, observation: Observation) -> FloatArray:
        ours = self._embodiment
        rows = np.arange(ours.file.prompt.action_horizon)
        actions = np.zeros((len(rows), len(ours.channels)))
        if ours.has_base:
            if self._motion == "sine":
                actions[:, 0], actions[:, 2] = CIRCLE_M_S * ours.dt, CIRCLE_RAD_S * ours.dt
            return actions
        if self._motion == "hold":
            return actions + observation.state
        if self._begun is None:
            self._begun = observation.stamp_ns, observation.state.copy()
        begun_ns, home = self._begun
        elapsed_s = (observation.stamp_ns - begun_ns) * 1e-9 + rows * ours.dt
        # 1 - cos begins and ends at rest, so that no step is asked of a joint that stands.
        phase = 0.5 - 0.5 * np.cos(2 * np.pi * SWING_HZ * elapsed_s)
        swung: FloatArray = home + phase[:, None] * self._amplitude * _towards_middle(ours, home)
        return swung

    def _corrupted(self, chunk: ActionChunk, fault: Fault) -> ActionChunk:
        if fault.applies_to("nan"):
            actions = chunk.actions.copy()
            actions[-1, -1] = np.nan
            return replace(chunk, actions=actions)
        if fault.applies_to("wrong_robot"):
            return replace(chunk, embodiment=f"not_{chunk.embodiment}")
        return chunk


def _limits(embodiment: Embodiment) -> tuple[FloatArray, FloatArray]:
    limits = [embodiment.file.safety.joints[joint] for joint in embodiment.joints]
    lower = embodiment.channels_from_joints(np.array([limit.lower for limit in limits]))
    upper = embodiment.channels_from_joints(np.array([limit.upper for limit in limits]))
    return np.minimum(lower, upper), np.maximum(lower, upper)


def _amplitude(embodiment: Embodiment) -> FloatArray:
    """Return how far every channel swings; grippers and a base do not."""
    if embodiment.has_base:
        return np.zeros(len(embodiment.channels))
    lower, upper = _limits(embodiment)
    moves = np.array([channel.kind == "joint_position" for channel in embodiment.file.action])
    swing: FloatArray = np.where(moves, np.minimum(MOST_SWING, SWING_SHARE * (upper - lower)), 0.0)
    return swing


def _towards_middle(embodiment: Embodiment, home: FloatArray) -> FloatArray:
    """Return +1 or -1 per channel: towards the middle of its range."""
    lower, upper = _limits(embodiment)
    sign: FloatArray = np.where(home < (lower + upper) / 2, 1.0, -1.0)
    return sign
