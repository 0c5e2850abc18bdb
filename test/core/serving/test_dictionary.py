from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.embodiment.schema import HistorySpec
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.dictionary import RobotDictionary, read_rows, require_message_fits
from qwen_vla_ros.serving.wire import WireError, pack, unpack

CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")


def image(rng, height: int = 128, width: int = 128) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def example(rng) -> dict:
    """The dictionary of openpi's ALOHA example, with one image that this robot has not."""
    names = (*CAMERAS, "cam_low")
    return {
        "state": np.linspace(0, 1, 14),
        "images": {name: image(rng).transpose(2, 0, 1) for name in names},
        "prompt": "do something",
    }


def understood(robot, entries: object):
    return RobotDictionary.openpi(robot).observation(unpack(pack(entries)), 5)


def test_alohas_dictionary_is_understood(aloha, example):
    observation, instruction = understood(aloha, example)
    assert instruction == "do something"
    assert observation.stamp_ns == 5
    assert observation.state.tolist() == example["state"].tolist()
    assert set(observation.images) == set(CAMERAS)
    for name, seen in observation.images.items():
        np.testing.assert_array_equal(seen, example["images"][name].transpose(1, 2, 0))


@pytest.mark.parametrize(
    "key", [lambda name: f"images.{name}", lambda name: f"images/{name}"], ids=["dots", "slashes"]
)
def test_flat_keys_mean_what_nested_ones_mean(aloha, example, key):
    flat = {"state": example["state"], "prompt": "x"}
    flat |= {key(name): pixels for name, pixels in example["images"].items()}
    np.testing.assert_array_equal(
        understood(aloha, flat)[0].images["cam_high"],
        understood(aloha, example)[0].images["cam_high"],
    )


def test_images_either_way_round_and_of_either_type_are_the_same(aloha, example):
    wanted = understood(aloha, example)[0].images["cam_high"]
    turned = {name: pixels.transpose(1, 2, 0) for name, pixels in example["images"].items()}
    floats = {name: pixels.astype(np.float32) / 255 for name, pixels in turned.items()}
    for images in (turned, floats):
        seen = understood(aloha, {**example, "images": images})[0].images["cam_high"]
        np.testing.assert_array_equal(seen, wanted)


def test_an_image_at_the_models_size_stays_as_it_is_and_others_get_the_cameras(aloha, rng):
    big, small = image(rng, 480, 640), image(rng, 24, 32)
    images = {"cam_high": big, "cam_left_wrist": small, "cam_right_wrist": image(rng)}
    seen = understood(aloha, {"images": images, "state": np.zeros(14), "prompt": "x"})[0].images
    assert [seen[name].shape for name in CAMERAS] == [(24, 32, 3), (24, 32, 3), (128, 128, 3)]
    expected = cv2.resize(big, (32, 24), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(seen["cam_high"], expected)
    np.testing.assert_array_equal(seen["cam_left_wrist"], small)


def test_droids_dictionary_is_understood(droid, rng):
    observation, instruction = understood(
        droid,
        {
            "observation/exterior_image_1_left": image(rng),
            "observation/exterior_image_2_left": image(rng),
            "observation/wrist_image_left": image(rng),
            "observation/joint_position": np.arange(7) / 10,
            "observation/gripper_position": np.array([0.25]),
            "prompt": "pick up the fork",
        },
    )
    assert instruction == "pick up the fork"
    assert set(observation.images) == {"outside", "wrist"}
    np.testing.assert_allclose(observation.state, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75])


def test_droids_gripper_counts_how_far_it_is_closed(droid):
    dictionary = RobotDictionary.openpi(droid)
    ours = np.zeros((10, 8))
    ours[:, 7] = 0.25  # a quarter open
    theirs = dictionary.actions_to_wire(ours)
    np.testing.assert_allclose(theirs[:, 7], 0.75)
    np.testing.assert_allclose(dictionary.actions_from_wire(theirs), ours)


def test_liberos_dictionary_is_understood(libero, rng):
    observation, _ = understood(
        libero,
        {
            "observation/image": image(rng, 256, 256),
            "observation/wrist_image": image(rng, 256, 256),
            "observation/state": np.array([0.1, 0.2, 0.3, -0.4, 0.5, 0.6, 0.01, -0.01]),
            "prompt": "put the bowl on the plate",
        },
    )
    assert observation.images["outside"].shape == (48, 64, 3)
    np.testing.assert_allclose(observation.state, [0.1, 0.2, 0.3, -0.4, 0.5, 0.6, 0.25])


