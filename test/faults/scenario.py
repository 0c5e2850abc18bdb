"""How a fault class is tried: an injector breaks something in motion, and the motion is judged.

An injector is a function of a seeded generator and the name of a robot. It returns what it found;
whatever the product said of itself counts for nothing here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from faults.judge import S
from faults.rig import Message, Rig, Swing, robots, run

TOLERANCE = 1.001
GRACE_S = 0.06
"""What a set-point may still move after the brake that the limits allow: three periods."""
BRAKES = 0.97
"""A full brake takes away more than 5 % of a speed in every period; what goes on, less."""
RESTING_S = 1.3
"""For how long a robot that was stopped is watched, while its policy goes on."""


@dataclass
class Outcome:
    """One run. An empty `miss` is a pass.

    Attributes:
        miss: What went wrong.
        reaction_s: From the fault to the first safe command, or to the refusal.
    """

    miss: str = ""
    reaction_s: float | None = None


Injector = Callable[[np.random.Generator, str], Outcome]


@dataclass(frozen=True)
class Fault:
    """One way in which a class of faults is tried.

    Attributes:
        number: Of the class, as in docs/reference/faults.md.
        what: What is broken.
        inject: Breaks it and judges.
        robots: On which it can happen; empty where no robot takes part.
    """

    number: str
    what: str
    inject: Injector
    robots: tuple[str, ...]


FAULTS: list[Fault] = []
ARMS = tuple(name for name in robots() if not Rig(name).is_base)
BASES = tuple(name for name in robots() if Rig(name).is_base)


def fault(number: str, what: str, robots: tuple[str, ...] = ARMS + BASES) -> Callable:
    """Register an injector."""

    def register(inject: Injector) -> Injector:
        FAULTS.append(Fault(number, what, inject, robots))
        return inject

    return register


# what runs -------------------------------------------------------------------------------------


def resting(name: str, rng: np.random.Generator, **options: object) -> tuple[Rig, Swing]:
    """Return a robot that is armed and rests, and its policy."""
    rig = Rig(name, **options)
    policy = Swing(rig, rng)
    why_not = rig.arm()
    if why_not:
        raise AssertionError(why_not)
    return rig, policy


def moving(name: str, rng: np.random.Generator, **options: object) -> tuple[Rig, Swing]:
    """Return a robot in the middle of a motion, at a random phase of it."""
    rig, policy = resting(name, rng, **options)
    run(rig, policy, rng.uniform(0.6, 1.1))
    return rig, policy


def braking_s(rig: Rig) -> float:
    """How long a full stop takes at most."""
    return float((rig.limits.velocity / rig.limits.acceleration).max())


# what is judged --------------------------------------------------------------------------------


def content(message: Message) -> tuple:
    """Return what a message commands."""
    raw = message.raw
    if hasattr(raw, "points"):
        points = tuple(
            (p.time_from_start.sec, p.time_from_start.nanosec, *p.positions, *p.velocities)
            for p in raw.points
        )
        return message.topic, message.received_ns, tuple(raw.joint_names), points
    return message.topic, message.received_ns, tuple(message.speed)


def first_safe_ns(rig: Rig, fault_ns: int) -> int | None:
    """Return when the first command came from which on every axis slows down, or rests.

    None when the last command still moves something.
    """
    safe_ns = fault_ns
    for topic in rig.players:
        told = [message for message in rig.sent if message.topic == topic]
        after = [k for k, message in enumerate(told) if message.received_ns > fault_ns]
        if not after:
            continue
        speeds = [np.abs(message.speed) for message in told]
        slack = 1e-6 * rig.players[topic][rig.rates[0]].account.limits.velocity
        if (speeds[-1] > slack).any():
            return None
        going_on = [
            k
            for k in after
            if k and ((speeds[k] > slack) & (speeds[k] > BRAKES * speeds[k - 1])).any()
        ]
        first = max(going_on) + 1 if going_on else after[0]
        safe_ns = max(safe_ns, told[first].received_ns)
    return safe_ns


def judge_rest(rig: Rig, fault_ns: int, bound_s: float) -> Outcome:
    """Say whether the robot came to rest in time: first command, and end of the motion."""
    safe_ns = first_safe_ns(rig, fault_ns)
    if safe_ns is None:
        return Outcome(f"still commanded to move; {rig.level} {rig.cause}")
    reaction_s = max(0.0, (safe_ns - fault_ns) / S)
    if reaction_s > bound_s + 1e-6:
        return Outcome(f"safe after {reaction_s:.3f} s, bound {bound_s:.3f} s", reaction_s)
    late_s = (rig.moved_ns - fault_ns) / S - bound_s - braking_s(rig) - GRACE_S
    if late_s > 0:
        return Outcome(f"moved for {late_s:.3f} s too long", reaction_s)
    if rig.not_finite:
        return Outcome("a set-point was no number", reaction_s)
    return Outcome("", reaction_s)


def stops(
    rig: Rig,
    policy: Swing | None,
    bound_s: float,
    *,
    fault_ns: int | None = None,
    before: Callable[[int], None] | None = None,
    clear: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run a robot that was just broken: it must stop in time, and stay stopped when it is well.

    Args:
        rig: The robot.
        policy: Who goes on as if nothing was.
        bound_s: To the first safe command.
        fault_ns: When the fault began; now, by default.
        before: Called before each tick while the fault lasts.
        clear: Ends the fault.
    """
    fault_ns = rig.true_ns if fault_ns is None else fault_ns
    elapsed_s = (rig.true_ns - fault_ns) / S
    run(rig, policy, bound_s - elapsed_s + braking_s(rig) + 0.2, before=before)
    outcome = judge_rest(rig, fault_ns, bound_s)
    if outcome.miss:
        return outcome
    clear()
    moved_ns = rig.moved_ns
    run(rig, policy, RESTING_S)
    if rig.moved_ns != moved_ns:
        return Outcome("moved again without being armed", outcome.reaction_s)
    return outcome


