"""Where the base was."""

import numpy as np
import pytest

from qwen_vla_ros.execution.pose_history import PoseHistory

MS = 1_000_000


@pytest.fixture
def history():
    history = PoseHistory(depth=10)
    for k in range(5):
        history.add(k * 20 * MS + 1, np.array([0.1 * k, 0.0, 0.0]))
    return history


def test_an_empty_history_knows_nothing():
    history = PoseHistory(depth=3)
    assert history.at(5) is None
    assert history.newest is None


@pytest.mark.parametrize(("ms", "x"), [(0, 0.0), (10, 0.05), (50, 0.25), (80, 0.4), (150, 0.4)])
def test_a_pose_is_interpolated_in_time(history, ms, x):
    assert history.at(ms * MS + 1)[0] == pytest.approx(x)


def test_times_long_before_or_after_are_not_known(history):
    assert history.at(0) is None
    assert history.at(181 * MS + 1) is None


def test_turns_are_interpolated_the_short_way():
    history = PoseHistory(depth=3)
    history.add(1, np.array([0.0, 0.0, 3.1]))
    history.add(1 + 20 * MS, np.array([0.0, 0.0, -3.1]))
    assert abs(history.at(1 + 10 * MS)[2]) == pytest.approx(np.pi, abs=1e-6)


def test_only_the_newest_are_kept(history):
    for k in range(5, 20):
        history.add(k * 20 * MS + 1, np.zeros(3))
    assert history.at(5 * 20 * MS) is None
    np.testing.assert_array_equal(history.newest, np.zeros(3))


def test_time_that_runs_back_begins_a_new_history(history):
    history.add(5, np.ones(3))
    assert history.at(40 * MS) is not None
    np.testing.assert_array_equal(history.at(5), np.ones(3))
