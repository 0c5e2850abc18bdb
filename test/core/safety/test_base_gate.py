"""The gate of a base: what drives, what stops, and within which time."""

from dataclasses import replace

import numpy as np
import pytest

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.safety.base_gate import BaseGate
from qwen_vla_ros.safety.envelope import BaseEnvelope
from qwen_vla_ros.safety.interlock import Interlock
from qwen_vla_ros.safety.latch import Cause
from qwen_vla_ros.safety.odometry_monitor import OdometryMonitor
from qwen_vla_ros.safety.silence import STEPPED_IN
from qwen_vla_ros.safety.twist_filter import TwistFilter, TwistStep

PERIOD = 0.02
ENVELOPE = BaseEnvelope(
    linear_velocity=0.6, angular_velocity=1.5, linear_acceleration=1.5, angular_acceleration=5.0
)
BRAKING_S = 0.4


class BaseRig:
    """A base gate, and a base that drives exactly as commanded, one tick later.

    It `follows` commands, its pose `rolls` with its twist, and its odometry `reports` both.
    """

    def __init__(self, period_s=PERIOD):
        self.period_s = period_s
        self.interlock = Interlock(period_s, 1.0, None)
        self.monitor = OdometryMonitor(ENVELOPE, "odom", 0.1)
        self.gate = BaseGate(ENVELOPE, self.monitor, self.interlock, period_s)
        self.now_ns, self.steady_ns = 10**15, 5 * 10**12
        self.pose, self.twist = np.zeros(3), np.zeros(2)
        self.follows = self.rolls = self.reports = True
        self.sent = []

    @property
    def level(self):
        return self.interlock.latch.level.name

    @property
    def cause(self):
        return self.interlock.latch.cause.name

    def report(self):
        self.monitor.observe(self.pose, self.twist, self.now_ns, self.now_ns, self.steady_ns)

    def sleep(self, seconds):
        """Let time pass in which the gate does nothing."""
        self.now_ns += round(seconds * 1e9)
        self.steady_ns += round(seconds * 1e9)

    def tick(self, wanted=None, *, is_silent=False, chunk=True, periods=1.0):
        self.sleep(periods * self.period_s)
        if self.reports:
            self.report()
        if wanted is not None and chunk:
            self.interlock.on_chunk(self.steady_ns)
        wanted = None if wanted is None else np.array(wanted, dtype=float)
        command = self.gate.tick(self.now_ns, self.steady_ns, wanted, is_silent=is_silent)
        self.sent.append(command)
        if command is not None and self.follows:
            self.twist = command
        if self.rolls:
            v, w, yaw = *self.twist, self.pose[2]
            step = np.array([np.cos(yaw) * v, np.sin(yaw) * v, w])
            self.pose = self.pose + step * self.period_s
        return command

    def wait(self, seconds, **options):
        for _ in range(round(seconds / self.period_s)):
            self.tick(**options)

    def drive(self, wanted=(0.5, 0.4), ticks=40):
        for _ in range(ticks):
            self.tick(wanted)

    def stops_after(self, wanted, patience_s=5.0):
        """Ask for a twist until the gate stops; returns the seconds until then."""
        for k in range(round(patience_s / self.period_s)):
            self.tick(wanted)
            if self.level == "STOP":
                return k * self.period_s
        return float("inf")


@pytest.fixture
def rig():
    return BaseRig()


@pytest.fixture
def armed(rig):
    rig.wait(1.1)
    assert rig.gate.arm(rig.steady_ns) == ""
    return rig


def assert_comes_to_rest(rig, **options):
    rig.wait(BRAKING_S + PERIOD, **options)
    assert not rig.sent[-1].any()


def test_nothing_is_sent_before_the_gate_was_armed(rig):
    for _ in range(200):
        assert rig.tick([0.5, 0.0]) is None
    assert (rig.level, rig.cause) == ("STOP", "not_armed")


def test_a_moving_base_is_not_armed(rig):
    rig.twist = np.array([0.2, 0.0])
    rig.wait(1.5)
    assert rig.gate.arm(rig.steady_ns) == "the robot still moves"


def test_arming_an_armed_base_changes_nothing(armed):
    armed.drive()
    assert armed.gate.arm(armed.steady_ns) == ""
    assert armed.sent[-1].any()


def test_a_clean_twist_passes_to_the_last_bit(armed):
    for k in range(60):
        wanted = np.array([0.3, -0.6]) * np.sin(k * PERIOD)
        assert armed.tick(wanted).tobytes() == wanted.tobytes()
    assert armed.level == "OK"


