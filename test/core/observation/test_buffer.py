from dataclasses import replace

import numpy as np
import pytest

from qwen_vla_ros.embodiment.schema import HistorySpec
from qwen_vla_ros.observation.buffer import Gap, ObservationBuffer
from qwen_vla_ros.types import Observation

S = 1_000_000_000
MS = 1_000_000
NOW = 100 * S


def clocks(stamp_ns: int) -> dict[str, int]:
    return {"now_ns": stamp_ns, "steady_ns": stamp_ns}


def put_all(buffer: ObservationBuffer, robot, stamp_ns: int, *, skip: str = "") -> None:
    example = robot.make_example()
    for name, image in example.images.items():
        if name != skip:
            buffer.put_image(name, image, stamp_ns, **clocks(stamp_ns))
    for source in robot.file.state:
        if source.topic == skip:
            continue
        if robot.has_base:
            buffer.put_pose(source.topic, example.state, stamp_ns, **clocks(stamp_ns))
        else:
            positions = robot.joints_from_channels(example.state)
            buffer.put_joints(
                source.topic, robot.joints, positions.tolist(), stamp_ns, **clocks(stamp_ns)
            )


def test_a_full_buffer_gives_one_observation_in_channel_units(aloha):
    buffer = ObservationBuffer(aloha)
    put_all(buffer, aloha, NOW)
    sample = buffer.sample(**clocks(NOW))
    assert isinstance(sample, Observation)
    assert set(sample.images) == {"cam_high", "cam_left_wrist", "cam_right_wrist"}
    np.testing.assert_allclose(sample.state, aloha.make_example().state)
    assert sample.stamp_ns == NOW


def test_a_base_gives_its_pose(diffbot):
    buffer = ObservationBuffer(diffbot)
    put_all(buffer, diffbot, NOW)
    sample = buffer.sample(**clocks(NOW))
    assert isinstance(sample, Observation)
    np.testing.assert_array_equal(sample.state, diffbot.make_example().state)


@pytest.mark.parametrize("stream", ["cam_high", "cam_right_wrist", "joint_states"])
def test_one_missing_stream_is_named_and_nothing_is_zero_filled(aloha, stream):
    buffer = ObservationBuffer(aloha)
    put_all(buffer, aloha, NOW, skip=stream)
    sample = buffer.sample(**clocks(NOW))
    assert isinstance(sample, Gap)
    assert sample.reason == f"'{stream}' never came"


def test_joints_are_mapped_by_name(aloha):
    buffer = ObservationBuffer(aloha)
    put_all(buffer, aloha, NOW, skip="joint_states")
    example = aloha.make_example()
    names = list(aloha.joints)
    positions = dict(zip(names, aloha.joints_from_channels(example.state), strict=True))
    shuffled = names[::-1]
    buffer.put_joints(
        "joint_states", shuffled, [positions[name] for name in shuffled], NOW, **clocks(NOW)
    )
    sample = buffer.sample(**clocks(NOW))
    assert isinstance(sample, Observation)
    np.testing.assert_allclose(sample.state, example.state)


def test_a_missing_joint_is_named(aloha):
    buffer = ObservationBuffer(aloha)
    put_all(buffer, aloha, NOW, skip="joint_states")
    buffer.put_joints("joint_states", aloha.joints[1:], [0.0] * 13, NOW, **clocks(NOW))
    sample = buffer.sample(**clocks(NOW))
    assert isinstance(sample, Gap)
    assert "joint 'left_waist' missing" in sample.reason


def test_a_joint_that_is_not_finite_is_refused(aloha):
    buffer = ObservationBuffer(aloha)
    put_all(buffer, aloha, NOW, skip="joint_states")
    buffer.put_joints("joint_states", aloha.joints, [float("nan")] * 14, NOW, **clocks(NOW))
    assert isinstance(buffer.sample(**clocks(NOW)), Gap)
    assert buffer.dropped() == {"joint_states: a value that is not finite": 1}


def test_an_image_of_the_wrong_size_is_refused(aloha):
    buffer = ObservationBuffer(aloha)
    buffer.put_image("cam_high", np.zeros((100, 50, 3), np.uint8), NOW, **clocks(NOW))
    assert buffer.dropped() == {"cam_high: 50x100 px instead of 320x240": 1}


def test_cameras_that_do_not_show_the_same_moment_give_a_gap(aloha):
    buffer = ObservationBuffer(aloha)
    put_all(buffer, aloha, NOW)
    later = NOW + 200 * MS
    put_all(buffer, aloha, later, skip="cam_high")
    # The frames of NOW are still there for everybody, so that moment is chosen ...
    sample = buffer.sample(**clocks(later))
    assert isinstance(sample, Observation)
    assert sample.stamp_ns == NOW
    # ... until one camera has only frames that are far from it.
    for step in range(1, 5):
        put_all(buffer, aloha, later + step * 10 * MS, skip="cam_high")
    sample = buffer.sample(**clocks(later + 50 * MS))
    assert isinstance(sample, Gap)
    assert "away from the other streams" in sample.reason


def test_a_scene_is_waited_for_only_when_it_is_needed(aloha):
    buffer = ObservationBuffer(aloha, needs_scene=True)
    put_all(buffer, aloha, NOW)
    assert buffer.sample(**clocks(NOW)) == Gap("'scene/objects' never came")
    buffer.put_scene({"red_cube": np.zeros(7)}, NOW, **clocks(NOW))
    sample = buffer.sample(**clocks(NOW))
    assert isinstance(sample, Observation)
    assert set(sample.scene) == {"red_cube"}


@pytest.fixture
def remembering(diffbot):
    """The base, with two images half a second apart before the newest one."""
    camera = diffbot.file.cameras[0].model_copy(
        update={"history": HistorySpec(frames=2, spacing_s=0.5)}
    )
    return replace(diffbot, file=diffbot.file.model_copy(update={"cameras": (camera,)}))


