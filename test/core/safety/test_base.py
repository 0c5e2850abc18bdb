"""The base of a whole robot: what it lacks, and which chunks it can place."""

from __future__ import annotations

import numpy as np
import pytest

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.safety.base import Base
from qwen_vla_ros.types import ActionChunk

NOW_NS = 10**15
PERIOD_NS = 20_000_000
ROBOT = load_embodiment("diffbot_sim")


@pytest.fixture
def base():
    return Base(ROBOT)


def chunk(stamp_ns: int) -> ActionChunk:
    return ActionChunk(
        stamp_ns=stamp_ns, dt=ROBOT.dt, channels=ROBOT.channels, actions=np.full((8, 3), 0.01)
    )


def observe(base: Base, now_ns: int, twist=(0.0, 0.0), stamp_ns: int | None = None) -> None:
    stamp_ns = now_ns if stamp_ns is None else stamp_ns
    base.observe(np.zeros(3), np.array(twist), stamp_ns, now_ns, now_ns)


def test_what_is_missing_is_told_until_the_odometry_tells_of_rest(base):
    assert base.topic in base.missing(NOW_NS)
    observe(base, NOW_NS, twist=(0.3, 0.0))
    assert base.missing(NOW_NS) == "the base moves; the gate activates only at rest"
    observe(base, NOW_NS + PERIOD_NS)
    assert base.missing(NOW_NS + PERIOD_NS) == ""


def test_a_chunk_from_before_the_odometry_cannot_be_placed(base):
    assert "does not reach back" in base.accept(chunk(NOW_NS), NOW_NS)
    observe(base, NOW_NS)
    assert "does not reach back" in base.accept(chunk(NOW_NS - 10**9), NOW_NS)
    assert base.accept(chunk(NOW_NS), NOW_NS) == ""


def test_odometry_that_is_not_taken_places_no_chunk(base):
    observe(base, NOW_NS, stamp_ns=NOW_NS - 10 * 10**9)
    assert "does not reach back" in base.accept(chunk(NOW_NS), NOW_NS)


def test_a_base_that_was_never_armed_rests_and_is_told_nothing(base):
    assert base.is_at_rest
    assert base.tick(NOW_NS, NOW_NS) == []
    observe(base, NOW_NS + PERIOD_NS)
    assert base.tick(NOW_NS + PERIOD_NS, NOW_NS + PERIOD_NS) == []


def test_an_armed_base_follows_its_chunk_until_that_is_dropped(base):
    now_ns = NOW_NS
    for _ in range(60):
        now_ns += PERIOD_NS
        observe(base, now_ns)
        base.tick(now_ns, now_ns)
    assert base.arm(now_ns) == ""
    assert base.is_resting
    assert base.accept(chunk(now_ns), now_ns) == ""
    assert not base.is_resting
    now_ns += PERIOD_NS
    observe(base, now_ns)
    ((_, twist),) = base.tick(now_ns, now_ns)
    assert twist.linear > 0
    base.clear()
    now_ns += PERIOD_NS
    observe(base, now_ns, twist=(twist.linear, twist.angular))
    ((_, after),) = base.tick(now_ns, now_ns)
    assert after.linear < twist.linear