def test_a_twist_that_is_too_sudden_is_limited(armed):
    command = armed.tick([0.6, 0.0])
    assert command[0] == pytest.approx(1.5 * PERIOD)
    assert armed.level == "LIMITED"


def test_a_late_tick_allows_no_greater_change(armed):
    armed.drive()
    last = armed.sent[-1]
    command = armed.tick([-0.5, 0.0], periods=4)
    assert (np.abs(command - last) <= ENVELOPE.acceleration * PERIOD + 1e-9).all()
    assert armed.interlock.counters.ticks_late == 1


def test_an_early_tick_after_a_late_one_allows_a_smaller_change(armed):
    armed.drive(wanted=(0.1, 0.0))
    for periods in (1.4, 0.6, 1.0):
        before = armed.sent[-1][0]
        after = armed.tick([0.6, 0.0], periods=periods)[0]
        assert after - before == pytest.approx(1.5 * PERIOD * min(periods, 1.0))


def test_no_rhythm_of_ticks_makes_a_step_greater_than_its_time(armed):
    rng = np.random.default_rng(5)
    last, since_s = np.zeros(2), 0.0
    for _ in range(2000):
        periods = rng.choice([0.1, 0.25, 0.6, 1.0, 1.4, 4.0])
        since_s += periods * PERIOD
        command = armed.tick(rng.uniform(-1, 1, 2) * [0.6, 1.5], periods=periods)
        if command is not None:
            change = np.abs(command - last)
            assert (change <= ENVELOPE.acceleration * min(since_s, PERIOD) + 1e-9).all()
            last, since_s = command, 0.0
    assert armed.level in ("OK", "LIMITED")


def test_a_base_that_rests_when_the_gate_wakes_stays_at_rest(armed):
    armed.drive()
    armed.sleep(2.0)
    armed.twist = np.zeros(2)
    for _ in range(40):
        assert not armed.tick([0.5, 0.0]).any()
    assert (armed.level, armed.cause) == ("STOP", "gate_late")


def test_a_base_that_still_drives_when_the_gate_wakes_is_braked_from_there(armed):
    armed.drive(wanted=(0.6, 0.0))
    armed.sleep(0.15)
    armed.twist = np.array([0.3, 0.1])
    command = armed.tick([0.6, 0.0])
    assert command == pytest.approx([0.3 - 1.5 * PERIOD, 0.09])
    assert_comes_to_rest(armed)


def test_a_base_that_is_too_fast_when_the_gate_wakes_is_braked_from_its_limit(armed):
    armed.drive(wanted=(0.6, 0.0))
    armed.sleep(0.15)
    armed.twist = np.array([0.7, 0.0])
    assert armed.tick()[0] == pytest.approx(0.6 - 1.5 * PERIOD)
    assert armed.interlock.counters.violations == 0


def test_a_gate_that_wakes_says_nothing_before_it_has_seen_what_the_base_does(armed):
    armed.drive()
    armed.sleep(1.0)
    armed.reports = False
    armed.monitor.observe(
        armed.pose, armed.twist, armed.now_ns - 50_000_000, armed.now_ns, armed.steady_ns
    )
    for _ in range(4):
        assert armed.tick() is None
    assert not armed.gate.is_at_rest
    armed.reports, armed.twist = True, np.zeros(2)
    assert armed.tick().tolist() == [0.0, 0.0]


def test_a_gate_that_wakes_and_sees_nothing_says_rest(armed):
    armed.drive()
    armed.sleep(1.0)
    armed.reports = False
    assert [armed.tick() for _ in range(10)] == [None] * 10
    assert armed.tick().tolist() == [0.0, 0.0]


def test_a_gate_that_wakes_takes_nobody_elses_motion_for_its_own(armed):
    armed.drive()
    armed.interlock.latch.trip(Cause("stop_request", "asked for"))
    armed.wait(2.0)
    armed.sleep(1.0)
    armed.follows, armed.twist = False, np.array([0.4, 0.0])
    assert armed.tick() is None


def test_a_gate_does_not_fight_who_stepped_in_for_it(armed):
    armed.drive()
    armed.interlock.latch.trip(STEPPED_IN)
    assert armed.tick([0.5, 0.0]).tolist() == [0.0, 0.0]


