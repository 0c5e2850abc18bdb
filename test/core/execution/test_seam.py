"""From one chunk to the next: no step over the limit, no way round, and in a stated time."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_vla_ros.execution.chunk_player import ChunkPlayer
from qwen_vla_ros.execution.seam import ACCELERATION_SHARE, Handed, Seam, SeamLimits
from qwen_vla_ros.execution.timeline import values_at
from qwen_vla_ros.types import ActionChunk

MS = 1_000_000
BEGIN = 10**15
PERIOD_MS = 20
LIMITS = SeamLimits(
    lower=np.array([-1.0, 0.02]),
    upper=np.array([1.0, 0.06]),
    velocity=np.array([2.0, 0.2]),
    acceleration=np.array([16.0, 1.6]),
    reach=np.array([2.0, 0.06]),
)
BUDGET = ACCELERATION_SHARE * LIMITS.acceleration


def chunk_of(rows, stamp_ms=0, dt=0.02):
    return ActionChunk(
        stamp_ns=BEGIN + stamp_ms * MS, dt=dt, channels=("arm", "finger"), actions=rows
    )


@st.composite
def chunks(draw, *, stamp_ms=0, share=1.0, rows=16, dt=0.02, limits=LIMITS):
    """Any chunk inside the limits whose own steps stay within `share` of the speed limit."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    steps = (
        rng.uniform(-1, 1, (rows, 2)) if draw(st.booleans()) else rng.choice([-1, 1], (rows, 2))
    )
    if draw(st.booleans()):
        steps = np.tile(steps[0], (rows, 1))
    steps = steps * share * limits.velocity * dt
    begin = rng.uniform(limits.lower, limits.upper)
    walked = np.empty((rows, 2))
    for row, step in enumerate(steps):
        begin = np.clip(begin + step, limits.lower, limits.upper)
        walked[row] = begin
    return chunk_of(walked, stamp_ms, dt)


def play(old, new, seam_ms, times_ms, limits=LIMITS):
    """Return what is handed on at these times, the new chunk coming just after `seam_ms`."""
    player = ChunkPlayer(2.0, limits)
    player.accept(old)
    before = [t for t in times_ms if t <= seam_ms + 1e-6]
    handed = [player.at(BEGIN + round(t * MS)) for t in before]
    player.accept(new)
    handed += [player.at(BEGIN + round(t * MS)) for t in times_ms[len(before) :]]
    return np.array(handed)


ticks = st.tuples(st.floats(0, PERIOD_MS), st.integers(0, 6)).map(
    lambda drawn: (drawn[0] + drawn[1] * PERIOD_MS, drawn[0])
)


@pytest.mark.slow
@given(old=chunks(), new=chunks(stamp_ms=60), tick=ticks)
def test_no_step_is_longer_than_the_speed_limit_allows(old, new, tick):
    seam_ms, phase = tick
    times = np.arange(phase, 300, PERIOD_MS)
    handed = play(old, new, seam_ms, times)
    steps = np.abs(np.diff(handed, axis=0))
    assert (steps <= LIMITS.velocity * PERIOD_MS * 1e-3 + 1e-8).all()


@pytest.mark.slow
@given(
    old=chunks(),
    new=chunks(stamp_ms=60),
    seam_ms=st.floats(1, 160),
    after=st.lists(st.floats(1e-3, 40), min_size=1, max_size=12),
)
def test_it_holds_at_any_times_however_late_a_tick_comes(old, new, seam_ms, after):
    times = np.concatenate([[0.0, seam_ms], seam_ms + np.cumsum(after)])
    times = np.round(times[times < 370], 6)
    handed = play(old, new, seam_ms, times)
    allowed = np.diff(times)[:, None] * 1e-3 * LIMITS.velocity
    assert (np.abs(np.diff(handed, axis=0)) <= allowed + 1e-8).all()


