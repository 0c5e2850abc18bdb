import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.observation.camera_watch import BLIND_S, FROZEN_S, CameraWatch

S = 1_000_000_000
NOW = 100 * S
LITTLE = np.array([0.15, 0.03])
MUCH = 1.01 * LITTLE[0]


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def watch() -> CameraWatch:
    return CameraWatch("front", LITTLE)


def show(watch, images, poses, *, hz=15.0, begin_ns=NOW) -> list[str]:
    """Show pictures one after the other; returns what is said after each."""
    said = []
    for k, (image, pose) in enumerate(zip(images, poses, strict=True)):
        stamp_ns = begin_ns + round(k * S / hz)
        watch.see(image, stamp_ns, None if pose is None else np.asarray(pose))
        said.append(watch.fault())
    return said


def drive(frames: int, speed: float = 1.0, hz: float = 15.0) -> list[list[float]]:
    return [[k * speed / hz, 0.0] for k in range(frames)]


def test_the_same_picture_of_a_robot_that_moves_is_found_out_within_a_second():
    same = [picture()] * 16
    said = show(watch(), same, drive(16))
    first = next(k for k, words in enumerate(said) if words)
    assert first / 15 <= 1.0
    assert said[-1] == (
        "'front' is frozen: it has sent the same picture for 1.0 s, and the robot has moved"
    )


def test_a_robot_that_stands_still_is_no_alarm_however_long():
    assert not any(show(watch(), [picture()] * 500, [[0.3, 0.01]] * 500))


def test_a_robot_that_trembles_in_place_is_no_alarm():
    poses = [[0.1 * (-1) ** k, 0.0] for k in range(100)]
    less = np.array(poses) * 0.7
    assert not any(show(watch(), [picture()] * 100, less))
    assert show(watch(), [picture()] * 100, np.array(poses))[-1]


def test_a_byte_that_differs_is_a_new_picture():
    images = [picture() for _ in range(60)]
    for k, image in enumerate(images):
        image[8, 3, 0] = k
    assert not any(show(watch(), images, drive(60)))


def test_a_driver_that_sends_every_picture_several_times_is_not_frozen():
    images = [picture(k // 6) for k in range(90)]
    assert not any(show(watch(), images, drive(90, hz=30.0), hz=30.0))


def test_a_picture_that_changes_again_is_good_at_once_and_a_robot_held_meanwhile_is_not():
    eye = watch()
    show(eye, [picture()] * 20, drive(20))
    stands = drive(20)[-1]
    assert show(eye, [picture()] * 20, [stands] * 20, begin_ns=NOW + 2 * S)[-1]
    assert show(eye, [picture(1)], [stands], begin_ns=NOW + 5 * S) == [""]


def test_nobody_is_blamed_while_nobody_knows_where_the_robot_is():
    assert not any(show(watch(), [picture()] * 40, [None] * 40))


def test_a_clock_that_jumps_back_begins_anew():
    eye = watch()
    assert show(eye, [picture()] * 20, drive(20))[-1]
    assert show(eye, [picture()], [[9.0, 0.0]], begin_ns=NOW - S) == [""]


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (picture() % 12, "black"),
        (250 + picture() % 6, "white"),
        (90 + picture() % 6, "one colour"),
        (np.full((48, 64, 3), (0, 0, 255), np.uint8), "black"),
    ],
)
def test_a_camera_that_sees_nothing_is_told_after_a_second_and_forgiven_at_once(image, what):
    eye = watch()
    said = show(eye, [image] * 18, [[0.0, 0.0]] * 18)
    assert not any(said[: round(BLIND_S * 15) + 1])
    assert said[-1] == f"'front' has seen nothing but {what} for 1.1 s"
    assert show(eye, [picture()], [[0.0, 0.0]], begin_ns=NOW + 2 * S) == [""]


@pytest.mark.parametrize(
    "image",
    [
        picture() // 4,  # a dark room
        picture() // 8 + 200,  # a bright one
        np.where(np.arange(64)[None, :, None] < 4, 255, 0) + np.zeros((48, 64, 3)),  # a lamp
        np.full((48, 64, 3), 128) + np.arange(64)[None, :, None] // 6,  # a wall in half light
    ],
)
def test_a_poor_picture_is_not_nothing(image):
    image = image.astype(np.uint8)
    assert not any(show(watch(), [image] * 40, [[0.0, 0.0]] * 40))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), hz=st.floats(6, 60), frozen=st.booleans(), moves=st.booleans()
)
def test_frozen_is_told_of_what_repeats_while_it_moves_and_of_nothing_else(
    seed, hz, frozen, moves
):
    rng = np.random.default_rng(seed)
    frames = round(hz) + 1
    images = [picture()] * frames if frozen else [picture(k) for k in range(frames)]
    direction = rng.choice([-1, 1], 2) * LITTLE
    ways = np.linspace(0, 2.1 if moves else 0.9, frames)
    said = show(watch(), images, [way * direction for way in ways], hz=hz)
    assert bool(said[-1]) == (frozen and moves)
    assert not any(said[: round(FROZEN_S * hz)])
