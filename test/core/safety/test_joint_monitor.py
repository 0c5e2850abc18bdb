"""A driver that falls silent is told from an encoder that is stuck."""

import numpy as np
import pytest

from qwen_vla_ros.safety.joint_monitor import JointMonitor

PERIOD_NS = 20_000_000


@pytest.fixture
def monitor(rig):
    return JointMonitor(rig.envelope, rig.envelope.names, "joint_states", 0.5)


def drive(monitor, ticks, *, reports):
    """Command 1 rad/s while every joint is measured to stand; returns what was found."""
    found, names = [], ("joint_0", "joint_1", "joint_2")
    for k in range(1, ticks + 1):
        now_ns = 10**15 + k * PERIOD_NS
        if k == 1 or reports:
            monitor.observe(names, np.zeros(3), np.zeros(3), now_ns, now_ns, now_ns)
        found += [monitor.find_stuck(np.full(3, k * 0.02)), *monitor.stops(now_ns)]
    return [cause.name for cause in found if cause is not None]


def test_an_encoder_that_reports_the_same_while_it_should_move_is_stuck(monitor):
    assert set(drive(monitor, 20, reports=True)) == {"encoder_stuck"}


def test_a_driver_that_falls_silent_is_no_stuck_encoder(monitor):
    assert set(drive(monitor, 40, reports=False)) == {"joint_states_stale"}