@pytest.mark.slow
@given(old=chunks(), new=chunks(stamp_ms=60, rows=32), tick=ticks)
def test_two_chunks_inside_the_limits_are_never_led_outside(old, new, tick):
    seam_ms, phase = tick
    handed = play(old, new, seam_ms, np.arange(phase, 600, PERIOD_MS))
    assert (handed <= LIMITS.upper + 1e-12).all()
    assert (handed >= LIMITS.lower - 1e-12).all()


UNBOUNDED = replace(LIMITS, lower=np.full(2, -9.0), upper=np.full(2, 9.0))


def left_over(new, difference, drift):
    """Return what is added to a chunk, (N, 2) every millisecond, after this difference."""
    since_ns = BEGIN + 101 * MS
    position = values_at(new, since_ns) + difference
    went = values_at(new, since_ns) - values_at(new, since_ns - 20 * MS) + 0.02 * drift
    handed = Handed(since_ns, position, since_ns - 20 * MS, position - went)
    seam = Seam(new, handed, 2.0, UNBOUNDED)
    left = [seam.at(since_ns + ms * MS) for ms in range(400)]
    return np.array([np.zeros(2) if row is None else row for row in left])


shares = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(np.array)


@pytest.mark.slow
@given(new=chunks(stamp_ms=60, rows=32), share=shares)
def test_at_equal_speeds_what_is_wanted_stays_between_the_two_chunks(new, share):
    difference = share * [0.4, 0.04]
    left = left_over(new, difference, np.zeros(2)) * np.sign(difference)
    assert (left >= -1e-12).all()
    assert (np.diff(left, axis=0) <= 1e-12).all()


@pytest.mark.slow
@given(new=chunks(stamp_ms=60, rows=32, share=0.5), share=shares, faster=shares)
def test_what_moved_otherwise_goes_on_only_until_it_has_braked(new, share, faster):
    difference, drift = share * [0.4, 0.04], 0.5 * faster * LIMITS.velocity
    left = left_over(new, difference, drift)
    braking = drift**2 / (2 * BUDGET) + np.abs(drift) * PERIOD_MS * 1e-3
    assert (left <= np.maximum(difference, 0) + braking + 1e-9).all()
    assert (left >= np.minimum(difference, 0) - braking - 1e-9).all()


SHARE = 0.25
NARROW = replace(LIMITS, lower=np.array([-0.2, 0.02]), upper=np.array([0.2, 0.06]))
"""As far apart as chunks can be that a gate still takes for one motion: 0.4 rad."""


def longest_s(left):
    """How long it may last at most: to turn round, and to go back at the speed that is free."""
    drift, room = (1 + SHARE) * LIMITS.velocity, (1 - SHARE) * LIMITS.velocity
    far = np.abs(left) + drift**2 / (2 * BUDGET)
    return (drift / BUDGET + far / room + room / BUDGET).max() + 2 * PERIOD_MS * 1e-3


@pytest.mark.slow
@given(
    old=chunks(limits=NARROW),
    new=chunks(stamp_ms=60, share=SHARE, rows=64, dt=0.03, limits=NARROW),
    tick=ticks,
)
def test_the_new_chunk_has_taken_over_within_a_stated_time(old, new, tick):
    seam_ms, phase = tick
    player = ChunkPlayer(2.0, LIMITS)
    player.accept(old)
    for time_ms in np.arange(phase, seam_ms + 1e-6, PERIOD_MS):
        player.at(BEGIN + round(time_ms * MS))
    player.accept(new)
    since_ns = BEGIN + round(seam_ms * MS)
    seconds = longest_s(player.at(since_ns) - values_at(new, since_ns))
    assert seconds < 1.2
    end_ns = since_ns + round(seconds * 1e9)
    assert player.at(end_ns).tobytes() == values_at(new, end_ns).tobytes()