def test_liberos_gripper_goes_from_plus_to_minus_one(libero):
    ours = np.array([[0, 0, 0, 0, 0, 0, 0.0], [0, 0, 0, 0, 0, 0, 1.0]])
    theirs = RobotDictionary.openpi(libero).actions_to_wire(ours)
    assert theirs[:, 6].tolist() == [1.0, -1.0]
    np.testing.assert_allclose(RobotDictionary.openpi(libero).actions_from_wire(theirs), ours)


@pytest.mark.parametrize("name", ["aloha", "droid", "libero"])
def test_what_is_sent_to_openpi_is_understood_as_what_it_was(request, name):
    robot = request.getfixturevalue(name)
    sent = robot.make_example()
    dictionary = RobotDictionary.openpi(robot)
    got, instruction = dictionary.observation(
        unpack(pack(dictionary.dictionary(sent, "go"))), sent.stamp_ns
    )
    assert instruction == "go"
    np.testing.assert_allclose(got.state, sent.state, atol=1e-12)
    for camera in robot.file.cameras:
        size = camera.input_height_px, camera.input_width_px, 3
        assert got.images[camera.name].shape == size


def test_alohas_images_are_sent_with_their_colours_first(aloha, observation, droid):
    assert RobotDictionary.openpi(aloha).dictionary(observation, "x")["images"][
        "cam_high"
    ].shape == (
        3,
        128,
        128,
    )
    sent = RobotDictionary.openpi(droid).dictionary(droid.make_example(), "x")
    assert sent["observation/wrist_image_left"].shape == (32, 32, 3)
    assert sent["observation/joint_position"].shape == (7,)
    assert sent["observation/gripper_position"].shape == (1,)


def without(entries: dict, name: str) -> dict:
    images = {key: value for key, value in entries["images"].items() if key != name}
    return {**entries, "images": images}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda e: without(e, "cam_high"),
            "'images/cam_high' is missing.*Needed: images/cam_high",
        ),
        (
            lambda e: {**without(e, "cam_high"), "images.cam_hihg": e["images"]["cam_high"]},
            "'images/cam_high' is missing. Did you mean 'images/cam_hihg'",
        ),
        (lambda e: {"images": e["images"], "prompt": "x"}, "'state' is missing"),
        (lambda e: {"images": e["images"], "state": e["state"]}, "'prompt' is missing"),
        (lambda e: {**e, "prompt": 5}, "'prompt': a text is needed, not int"),
        (lambda e: {**e, "state": e["state"][:7]}, r"'state': shape \(7,\); \(14,\) is needed"),
        (lambda e: {**e, "state": e["state"][None]}, r"'state': shape \(1, 14\)"),
        (lambda e: {**e, "state": "x"}, "'state': numbers are needed, not str"),
        (lambda e: {**e, "state": e["state"] > 0}, "'state': numbers are needed, not bool"),
        (lambda e: {**e, "state": e["state"] * np.nan}, "'state': not finite"),
        (lambda e: {**e, "images/cam_high": 1}, "'images/cam_high' is given twice"),
        (lambda e: {**e, b"x": 1}, "a key is a text, not bytes"),
        (lambda _: [1], "an observation is a dictionary, not list"),
    ],
)
def test_what_is_wrong_is_named(aloha, example, change, sentence):
    with pytest.raises(WireError, match=sentence):
        understood(aloha, change(example))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.zeros((128, 128), np.uint8), r"shape \(128, 128\)"),
        (np.zeros((128, 128, 4), np.uint8), r"shape \(128, 128, 4\)"),
        (np.zeros((1, 3, 128, 128), np.uint8), r"shape \(1, 3, 128, 128\)"),
        ("picture", "str; an image has the shape"),
        (np.zeros((8, 8, 3), np.uint8), "8x8 px"),
        (np.zeros((2001, 2000, 3), np.uint8), "2000x2001 px"),
        (np.zeros((128, 128, 3), np.uint16), "type uint16"),
        (np.full((128, 128, 3), 255.0), "type float64; an image is uint8, or floats from 0 to 1"),
        (np.full((128, 128, 3), np.nan), "floats from 0 to 1"),
    ],
)
def test_what_is_no_image_is_named(aloha, example, value, sentence):
    example["images"]["cam_left_wrist"] = value
    with pytest.raises(WireError, match=f"'images/cam_left_wrist': .*{sentence}|{sentence}"):
        understood(aloha, example)