def test_a_driver_that_stops_sooner_than_the_monitor_makes_a_pause_shorter():
    rig = BaseRig()
    rig.gate = BaseGate(ENVELOPE, rig.monitor, rig.interlock, PERIOD, timeout_s=0.06)
    rig.wait(1.1)
    assert rig.gate.arm(rig.steady_ns) == ""
    rig.drive()
    rig.twist = np.zeros(2)
    assert rig.tick([0.5, 0.0], periods=3.5).tolist() == [0.0, 0.0]
    assert (rig.level, rig.cause) == ("HOLD", "gate_paused")


def test_a_slow_gate_that_paused_holds_and_goes_on_by_itself():
    rig = BaseRig(period_s=0.05)
    rig.wait(1.1)
    assert rig.gate.arm(rig.steady_ns) == ""
    rig.drive()
    rig.tick([0.5, 0.0], periods=2.0)
    assert rig.level in ("OK", "LIMITED")
    rig.tick([0.5, 0.0], periods=2.6)
    assert (rig.level, rig.cause) == ("HOLD", "gate_paused")
    rig.drive(ticks=30)
    assert rig.level in ("OK", "LIMITED")
    assert rig.sent[-1].any()


def test_a_silent_policy_brakes_and_keeps_saying_zero(armed):
    armed.drive()
    armed.tick(is_silent=True)
    assert (armed.level, armed.cause) == ("HOLD", "policy_silent")
    assert_comes_to_rest(armed, is_silent=True)
    armed.wait(2.0, is_silent=True)
    assert not armed.sent[-1].any()


def test_a_chunk_is_not_driven_past_its_time_whatever_its_stamps_say(armed):
    armed.drive()
    for _ in range(51):
        armed.tick([0.5, 0.0], chunk=False)
    assert (armed.level, armed.cause) == ("HOLD", "policy_silent")


def test_an_idle_base_starts_at_once(armed):
    armed.wait(3.0)
    assert armed.level == "OK"
    assert armed.tick([0.02, 0.0])[0] == 0.02


def test_odometry_that_stops_stops_the_base(armed):
    armed.drive()
    armed.reports = False
    armed.wait(0.12)
    assert (armed.level, armed.cause) == ("STOP", "odometry_stale")
    assert_comes_to_rest(armed)


def test_odometry_that_never_came_refuses_arming(rig):
    rig.reports = False
    rig.wait(2.0)
    assert "nothing usable came on 'odom'" in rig.gate.arm(rig.steady_ns)


@pytest.mark.parametrize("part", ["pose", "twist"])
def test_odometry_that_is_not_a_number_three_times_stops(armed, part):
    armed.follows = False
    good = getattr(armed, part)
    setattr(armed, part, np.full_like(good, np.nan))
    armed.wait(3 * PERIOD)
    assert (armed.level, armed.cause) == ("STOP", "odometry_invalid")
    assert armed.monitor.rejected == 3


def test_repeated_stamps_are_passed_over(armed):
    armed.report()
    assert armed.monitor.rejected == 1


@pytest.mark.parametrize("jump", [[0.5, 0.0, 0.0], [0.0, 0.0, 0.5]])
def test_odometry_that_jumps_stops(armed, jump):
    armed.pose = armed.pose + jump
    armed.tick()
    assert (armed.level, armed.cause) == ("STOP", "odometry_jump")


def test_turning_through_pi_is_no_jump(armed):
    for _ in range(300):
        armed.tick([0.0, 1.4])
        armed.pose[2] = (armed.pose[2] + np.pi) % (2 * np.pi) - np.pi
    assert armed.level in ("OK", "LIMITED")


def test_a_base_that_does_not_follow_holds_then_stops(armed):
    armed.follows = False
    levels = []
    for _ in range(150):
        armed.tick([0.6, 0.0])
        levels.append(armed.level)
    assert armed.level == "STOP"
    assert 0.5 <= levels.index("HOLD") * PERIOD <= 1.0


def test_a_base_that_drives_too_slowly_for_its_command_holds(armed):
    armed.follows, armed.twist = False, np.array([0.1, 0.0])
    armed.drive(wanted=(0.6, 0.0), ticks=45)
    assert (armed.level, armed.cause) == ("HOLD", "tracking_error")


