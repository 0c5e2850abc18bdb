"""The stand-in drives, times out and counts as ros2_controllers' diff_drive_controller does."""

import math

import pytest

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.sim.diff_drive_controller import DiffDriveController, Odometry, SpeedLimits

NOW = 50 * NS_PER_S
PERIOD_S = 0.01


@pytest.fixture
def controller():
    return DiffDriveController(wheel_separation_m=0.32, wheel_radius_m=0.05)


def update(controller, now_ns=NOW):
    return controller.update(now_ns, 0.0, 0.0, PERIOD_S)


def test_without_a_command_the_wheels_stand(controller):
    assert update(controller) == (0.0, 0.0)


def test_a_twist_becomes_wheel_speeds(controller):
    controller.accept(NOW, 0.5, 1.0, NOW)
    assert update(controller) == pytest.approx(((0.5 - 0.16) / 0.05, (0.5 + 0.16) / 0.05))


def test_a_command_counts_for_half_a_second(controller):
    controller.accept(NOW, 0.5, 0.0, NOW)
    assert update(controller, NOW + NS_PER_S // 2)[0] == pytest.approx(10.0)
    assert update(controller, NOW + NS_PER_S // 2 + 1) == (0.0, 0.0)


def test_an_old_command_is_refused(controller):
    assert controller.accept(NOW - NS_PER_S, 0.5, 0.0, NOW)
    assert update(controller) == (0.0, 0.0)


def test_a_zero_stamp_means_now(controller):
    assert controller.accept(0, 0.5, 0.0, NOW) == ""
    assert update(controller)[0] == pytest.approx(10.0)


def test_a_stamp_in_the_future_does_not_go_stale_before_its_time(controller):
    # So it is with the real one.
    controller.accept(NOW + 100 * NS_PER_S, 0.5, 0.0, NOW)
    assert update(controller, NOW + 50 * NS_PER_S)[0] == pytest.approx(10.0)


def test_a_stream_of_nan_keeps_the_last_speed(controller):
    # So it is with the real one: stamps are fresh, values are skipped.
    controller.accept(NOW, 0.5, 0.0, NOW)
    update(controller)
    for k in range(100):
        now = NOW + k * NS_PER_S // 50
        controller.accept(now, math.nan, 0.0, now)
        assert update(controller, now)[0] == pytest.approx(10.0)


def test_limits_are_off_unless_given(controller):
    controller.accept(NOW, 50.0, 0.0, NOW)
    assert update(controller)[0] == pytest.approx(1000.0)


def test_given_limits_bound_speed_and_its_change():
    limits = SpeedLimits(velocity=0.4, acceleration=2.0)
    controller = DiffDriveController(wheel_separation_m=0.32, wheel_radius_m=0.05, linear=limits)
    controller.accept(NOW, 1.0, 0.0, NOW)
    speeds = [update(controller)[0] * 0.05 for _ in range(30)]
    assert speeds[0] == pytest.approx(0.02)
    assert speeds[-1] == pytest.approx(0.4)


def test_odometry_of_a_full_circle_ends_where_it_began():
    odometry = Odometry(0.32, 0.05)
    left = right = 0.0
    steps = 1000
    for _ in range(steps):
        left += (1.0 - 0.16) * 2 * math.pi / 0.05 / steps
        right += (1.0 + 0.16) * 2 * math.pi / 0.05 / steps
        odometry.update(left, right, 0.01)
    assert odometry.pose == pytest.approx([0.0, 0.0, 2 * math.pi], abs=1e-9)
    assert odometry.twist == pytest.approx((2 * math.pi / 10, 2 * math.pi / 10))


def test_odometry_of_a_straight_line_is_straight():
    odometry = Odometry(0.32, 0.05)
    odometry.update(20.0, 20.0, 1.0)
    assert odometry.pose == pytest.approx([1.0, 0.0, 0.0])


def test_a_reset_begins_at_the_origin_with_the_wheels_as_they_are(controller):
    controller.update(NOW, 5.0, 7.0, PERIOD_S)
    controller.reset(5.0, 7.0)
    controller.update(NOW, 5.0, 7.0, PERIOD_S)
    assert controller.odometry.pose == pytest.approx([0.0, 0.0, 0.0])
