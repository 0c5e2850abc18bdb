"""From what the cameras saw and what is asked to what the backbone reads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5Model

from qwen_vla_ros.embodiment.schema import HistorySpec
from qwen_vla_ros.model.config import NANO
from qwen_vla_ros.model.image_processing import ImageProcessor
from qwen_vla_ros.model.inputs import collate, normalise, patches_of, pixel_values_on, positions_of
from qwen_vla_ros.model.tokenizer import PromptTokens
from qwen_vla_ros.policy.qwen_vla import QwenVlaPolicy
from qwen_vla_ros.prompt.build import build_prompt

PROCESSOR = ImageProcessor(NANO.backbone.vision_config)
PATCHES = (128 // 16) ** 2


def with_camera(robot, **fields):
    """The robot with other words about its first camera."""
    cameras = list(robot.file.cameras)
    cameras[0] = cameras[0].model_copy(update=fields)
    return replace(robot, file=robot.file.model_copy(update={"cameras": tuple(cameras)}))


def seen_by(robot, observation):
    """The patches of every image, one image after the other."""
    prompt = build_prompt(robot, "go")
    patches = patches_of(PROCESSOR, robot, observation, prompt)
    assert len(patches.grids) == prompt.text.count("<image>")
    return patches.pixel_values.reshape(len(patches.grids), PATCHES, -1)


def tokens(*ids: int) -> PromptTokens:
    return PromptTokens(np.array(ids), np.array(ids) == 9)


def test_every_camera_is_seen_at_its_size_in_the_order_of_the_prompt(aloha):
    observation = aloha.make_example()
    seen = seen_by(aloha, observation)
    for values, camera in zip(seen, aloha.file.cameras, strict=True):
        alone = PROCESSOR([observation.images[camera.name]], [(128, 128)], [camera.fit])
        np.testing.assert_array_equal(values, alone.pixel_values)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_the_fit_of_the_file_changes_what_is_seen_of_that_camera_only(aloha, fit):
    observation = aloha.make_example()
    cropped, fitted = (
        seen_by(aloha, observation),
        seen_by(with_camera(aloha, fit=fit), observation),
    )
    assert not np.array_equal(cropped[0], fitted[0])
    np.testing.assert_array_equal(cropped[1:], fitted[1:])


def test_padding_is_black_to_the_model_too(aloha):
    observation = aloha.make_example()
    patches = seen_by(with_camera(aloha, fit="pad"), observation)[0]
    # 320x240 in 128x128 leaves 16 rows above and below: the first row of patches.
    rows = patches.reshape(4, 4, 2, 2, -1)  # two by two patches of a token are neighbours
    assert (rows[0, :, 0] == -1).all()
    assert (rows[-1, :, 1] == -1).all()
    assert (rows[2] != -1).any()


def test_a_history_is_seen_before_the_newest_image_oldest_first(diffbot):
    robot = with_camera(diffbot, history=HistorySpec(frames=2, spacing_s=0.5))
    observation = robot.make_example()
    seen = seen_by(robot, observation)
    images = (*observation.history["front"], observation.images["front"])
    assert len(seen) == len(images) == 3
    for values, image in zip(seen, images, strict=True):
        np.testing.assert_array_equal(values, PROCESSOR([image], [(128, 128)]).pixel_values)


@pytest.mark.slow
def test_what_was_seen_before_changes_what_is_done(tiny, diffbot):
    robot = with_camera(diffbot, history=HistorySpec(frames=2, spacing_s=0.5))
    prompt, then, now = build_prompt(robot, "go"), robot.make_example(0), robot.make_example(1)

    def actions(observation):
        return QwenVlaPolicy(tiny, robot, seed=0).infer(observation, prompt).actions

    other_past = replace(now, history=then.history)
    turned_round = replace(now, history={"front": now.history["front"][::-1]})
    assert np.abs(actions(now) - actions(other_past)).max() > 1e-6
    assert np.abs(actions(now) - actions(turned_round)).max() > 1e-6
    np.testing.assert_array_equal(actions(now), actions(now))


@pytest.mark.slow
def test_a_state_that_is_told_changes_what_is_done(tiny, aloha):
    telling = aloha.file.prompt.model_copy(update={"state_text": True})
    robot = replace(aloha, file=aloha.file.model_copy(update={"prompt": telling}))
    observation, other = robot.make_example(0), robot.make_example(1).state
    policy = QwenVlaPolicy(tiny, robot, seed=0)
    chunks = []
    for state in (observation.state, other):
        policy.reset()
        chunks.append(policy.infer(observation, build_prompt(robot, "go", state)).actions)
    assert np.abs(chunks[0] - chunks[1]).max() > 1e-6


def test_an_observation_of_another_robot_is_an_error(aloha, diffbot):
    with pytest.raises(ValueError, match="has no image of camera 'cam_high'"):
        seen_by(aloha, diffbot.make_example())


def test_looking_the_values_up_elsewhere_gives_the_same_bits(aloha):
    processor = ImageProcessor(NANO.backbone.vision_config, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
    patches = patches_of(processor, aloha, aloha.make_example(), build_prompt(aloha, "go"))
    there = normalise(torch.from_numpy(patches.pixels), torch.from_numpy(processor.levels))
    np.testing.assert_array_equal(there.numpy(), patches.pixel_values)
    here = pixel_values_on(patches, torch.device("cpu"))
    assert here.dtype == torch.float32
    np.testing.assert_array_equal(here.numpy(), patches.pixel_values)


@pytest.mark.gpu
def test_a_gpu_looks_up_the_same_bits(aloha):
    patches = patches_of(PROCESSOR, aloha, aloha.make_example(), build_prompt(aloha, "go"))
    there = pixel_values_on(patches, torch.device("cuda"))
    np.testing.assert_array_equal(there.cpu().numpy(), patches.pixel_values)


def test_prompts_are_padded_on_the_right_and_images_follow_each_other():
    one, two = (PROCESSOR([np.full((32, 32, 3), x, np.uint8)], [(32, 32)]) for x in (10, 20))
    batch = collate([(tokens(1, 9, 2, 3), one), (tokens(4, 9), two)])
    assert batch.token_ids.tolist() == [[1, 9, 2, 3], [4, 9, 0, 0]]
    assert batch.is_image.tolist() == [[False, True, False, False], [False, True, False, False]]
    assert batch.mask.tolist() == [[True] * 4, [True, True, False, False]]
    np.testing.assert_array_equal(
        batch.pixel_values, np.concatenate([one.pixel_values, two.pixel_values])
    )
    assert batch.grids == ((1, 2, 2), (1, 2, 2))


def test_one_sample_alone_needs_no_mask_and_no_copy():
    patches = PROCESSOR([np.zeros((32, 32, 3), np.uint8)], [(32, 32)])
    batch = collate([(tokens(1, 9, 2), patches)])
    assert batch.mask is None
    assert batch.pixel_values.data_ptr() == patches.pixel_values.__array_interface__["data"][0]


def test_where_tokens_stand_is_what_the_family_says():
    with torch.device("meta"):
        theirs = Qwen3_5Model(NANO.backbone)
    sizes = [[(64, 96), (32, 32)], [(96, 64)]]
    samples = [
        (tokens(1, *[9] * 6, 2, *[9] * 1, 3, 4), PROCESSOR(images_of(sizes[0]), sizes[0])),
        (tokens(*[9] * 6, 1), PROCESSOR(images_of(sizes[1]), sizes[1])),
    ]
    batch = collate(samples, 8)
    expected, _ = theirs.get_rope_index(
        batch.token_ids,
        mm_token_type_ids=batch.is_image.int(),
        image_grid_thw=torch.tensor(batch.grids),
        attention_mask=batch.mask,
    )
    assert batch.token_ids.shape == (2, 16)
    torch.testing.assert_close(batch.positions, expected, rtol=0, atol=0)


def test_image_tokens_have_rows_and_columns_and_text_goes_on_after_them():
    seen = tokens(1, *[9] * 6, 2)
    time, height, width = positions_of(seen, [(1, 6, 4)], 2)
    assert time.tolist() == [0, *[1] * 6, 4]
    assert height.tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    assert width.tolist() == [0, 1, 2, 1, 2, 1, 2, 4]


def images_of(sizes):
    return [np.zeros((height, width, 3), np.uint8) for width, height in sizes]