def test_lists_of_numbers_are_numbers(aloha, example):
    state = [float(x) for x in example["state"]]
    assert understood(aloha, {**example, "state": state})[0].state.tolist() == state


def test_an_instruction_of_the_servers_fills_in_for_a_missing_prompt(aloha, example):
    del example["prompt"]
    _, instruction = RobotDictionary.openpi(aloha).observation(example, 5, "hand over")
    assert instruction == "hand over"


@pytest.mark.parametrize("name", ["aloha_sim", "diffbot_sim"])
def test_a_robots_own_dictionary_carries_everything_bit_for_bit(name, rng):
    robot = load_embodiment(name)
    camera = robot.file.cameras[0]
    looking_back = camera.model_copy(update={"history": HistorySpec(frames=2, spacing_s=0.1)})
    cameras = (looking_back, *robot.file.cameras[1:])
    robot = replace(robot, file=robot.file.model_copy(update={"cameras": cameras}))
    seen = robot.make_example()
    size = camera.height_px, camera.width_px
    earlier = (image(rng, *size), image(rng, *size))
    seen = replace(seen, history={camera.name: earlier})
    dictionary = RobotDictionary.own(robot)
    got, words = dictionary.observation(
        unpack(pack(dictionary.dictionary(seen, "go"))), seen.stamp_ns
    )
    assert words == "go"
    np.testing.assert_array_equal(got.state, seen.state)
    for key, pixels in seen.images.items():
        np.testing.assert_array_equal(got.images[key], pixels)
    np.testing.assert_array_equal(got.history[camera.name], earlier)
    rows = rng.standard_normal((3, len(robot.channels)))
    np.testing.assert_array_equal(dictionary.actions_to_wire(rows), rows)
    without = {**dictionary.dictionary(seen, "go"), f"history/{camera.name}": np.zeros(3)}
    with pytest.raises(WireError, match="earlier images of shape"):
        dictionary.observation(without, 0)


def test_without_an_openpi_block_openpis_clients_speak_the_robots_own_dictionary():
    robot = load_embodiment("diffbot_sim")
    names = {f"images/{camera.name}" for camera in robot.file.cameras}
    entries = RobotDictionary.openpi(robot).dictionary(robot.make_example(), "go")
    assert entries.keys() == {"prompt", "state", *names}


def test_a_robot_whose_images_no_message_holds_is_refused(aloha):
    require_message_fits(aloha)
    big = tuple(
        camera.model_copy(update={"width_px": 2000, "height_px": 2000})
        for camera in aloha.file.cameras
    )
    robot = replace(aloha, file=aloha.file.model_copy(update={"cameras": big}))
    with pytest.raises(QwenVlaError, match=r"cameras: one observation is 34\.3 MiB"):
        require_message_fits(robot)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "'x': an array of numbers is needed, not NoneType"),
        ([[0.0]], "not list"),
        (np.zeros((2, 3), bool), "not bool"),
        (np.zeros((2, 4)), r"\(2, 4\); \(up to 3, 3\) is needed"),
        (np.zeros((4, 3)), r"\(4, 3\)"),
        (np.zeros(3), r"\(3,\)"),
        (np.array([[0, 0, 0], [0, np.nan, 0]]), r"'x': not finite at \(1, 1\): nan"),
    ],
)
def test_what_are_no_rows_is_named(value, sentence):
    with pytest.raises(WireError, match=sentence):
        read_rows("x", value, 3, 3)
    assert read_rows("x", np.zeros((2, 3), np.float32), 3, 3).dtype == np.float64


LEAVES = st.none() | st.integers() | st.floats() | st.text(max_size=8) | st.just(np.zeros(14))
NAMES = st.sampled_from(["state", "prompt", "images", "cam_high", "images.cam_high", "a/b", "."])


@pytest.mark.slow
@given(st.recursive(LEAVES, lambda x: st.dictionaries(NAMES, x, max_size=4), max_leaves=12))
@settings(max_examples=100, deadline=None)
def test_any_dictionary_is_understood_or_refused(value):
    dictionary = RobotDictionary.openpi(load_cached())
    with pytest.raises(WireError):
        dictionary.observation(value, 0)


def load_cached(cache: list = []):  # noqa: B006
    if not cache:
        cache.append(load_embodiment("aloha_sim"))
    return cache[0]
