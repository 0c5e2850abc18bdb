"""A: what a policy puts out. And J: what the way of its chunks does to them."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace

import numpy as np

from faults.judge import S
from faults.rig import Swing, run
from faults.scenario import (
    ARMS,
    BASES,
    Outcome,
    changes_nothing,
    fault,
    holds,
    moving,
    refused,
    resting,
    stops,
    within_limits,
)


def _with_actions(policy, change):
    chunk = policy.chunk()
    return replace(chunk, actions=change(chunk.actions))


@fault("A1", "a value that is not finite")
def not_finite(rng, name):
    def spoil(_, policy, r):
        def change(actions):
            row, column = r.integers(len(actions)), r.integers(actions.shape[1])
            actions[row, column] = r.choice([np.nan, np.inf, -np.inf])
            return actions

        return _with_actions(policy, change)

    return refused(rng, name, spoil)


@fault("A2", "huge, tiny and negative zero")
def odd_numbers(rng, name):
    rig, policy = moving(name, rng)

    def change(actions):
        odd = rng.choice([1e308, -1e308, 1e6, -1e6, 5e-324, -0.0], actions.shape)
        return np.where(rng.random(actions.shape) < 0.2, odd, actions)

    rig.give(_with_actions(policy, change))
    rig.tick()
    run(rig, policy, 0.5)
    return within_limits(rig)


@fault("A3", "a wrong shape")
def wrong_shape(rng, name):
    def spoil(_, policy, r):
        shapes = (
            lambda a: a[:, :-1],
            lambda a: a[:0],
            lambda a: a[None],
            lambda a: a.ravel(),
            lambda a: np.concatenate([a, a], axis=1),
            lambda a: np.concatenate([a, a, a]),
            lambda _: np.float64(0.0),
            lambda a: [list(row)[: k % 3] for k, row in enumerate(a)],
        )
        return _with_actions(policy, shapes[int(r.integers(len(shapes)))])

    return refused(rng, name, spoil)


@fault("A4", "a wrong type")
def wrong_type(rng, name):
    def spoil(_, policy, r):
        kinds = (bool, str, object, complex, "datetime64[s]", "S8")
        kind = kinds[int(r.integers(len(kinds) + 1)) - 1] if r.random() < 0.9 else None
        if kind is None:
            return replace(policy.chunk(), actions=None)
        return _with_actions(policy, lambda a: (a * 0).astype(int).astype(kind))

    return refused(rng, name, spoil)


@fault("A5", "a channel unknown, missing or named twice")
def wrong_names(rng, name):
    def spoil(_, policy, r):
        chunk = policy.chunk()
        names = list(chunk.channels)
        k = int(r.integers(len(names)))
        kind = r.integers(3)
        if kind == 0:
            names[k] += "x"
        elif kind == 1:
            names[k] = names[k - 1]
        else:
            del names[k]
            return replace(
                chunk, channels=tuple(names), actions=np.delete(chunk.actions, k, axis=1)
            )
        return replace(chunk, channels=tuple(names))

    return refused(rng, name, spoil)


@fault("A6", "channels in another order")
def permuted(rng, name):
    seed = int(rng.integers(2**32))
    order = rng.permutation(len(moving(name, rng)[0].embodiment.channels))
    told = []
    for is_permuted in (False, True):
        rig, policy = moving(name, np.random.default_rng(seed))
        for _ in range(3):
            chunk = policy.chunk()
            if is_permuted:
                names = tuple(chunk.channels[i] for i in order)
                chunk = replace(chunk, channels=names, actions=chunk.actions[:, order])
            rig.give(chunk)
            run(rig, None, 0.14)
        told.append([(m.topic, tuple(m.speed), m.received_ns) for m in rig.sent])
    return Outcome("" if told[0] == told[1] else "the commands are not the same")


@fault("A7", "a motion begins far away", ARMS)
def far_start(rng, name):
    rig, policy = resting(name, rng)
    joint = rig.names[int(rng.integers(len(rig.names)))]
    jump = rig.safety["joints"][joint]["start_jump"]
    off = np.zeros(len(rig.names))
    off[rig.names.index(joint)] = jump * rng.uniform(1.1, 1.9) * rng.choice([-1, 1])
    for _ in range(5):
        rows = policy.rows(rig.now_ns - S // 12)
        joints = rig.embodiment.joints_from_channels(rows) * 0 + rig.home + off
        rig.give(replace(policy.chunk(), actions=rig.embodiment.channels_from_joints(joints)))
        run(rig, None, 0.1)
    if rig.moved_ns >= 0:
        return Outcome("a ramp that nobody proposed")
    return Outcome("")


@fault("A8", "jumps inside a chunk")
def jumps(rng, name):
    rig, policy = moving(name, rng)
    for _ in range(4):
        chunk = policy.chunk()
        actions = chunk.actions.copy()
        at = int(rng.integers(1, len(actions)))
        actions[at:] += rng.uniform(-0.3, 0.3, actions.shape[1])
        rig.give(replace(chunk, actions=actions))
        run(rig, None, 0.12)
    return within_limits(rig)


@fault("A9", "an oscillation within the limits", ARMS)
def oscillation(rng, name):
    rig, policy = moving(name, rng)
    run(rig, policy, 0.1)
    q = rig.setpoint[0].copy()
    hz = rng.uniform(4.0, 6.0)  # twice as many reversals a second
    height = 0.25 * rig.limits.velocity / (2 * np.pi * hz) * 4
    height = np.minimum(height, rig.limits.acceleration / (2 * np.pi * hz) ** 2)
    fault_ns = rig.true_ns
    for _ in range(11):
        chunk = policy.chunk()
        t = (chunk.stamp_ns - fault_ns) / S + np.arange(len(chunk.actions)) * chunk.dt
        joints = q + np.outer(np.sin(2 * np.pi * hz * t), height)
        rig.give(replace(chunk, actions=rig.embodiment.channels_from_joints(joints)))
        run(rig, None, 0.14)
    # A hold that lasts for as long as the oscillation does, and a little longer.
    safe = [m.received_ns for m in rig.sent if m.received_ns > fault_ns and not m.speed.any()]
    if not safe:
        return Outcome(f"it went on; {rig.level}")
    reaction_s = (safe[0] - fault_ns) / S
    bound_s = 1.0 + rig.period_ns / S + 0.2
    late = "" if reaction_s <= bound_s + 0.125 else f"rest after {reaction_s:.2f} s"
    return Outcome(late, reaction_s)


@fault("A10", "the very same motion again and again", ARMS)
def frozen_policy(rng, name):
    rig, policy = moving(name, rng)
    actions = policy.chunk().actions
    for _ in range(39):
        rig.give(replace(policy.chunk(), actions=actions))
        run(rig, None, 0.14)
    fault_ns = rig.true_ns - round(39 * 0.14 * S)
    rest = [m.received_ns for m in rig.sent if m.received_ns > fault_ns and not m.speed.any()]
    moved_s = (rig.moved_ns - fault_ns) / S
    if moved_s > 5.0 + 0.14 + 0.02 + 0.125 + 0.06:
        return Outcome(f"moved for {moved_s:.2f} s")
    if not rest:
        return Outcome(f"never rested; {rig.level}")
    return Outcome("", (rest[0] - fault_ns) / S)


@fault("A11", "degrees for radians", ARMS)
def degrees(rng, name):
    rig, policy = moving(name, rng)
    fault_ns = rig.true_ns

    class Degrees:
        def chunk(self):
            chunk = policy.chunk()
            off = rng.uniform(0.3, 0.8, chunk.actions.shape[1])
            return replace(chunk, actions=np.rad2deg(chunk.actions + off))

    return stops(rig, Degrees(), 0.5 + rig.period_ns / S, fault_ns=fault_ns)


@fault("A11", "millimetres for metres", BASES)
def millimetres(rng, name):
    rig, policy = moving(name, rng)
    fault_ns = rig.true_ns

    class Millimetres:
        def chunk(self):
            chunk = policy.chunk()
            return replace(chunk, actions=chunk.actions * np.array([1e3, 1e3, 1.0]))

    return stops(rig, Millimetres(), 0.5 + rig.period_ns / S, fault_ns=fault_ns)


@fault("A13", "a goal past the limits", ARMS)
def past_the_limits(rng, name):
    rig, policy = resting(name, rng)
    lim = rig.limits
    edge = np.where(rng.random(len(rig.names)) < 0.5, lim.upper, lim.lower)
    for _ in range(12):
        q = rig.setpoint[0]
        step = np.sign(edge - q + 1e-12) * lim.velocity * rig.embodiment.dt * 0.9
        rows = q + np.outer(np.arange(policy.chunk().actions.shape[0]), step)
        rig.give(replace(policy.chunk(0.02), actions=rig.embodiment.channels_from_joints(rows)))
        run(rig, None, 0.1)
    return within_limits(rig)


@fault("A15", "a chunk that was, out of order, or of another episode")
def replayed(rng, name):
    def spoil(_, policy, r):
        kind = r.integers(3)
        chunk = policy.chunk()
        if kind == 0:
            return replace(chunk, sequence=0)
        if kind == 1:
            return replace(chunk, sequence=max(0, chunk.sequence - int(r.integers(2, 6))))
        return replace(chunk, stamp_ns=chunk.stamp_ns - round(0.4 * S))

    return refused(rng, name, spoil)


@fault("A16", "times that are wrong")
def wrong_times(rng, name):
    def spoil(rig, policy, r):
        chunk = policy.chunk()
        kinds = (
            {"stamp_ns": 0},
            {"stamp_ns": -chunk.stamp_ns},
            {"stamp_ns": rig.now_ns + round(r.uniform(0.06, 1e6) * S)},
            {"stamp_ns": rig.now_ns - round(r.uniform(1.2, 1e5) * S)},
            {"dt": -chunk.dt},
            {"dt": 0.0},
            {"dt": float("nan")},
            {"dt": chunk.dt * r.uniform(1.01, 1e9)},
        )
        return replace(chunk, **kinds[int(r.integers(len(kinds)))])

    return refused(rng, name, spoil)


@fault("A17", "a million rows")
def endless(rng, name):
    rows = np.zeros((1_000_000, len(resting(name, rng)[0].embodiment.channels)), np.float32)
    rig, policy = moving(name, rng)
    chunk = replace(policy.chunk(), actions=rows)
    begin = time.perf_counter()
    rig.give(chunk)
    seconds = time.perf_counter() - begin
    tracemalloc.start()
    rig.give(chunk)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if seconds > 0.005 or most > 2**20:  # 1 ms, on a machine that others share
        return Outcome(f"{seconds * 1e3:.1f} ms, {most} bytes", seconds)
    run(rig, policy, 0.2)
    return Outcome("" if rig.moved_ns > rig.true_ns - S // 10 else "the motion ended", seconds)


@fault("I5", "a chunk of the instruction before")
def old_episode(rng, name):
    seed = int(rng.integers(2**32))
    told = []
    for is_disturbed in (False, True):
        rig, policy = moving(name, np.random.default_rng(seed))
        old = policy.episode
        policy.episode = "the next one"
        run(rig, policy, 0.2)
        if is_disturbed:
            rig.give(replace(policy.chunk(), episode=old, actions=policy.chunk().actions + 0.05))
        run(rig, policy, 0.3)
        told.append([(m.topic, tuple(m.speed), m.received_ns) for m in rig.sent])
    return Outcome("" if told[0] == told[1] else "an old instruction moved the robot")


@fault("J6", "loss, delay, repetition and disorder of chunks")
def bad_network(rng, name):
    rig, policy = moving(name, rng)
    waiting = []
    for k in range(round(2 * rig.hz)):
        if k % 4 == 0 and rng.random() > 0.3:
            chunk = policy.chunk()
            waiting += [
                (rig.true_ns + round(rng.uniform(0, 0.2) * S), chunk)
                for _ in range(1 + (rng.random() < 0.2))
            ]
        for item in [item for item in waiting if item[0] <= rig.true_ns]:
            waiting.remove(item)
            rig.give(item[1])
        rig.tick()
    return within_limits(rig)


@fault("J7", "a chunk that waited for a late joiner")
def late_joiner(rng, name):
    def disturb(rig, policy, r):
        chunk = policy.chunk()
        rig.give(replace(chunk, stamp_ns=chunk.stamp_ns - round(r.uniform(1.1, 100) * S)))

    return changes_nothing(rng, name, disturb)


@fault("E10", "a policy with another version of the robot's file")
def wrong_hash(rng, name):
    return refused(
        rng, name, lambda _, policy, __: replace(policy.chunk(), embodiment_hash="0" * 16)
    )


@fault("E12", "a chunk for another robot")
def wrong_robot(rng, name):
    return refused(
        rng, name, lambda _, policy, __: replace(policy.chunk(), embodiment="somebody_else")
    )


@fault("E1", "answers that come too late, or no more")
def silence(rng, name):
    rig, policy = moving(name, rng)
    last = policy.chunk()
    rig.give(last)
    rows_s = len(last.actions) * last.dt
    end_s = min(rows_s, rig.safety["max_observation_age_s"]) - 0.08
    late = policy.chunk()

    def before(k):
        # What comes after its time is of no use any more.
        if k == round((end_s + 0.3) * rig.hz) and rig.now_ns - late.stamp_ns > S:
            rig.give(late)

    return holds(rig, None, end_s + rig.period_ns / S, before=before, successor=policy)


@fault("E4", "a policy that ended and began anew")
def restarted(rng, name):
    rig, policy = moving(name, rng)
    last = policy.chunk()
    rig.give(last)
    end_s = min(len(last.actions) * last.dt, rig.safety["max_observation_age_s"]) - 0.08
    return holds(rig, None, end_s + rig.period_ns / S, successor=Swing(rig, rng))