@given(new=chunks(stamp_ms=60), seam_ms=st.floats(60, 300))
def test_chunks_that_agree_pass_to_the_last_bit(new, seam_ms):
    handed = Handed(
        BEGIN + round(seam_ms * MS),
        values_at(new, BEGIN + round(seam_ms * MS)) + 5e-7,
        BEGIN + round(seam_ms * MS) - 20 * MS,
        np.zeros(2),
    )
    seam = Seam(new, handed, 2.0, LIMITS)
    assert all(seam.at(BEGIN + ms * MS) is None for ms in range(0, 400, 7))


@pytest.mark.slow
@given(
    tick=ticks, shift=st.floats(-0.3, 0.3), speed=st.floats(-1.0, 1.0), stamp=st.floats(0.0, 1.0)
)
def test_what_is_taken_away_adds_half_the_acceleration_limit_at_most(tick, shift, speed, stamp):
    """A chunk that keeps within the other half passes the gate's filter as it is."""
    seam_ms, phase = tick
    stamp_ms = int(stamp * seam_ms)  # even a chunk that answers what was seen just now
    ramp = speed * 0.02 * np.arange(16)[:, None] * [1.0, 0.0] + [0.0, 0.04]
    moved = [speed * stamp_ms * 1e-3 + shift, 0.0]
    handed = play(
        chunk_of(ramp),
        chunk_of(ramp + moved, stamp_ms),
        seam_ms,
        np.arange(phase, 300, PERIOD_MS),
        UNBOUNDED,
    )
    bends = np.abs(np.diff(handed, 2, axis=0)) / (PERIOD_MS * 1e-3) ** 2
    assert (bends <= BUDGET * 1.001 + 1e-2).all()


def test_a_chunk_out_of_reach_is_handed_on_as_it_is():
    near = replace(LIMITS, reach=np.array([0.4, 0.06]))
    old = chunk_of(np.tile([0.0, 0.04], (16, 1)))
    for far, is_led in ((0.39, True), (0.41, False)):
        new = chunk_of(np.tile([far, 0.04], (16, 1)))
        handed = play(old, new, 20, np.array([0.0, 20.0, 40.0]), near)
        assert (handed[-1, 0] < far) == is_led


def test_a_chunk_whose_own_rows_jump_is_not_slowed_down():
    rows = np.tile([0.0, 0.02], (16, 1))
    rows[4:, 1] = 0.06  # a gripper that opens from one row to the next
    new = chunk_of(rows + np.array([0.1, 0.0]))
    handed = play(chunk_of(rows), new, 20, np.arange(0.0, 300, 20))
    np.testing.assert_array_equal(handed[4:, 1], rows[4:15, 1])
    assert handed[-1, 0] == pytest.approx(0.1, abs=1e-5)


def test_a_slow_policys_rows_take_over_as_fast_as_a_fast_ones():
    old = chunk_of(np.tile([0.0, 0.04], (8, 1)), dt=0.2)
    new = chunk_of(np.tile([0.1, 0.04], (8, 1)), dt=0.2)
    handed = play(old, new, 20, np.arange(0.0, 300, 20))
    assert handed[-1, 0] == pytest.approx(0.1, abs=1e-5)


def test_a_seam_goes_on_where_the_one_before_had_got_to():
    still = np.tile([0.0, 0.04], (16, 1))
    player = ChunkPlayer(2.0, LIMITS)
    handed = []
    for k in range(12):
        if k in (1, 3, 4, 8):
            player.accept(chunk_of(still + np.array([0.1 * (-1) ** k, 0.0])))
        elif k == 0:
            player.accept(chunk_of(still))
        handed.append(player.at(BEGIN + k * PERIOD_MS * MS))
    steps = np.abs(np.diff(handed, axis=0))
    assert (steps <= LIMITS.velocity * PERIOD_MS * 1e-3 + 1e-8).all()
    bends = np.abs(np.diff(handed, 2, axis=0)) / (PERIOD_MS * 1e-3) ** 2
    assert (bends <= BUDGET * 1.001 + 1e-6).all()
