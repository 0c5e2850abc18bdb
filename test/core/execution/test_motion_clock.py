"""Time that stands while the robot does."""

import numpy as np
import pytest

from qwen_vla_ros.execution.motion_clock import MotionClock
from qwen_vla_ros.types import ActionChunk


def chunk_at(stamp_ns):
    return ActionChunk(stamp_ns=stamp_ns, dt=0.02, channels=("a",), actions=np.zeros((4, 1)))


@pytest.fixture
def clock():
    """It moved from 100 to 200 and from 300 to 400."""
    clock = MotionClock()
    for begin in (100, 300):
        clock.begin(begin)
        clock.end(begin + 100)
    return clock


@pytest.mark.parametrize(
    ("since", "now", "rested"),
    [
        (0, 100, 100),
        (150, 180, 0),
        (150, 250, 50),
        (150, 350, 100),
        (150, 450, 150),
        (500, 450, 0),
    ],
)
def test_it_counts_the_rests_between_two_times(clock, since, now, rested):
    assert clock.rested_ns(since, now) == rested


def test_what_was_said_about_a_rest_is_for_its_end(clock):
    clock.begin(450)
    assert clock.placed(chunk_at(420), 500).stamp_ns == 450
    assert clock.placed(chunk_at(460), 500).stamp_ns == 460


def test_a_motion_that_begins_twice_or_ends_twice_does_so_once(clock):
    clock.end(430)
    clock.begin(450)
    clock.begin(480)
    assert clock.rested_ns(400, 500) == 50


def test_a_motion_of_no_length_is_no_motion(clock):
    for now in range(420, 520):
        clock.begin(now)
        clock.end(now)
    assert clock.stands
    assert clock.rested_ns(150, 520) == 220
