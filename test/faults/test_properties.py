"""What holds for the whole gate of every robot, whatever comes: P1, P8 to P10, P12 and P14.

The steps themselves (P2 to P7, P11 and P13) are in test/core/safety.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faults.judge import S
from faults.rig import Rig, Swing, robots, run
from faults.scenario import moving, no_leap, resting
from qwen_vla_ros.safety.arms import Arms
from qwen_vla_ros.safety.latch import Cause, Level
from qwen_vla_ros.safety.robot_gate import RobotGate

pytestmark = pytest.mark.slow
each_robot = pytest.mark.parametrize("name", robots())
seeds = st.integers(0, 2**32 - 1)
short = settings(max_examples=8, deadline=None)


def odd_chunk(rng, policy):
    """A chunk with one thing in it that is not as it should be, or nothing."""
    chunk = policy.chunk(float(rng.uniform(0, 0.3)))
    actions = chunk.actions
    kind = int(rng.integers(10))
    if kind == 0:
        return None
    if kind == 1:
        return replace(chunk, actions=np.full_like(actions, rng.choice([np.nan, np.inf, 1e308])))
    if kind == 2:
        return replace(chunk, actions=actions[:, : int(rng.integers(actions.shape[1]))])
    if kind == 3:
        return replace(chunk, actions=actions.astype(object))
    if kind == 4:
        return replace(chunk, sequence=int(rng.integers(-5, 2**40)))
    if kind == 5:
        return replace(chunk, stamp_ns=int(rng.integers(-(2**62), 2**62)))
    if kind == 6:
        return replace(chunk, episode="x" * int(rng.integers(0, 300)))
    if kind == 7:
        return replace(chunk, rest=True, actions=actions[:0])
    if kind == 8:
        return replace(chunk, actions=actions + rng.normal(0, 0.1, actions.shape))
    return chunk


@each_robot
@short
@given(seed=seeds)
def test_whatever_is_said_all_that_goes_out_is_finite_and_complete(name, seed):
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        rig, policy = resting(name, rng)
        for _ in range(60):
            if rng.random() < 0.3:
                rig.give(odd_chunk(rng, policy))
            rig.gate.arm(rig.steady_ns)
            late_ns = round(float(rng.uniform(-0.4, 0.4)) * rig.period_ns)
            rig.tick(late_ns=late_ns)
    outputs = {output["topic"]: output for output in rig.file["command"]["outputs"]}
    assert rig.sent
    for message in rig.sent:
        output = outputs[message.topic]
        assert np.isfinite(message.speed).all()
        if not rig.is_base:
            assert list(message.raw.joint_names) == output["joints"]
            for point in message.raw.points:
                assert len(point.positions) == len(point.velocities) == len(output["joints"])
                assert np.isfinite(point.positions).all()
                assert np.isfinite(point.velocities).all()
    assert rig.not_finite == 0


@each_robot
@short
@given(seed=seeds)
def test_after_a_stop_and_an_arming_motion_goes_on_within_a_second(name, seed):
    rng = np.random.default_rng(seed)
    rig, policy = moving(name, rng)
    rig.gate.stop(Cause("stop_request", "somebody asked for a stop"))
    assert rig.gate.arm(rig.steady_ns) != ""
    run(rig, policy, 1.6)
    assert rig.gate.arm(rig.steady_ns) == ""
    stopped_ns = rig.moved_ns
    policy.restart()
    run(rig, policy, 1.0)
    assert rig.moved_ns > stopped_ns
    assert no_leap(rig, 0) == ""


EVENTS = ("chunk", "odd", "silence", "stop input", "dark", "jump", "late", "stop")


@each_robot
@short
@given(seed=seeds, events=st.lists(st.sampled_from(EVENTS), min_size=3, max_size=10))
def test_no_sequence_of_events_leaves_a_stop_or_lowers_it_without_an_arming(name, seed, events):
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        rig, policy = moving(name, rng)
        rig.gate.stop(Cause("stop_request", "somebody asked for a stop"))
        run(rig, None, 0.4)
        moved_ns = rig.moved_ns
        for event in events:
            if event == "stop input":
                asserted = bool(rng.random() < 0.5)
                rig.gate.on_stop_input(is_asserted=asserted, steady_ns=rig.steady_ns)
            elif event == "dark":
                rig.reports = not rig.reports
            elif event == "jump":
                rig.ros_offset_ns += int(rng.integers(-S, S))
            elif event == "odd":
                rig.give(odd_chunk(rng, policy))
            elif event == "late":
                rig.ticks += int(rng.integers(0, 30))
            elif event == "stop":
                rig.gate.stop(Cause("again", "somebody asked again"))
            run(rig, policy if event == "chunk" else None, 0.3)
            assert rig.gate.latch.level is Level.STOP
    assert rig.moved_ns == moved_ns


@each_robot
@short
@given(
    seed=seeds,
    numbers=st.lists(st.floats() | st.integers(-(2**63), 2**63) | st.none(), max_size=20),
    words=st.lists(st.text(max_size=8), max_size=20),
)
def test_no_measurement_raises_and_none_that_is_odd_is_believed(name, seed, numbers, words):
    rig, _ = resting(name, np.random.default_rng(seed))
    values = [math.nan if number is None else number for number in numbers]
    before = rig.setpoint[0].copy()
    mechanism = rig.gate.mechanism
    for _ in range(5):
        clocks = (rig.now_ns, rig.now_ns, rig.steady_ns)
        if isinstance(mechanism, Arms):
            for monitor in mechanism.monitors:
                known = [*words, *rig.names][: len(values)]
                monitor.observe(known, values, values, *clocks)
        else:
            pose = np.array((values + [math.nan] * 3)[:3], dtype=np.float64)
            mechanism.observe(pose, np.full(2, np.nan), *clocks)
        rig.tick()
    np.testing.assert_allclose(rig.setpoint[0], before, atol=1e-9)


@each_robot
@short
@given(seed=seeds)
def test_a_gate_that_begins_anew_at_any_tick_commands_from_where_the_robot_is(name, seed):
    rng = np.random.default_rng(seed)
    rig, policy = moving(name, rng)
    for _ in range(int(rng.integers(1, 12))):
        rig.tick(gate=False)
    rig.gate = RobotGate(rig.embodiment)
    rig.sent.clear()
    told = 0
    for _ in range(90):
        if rig.ticks % 7 == 0:
            rig.give(policy.chunk())
        rig.gate.arm(rig.steady_ns)
        before = rig.setpoint[0].copy()
        rig.tick()
        for message in rig.sent[told:]:
            if not rig.is_base:
                part = [rig.names.index(joint) for joint in message.raw.joint_names]
                first = np.array(message.raw.points[0].positions)
                step = rig.limits.velocity[part] * rig.period_ns / S + 2e-3
                assert (np.abs(first - before[part]) <= step).all()
        told = len(rig.sent)
    assert rig.sent
    assert no_leap(rig, 0) == ""


@each_robot
def test_permuting_what_is_measured_and_said_changes_nothing(name):
    rigs = []
    for _ in range(2):
        rig = Rig(name)
        assert rig.arm() == ""
        rigs.append((rig, Swing(rig, np.random.default_rng(4))))
    order = np.random.default_rng(5).permutation(len(rigs[0][0].embodiment.channels))
    for k in range(60):
        for n, (rig, policy) in enumerate(rigs):
            if k % 7 == 0:
                chunk = policy.chunk()
                if n:
                    names = tuple(chunk.channels[i] for i in order)
                    chunk = replace(chunk, channels=names, actions=chunk.actions[:, order])
                rig.give(chunk)
            rig.tick()
    one, two = ([tuple(message.speed) for message in rig.sent] for rig, _ in rigs)
    assert one == two
    assert any(any(speed) for speed in one)
