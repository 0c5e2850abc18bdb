from __future__ import annotations

import pytest

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import EmbodimentError

IMAGES = "{cam_high: cam_high, cam_left_wrist: cam_left_wrist, cam_right_wrist: cam_right_wrist}"
FORMAT = "format: aloha"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (FORMAT, "format: alloha", "openpi.format: 'alloha' is not allowed. Did you mean 'aloha'"),
        (FORMAT, f"{FORMAT}\n  colour: red", "openpi.colour: unknown key."),
        (
            "{cam_high: cam_high,",
            "{cam_hihg: cam_high,",
            "openpi.images.cam_hihg: aloha has no image 'cam_hihg'. Did you mean 'cam_high'?",
        ),
        (
            "cam_high: cam_high",
            "cam_high: cam_hihg",
            "openpi.images.cam_high: there is no camera 'cam_hihg'. Did you mean 'cam_high'?",
        ),
        (
            IMAGES,
            "{cam_high: cam_high, cam_left_wrist: cam_left_wrist}",
            "openpi.images: no image feeds the camera 'cam_right_wrist'.",
        ),
        (
            "cam_right_wrist: cam_right_wrist}",
            "cam_right_wrist: cam_left_wrist}",
            "'cam_left_wrist' is already taken by openpi.images.cam_left_wrist.",
        ),
        (
            FORMAT,
            f"{FORMAT}\n  state: [left_waist, left_wiast]",
            "openpi.state[1]: there is no channel 'left_wiast'. Did you mean 'left_waist'?",
        ),
        (
            FORMAT,
            f"{FORMAT}\n  state: [left_waist, unused]",
            "openpi.state: no number is the state of channel 'right_gripper'.",
        ),
        (
            FORMAT,
            f"{FORMAT}\n  state: [left_waist, left_waist]",
            "openpi.state[1]: 'left_waist' is already taken by openpi.state[0].",
        ),
        (
            FORMAT,
            f"{FORMAT}\n  gripper_action: {{closed: 1.0, open: 1.0}}",
            "openpi.gripper_action.open: is the same number as closed.",
        ),
        (
            "    rate_hz: 15\n",
            "    history: {frames: 2, spacing_s: 0.5}\n    rate_hz: 15\n",
            "cameras[0].history: openpi's dictionaries have no earlier images.",
        ),
    ],
)
def test_an_openpi_block_that_does_not_fit_is_refused_with_a_sentence(edit, old, new, sentence):
    with pytest.raises(EmbodimentError) as refusal:
        load_embodiment(edit("aloha_sim", old, new))
    assert sentence in str(refusal.value)


def test_a_base_has_no_openpi_block(edit):
    block = "openpi: {format: droid, images: {wrist_image_left: front}}\nsimulation:"
    with pytest.raises(EmbodimentError, match=r"openpi: no dictionary of openpi's is for a base"):
        load_embodiment(edit("diffbot_sim", "simulation:", block))


def test_the_block_may_be_absent(edit):
    path = edit("aloha_sim", "openpi:", "openpi:")
    path.write_text(path.read_text().partition("\nopenpi:")[0])
    assert load_embodiment(path).file.openpi is None
