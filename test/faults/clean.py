"""False alarms: what a gate refuses and changes of a policy that does everything right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from faults.judge import S
from faults.rig import embodiment_of, robots
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.safety.latch import Level
from qwen_vla_ros.sim import rollout
from qwen_vla_ros.sim.expert import load_expert
from qwen_vla_ros.sim.robot import make_robot

LIMIT_S = 40.0


@dataclass
class Count:
    """What became of a clean policy's words."""

    robot: str
    episodes: int = 0
    seconds: float = 0.0
    chunks: int = 0
    refused: int = 0
    commands: int = 0
    identical: int = 0
    holds: int = 0
    stops: int = 0


class Watched:
    """A filter, and how often it handed on what it was given, to the last bit."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.wanted = self.identical = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def step(self, *args: object) -> object:
        step = self._inner.step(*args)
        # (position, velocity, wanted, ...) for joints, (twist, wanted, dt) for a base.
        wanted = np.asarray(args[2] if np.ndim(args[2]) else args[1])
        given = step.position if hasattr(step, "position") else step.twist
        self.wanted += 1
        self.identical += given.tobytes() == wanted.tobytes()
        return step


def count_clean(embodiment: Embodiment, episodes: int, seed: int) -> Count:
    """Let the scripted expert of a robot's world work, and count."""
    robot = make_robot(embodiment)
    policy = load_expert(embodiment)
    count = Count(embodiment.name, episodes)
    for k in tqdm(range(episodes), desc=embodiment.name, unit="episode"):
        robot.reset(seed + k)
        policy.reset()
        episode = rollout._Episode(embodiment, robot, policy, seed + k)
        inner = episode.gate.mechanism._gate
        watched = inner._filter = Watched(inner._filter)
        level = episode.gate.latch.level
        while not episode.is_over and episode.now_ns < rollout.BEGIN_NS + LIMIT_S * S:
            episode.step(lambda _: False)
            now = episode.gate.latch.level
            count.holds += now is Level.HOLD and level < Level.HOLD
            count.stops += now is Level.STOP and level < Level.STOP
            level = now
        count.seconds += (episode.now_ns - rollout.BEGIN_NS) / S
        count.chunks += episode.chunks
        count.refused += episode.gate.admission.rejected
        count.commands += watched.wanted
        count.identical += watched.identical
    return count


def false_alarms(episodes: int, seed: int = 0) -> str:
    """Return the counts of every simulated robot as a table."""
    lines = [
        "| a clean policy on | episodes | seconds | chunks | refused | commands | bit-identical "
        "| holds | stops |",
        "|" + "---|" * 9,
    ]
    for name in robots():
        c = count_clean(embodiment_of(name), episodes, seed)
        share = c.identical / max(1, c.commands)
        lines.append(
            f"| {c.robot} | {c.episodes} | {c.seconds:.0f} | {c.chunks} | {c.refused} "
            f"| {c.commands} | {share:.2%} | {c.holds} | {c.stops} |"
        )
    return "\n".join(lines) + "\n"
