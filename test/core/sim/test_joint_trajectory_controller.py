"""The stand-in refuses and follows as ros2_controllers' joint_trajectory_controller does."""

from dataclasses import replace

import numpy as np
import pytest

from qwen_vla_ros.clock import NS_PER_S
from qwen_vla_ros.embodiment.backend import JointTrajectory, TrajectoryPoint
from qwen_vla_ros.sim.joint_trajectory_controller import JointTrajectoryController

JOINTS = ("shoulder", "elbow")
PERIOD_S = 0.01
NOW = 100 * NS_PER_S
HERE, STILL = np.array([0.1, -0.2]), np.zeros(2)


def ns(seconds):
    return round(seconds * NS_PER_S)


def point(seconds, positions, velocities=(), accelerations=(), effort=()):
    return TrajectoryPoint(
        time_from_start_ns=ns(seconds),
        positions=tuple(positions),
        velocities=tuple(velocities),
        accelerations=tuple(accelerations),
        effort=tuple(effort),
    )


def trajectory(*points, start_ns=0, joints=JOINTS):
    return JointTrajectory(start_ns=start_ns, joints=joints, points=points)


GOOD = trajectory(point(0.1, (0.2, -0.2), (1.0, 0.0)), point(0.2, (0.3, -0.1), (0.0, 0.0)))


@pytest.fixture
def controller():
    return JointTrajectoryController(JOINTS, update_period_s=PERIOD_S)


def play(controller, seconds, measured=HERE, speed=STILL):
    """Return the set-points of every period; the joints stay where they are measured."""
    steps = round(seconds / PERIOD_S)
    return np.array(
        [controller.update(NOW + ns(k * PERIOD_S), measured, speed) for k in range(steps)]
    )


def test_a_good_trajectory_is_accepted(controller):
    assert controller.accept(GOOD, NOW) == ""


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (trajectory(point(0.1, (1.0,)), joints=("shoulder",)), "don't match"),
        (trajectory(point(0.1, (1, 2, 3)), joints=(*JOINTS, "wrist")), "don't match"),
        (trajectory(point(0.1, (1, 2)), joints=("shoulder", "elbov")), "elbov"),
        (trajectory(), "Empty"),
        (trajectory(point(0.1, (1,))), "positions"),
        (trajectory(point(0.1, ())), "positions"),
        (trajectory(point(0.1, (1, 2), (0,))), "velocities"),
        (trajectory(point(0.1, (1, 2), (0, 0), (0,))), "accelerations"),
        (trajectory(point(0.1, (1, 2), effort=(0, 0))), "effort"),
        (trajectory(point(0.1, (1, 2), (0, 1e-3))), "not zero"),
        (trajectory(point(0.1, (1, 2)), point(0.1, (1, 2))), "strictly increasing"),
        (trajectory(point(0.2, (1, 2)), point(0.1, (1, 2))), "strictly increasing"),
        (trajectory(point(0.1, (1, 2)), start_ns=NOW - ns(0.2)), "in the past"),
        (trajectory(point(0.0, (1, 2)), start_ns=NOW - 1), "in the past"),
    ],
)
def test_a_bad_trajectory_is_refused_and_the_old_one_goes_on(controller, bad, reason):
    controller.accept(GOOD, NOW)
    assert reason in controller.accept(bad, NOW)
    assert play(controller, 0.5)[-1] == pytest.approx([0.3, -0.1])


def test_a_last_velocity_is_allowed_on_request():
    controller = JointTrajectoryController(
        JOINTS, update_period_s=PERIOD_S, allow_nonzero_velocity_at_trajectory_end=True
    )
    assert controller.accept(trajectory(point(0.1, (1, 2), (0, 1))), NOW) == ""


def test_before_any_trajectory_the_joints_are_held_where_they_were_measured_first(controller):
    held = play(controller, 0.1)
    drifted = controller.update(NOW + ns(0.1), HERE + 0.3, STILL)
    assert held == pytest.approx(np.tile(HERE, (10, 1)))
    assert drifted == pytest.approx(HERE)


