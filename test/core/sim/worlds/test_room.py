"""The room: the same scene for the same seed, wheels that roll, and a judge that wants a stop."""

from itertools import combinations

import numpy as np
import pytest

from qwen_vla_ros.sim.target import named_object
from qwen_vla_ros.sim.worlds.room import APART_M, IN_SIGHT, NEAREST_M, REACH_M

NOW = 1_000_000_000


@pytest.fixture
def room(base):
    base.reset(0)
    return base.world


def put_base_at(room, distance):
    """Put the base at rest, `distance` m from the thing asked for."""
    target = named_object(room.suggest_instruction(), room.objects())
    place = room.objects()[target][:2]
    way = place / np.linalg.norm(place)
    room._data.joint("base").qpos[:2] = place - distance * way
    room._data.joint("base").qvel[:] = 0


def drive(base, linear, angular, seconds):
    """Drive with a base gate's ramps; returns odometry and truth."""
    now, v, w = NOW, 0.0, 0.0
    for _ in range(round(seconds / base.world.period_s)):
        v += np.clip(linear - v, -0.015, 0.015)
        w += np.clip(angular - w, -0.05, 0.05)
        base.controller.accept(now, v, w, now)
        base.step(now)
        now += 10_000_000
    return base.controller.odometry.pose, base.world.base_pose()


def test_a_seed_fixes_the_scene(room):
    room.reset(7)
    first, words = room.objects(), room.suggest_instruction()
    room.reset(8)
    assert room.objects().keys() != first.keys() or room.suggest_instruction() != words
    room.reset(7)
    assert room.suggest_instruction() == words
    assert all(np.array_equal(room.objects()[name], pose) for name, pose in first.items())


def test_four_or_five_things_stand_apart_and_the_one_asked_for_is_in_sight(room):
    for seed in range(30):
        room.reset(seed)
        things = room.objects()
        assert 4 <= len(things) <= 5
        places = [pose[:2] for pose in things.values()]
        assert all(np.linalg.norm(a - b) > APART_M for a, b in combinations(places, 2))
        assert all(np.linalg.norm(place) >= NEAREST_M for place in places)
        x, y = things[named_object(room.suggest_instruction(), things)][:2]
        assert abs(np.arctan2(y, x)) <= IN_SIGHT


@pytest.mark.parametrize(("linear", "angular"), [(0.5, 0.0), (0.0, 1.0), (0.3, -0.8)])
def test_wheels_roll_without_slip_so_that_odometry_tells_the_truth(base, linear, angular):
    base.reset(0)
    odometry, truth = drive(base, linear, angular, 2.0)
    assert odometry == pytest.approx(truth, abs=0.02)
    assert np.linalg.norm(odometry) > 0.5


def test_a_base_that_stands_at_the_thing_has_succeeded(base, room):
    put_base_at(room, REACH_M - 0.05)
    drive(base, 0.0, 0.0, 0.3)
    verdict = room.judge(room.suggest_instruction())
    assert verdict.success
    assert verdict.progress == 1.0


def test_a_base_that_stands_too_far_away_has_not(base, room):
    put_base_at(room, REACH_M + 0.05)
    drive(base, 0.0, 0.0, 0.3)
    verdict = room.judge(room.suggest_instruction())
    assert not verdict.success
    assert 0.5 < verdict.progress < 1.0


def test_a_base_that_passes_by_has_not(room):
    put_base_at(room, REACH_M - 0.02)
    room._data.joint("base").qvel[:2] = 0.3
    assert not room.judge(room.suggest_instruction()).success


def test_standing_at_another_thing_is_no_success(base, room):
    put_base_at(room, REACH_M - 0.05)
    drive(base, 0.0, 0.0, 0.3)
    asked = named_object(room.suggest_instruction(), room.objects())
    for name in room.objects().keys() - {asked}:
        assert not room.judge(f"go to the {name.replace('_', ' ')}").success


def test_things_are_solid(base, room):
    target = named_object(room.suggest_instruction(), room.objects())
    put_base_at(room, 0.6)
    x, y = room.objects()[target][:2]
    half = np.arctan2(y, x) / 2
    room._data.joint("base").qpos[3:] = (np.cos(half), 0, 0, np.sin(half))
    drive(base, 0.4, 0.0, 2.0)
    gap = np.hypot(*(room.base_pose()[:2] - (x, y)))
    assert gap > 0.25


def test_progress_never_falls(base, room):
    seen = []
    for _ in range(4):
        drive(base, 0.5, 0.0, 0.5)
        seen.append(room.judge(room.suggest_instruction()).progress)
    assert seen == sorted(seen)
    drive(base, -0.5, 0.0, 1.0)
    assert room.judge(room.suggest_instruction()).progress >= seen[-1]