def holds(
    rig: Rig,
    policy: Swing | None,
    bound_s: float,
    *,
    fault_ns: int | None = None,
    before: Callable[[int], None] | None = None,
    clear: Callable[[], None] = lambda: None,
    successor: Swing | None = None,
) -> Outcome:
    """As `stops`, but once all is well the robot goes on by itself, with `successor` if given."""
    fault_ns = rig.true_ns if fault_ns is None else fault_ns
    run(rig, policy, bound_s + braking_s(rig) + 0.2, before=before)
    outcome = judge_rest(rig, fault_ns, bound_s)
    if outcome.miss:
        return outcome
    clear()
    cleared_ns = rig.true_ns
    successor = successor or policy
    if successor is not None:
        successor.restart()
        run(rig, successor, 2.0)
        if rig.moved_ns <= cleared_ns:
            why = f"{rig.level} {rig.cause}"
            return Outcome(f"did not go on when all was well: {why}", outcome.reaction_s)
    return outcome


def no_leap(rig: Rig, since_ns: int) -> str:
    """Say where the commanded speed changed by more than a period allows, after a time."""
    for topic in rig.players:
        limits = rig.players[topic][rig.rates[0]].account.limits
        allowed = limits.acceleration * rig.period_ns / S * TOLERANCE + 1e-9
        told = [message for message in rig.sent if message.topic == topic]
        for before, after in itertools.pairwise(told):
            change = np.abs(after.speed - before.speed)
            if after.received_ns > since_ns and (change > allowed).any():
                return f"a leap of {float((change / allowed).max()):.1f} times the limit"
    return ""


def within_limits(rig: Rig) -> Outcome:
    """Say whether every set-point so far was a number within the limits."""
    if rig.not_finite:
        return Outcome("a set-point was no number")
    for quantity in ("position", "speed", "acceleration"):
        if rig.ratio(quantity) > TOLERANCE:
            return Outcome(f"{quantity} {rig.ratio(quantity):.3f} of its limit")
    return Outcome("")


def changes_nothing(
    rng: np.random.Generator,
    name: str,
    disturb: Callable[[Rig, Swing, np.random.Generator], None],
    seconds: float = 0.4,
    *,
    ends: Callable[[Rig], None] = lambda _: None,
) -> Outcome:
    """Run two twins, one of them disturbed: their commands must be the same to the last bit."""
    seed = int(rng.integers(2**32))
    told = []
    for is_disturbed in (False, True):
        rig, policy = moving(name, np.random.default_rng(seed))
        if is_disturbed:
            disturb(rig, policy, np.random.default_rng(seed + 1))
        run(rig, policy, 0.06, every_s=9.0)
        ends(rig)
        run(rig, policy, seconds)
        told.append([content(message) for message in rig.sent])
        if not any(message.speed.any() for message in rig.sent):
            return Outcome("the twin did not move: nothing was tried")
    return Outcome("" if told[0] == told[1] else "the commands are not the same")


def refused(
    rng: np.random.Generator, name: str, spoil: Callable[[Rig, Swing, np.random.Generator], object]
) -> Outcome:
    """One spoilt chunk must change nothing; three in a row must stop the robot in that tick."""
    outcome = changes_nothing(rng, name, lambda rig, policy, r: rig.give(spoil(rig, policy, r)))
    if outcome.miss:
        return outcome
    rig, policy = moving(name, rng)
    fault_ns = rig.true_ns
    for _ in range(3):
        rig.give(spoil(rig, policy, rng))
    return stops(rig, policy, rig.period_ns / S, fault_ns=fault_ns)
