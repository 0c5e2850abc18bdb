"""The gate of the joints: what moves, what stops, and within which time."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.safety.arm_gate import ArmGate
from qwen_vla_ros.safety.brake_filter import BrakeFilter, Step
from qwen_vla_ros.safety.latch import Cause

PERIOD = 0.02
PERIOD_NS = 20_000_000
SECOND = 10**9
REQUEST = Cause("stop_request", "somebody asked for it")


def braking_s(rig):
    return float((rig.envelope.velocity / rig.envelope.acceleration).max())


def assert_comes_to_rest(rig, **options):
    """With nothing wanted, the command is at rest within the braking time and one period."""
    for _ in range(int(np.ceil(braking_s(rig) / PERIOD)) + 1):
        rig.tick(**options)
    assert rig.speed() == 0.0


# Arming --------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_gate_was_armed(rig):
    for k in range(200):
        assert rig.tick(np.full(3, 0.001 * k)) is None
    assert (rig.level, rig.cause) == ("STOP", "not_armed")
    assert rig.interlock.counters.ticks == 0


def test_arming_needs_a_second_of_good_joint_states(rig):
    rig.reports = False
    rig.wait(2.0)
    assert "nothing usable came" in rig.gate.arm(rig.steady_ns)
    rig.reports = True
    rig.wait(0.5)
    assert "1 s" in rig.gate.arm(rig.steady_ns)
    rig.wait(0.6)
    assert rig.gate.arm(rig.steady_ns) == ""
    assert rig.level == "OK"


def test_arming_an_armed_arm_changes_nothing(armed):
    armed.move()
    assert armed.gate.arm(armed.steady_ns) == ""
    assert armed.speed() > 0


def test_a_moving_arm_is_not_armed(rig):
    rig.velocity = np.array([0.0, 0.2, 0.0])
    rig.wait(1.5)
    assert rig.gate.arm(rig.steady_ns) == "the robot still moves"


def test_an_armed_arm_holds_where_it_was_measured(rig):
    rig.position = np.array([0.3, -0.2, 0.1])
    rig.arm()
    command = rig.tick()
    np.testing.assert_array_equal(command.position, [0.3, -0.2, 0.1])
    assert not command.velocity.any()


def test_rearming_takes_the_measured_position_as_reference(armed):
    armed.move()
    armed.interlock.latch.trip(REQUEST)
    armed.wait(0.5)
    armed.follows = False
    armed.position = armed.position + 0.1  # moved by hand while stopped
    armed.wait(1.5)
    assert armed.gate.arm(armed.steady_ns) == ""
    np.testing.assert_array_equal(armed.tick().position, armed.position)


def test_after_rearming_motion_resumes_at_once(armed):
    armed.gate.interlock.latch.trip(REQUEST)
    armed.wait(1.2)
    assert armed.gate.arm(armed.steady_ns) == ""
    armed.move(ticks=3)
    assert armed.speed() > 0


@pytest.mark.slow
def test_no_stop_is_left_without_arming(armed):
    rng = np.random.default_rng(0)
    armed.interlock.latch.trip(REQUEST)
    for _ in range(1000):
        wanted = None if rng.random() < 0.3 else rng.uniform(-1, 1, 3)
        armed.interlock.on_stop_input(is_asserted=rng.random() < 0.5, steady_ns=armed.steady_ns)
        command = armed.tick(wanted)
        assert armed.level == "STOP"
        assert command is None or not command.velocity.any()


# Passing -------------------------------------------------------------------------------------


def test_a_clean_motion_passes_to_the_last_bit(armed):
    times = np.arange(1, 150) * PERIOD
    path = 0.15 * (1 - np.cos(np.pi * times / 1.5))[:, None] * np.ones(3)
    for wanted in path:
        command = armed.tick(wanted)
        assert command.position.tobytes() == wanted.tobytes()
        assert armed.level == "OK"
    counters = armed.interlock.counters
    assert (counters.ticks_limited, counters.ticks_late, counters.violations) == (0, 0, 0)


def test_a_command_that_is_too_fast_is_limited_and_said_to_be(armed):
    armed.tick(np.full(3, 0.1))
    assert armed.level == "LIMITED"
    assert armed.interlock.counters.ticks_limited == 1
    assert 0 < armed.speed() <= 8.0 * PERIOD + 1e-9


def test_what_was_commanded_is_the_reference_not_what_was_wanted(armed):
    for _ in range(10):
        armed.tick(np.full(3, 0.19))
    commanded = armed.sent[-1].position
    assert (commanded < 0.19).all()
    after = armed.tick()
    assert (np.abs(after.position - commanded) <= 1.0 * PERIOD).all()


def test_an_idle_gate_holds_calmly_and_starts_at_once(armed):
    armed.wait(2.0)
    assert armed.level == "OK"
    assert armed.sent[-1] is not None
    armed.tick(np.full(3, 0.001))
    assert armed.speed() > 0


# The policy ----------------------------------------------------------------------------------


def test_a_silent_policy_holds_and_the_gate_keeps_talking(armed):
    armed.move()
    assert armed.tick(is_silent=True) is not None
    assert (armed.level, armed.cause) == ("HOLD", "policy_silent")
    assert_comes_to_rest(armed, is_silent=True)
    held = armed.sent[-1].position
    for _ in range(100):
        command = armed.tick(is_silent=True)
        assert command.position.tobytes() == held.tobytes()


def test_a_hold_resumes_by_itself_after_a_second_of_good_ticks(armed):
    armed.move()
    armed.tick(is_silent=True)
    assert_comes_to_rest(armed, is_silent=True)
    ticks = 0
    while armed.level == "HOLD":
        armed.tick(armed.position + 0.001)
        ticks += 1
    assert 50 <= ticks <= 51
    assert armed.speed() > 0


def test_a_policy_that_stays_silent_becomes_a_stop(armed):
    armed.move()
    armed.wait(9.9, is_silent=True)
    assert armed.level == "HOLD"
    armed.wait(0.2, is_silent=True)
    assert (armed.level, armed.cause) == ("STOP", "policy_silent")


def test_a_chunk_is_not_played_past_its_time_whatever_its_stamps_say(armed):
    armed.move()
    for _ in range(26):
        armed.tick(armed.position, chunk=False)
    assert (armed.level, armed.cause) == ("HOLD", "policy_silent")


def test_a_first_command_far_from_the_arm_holds(armed):
    armed.tick(np.array([0.0, 0.21, 0.0]))
    assert (armed.level, armed.cause) == ("HOLD", "start_jump")
    assert "joint_1" in armed.interlock.latch.detail
    assert armed.speed() == 0


def test_a_first_command_within_the_jump_is_a_slow_ramp(armed):
    before = armed.position
    for _ in range(40):
        command = armed.tick(np.array([0.0, 0.19, 0.0]))
        assert armed.envelope.count_violations(before, np.zeros(3), before, PERIOD) == 0
        assert np.abs(command.velocity).max() <= 1.0 + 1e-9
        before = command.position
    np.testing.assert_allclose(armed.position, [0.0, 0.19, 0.0])


def test_the_jump_is_measured_from_the_robot_and_not_from_the_command(armed):
    armed.follows = False
    armed.position = np.array([0.1, 0.0, 0.0])
    armed.report()
    armed.tick(np.array([0.29, 0.0, 0.0]))
    assert armed.level != "HOLD"


def test_degrees_taken_for_radians_stop_within_half_a_second(armed):
    armed.move()
    ticks = 0
    while armed.level != "STOP":
        armed.tick(np.rad2deg(armed.position + 0.2))
        ticks += 1
        assert ticks <= 25
    assert armed.cause == "out_of_reach"


def test_swinging_between_two_points_holds_within_a_second(armed):
    ticks = 0
    while armed.level != "HOLD":
        armed.tick(np.full(3, 0.03 if (ticks // 4) % 2 == 0 else -0.03))
        ticks += 1
        assert ticks * PERIOD <= 1.0 + PERIOD
    assert armed.cause == "oscillation"


def test_a_slow_wave_is_no_oscillation(armed):
    for k in range(300):
        armed.tick(0.1 * np.sin(2 * np.pi * 1.0 * k * PERIOD) * np.ones(3))
        assert armed.level in ("OK", "LIMITED")


def test_a_policy_that_repeats_one_motion_for_five_seconds_holds(armed):
    actions = np.linspace(0, 0.1, 16)[:, None] * np.ones(3)
    for k in range(275):
        if k % 10 == 0:
            armed.gate.on_chunk(actions, armed.steady_ns)
        armed.tick(armed.position, chunk=False)
    assert (armed.level, armed.cause) == ("HOLD", "policy_frozen")


def test_a_policy_that_repeats_one_pose_just_waits(armed):
    actions = np.zeros((16, 3))
    for k in range(400):
        if k % 10 == 0:
            armed.gate.on_chunk(actions, armed.steady_ns)
        armed.tick(armed.position, chunk=False)
    assert armed.level == "OK"


@pytest.mark.parametrize(
    "wanted", [np.full(3, np.nan), np.array([0.0, np.inf, 0.0]), np.zeros(2), np.zeros((3, 1))]
)
def test_what_makes_no_sense_brakes(armed, wanted):
    armed.move()
    speed = armed.speed()
    armed.tick(wanted)
    assert armed.speed() < speed
    assert armed.level == "HOLD"


# Joint states --------------------------------------------------------------------------------


def test_joint_states_that_stop_stop_the_arm(armed):
    armed.move()
    armed.reports = False
    for _ in range(6):
        armed.tick(armed.position + 0.01)
    assert (armed.level, armed.cause) == ("STOP", "joint_states_stale")
    assert_comes_to_rest(armed)


def test_joint_states_that_come_back_do_not_move_the_arm(armed):
    armed.move()
    armed.reports = False
    armed.wait(0.3)
    armed.reports = True
    for _ in range(100):
        armed.tick(armed.position + 0.01)
        assert armed.speed() == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": [0.0, np.nan, 0.0]},
        {"velocities": [0.0, np.inf, 0.0]},
        {"velocities": []},
        {"positions": [0.0, 0.0]},
        {"names": ("joint_0", "joint_1", "joint_1", "joint_2"), "positions": [0.0] * 4},
    ],
)
def test_three_unusable_joint_states_in_a_row_stop_the_arm(armed, changes):
    armed.reports = False
    for k in range(3):
        armed.report(**changes)
        armed.tick()
        assert armed.level == ("STOP" if k == 2 else "OK")
    assert armed.cause == "joint_states_invalid"


def test_one_unusable_joint_state_is_passed_over(armed):
    armed.report(velocities=[np.nan] * 3)
    armed.tick()
    assert armed.level == "OK"
    assert armed.monitor.rejected == 1


def test_a_missing_joint_stops_at_once(armed):
    armed.reports = False
    armed.report(names=("joint_0", "other", "joint_2"))
    armed.tick()
    assert (armed.level, armed.cause) == ("STOP", "joint_missing")


def test_somebody_elses_joints_on_the_same_topic_are_none_of_our_business(armed):
    armed.report(names=("wheel",), positions=[1.0], velocities=[0.0])
    armed.tick()
    assert armed.level == "OK"


def test_joints_are_found_by_name(armed):
    armed.position = np.array([0.01, 0.02, 0.03])
    armed.now_ns += 1
    armed.report(names=("joint_2", "x", "joint_0", "joint_1"), positions=[3e-2, 9.0, 1e-2, 2e-2],
                 velocities=[0.0] * 4)  # fmt: skip
    np.testing.assert_array_equal(armed.gate.measured, [0.01, 0.02, 0.03])


@pytest.mark.parametrize("offset_ms", [0, -20, 51, 3_600_000])
def test_stamps_that_repeat_run_back_or_lead_prove_no_life(armed, offset_ms):
    armed.reports = False
    begin = armed.now_ns
    for _ in range(7):
        stamp = begin if offset_ms <= 0 else armed.now_ns
        armed.report(stamp_ns=stamp + offset_ms * 1_000_000)
        armed.tick()
    assert (armed.level, armed.cause) == ("STOP", "joint_states_stale")


def test_an_encoder_that_jumps_stops_at_once(armed):
    armed.follows = False
    armed.tick()
    armed.position = armed.position + np.array([0.0, 0.12, 0.0])
    armed.tick()
    assert (armed.level, armed.cause) == ("STOP", "encoder_jump")
    assert "joint_1" in armed.interlock.latch.detail


def test_an_encoder_that_is_stuck_stops_the_arm_in_time(armed):
    armed.follows = False
    ticks = 0
    while armed.level != "STOP":
        armed.tick(np.full(3, 0.01 * ticks))
        ticks += 1
        assert ticks * PERIOD <= 0.5
    assert armed.cause == "encoder_stuck"


def test_a_joint_that_does_not_follow_holds_then_stops(armed):
    armed.follows = False
    rng = np.random.default_rng(0)
    levels = []
    for k in range(120):
        armed.position = rng.uniform(0, 1e-4, 3)  # blocked, with a living encoder
        armed.tick(np.full(3, min(0.0199 * k, 0.19)))
        levels.append(armed.level)
    first = levels.index("HOLD")
    assert 0.2 <= first * PERIOD <= 0.2 + 0.3 + PERIOD
    assert armed.cause == "tracking_error"
    assert levels.index("STOP") - first == pytest.approx(50, abs=2)


def test_an_arm_that_goes_on_moving_while_held_is_told(armed):
    armed.move()
    armed.tick(is_silent=True)
    assert_comes_to_rest(armed, is_silent=True)
    armed.follows = False
    for _ in range(20):
        armed.velocity = np.full(3, 0.3)
        armed.tick(is_silent=True)
    assert (armed.level, armed.cause) == ("STOP", "still_moving")


def test_an_arm_that_goes_on_moving_after_a_stop_is_told_above_its_cause(armed):
    armed.move()
    armed.interlock.latch.trip(REQUEST)
    assert_comes_to_rest(armed)
    armed.follows = False
    told_after = 0
    while armed.cause == "stop_request":
        armed.velocity = np.full(3, 0.3)
        armed.tick()
        told_after += 1
    assert armed.cause == "still_moving"
    assert told_after * PERIOD == pytest.approx(0.3, abs=2 * PERIOD)
    assert armed.interlock.latch.detail.endswith("; also somebody asked for it")


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_an_arm_that_starts_outside_comes_in_slowly(rig, side):
    rig.position = np.array([side * 1.05, 0.0, 0.0])
    rig.arm()
    before = rig.position[0]
    for _ in range(60):
        rig.tick(np.array([side * 1.2, 0.0, 0.0]))
        assert side * rig.position[0] <= side * before + 1e-12
        assert rig.speed() <= 0.1 + 1e-9
        before = rig.position[0]
    assert side * rig.position[0] == pytest.approx(1.0, abs=1e-3)
    assert rig.interlock.counters.violations == 0


# The stop input ------------------------------------------------------------------------------


def test_the_stop_input_brakes_in_the_next_tick(armed):
    armed.move()
    speed = armed.speed()
    armed.interlock.on_stop_input(is_asserted=True, steady_ns=armed.steady_ns)
    armed.tick(armed.position + 0.01)
    assert (armed.level, armed.cause) == ("STOP", "stop_input")
    assert armed.speed() < speed
    assert_comes_to_rest(armed)


def test_a_bouncing_stop_input_is_latched_at_its_first_edge(armed):
    for k in range(10):
        armed.interlock.on_stop_input(is_asserted=k == 0, steady_ns=armed.steady_ns)
    armed.tick()
    assert armed.cause == "stop_input"
    armed.wait(3.0)
    assert armed.level == "STOP"


def test_an_asserted_stop_input_refuses_arming(rig):
    rig.interlock.on_stop_input(is_asserted=True, steady_ns=rig.steady_ns)
    rig.wait(2.0)
    assert rig.gate.arm(rig.steady_ns) == "the stop input is asserted"


def test_a_stop_input_that_must_live_and_dies_stops(make_rig):
    rig = make_rig(heartbeat_s=0.2)
    rig.wait(2.0)
    assert rig.gate.arm(rig.steady_ns) == "the stop input is silent"
    for _ in range(60):
        rig.interlock.on_stop_input(is_asserted=False, steady_ns=rig.steady_ns)
        rig.tick()
    assert rig.gate.arm(rig.steady_ns) == ""
    rig.wait(0.2 + 2 * PERIOD)
    assert (rig.level, rig.cause) == ("STOP", "stop_input_lost")


# Clocks and pace -----------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 0.2, -0.2])
def test_a_clock_that_jumps_stops_and_old_stamps_mean_nothing(armed, jump_s):
    armed.move()
    armed.now_ns += round(jump_s * SECOND)
    armed.tick(armed.position + 0.01)
    assert armed.level == "STOP"
    assert armed.cause in ("clock_jump", "joint_states_stale")
    assert_comes_to_rest(armed)
    armed.wait(1.5)
    assert armed.gate.arm(armed.steady_ns) == ""


def test_paused_time_holds_and_its_return_brakes_without_a_leap(armed):
    armed.move()
    last = armed.sent[-1]
    for _ in range(200):
        armed.now_ns -= PERIOD_NS
        command = armed.tick(armed.position + 0.01)
        # The controllers' time stands still too; what was sent is said again, and nothing new.
        assert command is None or command.states is last.states
    assert armed.level in ("HOLD", "STOP")
    before = last.velocity
    while before.any():
        command = armed.tick(armed.position + 0.15)
        assert (
            np.abs(command.velocity) <= np.maximum(np.abs(before) - 8.0 * PERIOD, 0) + 1e-9
        ).all()
        before = command.velocity


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_time_to_stop_is_bounded_under_any_clock(seed, make_rig):
    rng = np.random.default_rng(seed)
    rig = make_rig()
    rig.arm()
    rig.move()
    # The policy dies; ROS time does what it likes; wanted positions keep coming out of the player.
    elapsed = 0.0
    while True:
        rig.now_ns += int(rng.integers(-300, 300)) * 1_000_000
        rig.tick(rig.position + 0.01, chunk=False)
        elapsed += PERIOD
        if rig.speed() == 0.0:
            break
        assert elapsed <= 0.5 + braking_s(rig) + 2 * PERIOD


def test_a_missed_tick_is_a_step_of_the_brake_that_was_sent(armed):
    armed.move()
    last = armed.sent[-1]
    command = armed.tick(armed.position + 0.03, periods=3)
    # Two cells passed without a tick; the third goes on from where the controller is by then.
    assert command.slot == last.slot + 3
    braked = last.states[3:5]
    for said, played in zip(command.states[:2], braked, strict=True):
        assert said.position.tobytes() == played.position.tobytes()
        assert said.velocity.tobytes() == played.velocity.tobytes()
    change = command.velocity - braked[1].velocity
    assert (np.abs(change) <= 8.0 * PERIOD + 1e-9).all()
    assert armed.interlock.counters.ticks_late == 1


def test_every_command_repeats_what_was_sent_and_ends_at_rest(armed):
    armed.move(ticks=30)
    for before, after in itertools.pairwise(armed.sent[-25:]):
        assert after.slot == before.slot + 1
        assert after.states[:2] == before.states[1:3]
        assert not after.states[-1].velocity.any()


def test_a_tick_that_is_far_too_late_stops(armed):
    armed.move()
    armed.tick(armed.position, periods=5.1)
    assert armed.level == "STOP"
    assert armed.speed() == 0.0
    assert armed.cause in ("gate_late", "joint_states_stale")


def test_a_tick_at_once_after_the_last_one_changes_nothing(armed):
    armed.move()
    before = armed.speed()
    assert armed.tick(armed.position + 0.01, periods=0.1) is None
    assert armed.speed() == before


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_whatever_is_wanted_at_whatever_period_stays_in_the_envelope(seed, make_rig):
    rng = np.random.default_rng(seed)
    rig = make_rig()
    rig.arm()
    for _ in range(100):
        wanted = rig.position + rng.choice([0.001, 0.1, 0.19]) * rng.uniform(-1, 1, 3)
        before = rig.position
        slot, periods = rig.now_ns // PERIOD_NS, rng.uniform(0.2, 4.5)
        command = rig.tick(wanted if rng.random() < 0.9 else None, periods=periods)
        if command is not None:
            moved = np.abs(command.position - before)
            assert (moved <= 1.0 * (command.slot - slot) * PERIOD + 1e-9).all()
            assert (np.abs(command.position) <= 1.0).all()
    assert rig.interlock.counters.violations == 0


# After a stop --------------------------------------------------------------------------------


def test_a_stop_is_said_for_a_second_and_then_the_controller_holds(armed):
    armed.move()
    armed.interlock.latch.trip(REQUEST)
    assert_comes_to_rest(armed)
    said = 0
    while armed.tick() is not None:
        said += 1
    assert 40 <= said <= 52
    assert armed.tick() is None


def test_a_broken_filter_is_caught_and_sends_nothing(armed, monkeypatch):
    armed.move()

    def broken(_self, position, velocity, *_wanted):
        return Step(position + 0.5, velocity, np.zeros(3, dtype=bool))

    monkeypatch.setattr(BrakeFilter, "step", broken)
    assert armed.tick(armed.position) is None
    assert (armed.level, armed.cause) == ("STOP", "internal")
    assert armed.interlock.counters.violations == 3
    # What the controller was given ends at rest by itself; so does what follows.
    assert_comes_to_rest(armed)


def test_rest_is_what_is_commanded_and_measured(armed):
    assert armed.gate.is_at_rest
    armed.move()
    assert not armed.gate.is_at_rest
    armed.interlock.latch.trip(REQUEST)
    assert_comes_to_rest(armed)
    armed.report(velocities=np.full(3, 0.3))
    armed.now_ns += 1
    armed.report(velocities=np.full(3, 0.3))
    assert not armed.gate.is_at_rest
    armed.now_ns += 1
    armed.report(velocities=np.zeros(3))
    assert armed.gate.is_at_rest


# From the embodiment file ---------------------------------------------------------------------


def test_the_gate_of_a_robot_has_the_limits_and_sources_of_its_file():
    robot = load_embodiment("aloha_sim")
    gate = ArmGate.from_embodiment(robot)
    assert gate.envelope.names == robot.joints
    assert [monitor.topic for monitor in gate.monitors] == ["joint_states"]


def test_a_base_has_no_arm_gate():
    with pytest.raises(EmbodimentError, match="no channel commands a joint"):
        ArmGate.from_embodiment(load_embodiment("diffbot_sim"))


def test_a_joint_that_nothing_reports_is_refused():
    robot = load_embodiment("aloha_sim")
    blind = robot.file.state[0].model_copy(update={"joints": robot.joints[:-1]})
    file = robot.file.model_copy(update={"state": (blind,)})
    with pytest.raises(EmbodimentError, match="no source reports 'right_finger'"):
        ArmGate.from_embodiment(replace(robot, file=file))


def test_two_sources_report_their_halves():
    robot = load_embodiment("aloha_sim")
    halves = [
        robot.file.state[0].model_copy(update={"topic": side, "joints": joints})
        for side, joints in (("left", robot.joints[:7]), ("right", robot.joints[7:]))
    ]
    wheels = halves[0].model_copy(update={"topic": "wheels", "joints": ("wheel",)})
    file = robot.file.model_copy(update={"state": (wheels, *halves)})
    gate = ArmGate.from_embodiment(replace(robot, file=file))
    for number, monitor in enumerate(gate.monitors):
        assert gate.measured is None
        monitor.observe(halves[number].joints, [0.1 * number] * 7, [0.0] * 7, 10**15, 10**15, 1)
    np.testing.assert_array_equal(gate.measured, np.repeat([0.0, 0.1], 7))


def test_a_gate_of_unknown_joints_can_neither_begin_nor_command(rig):
    with pytest.raises(ValueError, match="armed before every joint was measured"):
        rig.gate._begin()
    with pytest.raises(ValueError, match="never armed has no command"):
        rig.gate._propose(None, PERIOD)


def test_a_chunk_without_rows_says_only_that_the_policy_lives(armed):
    armed.gate.on_chunk(np.empty((0, 3)), armed.steady_ns)
    assert armed.interlock.has_policy(armed.steady_ns)