@pytest.mark.parametrize(
    "twist", [[0.5, 0.0], [0.04, 0.0], [-0.3, 0.0], [0.0, 0.5], [0.0, -0.08], [0.3, 0.6]]
)
def test_odometry_that_freezes_in_motion_stops_within_a_second(armed, twist):
    armed.drive(wanted=twist, ticks=50)
    armed.rolls = armed.follows = False
    assert 0.7 <= armed.stops_after(twist) <= 0.8
    assert armed.cause == "odometry_frozen"
    assert "does not follow" in armed.interlock.latch.detail
    assert_comes_to_rest(armed)


def test_frozen_odometry_is_not_armed(rig):
    rig.rolls, rig.twist = False, np.array([0.5, 0.0])
    rig.wait(2.5)
    assert "does not follow" in rig.gate.arm(rig.steady_ns)


def test_a_base_that_stands_has_no_frozen_odometry(armed):
    armed.follows = armed.rolls = False
    rng = np.random.default_rng(1)
    for _ in range(3000):
        armed.twist = rng.normal(0, [0.02, 0.05])
        armed.tick()
    assert armed.level == "OK"


def test_odometry_that_trembles_and_counts_coarsely_is_not_frozen(armed):
    armed.follows, rng = False, np.random.default_rng(2)
    place = 0.0
    for k in range(2000):
        v = 0.3 * np.sin(k * PERIOD)
        place += v * PERIOD
        armed.pose, armed.rolls = np.array([round(place, 2), 0.0, 0.0]), False
        armed.twist = np.array([v, 0.0]) + rng.normal(0, [0.02, 0.2])
        armed.tick([v, 0.0])
    assert armed.level == "OK"


@pytest.mark.parametrize("wanted", [[0.1, 0.0], [0.6, 0.0], [0.0, 0.3], [-0.2, 0.4]])
def test_a_base_that_is_blocked_stops_within_a_second_and_a_half(armed, wanted):
    armed.follows = False
    assert 0.8 <= armed.stops_after(wanted) <= 1.2
    assert armed.cause == "base_blocked"
    assert_comes_to_rest(armed)


def test_a_base_that_pushes_again_and_again_is_blocked(armed):
    armed.follows = False
    for _ in range(4):
        armed.drive(wanted=(0.1, 0.0), ticks=12)
        armed.drive(wanted=(0.0, 0.0), ticks=40)
    assert (armed.level, armed.cause) == ("STOP", "base_blocked")
    armed.wait(1.1)
    assert armed.gate.arm(armed.steady_ns) == ""
    armed.drive(wanted=(0.1, 0.0), ticks=30)
    assert armed.level == "OK"


def test_a_base_that_starts_late_is_not_blocked(armed):
    armed.follows = False
    armed.drive(wanted=(0.2, 0.0), ticks=20)
    armed.follows = True
    armed.drive(wanted=(0.2, 0.0), ticks=200)
    assert armed.level == "OK"


def test_a_base_that_rolls_on_is_told(armed):
    armed.drive()
    armed.tick(is_silent=True)
    assert_comes_to_rest(armed, is_silent=True)
    armed.follows, armed.twist = False, np.array([0.2, 0.0])
    armed.wait(0.4, is_silent=True)
    assert (armed.level, armed.cause) == ("STOP", "still_moving")


def test_the_stop_input_brakes_in_the_next_tick(armed):
    armed.drive()
    before = armed.sent[-1]
    armed.interlock.on_stop_input(is_asserted=True, steady_ns=armed.steady_ns)
    assert (np.abs(armed.tick([0.6, 0.0])) < np.abs(before)).all()
    assert_comes_to_rest(armed)
    assert armed.cause == "stop_input"


def test_a_stop_is_said_for_a_second_and_then_others_may_drive(armed):
    armed.drive()
    armed.interlock.latch.trip(Cause("stop_request", "asked for"))
    assert_comes_to_rest(armed)
    armed.wait(1.1)
    assert armed.tick() is None


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_a_clock_that_jumps_stops(armed, jump_s):
    armed.drive()
    armed.now_ns += jump_s * 10**9
    armed.tick([0.5, 0.4])
    assert (armed.level, armed.cause) == ("STOP", "clock_jump")
    assert_comes_to_rest(armed)


def test_a_tick_at_once_after_the_last_one_changes_nothing(armed):
    armed.drive()
    assert armed.tick([0.6, 0.0], periods=0.1) is None


@pytest.mark.parametrize("wanted", [[np.nan, 0.0], [0.0, np.inf], [0.0, 0.0, 0.0]])
def test_what_makes_no_sense_brakes(armed, wanted):
    armed.drive()
    before = armed.sent[-1]
    assert abs(armed.tick(wanted)[0]) < abs(before[0])
    assert (armed.level, armed.cause) == ("HOLD", "policy_silent")


