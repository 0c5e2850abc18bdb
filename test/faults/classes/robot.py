"""C, D, F and G: what is measured, what time it is, the gate itself, and the stop input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from faults.judge import S
from faults.rig import Rig, Sample, Swing, embodiment_of, run
from faults.scenario import (
    ARMS,
    BASES,
    GRACE_S,
    Outcome,
    braking_s,
    changes_nothing,
    fault,
    judge_rest,
    moving,
    no_leap,
    resting,
    stops,
)
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.robot_gate import RobotGate


def _max_age_s(rig):
    return min(source["max_age_s"] for source in rig.file["state"])


def _tick_s(rig):
    return rig.period_ns / S


def _anew_s(rig):
    """After a jump of its clock a base is measured anew before it is told anything."""
    return (2 if rig.is_base else 1) * _tick_s(rig)


def _mend(rig):
    rig.distort = lambda sample: [sample]
    rig.sensed = lambda q, v: (q, v)
    rig.reports = True


# C. joint state and odometry -------------------------------------------------------------------


@fault("C1", "measurements stop")
def no_states(rng, name):
    rig, policy = moving(name, rng)
    rig.reports = False
    # The last one came with the last tick.
    return stops(rig, policy, _max_age_s(rig) + _tick_s(rig), clear=lambda: _mend(rig))


@fault("C2", "one measurement repeated or from before")
def old_state(rng, name):
    def disturb(rig, _, r):
        back_ns = int(r.choice([0, 1, S // 50, S // 10, S]))
        true = rig.distort

        def twice(sample: Sample):
            older = replace(sample, stamp_ns=sample.stamp_ns - back_ns)
            return [*true(sample), older]

        rig.distort = twice

    return changes_nothing(rng, name, disturb, ends=_mend)


@fault("C2", "stamps that stand still")
def frozen_stamps(rng, name):
    rig, policy = moving(name, rng)
    stamp_ns = rig.now_ns
    rig.distort = lambda sample: [replace(sample, stamp_ns=stamp_ns)]
    return stops(rig, policy, _max_age_s(rig) + _tick_s(rig), clear=lambda: _mend(rig))


@fault("C3", "a joint goes missing", ARMS)
def missing_joint(rng, name):
    rig, policy = moving(name, rng)
    k = int(rng.integers(len(rig.names)))
    is_renamed = rng.random() < 0.5

    def cut(sample: Sample):
        names = list(sample.names)
        if is_renamed:
            names[k] = "somebody"
            return [replace(sample, names=names)]
        lists = (names, list(sample.positions), list(sample.velocities))
        for values in lists:
            del values[k]
        return [Sample(*lists, sample.stamp_ns)]

    rig.distort = cut
    return stops(rig, policy, _tick_s(rig), clear=lambda: _mend(rig))


@fault("C4", "joints in another order", ARMS)
def permuted_joints(rng, name):
    def disturb(rig, _, r):
        order = r.permutation(len(rig.names))

        def shuffle(s: Sample):
            lists = ([values[i] for i in order] for values in (s.names, s.positions, s.velocities))
            return [Sample(*lists, s.stamp_ns)]

        rig.distort = shuffle

    return changes_nothing(rng, name, disturb)


def _spoil(sample: Sample, rng: np.random.Generator, is_base: bool) -> Sample:
    kind = rng.integers(2 if is_base else 3)
    if kind == 2:
        return replace(sample, velocities=[])
    values = list((sample.positions, sample.velocities)[kind])
    values[int(rng.integers(len(values)))] = float(rng.choice([np.nan, np.inf]))
    return replace(sample, **{("positions", "velocities")[kind]: values})


@fault("C5", "measurements that are no numbers")
def no_numbers(rng, name):
    rig, policy = moving(name, rng)
    rig.distort = lambda sample: [_spoil(sample, rng, rig.is_base)]
    return stops(rig, policy, 3 * _tick_s(rig), clear=lambda: _mend(rig))


@fault("C6", "a measurement jumps")
def jump(rng, name):
    rig, policy = moving(name, rng)
    if rig.is_base:
        off = rng.choice([-1, 1], 3) * np.array([0.3, 0.3, 0.4]) * rng.uniform(1, 5)
    else:
        k = int(rng.integers(len(rig.names)))
        limits = rig.safety["joints"][rig.names[k]]
        allowed = 1.5 * limits["velocity"] * _tick_s(rig) + limits["tracking"] / 3
        off = np.zeros(len(rig.names))
        off[k] = allowed * rng.uniform(2.1, 9.0) * rng.choice([-1, 1])
    rig.sensed = lambda q, v: (q + off, v)
    return stops(rig, policy, _tick_s(rig), clear=lambda: _mend(rig))


def _since_apart(rig: Rig, policy: Swing, k: int, tracking: float, seconds: float) -> int | None:
    """Run until the command is further from what is measured than allowed; returns when."""
    for tick in range(round(seconds * rig.hz)):
        q, _ = rig.setpoint
        if abs(q[k] - rig.sensed(*rig.setpoint)[0][k]) > tracking:
            return rig.true_ns
        if tick % 7 == 0:
            rig.give(policy.chunk())
        rig.tick()
    return None


@fault("C7", "an encoder is stuck", ARMS)
def stuck(rng, name):
    rig, policy = moving(name, rng)
    # That joint shall go far enough to be missed.
    k = int(np.argmax(np.abs(policy._a) * rng.uniform(0.5, 1.0, len(policy._a))))
    held = rig.setpoint[0][k]

    def freeze(q, v):
        q = q.copy()
        q[k] = held
        return q, v

    rig.sensed = freeze
    tracking = rig.safety["joints"][rig.names[k]]["tracking"]
    apart_ns = _since_apart(rig, policy, k, tracking, 2.0)
    if apart_ns is None:
        return Outcome("", None)  # it never was to move that far
    return stops(rig, policy, 0.3, fault_ns=apart_ns, clear=lambda: _mend(rig))


@fault("C7", "odometry that freezes while the base drives", BASES)
def frozen_odometry(rng, name):
    rig, policy = moving(name, rng)
    pose, twist = rig.setpoint
    rig.sensed = lambda _, __: (pose, twist)
    return stops(rig, policy, 1.0, clear=lambda: _mend(rig))


@fault("C8", "a start outside the limits", ARMS)
def outside(rng, name):
    probe = Rig(name)
    home = probe.home.copy()
    k = int(rng.integers(len(home)))
    side = int(rng.choice([-1, 1]))
    edge = probe.limits.upper[k] if side > 0 else probe.limits.lower[k]
    start = edge + side * rng.uniform(0.003, 0.05)
    home[k] = start
    rig = Rig(name, home=home)
    why_not = rig.arm()
    if why_not:
        return Outcome("")  # refused is safe, too
    policy = Swing(rig, rng)
    policy._a[k] = -side * 0.02
    worst = 0.0
    for tick in range(80):
        if tick % 7 == 0:
            rig.give(policy.chunk())
        rig.tick()
        worst = max(worst, side * (rig.setpoint[0][k] - start))
    if worst > 1e-9:
        return Outcome(f"went {worst:.4f} further out")
    return Outcome("")


@fault("C9", "a joint does not follow", ARMS)
def stalled(rng, name):
    rig, policy = moving(name, rng)
    k = int(np.argmax(np.abs(policy._a) * rng.uniform(0.5, 1.0, len(policy._a))))
    held = rig.setpoint[0][k]

    def stall(q, v):
        q, v = q.copy(), v.copy()
        q[k], v[k] = held + rng.normal(0, 1e-4), 0.0
        return q, v

    rig.sensed = stall
    tracking = rig.safety["joints"][rig.names[k]]["tracking"]
    apart_ns = _since_apart(rig, policy, k, tracking, 2.0)
    if apart_ns is None:
        return Outcome("", None)
    bound_s = 0.2 + 2 * _tick_s(rig)
    run(rig, policy, bound_s + braking_s(rig) + 0.2)
    return judge_rest(rig, apart_ns, bound_s)


@fault("C9", "a base that is blocked", BASES)
def blocked(rng, name):
    rig, policy = moving(name, rng)
    run(rig, policy, 0.5)
    pose, _ = rig.setpoint
    rig.sensed = lambda _, __: (pose + rng.normal(0, 1e-4, 3), rng.normal(0, 1e-3, 2))
    fault_ns = rig.true_ns
    if np.all(np.abs(rig.setpoint[1]) <= 0.5 * rig.limits.velocity):
        # Slower than what counts as off: nobody claims to see that.
        policy._v = 0.8 * rig.limits.velocity[0]
        run(rig, policy, 0.5)
        fault_ns = rig.true_ns
    bound_s = 0.5 + 2 * _tick_s(rig)
    run(rig, policy, bound_s + braking_s(rig) + 0.1)
    outcome = judge_rest(rig, fault_ns, bound_s)
    if outcome.miss:
        return outcome
    moved_ns = rig.moved_ns
    run(rig, policy, 4.0)
    if rig.moved_ns > moved_ns:
        return Outcome(f"pushed again and again; {rig.level}", outcome.reaction_s)
    return outcome


@fault("C10", "two who report the joints", ARMS)
def two_publishers(rng, name):
    rig, policy = moving(name, rng)
    k = int(rng.integers(len(rig.names)))
    limits = rig.safety["joints"][rig.names[k]]
    off = 3 * (1.5 * limits["velocity"] * _tick_s(rig) + limits["tracking"] / 3)

    def both(sample: Sample):
        positions = list(sample.positions)
        positions[k] += off
        other = replace(sample, positions=positions, stamp_ns=sample.stamp_ns + 1000)
        return [sample, other]

    rig.distort = both
    return stops(rig, policy, 2 * _tick_s(rig), clear=lambda: _mend(rig))


# D. time ---------------------------------------------------------------------------------------


@fault("D1", "ROS time steps by up to an hour")
def clock_step(rng, name):
    rig, policy = moving(name, rng)
    rig.ros_offset_ns += round(rng.uniform(0.2, 3600) * S) * int(rng.choice([-1, 1]))
    return stops(rig, policy, _anew_s(rig))


@fault("D2", "ROS time stands still")
def paused(rng, name):
    rig, policy = moving(name, rng)
    fault_ns = rig.true_ns
    rig.pause()
    bound_s = 0.1 + 2 * _tick_s(rig)
    # Nobody says how long; what is measured goes stale meanwhile, which may stop the robot.
    run(rig, None, bound_s + braking_s(rig) + rng.uniform(0.1, 1.5))
    if rig.is_base:
        outcome = judge_rest(rig, fault_ns, bound_s)
    else:
        # The controllers' time stands still too, and what was sent ends at rest when it goes on.
        late_s = (rig.moved_ns - fault_ns) / S - bound_s - braking_s(rig) - GRACE_S
        outcome = Outcome("" if late_s <= 0 else f"moved for {late_s:.3f} s too long", 0.0)
    if outcome.miss:
        return outcome
    rig.resume()
    run(rig, policy, 2.0)
    return Outcome(no_leap(rig, fault_ns), outcome.reaction_s)


@fault("D3", "ROS time begins anew")
def reset(rng, name):
    rig, policy = moving(name, rng)
    rig.ros_offset_ns = -rig.true_ns + S
    return stops(rig, policy, _anew_s(rig))


@fault("D5", "the gate sleeps for more than five periods")
def asleep(rng, name):
    rig, policy = moving(name, rng)
    for _ in range(int(rng.integers(6, 100))):
        rig.tick(gate=False)
    asleep_until_ns = rig.true_ns
    before = np.abs(rig.setpoint[1])
    rest = moving_faster = False
    for k in range(70):
        if k % 7 == 0:
            rig.give(policy.chunk())
        rig.tick()
        speed = np.abs(rig.setpoint[1])
        moving_faster |= bool((speed > before + 0.02 * rig.limits.velocity).any())
        before = np.minimum(before, speed)
        rest = not speed.any()
    if moving_faster:
        return Outcome("it moved faster when it woke up than when nobody commanded")
    woke_s = (rig.moved_ns - asleep_until_ns) / S
    return Outcome("" if rest else "it went on", max(0.0, woke_s))


# F. the safety chain ---------------------------------------------------------------------------


@fault("F1", "the gate dies", ARMS)
def dead_gate(rng, name):
    return _dead_gate(rng, name, 0.2)


@fault("F1", "the gate dies", BASES)
def dead_base_gate(rng, name):
    return _dead_gate(rng, name, 0.3)


def _dead_gate(rng, name, bound_s):
    rig, _ = moving(name, rng)
    fault_ns = rig.true_ns + int(rng.integers(rig.period_ns))
    for _ in range(round(1.0 * rig.hz)):
        rig.tick(gate=False)
    ended_s = max(0.0, (rig.moved_ns - fault_ns) / S)
    return Outcome("" if ended_s <= bound_s else f"moved for {ended_s:.3f} s", ended_s)


@fault("F6", "a gate that knows nothing yet")
def unknown(rng, name):
    rig = Rig(name)
    rig.reports = False
    policy = Swing(rig, rng)
    for _ in range(60):
        rig.give(policy.chunk())
        rig.gate.arm(rig.steady_ns)
        rig.tick()
    return Outcome(f"{len(rig.sent)} messages" if rig.sent else "")


@fault("F7", "a gate that begins while the robot moves")
def new_gate(rng, name):
    rig, policy = moving(name, rng)
    rig.gate = RobotGate(rig.embodiment)
    told = len(rig.sent)
    rig.sensed = lambda q, _: (q, 0.3 * rig.limits.velocity)
    for k in range(70):
        if k % 7 == 0:
            rig.give(policy.chunk())
        rig.gate.arm(rig.steady_ns)
        rig.tick()
    if len(rig.sent) > told:
        return Outcome("it commanded a moving robot")
    _mend(rig)
    why_not = rig.arm()
    if why_not:
        return Outcome(f"not armed at rest: {why_not}")
    moved_ns, q = rig.moved_ns, rig.setpoint[0].copy()
    run(rig, None, 0.3)
    jumped = np.abs(rig.setpoint[0] - q).max() > 1e-6 or rig.moved_ns > moved_ns
    return Outcome("it moved what it only should hold" if jumped else "")


@fault("F9", "somebody takes the gate out of service in motion")
def deactivated(rng, name):
    rig, policy = moving(name, rng)
    rig.gate.stop(Cause("deactivated", "the gate is being deactivated"))
    return stops(rig, policy, _tick_s(rig))


# G. the stop input -----------------------------------------------------------------------------


@fault("G1", "the stop input is asserted, and cleared later (G2)")
def pressed(rng, name):
    rig, policy = moving(name, rng)
    rig.gate.on_stop_input(is_asserted=True, steady_ns=rig.steady_ns)

    def release():
        rig.gate.on_stop_input(is_asserted=False, steady_ns=rig.steady_ns)

    return stops(rig, policy, 2 * _tick_s(rig), clear=release)


@fault("G2", "cleared at once: nothing moves before somebody arms")
def released(rng, name):
    rig, policy = moving(name, rng)
    rig.gate.on_stop_input(is_asserted=True, steady_ns=rig.steady_ns)
    rig.gate.on_stop_input(is_asserted=False, steady_ns=rig.steady_ns)
    return stops(rig, policy, 2 * _tick_s(rig))


def _with_heartbeat(name: str, seconds: float):
    ours = embodiment_of(name)
    safety = ours.file.safety.model_copy(update={"stop_heartbeat_s": seconds})
    return replace(ours, file=ours.file.model_copy(update={"safety": safety}))


@fault("G3", "the stop input falls silent")
def silent_stop(rng, name):
    rig = Rig(name, embodiment=_with_heartbeat(name, 0.2))
    policy = Swing(rig, rng)

    def beat(_=0):
        rig.gate.on_stop_input(is_asserted=False, steady_ns=rig.steady_ns)

    run(rig, None, 1.1, before=beat)
    why_not = rig.gate.arm(rig.steady_ns)
    if why_not:
        return Outcome(why_not)
    run(rig, policy, rng.uniform(0.6, 1.1), before=beat)
    return stops(rig, policy, 0.2 + _tick_s(rig), clear=beat)


@fault("G4", "the stop input bounces")
def bouncing(rng, name):
    rig, policy = moving(name, rng)

    def bounce(k):
        asserted = bool(k % 2 == 0)
        rig.gate.on_stop_input(is_asserted=asserted, steady_ns=rig.steady_ns)

    def release():
        rig.gate.on_stop_input(is_asserted=False, steady_ns=rig.steady_ns)

    return stops(rig, policy, 2 * _tick_s(rig), before=bounce, clear=release)


@fault("G5", "the stop input is asserted at the start")
def pressed_at_start(rng, name):
    rig = Rig(name)
    policy = Swing(rig, rng)
    rig.gate.on_stop_input(is_asserted=True, steady_ns=rig.steady_ns)
    for k in range(80):
        if k % 7 == 0:
            rig.give(policy.chunk())
        rig.gate.arm(rig.steady_ns)
        rig.tick()
    return Outcome("it moved" if rig.moved_ns >= 0 else "")


@fault("G6", "the robot goes on although it is stopped")
def stop_without_effect(rng, name):
    rig, policy = resting(name, rng)
    run(rig, policy, 0.5)
    rig.gate.stop(Cause("stop_request", "somebody asked for a stop"))
    rig.sensed = lambda q, _: (q, 0.5 * rig.limits.velocity)
    begin_ns = rig.true_ns
    told_ns = None
    for _ in range(round(1.6 * rig.hz)):
        rig.tick()
        told = "still_moving" in rig.gate.latch.detail or "moves" in rig.gate.latch.detail
        if told and told_ns is None:
            told_ns = rig.true_ns
        if not rig.gate.arm(rig.steady_ns):
            return Outcome("armed although it moved")
    if told_ns is None:
        return Outcome("nobody was told")
    reaction_s = (told_ns - begin_ns) / S
    bound_s = braking_s(rig) + 0.3 + 3 * _tick_s(rig)
    return Outcome("" if reaction_s <= bound_s else f"told after {reaction_s:.2f} s", reaction_s)
