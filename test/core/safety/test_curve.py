"""What a controller makes of the messages: its set-point, at 1 kHz, as the messages come.

Nothing here is the product's: the controller's cubic between points of position and speed, the
replacement of one trajectory by the next at the moment of its delivery, and the limits as numbers.
"""

import numpy as np
import pytest

LIMITS = {"velocity": 1.0, "acceleration": 8.0, "lower": -1.0, "upper": 1.0}
MS = 1_000_000


def set_points(message, times_ns: np.ndarray) -> np.ndarray:
    """Where a joint_trajectory_controller is with one message, at times on its clock."""
    times = np.array([point.time_from_start_ns for point in message.points]) + message.start_ns
    positions = np.array([point.positions for point in message.points])
    speeds = np.array([point.velocities for point in message.points])
    assert times_ns[0] >= times[0], "a point that lies ahead would begin at the measured state"
    i = np.clip(np.searchsorted(times, times_ns, side="right") - 1, 0, len(times) - 2)
    span, t = np.diff(times)[i, None] * 1e-9, (times_ns - times[i])[:, None] * 1e-9
    moved = np.diff(positions, axis=0)[i]
    c2 = (3 * moved / span - 2 * speeds[i] - speeds[i + 1]) / span
    c3 = (-2 * moved / span + speeds[i] + speeds[i + 1]) / span**2
    curve = positions[i] + speeds[i] * t + c2 * t**2 + c3 * t**3
    return np.where(times_ns[:, None] >= times[-1], positions[-1], curve)


def worst(track: np.ndarray, limits: dict) -> dict[str, float]:
    """The greatest share of each limit that a track (1 kHz) uses."""
    speed = np.diff(track, axis=0) / 1e-3
    acceleration = np.diff(track, 2, axis=0) / 1e-6
    beyond = np.maximum(track - limits["upper"], limits["lower"] - track)
    return {
        "position": float(beyond.max()),
        "speed": float((np.abs(speed) / limits["velocity"]).max()),
        "acceleration": float((np.abs(acceleration) / limits["acceleration"]).max()),
    }


def wanted_by(attack: str, rng, rig, k: int) -> np.ndarray | None:
    if attack == "anywhere":
        return rig.position + rng.uniform(-0.19, 0.19, 3)
    if attack == "bang":
        return np.full(3, 1.0 if k % 40 < 20 else -1.0) * 0.15 + rig.position
    if attack == "edge":
        return np.where(rng.random(3) < 0.5, -1.0, 1.0)
    return (
        None
        if rng.random() < 0.2
        else rig.position + rng.choice([-1, 1], 3) * 10.0 ** rng.uniform(-6, 0)
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("attack", ["anywhere", "bang", "edge", "torn"])
def test_the_set_point_keeps_every_limit_however_late_ticks_and_messages_are(
    make_rig, attack, seed
):
    rng = np.random.default_rng(seed)
    rig = make_rig()
    rig.arm()
    cell_ns = (rig.now_ns // (20 * MS) + 1) * 20 * MS
    deliveries = []
    for k in range(400):
        cell_ns += 20 * MS * (1 if rng.random() < 0.97 else int(rng.integers(2, 5)))
        late_ns = int(rng.uniform(0, 10 * MS))
        rig.tick(
            wanted_by(attack, rng, rig, k), periods=(cell_ns + late_ns - rig.now_ns) / (20 * MS)
        )
        command = rig.sent[-1]
        if command is not None:
            message = command.trajectory(rig.envelope.names, rig.envelope, 0.02)
            deliveries.append((rig.now_ns + int(rng.uniform(0, 5 * MS)), message))
        if rig.level == "STOP":
            rig.wait(1.5)
            cell_ns = (rig.now_ns // (20 * MS) + 1) * 20 * MS
            deliveries.append(None)
            assert rig.gate.arm(rig.steady_ns) == ""
    assert rig.interlock.counters.violations == 0
    runs, run = [], []
    for delivery in [*deliveries, None]:
        if delivery is not None:
            run.append(delivery)
        elif run:
            runs, run = [*runs, run], []
    checked = 0
    for run in runs:
        ends = [*(at for at, _ in run[1:]), run[-1][0] + 300 * MS]
        heard = [
            (message, np.arange(-(-at // MS) * MS, end, MS))
            for (at, message), end in zip(run, ends, strict=True)
        ]
        track = np.concatenate(
            [set_points(message, times) for message, times in heard if times.size]
        )
        if len(track) < 3:
            continue
        found = worst(track, LIMITS)
        assert found["position"] <= 1e-9
        assert found["speed"] <= 1.001
        assert found["acceleration"] <= 1.001
        checked += len(track)
    assert checked > 1000


def test_a_gate_whose_controllers_want_bare_positions_sends_the_same_curve(make_rig):
    rig = make_rig()
    rig.arm()
    rig.move(speed=0.8, ticks=20)
    names = rig.envelope.names
    knots = [
        command.trajectory(names, rig.envelope, 0.02).points[1].positions
        for command in rig.sent
        if command is not None
    ]
    track = np.array(knots)
    assert (np.abs(np.diff(track, axis=0)) / 0.02 <= 1.0 + 1e-9).all()
    assert (np.abs(np.diff(track, 2, axis=0)) / 0.02**2 <= 8.0 + 1e-6).all()


JERK = 2 * LIMITS["acceleration"] / 0.02


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["anywhere", "bang", "torn"])
def test_a_declared_jerk_is_kept_and_so_is_all_else(make_rig, attack):
    rng = np.random.default_rng(5)
    rig = make_rig(jerk=JERK)
    rig.arm()
    deliveries = []
    for k in range(400):
        rig.tick(wanted_by(attack, rng, rig, k), periods=1 if rng.random() < 0.97 else 3)
        command = rig.sent[-1]
        if command is None:
            break
        message = command.trajectory(rig.envelope.names, rig.envelope, 0.02)
        assert (message.points[-1].time_from_start_ns - 1) * 1e-9 < 0.2
        assert not np.any(message.points[-1].velocities)
        deliveries.append((rig.now_ns + int(rng.uniform(0, 5 * MS)), message))
    assert rig.interlock.counters.violations == 0
    ends = [*(at for at, _ in deliveries[1:]), deliveries[-1][0] + 300 * MS]
    track = np.concatenate(
        [
            set_points(message, np.arange(-(-at // MS) * MS, end, MS))
            for (at, message), end in zip(deliveries, ends, strict=True)
            if end > -(-at // MS) * MS
        ]
    )
    found = worst(track, LIMITS)
    assert found["position"] <= 1e-9
    assert found["speed"] <= 1.001
    assert found["acceleration"] <= 1.001
    assert found["acceleration"] > 0.5
    assert np.abs(np.diff(track, 3, axis=0) / 1e-9).max() / JERK <= 1.001