def look(buffer: ObservationBuffer, robot, level: int, stamp_ns: int) -> None:
    """Put an image of one level, and a pose."""
    camera, source = robot.file.cameras[0], robot.file.state[0]
    image = np.zeros((camera.height_px, camera.width_px, 3), np.uint8)
    image[:] = np.arange(camera.width_px, dtype=np.uint8)[None, :, None] % 64
    image[0, 0] = level
    buffer.put_image(camera.name, image, stamp_ns, **clocks(stamp_ns))
    buffer.put_pose(source.topic, np.zeros(3), stamp_ns, **clocks(stamp_ns))


def levels(buffer: ObservationBuffer, now_ns: int) -> list[int]:
    sample = buffer.sample(**clocks(now_ns))
    assert isinstance(sample, Observation)
    images = (*sample.history["front"], sample.images["front"])
    return [int(image[0, 0, 0]) for image in images]


def test_a_history_counts_back_from_the_newest_image(remembering):
    buffer = ObservationBuffer(remembering)
    for step in range(31):
        look(buffer, remembering, step, NOW + step * 100 * MS)
    assert levels(buffer, NOW + 3 * S) == pytest.approx([20, 25, 30], abs=1)


def test_a_history_is_never_empty_and_never_black(remembering):
    buffer = ObservationBuffer(remembering)
    look(buffer, remembering, 7, NOW)
    assert levels(buffer, NOW) == [7, 7, 7]
    look(buffer, remembering, 8, NOW + 500 * MS)
    assert levels(buffer, NOW + 500 * MS) == [7, 7, 8]


def test_the_history_of_an_episode_begins_with_it(remembering):
    buffer = ObservationBuffer(remembering)
    for step in range(21):
        look(buffer, remembering, step, NOW + step * 100 * MS)
    buffer.begin_episode()
    assert levels(buffer, NOW + 2 * S) == [20, 20, 20]
    for step in range(21, 27):
        look(buffer, remembering, step, NOW + step * 100 * MS)
    assert levels(buffer, NOW + 2600 * MS) == [21, 21, 26]


def test_a_refused_image_is_not_remembered(remembering):
    buffer = ObservationBuffer(remembering)
    look(buffer, remembering, 1, NOW)
    far = NOW + 10 * S
    camera = remembering.file.cameras[0]
    image = np.full((camera.height_px, camera.width_px, 3), 99, np.uint8)
    buffer.put_image("front", image, far, **clocks(NOW + 100 * MS))
    look(buffer, remembering, 2, NOW + 500 * MS)
    assert levels(buffer, NOW + 500 * MS) == [1, 1, 2]


def test_a_camera_without_a_history_has_none(diffbot):
    buffer = ObservationBuffer(diffbot)
    put_all(buffer, diffbot, NOW)
    sample = buffer.sample(**clocks(NOW))
    assert isinstance(sample, Observation)
    assert sample.history == {}


def test_a_picture_from_another_frame_than_declared_is_refused_by_name(aloha):
    buffer = ObservationBuffer(aloha)
    put_all(buffer, aloha, NOW, skip="cam_high")
    assert buffer.is_placed("cam_left_wrist", "cam_left_wrist_optical_frame")
    assert not buffer.is_placed("cam_high", "cam_left_wrist_optical_frame")
    sample = buffer.sample(**clocks(NOW))
    assert isinstance(sample, Gap)
    assert sample.reason == (
        "'cam_high' never came (1 with frame_id 'cam_left_wrist_optical_frame', which is "
        "'cam_left_wrist's, instead of 'cam_high_optical_frame' refused)"
    )


def test_a_stranger_who_says_something_new_every_time_fills_no_memory(aloha):
    buffer = ObservationBuffer(aloha)
    for k in range(500):
        buffer.is_placed("cam_high", f"frame {k}" + "\n" * 1000)
    assert len(buffer.dropped()) < 20
    assert sum(buffer.dropped().values()) == 500
    assert max(map(len, buffer.dropped())) < 300


def test_a_camera_without_a_declared_frame_may_be_anywhere(aloha):
    cameras = tuple(c.model_copy(update={"frame_id": ""}) for c in aloha.file.cameras)
    anywhere = replace(aloha, file=aloha.file.model_copy(update={"cameras": cameras}))
    assert ObservationBuffer(anywhere).is_placed("cam_high", "cam_left_wrist_optical_frame")


def test_a_camera_that_is_frozen_is_no_observation(aloha):
    buffer = ObservationBuffer(aloha)
    for k in range(16):
        stamp_ns = NOW + k * 66 * MS
        put_all(buffer, aloha, stamp_ns, skip="joint_states")
        positions = aloha.joints_from_channels(aloha.make_example().state) + 0.05 * k
        buffer.put_joints(
            "joint_states", aloha.joints, positions.tolist(), stamp_ns, **clocks(stamp_ns)
        )
    sample = buffer.sample(**clocks(stamp_ns))
    assert isinstance(sample, Gap)
    assert sample.reason.startswith("'cam_high' is frozen")


def test_a_base_that_stands_where_its_yaw_wraps_is_no_alarm(diffbot):
    buffer = ObservationBuffer(diffbot)
    for k in range(40):
        stamp_ns = NOW + k * 66 * MS
        put_all(buffer, diffbot, stamp_ns, skip="odom")
        pose = np.array([0.0, 0.0, (-1) ** k * (np.pi - 1e-3)])
        buffer.put_pose("odom", pose, stamp_ns, **clocks(stamp_ns))
    assert isinstance(buffer.sample(**clocks(stamp_ns)), Observation)
