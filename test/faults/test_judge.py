"""The judge of the campaign against curves that were worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from faults.judge import RATES_HZ, Base, Curve, Limits, Player, Point, S

MS = 1_000_000
T0 = 10 * S


def limits(**changes):
    numbers = {"lower": -1.0, "upper": 1.0, "velocity": 1.0, "acceleration": 8.0, **changes}
    return Limits.of_joints(["a"], {"a": numbers})


def point(ms, position, velocity=None, acceleration=None):
    def row(value):
        return None if value is None else np.array([float(value)])

    return Point(ms * MS, row(position), row(velocity), row(acceleration))


def play(player, ms):
    player.play(T0 + ms * MS)
    return player.account


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_parabola_has_the_acceleration_that_it_has(rate_hz):
    player = Player(limits(), rate_hz, np.zeros(1), T0)
    # From rest with 4/s^2 for 0.2 s, and back to rest: 0.5 of 8, 0.8 of 1, ends at 0.16.
    player.hear(T0, 0, [point(0, 0, 0), point(200, 0.08, 0.8), point(400, 0.16, 0)])
    account = play(player, 600)
    assert account.ratio("acceleration") == pytest.approx(0.5, abs=1e-6)
    assert account.ratio("speed") == pytest.approx(0.8, abs=4 / rate_hz)
    assert account.ratio("position") == pytest.approx(0.16)
    assert player.setpoint == pytest.approx(0.16)
    assert account.moved_s * 1e3 == pytest.approx((T0 / S + 0.4) * 1e3, abs=1e3 / rate_hz)


def test_a_step_of_speed_inside_a_period_is_four_times_as_steep_at_its_beginning():
    # From speed 0 to 0.16/s in 20 ms and 0.16/s * 20 ms ahead: the cubic begins with 4 v / T.
    player = Player(limits(), 1000, np.zeros(1), T0)
    player.hear(T0, 0, [point(0, 0, 0), point(20, 0.0032, 0.16), point(40, 0.0048, 0)])
    account = play(player, 100)
    assert account.ratio("acceleration") == pytest.approx(3.7)  # 1 ms after it
    curve = Curve([point(0, 0, 0), point(20, 0.0032, 0.16)], 0)
    assert curve.at(0, 2)[0] == pytest.approx(4 * 0.16 / 0.02)
    assert curve.at(19_999_999, 2)[0] == pytest.approx(-2 * 0.16 / 0.02, rel=1e-5)


def test_knots_of_the_same_motion_keep_the_limit():
    # q_k = p_k - v_k T / 2: the same step of speed, at exactly v / T.
    player = Player(limits(), 1000, np.zeros(1), T0)
    player.hear(T0, 0, [point(0, 0, 0), point(20, 0.0016, 0.16), point(40, 0.0032, 0)])
    assert play(player, 100).ratio("acceleration") == pytest.approx(1.0, abs=1e-6)


def test_positions_alone_are_joined_by_lines():
    player = Player(limits(), 1000, np.zeros(1), T0)
    player.hear(T0, 0, [point(0, 0), point(100, 0.05)])
    account = play(player, 300)
    assert account.ratio("speed") == pytest.approx(0.5)
    assert account.ratio("acceleration") == pytest.approx(0.5 / 0.001 / 8)


def test_accelerations_make_a_quintic():
    # 10 s^3 - 15 s^4 + 6 s^5: at half time half way, with speed 15/8 and no acceleration.
    curve = Curve([point(0, 0, 0, 0), point(1000, 1, 0, 0)], 0)
    assert curve.at(S // 2)[0] == pytest.approx(0.5)
    assert curve.at(S // 2, 1)[0] == pytest.approx(15 / 8)
    assert curve.at(S // 2, 2)[0] == pytest.approx(0.0, abs=1e-9)
    assert curve.at(S // 4)[0] == pytest.approx(10 / 64 - 15 / 256 + 6 / 1024)
    # s^2 alone is a quintic, too.
    parabola = Curve([point(0, 0, 0, 2), point(500, 0.25, 1, 2)], 0)
    assert parabola.at(S // 4)[0] == pytest.approx(1 / 16)


def test_a_stamp_in_the_past_is_honoured_and_zero_means_the_next_update():
    ramp = [point(0, 0, 0.5), point(200, 0.1, 0.5), point(300, 0.125, 0)]
    stamped, at_once = (Player(limits(), 1000, np.zeros(1), T0) for _ in range(2))
    stamped.hear(T0 + 50 * MS, T0, ramp)
    at_once.hear(T0 + 50 * MS, 0, ramp)
    for player in (stamped, at_once):
        player.play(T0 + 100 * MS)
    # The update at 99 ms hands out the place for 100 ms.
    assert stamped.setpoint == pytest.approx(0.05)
    assert at_once.setpoint == pytest.approx(0.025)


@pytest.mark.parametrize(("rate_hz", "from_ms"), [(1000, 43), (200, 45), (100, 50)])
def test_a_message_counts_from_the_next_update_on(rate_hz, from_ms):
    player = Player(limits(), rate_hz, np.zeros(1), T0)
    player.hear(T0 + 42 * MS + 1, 0, [point(0, 0.5, 0), point(100, 0.5, 0)])
    player.play(T0 + from_ms * MS)
    assert player.setpoint == 0.0
    player.play(T0 + from_ms * MS + 1)
    assert player.setpoint == 0.5


def test_a_seam_between_two_messages_is_a_jump_of_the_motion():
    player = Player(limits(), 1000, np.zeros(1), T0)
    player.hear(T0, 0, [point(0, 0, 0.5), point(100, 0.05, 0.5), point(200, 0.075, 0)])
    # The same motion, told 1 ms late as if it had not begun to move meanwhile.
    player.hear(T0 + 51 * MS, 0, [point(0, 0.025, 0.5), point(100, 0.075, 0.5)])
    account = play(player, 90)
    assert account.ratio("acceleration") == pytest.approx(0.0005 / 1e-6 / 8, rel=0.01)
    assert account.worst["acceleration"].at_s == pytest.approx(T0 / S + 0.052, abs=1.1e-3)


def test_identical_curves_have_no_seam_whenever_they_come():
    def knots(first):
        return [point(20 * (k + first), 0.01 * (k + first), 0.5) for k in range(4)]

    player = Player(limits(), 1000, np.zeros(1), T0)
    player.hear(T0, T0, [point(-20, 0, 0), *knots(0)])
    for k in range(1, 4):
        player.hear(T0 + (20 * k + 7) * MS, T0, knots(k))
    player.play(T0 + 10 * MS)
    before = player.account.ratio("acceleration")
    assert play(player, 70).ratio("acceleration") == before


def test_before_its_first_point_the_way_leads_there_from_here():
    player = Player(limits(), 1000, np.zeros(1), T0)
    player.hear(T0, 0, [point(100, 0.1)])
    account = play(player, 300)
    assert account.ratio("speed") == pytest.approx(1.0)
    assert player.setpoint == pytest.approx(0.1)


def test_bare_positions_are_steps():
    player = Player(limits(), 1000, np.zeros(1), T0)
    player.hear_positions(T0 + 5 * MS, [0.01])
    account = play(player, 20)
    assert account.ratio("speed") == pytest.approx(10.0)


def test_a_position_beyond_its_limit_is_told_in_its_unit():
    player = Player(limits(), 1000, np.zeros(1), T0)
    player.hear_positions(T0, [1.25])
    account = play(player, 5)
    assert account.beyond == pytest.approx(0.25)
    assert account.ratio("position") == pytest.approx(1.25)


def test_a_value_that_is_not_finite_is_counted_and_forgotten():
    player = Player(limits(), 1000, np.zeros(1), T0)
    player.hear_positions(T0, [float("nan")])
    player.hear_positions(T0 + 5 * MS, [0.0])
    account = play(player, 20)
    assert account.not_finite == 5
    assert account.ratio("speed") == 0.0


def test_a_declared_jerk_is_looked_at():
    player = Player(limits(jerk=80.0), 1000, np.zeros(1), T0)
    player.hear(T0, 0, [point(0, 0, 0, 0), point(500, 0.25, 0, 0)])
    # Of the quintic the jerk is greatest at both ends: 60 d / h^3 = 120.
    assert play(player, 600).ratio("jerk") == pytest.approx(120 / 80, rel=0.02)


def test_names_are_looked_up_and_not_counted():
    two = {name: {"lower": -1, "upper": 1, "velocity": 1, "acceleration": 8} for name in "ab"}
    player = Player(Limits.of_joints(["a", "b"], two), 1000, np.zeros(2), T0)
    zero = SimpleNamespace(sec=0, nanosec=0)
    message = SimpleNamespace(
        header=SimpleNamespace(stamp=zero),
        joint_names=["b", "a"],
        points=[
            SimpleNamespace(
                positions=[0.2, 0.1], velocities=[], accelerations=[], time_from_start=zero
            )
        ],
    )
    player.hear_trajectory(T0, message)
    player.play(T0 + 3 * MS)
    assert player.setpoint.tolist() == [0.1, 0.2]


BASE = {
    "linear_velocity": 0.5,
    "angular_velocity": 1.0,
    "linear_acceleration": 1.0,
    "angular_acceleration": 4.0,
}


def test_a_base_is_judged_over_the_period_in_which_it_is_told():
    base = Base(Limits.of_base(BASE), 1000, 50, T0)
    for k in range(10):
        base.hear(T0 + 20 * k * MS, T0 + 20 * k * MS, [0.02 * (k + 1), 0.0])
    base.play(T0 + 200 * MS)
    assert base.account.ratio("acceleration") == pytest.approx(1.0)
    assert base.account.ratio("speed") == pytest.approx(0.4)
    # Steps of 20 ms: the sum of all is 1.1 * 0.02 m.
    assert base.pose[0] == pytest.approx(sum(0.02 * (k + 1) for k in range(10)) * 0.02)


def test_two_steps_within_one_period_are_twice_as_steep():
    base = Base(Limits.of_base(BASE), 1000, 50, T0)
    for ms, v in ((0, 0.02), (20, 0.04), (30, 0.06)):
        base.hear(T0 + ms * MS, 0, [v, 0.0])
    base.play(T0 + 60 * MS)
    assert base.account.ratio("acceleration") == pytest.approx(2.0)


def test_bare_positions_are_looked_at_from_telling_to_telling():
    player = Player(limits(), 1000, np.zeros(1), T0, told_hz=50)
    for k, position in enumerate([0.0032, 0.0096, 0.0128]):
        player.hear_positions(T0 + (20 * k + 7 * (k % 2)) * MS, [position])
    player.play(T0 + 200 * MS)
    assert player.account.ratio("speed") == pytest.approx(0.0064 / 0.02 / limits().velocity[0])
    speeds = np.diff([0.0, 0.0, 0.0032, 0.0096, 0.0128]) / 0.02
    worst = np.abs(np.diff(speeds)).max() / 0.02 / limits().acceleration[0]
    assert player.account.ratio("acceleration") == pytest.approx(worst)


def test_a_burst_is_what_speeds_are_ahead_of_a_ramp():
    base = Base(Limits.of_base(BASE), 1000, 50, T0)
    for ms, v in ((0, 0.02), (20, 0.04), (40, 0.06), (60, 0.04), (80, 0.02)):
        base.hear(T0 + ms * MS, 0, [v, 0.0])
    base.play(T0 + 1000 * MS)
    assert base.account.ratio("burst") == pytest.approx(0.95)  # seen up to 1 ms after the step


def test_two_steps_that_come_close_together_are_a_burst():
    base = Base(Limits.of_base(BASE), 1000, 50, T0)
    for ms, v in ((0, 0.02), (20, 0.04), (25, 0.06), (45, 0.08)):
        base.hear(T0 + ms * MS, 0, [v, 0.0])
        base.play(T0 + ms * MS)
    base.play(T0 + 60 * MS)
    assert base.account.ratio("burst") == pytest.approx(1.7)


def test_a_base_that_hears_no_more_stands_after_the_time_out():
    base = Base(Limits.of_base(BASE), 1000, 50, T0)
    base.hear(T0, T0, [0.3, 0.0])
    base.play(T0 + 2 * S)
    assert base.account.moved_s == pytest.approx(T0 / S + 0.5, abs=2e-3)
    assert base.setpoint.tolist() == [0.0, 0.0]


def test_a_stamp_in_the_future_keeps_a_base_driving():
    base = Base(Limits.of_base(BASE), 100, 50, T0)
    base.hear(T0, T0 + 10 * S, [0.3, 0.0])
    base.play(T0 + 5 * S)
    assert base.setpoint[0] == 0.3


def test_a_twist_that_is_not_finite_leaves_the_speed_before_it():
    base = Base(Limits.of_base(BASE), 1000, 50, T0)
    base.hear(T0, T0, [0.3, 0.0])
    base.hear(T0 + 20 * MS, T0 + 20 * MS, [float("nan"), 0.0])
    base.play(T0 + 100 * MS)
    assert base.setpoint[0] == 0.3
    assert base.refused == 1