def test_a_broken_filter_is_caught_and_sends_nothing(armed, monkeypatch):
    armed.drive()

    def broken(_self, twist, *_wanted):
        return TwistStep(twist + 1.0, is_limited=False)

    monkeypatch.setattr(TwistFilter, "step", broken)
    assert armed.tick([0.5, 0.0]) is None
    assert (armed.level, armed.cause) == ("STOP", "internal")
    assert armed.interlock.counters.violations == 2
    assert_comes_to_rest(armed)


def test_rest_is_said_three_times_before_it_counts(armed):
    armed.drive()
    armed.interlock.latch.trip(Cause("stop_request", "asked for"))
    while armed.tick().any():
        assert not armed.gate.is_at_rest
    for is_enough in (False, False, True):
        armed.report()
        assert armed.gate.is_at_rest is is_enough
        armed.tick()


def test_rest_is_what_is_commanded_and_measured(armed):
    assert armed.gate.is_at_rest
    armed.drive()
    assert not armed.gate.is_at_rest
    armed.interlock.latch.trip(Cause("stop_request", "asked for"))
    assert_comes_to_rest(armed)
    armed.tick()
    assert armed.gate.is_at_rest


def test_the_gate_of_a_robot_has_the_limits_and_source_of_its_file():
    gate = BaseGate.from_embodiment(load_embodiment("diffbot_sim"))
    assert gate.monitor.topic == "odom"
    assert not gate.interlock.latch.is_armed


def test_a_base_whose_place_nothing_reports_is_refused():
    robot = load_embodiment("diffbot_sim")
    blind = replace(robot, file=robot.file.model_copy(update={"state": ()}))
    with pytest.raises(EmbodimentError, match="one source of type nav_msgs/msg/Odometry"):
        BaseGate.from_embodiment(blind)


# What a policy asks for ----------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [[0.8, 0.0], [0.3, -2.0], [500.0, 0.0], [0.2, 57.0]])
def test_who_asks_for_far_too_much_again_and_again_stops_within_half_a_second(armed, wanted):
    assert armed.stops_after(wanted) <= 0.5
    assert armed.cause == "out_of_reach"


def test_who_asks_for_a_little_too_much_is_limited_and_goes_on(armed):
    assert armed.stops_after([0.7, 1.8], patience_s=3.0) == float("inf")
    assert armed.level == "LIMITED"


def test_who_asks_for_far_too_much_in_one_tick_of_ten_goes_on(armed):
    for k in range(200):
        armed.tick([5.0, 0.0] if k % 10 == 0 else [0.3, 0.0])
    assert armed.level in ("OK", "LIMITED")


def test_what_was_asked_for_before_a_rest_does_not_count(armed):
    for _ in range(10):
        armed.drive([0.8, 0.0], 5)
        armed.wait(0.6)
    assert armed.level in ("OK", "LIMITED")


def test_a_base_that_turns_round_again_and_again_holds_within_a_second(armed):
    ticks = 0
    while armed.level != "HOLD":
        armed.tick([0.0, 0.3 if (ticks // 7) % 2 == 0 else -0.3])
        ticks += 1
        assert ticks * PERIOD <= 1.0 + PERIOD
    assert armed.cause == "oscillation"


def test_a_base_that_turns_round_now_and_then_drives_on(armed):
    for k in range(300):
        armed.tick([0.3, 0.3 if (k // 12) % 2 == 0 else -0.3])
        assert armed.level in ("OK", "LIMITED")


def test_a_policy_that_repeats_one_motion_drives_on(armed):
    # Straight on is the same waypoints for as long as the way is.
    motions = np.tile([0.1, 0.0, 0.1], (8, 1))
    for k in range(275):
        if k % 10 == 0:
            armed.gate.on_chunk(motions, armed.steady_ns)
        armed.tick([0.2, 0.2], chunk=False)
    assert armed.level == "OK"


def test_a_policy_that_proposes_another_motion_drives_on(armed):
    for k in range(400):
        if k % 10 == 0:
            motions = np.tile([0.1, 0.0, 0.1 + 1e-6 * (k % 20)], (8, 1))
            armed.gate.on_chunk(motions, armed.steady_ns)
        armed.tick([0.2, 0.2], chunk=False)
    assert armed.level == "OK"