def test_the_last_point_is_held(controller):
    controller.accept(GOOD, NOW)
    assert play(controller, 1.0)[-50:] == pytest.approx(np.tile([0.3, -0.1], (50, 1)))


def test_joints_may_come_in_any_order(controller):
    points = (point(0.1, (-0.5, 0.5)),)
    controller.accept(trajectory(*points, joints=("elbow", "shoulder")), NOW)
    assert play(controller, 0.2)[-1] == pytest.approx([0.5, -0.5])


def test_a_new_trajectory_replaces_the_old_one(controller):
    controller.accept(GOOD, NOW)
    controller.accept(trajectory(point(0.1, (-1.0, 1.0))), NOW)
    assert play(controller, 0.3)[-1] == pytest.approx([-1.0, 1.0])


def test_a_start_of_zero_means_the_first_update(controller):
    controller.accept(trajectory(point(0.1, (0.2, -0.2))), NOW - ns(5))
    # Sampled one period ahead: the set-point is for the end of the period that begins now.
    assert play(controller, 0.1)[4][0] == pytest.approx(0.15)


def test_a_start_in_the_past_is_joined_where_it_is_now(controller):
    line = trajectory(point(0.0, (0, 0)), point(1.0, (1, 1)), start_ns=NOW - ns(0.5))
    assert controller.accept(line, NOW) == ""
    assert play(controller, PERIOD_S)[0] == pytest.approx([0.51, 0.51])


def test_a_start_in_the_future_is_approached_from_the_measured_state(controller):
    later = trajectory(point(0.0, (0.3, -0.2)), start_ns=NOW + ns(0.2))
    controller.accept(later, NOW)
    assert play(controller, 0.1)[9][0] == pytest.approx(0.2)


def test_neither_nan_nor_a_joint_named_twice_is_noticed(controller):
    # So it is with the real one: the gate in front has to see it.
    assert controller.accept(trajectory(point(0.1, (np.nan, 0))), NOW) == ""
    assert np.isnan(play(controller, 0.2)[-1][0])
    twice = replace(GOOD, joints=("elbow", "elbow"))
    assert controller.accept(twice, NOW) == ""


def stream(controller, *, leads):
    """Replace a trajectory every 20 ms along a line at 1 rad/s, measured 0.05 rad behind."""
    commands = []
    for tick in range(20):
        now = NOW + ns(0.02 * tick)
        begin = 0.02 * tick
        points = [point(0.02, (begin + 0.02, 0), (1, 0)), point(0.1, (begin + 0.06, 0), (0, 0))]
        if leads:
            points.insert(0, point(0.0, (begin, 0), (1, 0)))
        controller.accept(trajectory(*points), now)
        for half in range(2):
            measured = np.array([begin + 0.01 * half - 0.05, 0.0])
            commands.append(controller.update(now + ns(0.01 * half), measured, STILL)[0])
    return np.diff(commands) / 0.01


def test_a_stream_whose_first_point_lies_ahead_is_pulled_back_to_the_measured_state(controller):
    speeds = stream(controller, leads=False)
    assert speeds.max() > 3.0
    assert speeds.min() < -1.0


def test_a_stream_that_begins_with_its_last_command_is_smooth(controller):
    assert stream(controller, leads=True) == pytest.approx(np.ones(39))


def test_interpolating_from_the_desired_state_does_not_look_at_the_measured_one():
    controller = JointTrajectoryController(
        JOINTS, update_period_s=PERIOD_S, interpolate_from_desired_state=True
    )
    assert np.abs(stream(controller, leads=False)[2:] - 1).max() < 0.6


def test_a_reset_forgets_everything(controller):
    controller.accept(GOOD, NOW)
    play(controller, 0.3)
    controller.reset()
    assert controller.update(NOW, HERE + 1, STILL) == pytest.approx(HERE + 1)
