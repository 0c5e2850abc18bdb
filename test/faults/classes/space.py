"""A13: goals that every joint may reach, and no arm: in contact, or out of a tool's workspace."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from faults.contact import ContactJudge, ToolJudge
from faults.judge import Floats, S
from faults.rig import Rig, Swing, plain_file, run
from faults.scenario import ARMS, Outcome, fault, resting, within_limits

TOOLED = tuple(name for name in ARMS if "tools" in plain_file(name)["safety"])
BULGE_M = 0.001
"""By which a tool may leave its box between two commands that are inside."""
PUSHES_S = 1.5
"""How long the policy goes on to ask for a goal that it should have reached."""
SEARCHES = 5000


class Straight(Swing):
    """A policy that goes straight to a goal, all joints together, and never gives in."""

    def __init__(self, rig: Rig, rng: np.random.Generator, goal: Floats) -> None:
        super().__init__(rig, rng)
        self._goal = goal
        self._share = rng.uniform(0.1, 0.9)

    @property
    def needs_s(self) -> float:
        """How long the way takes from here."""
        way = np.abs(self._goal - self.rig.setpoint[0])
        return float((way / (self._share * self.rig.limits.velocity)).max())

    def restart(self) -> None:
        self._begin_ns = None
        self._middle = self.rig.setpoint[0].copy()
        self._way_s = max(self.needs_s, 1e-3)

    def wanted(self, ns: int) -> Floats:
        t = (ns - self._begin_ns) / S
        return self._middle + (self._goal - self._middle) * np.clip(t / self._way_s, 0, 1)


def _pushed(
    rng: np.random.Generator,
    name: str,
    is_wrong: Callable[[Floats], bool],
    look: Callable[[Floats], object],
) -> str:
    """Push a robot towards a pose that is wrong; returns what was not tried, or not kept."""
    rig, _ = resting(name, rng)
    lim = rig.limits
    goals = (rng.uniform(lim.lower, lim.upper) for _ in range(SEARCHES))
    goal = next((goal for goal in goals if is_wrong(goal)), None)
    if goal is None or is_wrong(rig.home):
        return "no goal was wrong, or where it began: nothing was tried"
    rig.watch = lambda _, position: look(position)
    policy = Straight(rig, rng, goal)
    policy.restart()
    run(rig, policy, policy.needs_s + PUSHES_S, every_s=0.1)
    q, speed = rig.setpoint
    if np.abs(q - rig.home).max() < 0.01:
        return "it did not move: nothing was tried"
    if (np.abs(speed) > 0.05 * lim.velocity).any():
        return f"never came to rest; {rig.level} {rig.cause}"
    return within_limits(rig).miss


@fault("A13", "a goal in which links overlap", ARMS)
def in_contact(rng, name):
    judge, imagined = ContactJudge(name), ContactJudge(name)
    names = Rig(name).names
    tools = ToolJudge(name) if name in TOOLED else None

    def is_wrong(q: Floats) -> bool:
        is_inside = tools is None or tools.outside(names, q)[0] < 0
        return is_inside and imagined.look(names, q)

    miss = _pushed(rng, name, is_wrong, lambda q: judge.look(names, q))
    if judge.touching:
        return Outcome(f"{judge.pair} overlap by {judge.deepest:.4f} m")
    return Outcome(miss)


@fault("A13", "a goal out of a tool's workspace", TOOLED)
def out_of_the_workspace(rng, name):
    judge = ToolJudge(name)
    names = Rig(name).names
    furthest = []
    miss = _pushed(
        rng,
        name,
        lambda q: judge.outside(names, q)[0] > 0.02,
        lambda q: furthest.append(judge.outside(names, q)),
    )
    beyond, tool = max(furthest, default=(0.0, ""))
    if beyond > BULGE_M:
        return Outcome(f"{tool} was {beyond:.4f} m outside")
    return Outcome(miss)
