from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qwen_vla_ros.embodiment.schema import HistorySpec
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.image_block import ImageBlock
from qwen_vla_ros.serving.wire import WireError


def with_camera(robot, **changes):
    cameras = robot.file.cameras
    first = cameras[0].model_copy(update=changes)
    file = robot.file.model_copy(update={"cameras": (first, *cameras[1:])})
    return replace(robot, file=file)


@pytest.fixture
def looking_back(aloha):
    return with_camera(aloha, history=HistorySpec(frames=2, spacing_s=0.5))


def joined(parts) -> memoryview:
    return memoryview(b"".join(part.tobytes() for part in parts))


def test_images_survive_the_block(aloha, observation):
    block = ImageBlock(aloha)
    images, history = block.read(joined(block.parts(observation)))
    assert images.keys() == observation.images.keys()
    for name, image in images.items():
        np.testing.assert_array_equal(image, observation.images[name])
    assert history == {}


def test_earlier_images_survive_the_block_in_their_order(looking_back, observation, rng):
    earlier = rng.integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    seen = replace(observation, history={"cam_high": tuple(earlier)})
    block = ImageBlock(looking_back)
    assert block.size == 5 * 24 * 32 * 3
    images, history = block.read(joined(block.parts(seen)))
    np.testing.assert_array_equal(images["cam_high"], seen.images["cam_high"])
    np.testing.assert_array_equal(history["cam_high"], earlier)
    assert list(history) == ["cam_high"]


def test_an_observation_of_another_robot_is_refused(aloha, looking_back, observation):
    with pytest.raises(WireError, match="are needed"):
        ImageBlock(looking_back).parts(observation)  # no earlier images
    images = {name: image.astype(np.float32) for name, image in observation.images.items()}
    with pytest.raises(WireError, match="uint8"):
        ImageBlock(aloha).parts(replace(observation, images=images))


@pytest.mark.parametrize("change", [-1, 1])
def test_a_block_of_another_size_is_refused(aloha, change):
    block = ImageBlock(aloha)
    with pytest.raises(WireError, match="this robot's have"):
        block.read(memoryview(bytes(block.size + change)))


def test_a_robot_whose_images_no_message_holds_is_refused(aloha):
    with pytest.raises(QwenVlaError, match="takes 16 MiB"):
        ImageBlock(with_camera(aloha, width_px=4096, height_px=4096))
