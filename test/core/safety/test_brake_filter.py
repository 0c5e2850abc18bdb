"""The step of every joint command: P1 to P7 and P13 of the safety case, and eight attacks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.safety.brake_filter import BrakeFilter
from qwen_vla_ros.safety.envelope import JointEnvelope

PERIOD = 0.02
seeds = st.integers(0, 2**32 - 1)


def make_envelope(joints=4, **changes):
    values = {
        "names": tuple(f"joint_{i}" for i in range(joints)),
        "lower": np.linspace(-1.0, -0.5, joints),
        "upper": np.linspace(0.5, 1.5, joints),
        "velocity": np.linspace(0.5, 2.0, joints),
        "acceleration": np.linspace(4.0, 16.0, joints),
        "start_jump": np.full(joints, 0.2),
        "tracking": np.full(joints, 0.15),
        "is_paced": np.arange(joints) < joints - 1,
    }
    return JointEnvelope(**{**values, **changes})


def random_state(rng, envelope):
    """A state from which a full brake ends inside."""
    q = rng.uniform(envelope.lower, envelope.upper)
    up = np.sqrt(2 * envelope.acceleration * (envelope.upper - q))
    down = np.sqrt(2 * envelope.acceleration * (q - envelope.lower))
    v = rng.uniform(-np.minimum(down, envelope.velocity), np.minimum(up, envelope.velocity))
    return q, v


def random_wanted(rng, q):
    kind = rng.integers(4)
    if kind == 0:
        return q + rng.uniform(-0.05, 0.05, q.shape)
    if kind == 1:
        return rng.uniform(-3, 3, q.shape)
    if kind == 2:
        return rng.choice([1e308, -1e308, 0.0, -0.0, 5e-324], q.shape)
    return np.where(rng.random(q.shape) < 0.3, np.nan, rng.uniform(-3, 3, q.shape))


def scalar_step(envelope, q, v, wanted, wanted_velocity, dt):
    """The same law, joint by joint, as one would write it on paper."""
    count = len(q)
    stop = lambda a, room: -a * dt + ((a * dt) ** 2 + 2 * a * max(room, 0.0)) ** 0.5  # noqa: E731
    clip = lambda x, low, high: min(max(x, low), high)  # noqa: E731
    low, high, lo_q, hi_q = [], [], [], []
    for j in range(count):
        a, top = envelope.acceleration[j], envelope.velocity[j]
        high.append(min(stop(a, envelope.upper[j] - q[j]), top, v[j] + a * dt))
        low.append(max(-stop(a, q[j] - envelope.lower[j]), -top, v[j] - a * dt))
        lo_q.append(max(q[j] + low[j] * dt, envelope.lower[j]))
        hi_q.append(min(q[j] + high[j] * dt, envelope.upper[j]))
    u = [
        clip(wanted_velocity[j], -envelope.velocity[j], envelope.velocity[j]) for j in range(count)
    ]
    inside = all(lo_q[j] <= wanted[j] <= hi_q[j] for j in range(count))
    smooth = all(
        abs((wanted[j] - q[j]) / dt - u[j]) <= envelope.acceleration[j] * dt + 1e-9
        for j in range(count)
    )
    if inside and smooth:
        return list(wanted)
    way, stride = [], []
    for j in range(count):
        way.append(clip(wanted[j], envelope.lower[j], envelope.upper[j]) - q[j])
        gap = way[j] - u[j] * dt
        close = stop(envelope.acceleration[j], abs(gap)) * (1 if gap >= 0 else -1)
        stride.append(clip(u[j] + close, low[j], high[j]) * dt)
    shares = [
        stride[j] / way[j] for j in range(count) if envelope.is_paced[j] and abs(way[j]) > 1e-9
    ]
    share = clip(min(shares), 0.0, 1.0) if shares else None
    for j in range(count):
        if envelope.is_paced[j] and share is not None:
            stride[j] = share * way[j]
    return [clip(q[j] + stride[j], lo_q[j], hi_q[j]) for j in range(count)]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(seed=seeds)
def test_any_input_at_any_period_gives_an_allowed_command(seed):
    rng = np.random.default_rng(seed)
    envelope = make_envelope()
    brake = BrakeFilter(envelope)
    q, v = random_state(rng, envelope)
    for _ in range(20):
        dt = PERIOD * rng.uniform(0.2, 5)
        step = brake.step(q, v, random_wanted(rng, q), rng.uniform(-5, 5, q.shape), dt)
        assert np.isfinite(step.position).all()
        assert step.position.shape == q.shape
        assert (step.position <= envelope.upper).all()
        assert (step.position >= envelope.lower).all()
        assert (np.abs(step.velocity) <= envelope.velocity + 1e-9).all()
        assert (np.abs(step.velocity - v) <= envelope.acceleration * dt + 1e-9).all()
        assert envelope.count_violations(q, v, step.position, dt) == 0
        q, v = step.position, step.velocity


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(seed=seeds)
def test_the_arrays_do_what_the_paper_says(seed):
    rng = np.random.default_rng(seed)
    envelope = make_envelope()
    q, v = random_state(rng, envelope)
    wanted, speed = rng.uniform(-2, 2, 4), rng.uniform(-3, 3, 4)
    if rng.random() < 0.5:
        wanted = q + v * PERIOD + rng.uniform(-0.002, 0.002, 4)
        speed = v
    dt = PERIOD * rng.uniform(0.2, 5)
    step = BrakeFilter(envelope).step(q, v, wanted, speed, dt)
    expected = scalar_step(envelope, q, v, wanted, speed, dt)
    np.testing.assert_allclose(step.position, expected, rtol=0, atol=1e-12)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(seed=seeds)
def test_what_has_passed_passes_again_unchanged(seed):
    rng = np.random.default_rng(seed)
    envelope = make_envelope()
    brake = BrakeFilter(envelope)
    q, v = random_state(rng, envelope)
    dt = PERIOD * rng.uniform(0.2, 5)
    once = brake.step(q, v, rng.uniform(-2, 2, 4), rng.uniform(-3, 3, 4), dt)
    again = brake.step(q, v, once.position, once.velocity, dt)
    assert (again.position == once.position).all()
    assert not again.limited.any()


def test_a_clean_motion_passes_to_the_last_bit():
    envelope = make_envelope()
    brake = BrakeFilter(envelope)
    times = np.arange(0, 4, PERIOD)
    # A smooth start and stop, at about half of what is allowed.
    share = (1 - np.cos(np.pi * times / 4)) / 2
    path = np.outer(share, envelope.upper - 0.05)
    q, v, before = path[0], np.zeros(4), path[0]
    for wanted in path[1:]:
        step = brake.step(q, v, wanted, (wanted - before) / PERIOD, PERIOD)
        assert step.position.tobytes() == wanted.tobytes()
        assert not step.limited.any()
        q, v, before = step.position, step.velocity, wanted


@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_permuting_the_joints_permutes_the_command(seed):
    rng = np.random.default_rng(seed)
    envelope = make_envelope()
    order = rng.permutation(4)
    permuted = make_envelope(
        names=tuple(envelope.names[i] for i in order),
        **{
            key: getattr(envelope, key)[order]
            for key in ("lower", "upper", "velocity", "acceleration", "is_paced")
        },
    )
    q, v = random_state(rng, envelope)
    wanted, speed = rng.uniform(-2, 2, 4), rng.uniform(-2, 2, 4)
    step = BrakeFilter(envelope).step(q, v, wanted, speed, PERIOD)
    other = BrakeFilter(permuted).step(q[order], v[order], wanted[order], speed[order], PERIOD)
    np.testing.assert_array_equal(step.position[order], other.position)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(seed=seeds)
def test_tightening_a_limit_never_widens_the_command(seed):
    rng = np.random.default_rng(seed)
    loose = make_envelope(is_paced=np.zeros(4, dtype=bool))
    tight = make_envelope(
        is_paced=np.zeros(4, dtype=bool),
        upper=loose.upper - rng.uniform(0, 0.3, 4),
        velocity=loose.velocity * rng.uniform(0.5, 1, 4),
    )
    q, v = random_state(rng, tight)
    for side in (1, -1):
        far = np.full(4, 10.0 * side)
        wide = BrakeFilter(loose).step(q, v, far, np.zeros(4), PERIOD)
        narrow = BrakeFilter(tight).step(q, v, far, np.zeros(4), PERIOD)
        assert (side * narrow.position <= side * wide.position + 1e-12).all()


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_with_nothing_wanted_joints_come_to_rest_in_time_and_never_turn_round(seed):
    rng = np.random.default_rng(seed)
    envelope = make_envelope()
    brake = BrakeFilter(envelope)
    q, v = random_state(rng, envelope)
    begin, elapsed = v.copy(), 0.0
    while np.any(v):
        dt = PERIOD * rng.uniform(0.2, 1.0)
        step = brake.brake(q, v, dt)
        assert (step.velocity * begin >= 0).all()
        assert (np.abs(step.velocity) <= np.abs(v)).all()
        assert envelope.count_violations(q, v, step.position, dt) == 0
        q, v, elapsed = step.position, step.velocity, elapsed + dt
        assert elapsed <= (envelope.velocity / envelope.acceleration).max() + PERIOD
    rest = brake.brake(q, v, PERIOD)
    assert rest.position.tobytes() == q.tobytes()


def test_a_value_that_is_not_a_number_brakes_every_joint():
    brake = BrakeFilter(make_envelope())
    q, v = np.zeros(4), np.full(4, 0.4)
    wanted = np.array([0.1, np.nan, 0.1, 0.1])
    step = brake.step(q, v, wanted, v, PERIOD)
    assert step.position.tobytes() == brake.brake(q, v, PERIOD).position.tobytes()


def test_a_command_of_the_wrong_shape_brakes():
    brake = BrakeFilter(make_envelope())
    q, v = np.zeros(4), np.full(4, 0.4)
    step = brake.step(q, v, np.zeros(3), np.zeros(3), PERIOD)
    assert (step.velocity < v).all()


def test_a_late_arm_keeps_to_its_straight_path():
    brake = BrakeFilter(make_envelope())
    q, v = np.zeros(4), np.zeros(4)
    goal = np.array([0.4, 0.1, -0.2, 0.4])
    for _ in range(100):
        step = brake.step(q, v, goal, np.zeros(4), PERIOD)
        q, v = step.position, step.velocity
        if np.any(q[:3]):
            np.testing.assert_allclose(q[:3] / goal[:3], q[0] / goal[0], rtol=0, atol=1e-9)
    assert (q == goal).all()


def test_a_slow_gripper_does_not_hold_up_the_arm():
    envelope = make_envelope(velocity=np.array([1.0, 1.0, 1.0, 0.01]))
    brake = BrakeFilter(envelope)
    q, v = np.zeros(4), np.zeros(4)
    goal = np.array([0.3, 0.3, 0.3, 1.0])
    for _ in range(40):
        step = brake.step(q, v, goal, np.zeros(4), PERIOD)
        q, v = step.position, step.velocity
    np.testing.assert_allclose(q[:3], 0.3, rtol=0, atol=1e-9)
    assert q[3] < 0.05


def test_a_joint_at_its_limit_does_not_hold_up_the_others():
    envelope = make_envelope()
    brake = BrakeFilter(envelope)
    q, v = np.zeros(4), np.zeros(4)
    q[0] = envelope.upper[0]
    goal = np.array([envelope.upper[0] + 1.0, 0.3, 0.3, 0.3])
    for _ in range(60):
        step = brake.step(q, v, goal, np.zeros(4), PERIOD)
        q, v = step.position, step.velocity
    np.testing.assert_allclose(q[1:], 0.3, rtol=0, atol=1e-9)
    assert q[0] == envelope.upper[0]


def test_catching_up_does_not_run_past_the_goal():
    brake = BrakeFilter(make_envelope())
    for pace in (0.0, 0.2):
        q, v = np.zeros(4), np.zeros(4)
        before = np.full(4, 0.2)
        for k in range(50):
            goal = np.full(4, 0.2 + pace * k * PERIOD)
            step = brake.step(q, v, goal, (goal - before) / PERIOD, PERIOD)
            q, v, before = step.position, step.velocity, goal
            assert (q <= goal + 1e-9).all()
        assert (q == goal).all()


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_joint_outside_its_limits_moves_inwards_slowly_and_never_further_out(side):
    envelope = make_envelope()
    brake = BrakeFilter(envelope)
    start = envelope.upper + 0.1 if side > 0 else envelope.lower - 0.1
    q, v = start, np.zeros(4)
    out = brake.step(q, v, q + side, np.zeros(4), PERIOD)
    assert (side * out.position <= side * q).all()
    for _ in range(400):
        step = brake.step(q, v, np.zeros(4), np.zeros(4), PERIOD)
        outside = (q > envelope.upper) | (q < envelope.lower)
        assert (np.abs(step.velocity[outside]) <= 0.1 * envelope.velocity[outside] + 1e-9).all()
        assert (side * step.position <= side * q + 1e-12).all()
        assert envelope.count_violations(q, v, step.position, PERIOD) == 0
        q, v = step.position, step.velocity
    np.testing.assert_allclose(q, 0.0, atol=1e-9)


def test_a_joint_that_moves_out_while_outside_brakes_as_hard_as_it_may():
    envelope = make_envelope()
    q, v = envelope.upper + 0.05, np.full(4, 0.5)
    step = BrakeFilter(envelope).step(q, v, q + 1, v, PERIOD)
    np.testing.assert_allclose(step.velocity, v - envelope.acceleration * PERIOD)


@pytest.mark.slow
def test_eight_attacks_leave_the_envelope_of_the_aloha_untouched(aloha, attacks):
    # 8 x 100,000 commands of 14 joints: 250 arms side by side, each joint for itself.
    copies = 250
    many = JointEnvelope(
        names=tuple(f"{i}/{name}" for i in range(copies) for name in aloha.names),
        **{
            key: np.tile(getattr(aloha, key), copies)
            for key in ("lower", "upper", "velocity", "acceleration", "start_jump", "tracking")
        },
        is_paced=np.zeros(copies * len(aloha.names), dtype=bool),
    )
    assert len(attacks.ATTACKS) == 8
    for attack in attacks.ATTACKS:
        assert _violations(many, attack, 400, attacks.judge) == 0


@pytest.mark.slow
def test_eight_attacks_on_one_arm_that_keeps_its_path(aloha, attacks):
    for attack in attacks.ATTACKS:
        assert _violations(aloha, attack, 1500, attacks.judge) == 0


def test_the_judge_of_the_attacks_sees_what_a_position_clamp_does(aloha, attacks):
    rng = np.random.default_rng(1)
    q, v, found = np.zeros(14) + 0.03, np.zeros(14), 0
    for _ in range(100):
        q_next, v_next = attacks.clamp(q, attacks.bang_bang(rng, q, aloha), PERIOD, aloha)
        found += attacks.judge(q, v, q_next, PERIOD, aloha)["acceleration"]
        q, v = q_next, v_next
    assert found > 500


def _violations(envelope, attack, steps, judge):
    rng = np.random.default_rng(7)
    brake = BrakeFilter(envelope)
    q, v, found = (envelope.lower + envelope.upper) / 2, np.zeros(len(envelope.names)), 0
    for _ in range(steps):
        dt = PERIOD * rng.uniform(0.2, 5.0)
        step = brake.step(q, v, attack(rng, q, envelope), rng.uniform(-3, 3, q.shape), dt)
        found += sum(judge(q, v, step.position, dt, envelope).values())
        q, v = step.position, step.velocity
    return found


def test_a_joint_outside_its_limits_is_not_left_there_because_that_is_asked_for(aloha):
    outside = aloha.upper + 0.1 * (aloha.upper - aloha.lower)
    position, velocity = outside.copy(), np.zeros_like(outside)
    moving = BrakeFilter(aloha)
    for _ in range(3):
        step = moving.step(position, velocity, outside, np.zeros_like(outside), 0.02)
        assert (step.position < position).all()
        assert step.limited.all()
        position, velocity = step.position, step.velocity
