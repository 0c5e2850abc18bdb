from __future__ import annotations

from dataclasses import replace

import pytest

from qwen_vla_ros.cli.prompt import prompt
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import InstructionError
from qwen_vla_ros.prompt.build import build_prompt

ALOHA = load_embodiment("aloha_sim")
HAND_OVER = (
    "<|ego_start|> <image> <|ego_end|>\n"
    "<|cam_left_wrist_start|> <image> <|cam_left_wrist_end|>\n"
    "<|cam_right_wrist_start|> <image> <|cam_right_wrist_end|>\n"
    "The robot is ALOHA with dual arms. The control frequency is 50 Hz. Please predict the next "
    "16 control actions to execute the following task: hand over the red cube."
)


def with_body(**fields: object) -> Embodiment:
    prompt_spec = ALOHA.file.prompt.model_copy(update=fields)
    return replace(ALOHA, file=ALOHA.file.model_copy(update={"prompt": prompt_spec}))


def test_the_prompt_is_the_papers_template_byte_for_byte():
    built = build_prompt(ALOHA, " hand over  the red cube\n")
    assert built.text == HAND_OVER
    assert built.instruction == "hand over the red cube"
    assert built.cameras == ("cam_high", "cam_left_wrist", "cam_right_wrist")


def test_there_is_one_image_place_for_every_camera_and_no_other():
    assert build_prompt(ALOHA, "go").text.count("<image>") == len(ALOHA.file.cameras)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"arms": "single"}, "The robot is ALOHA with single arm. The"),
        ({"arms": "dual"}, "The robot is ALOHA with dual arms. The"),
        ({"arms": "dual", "waist": True}, "The robot is ALOHA with dual arms, waist. The"),
        ({"mobile_base": True}, "The robot is ALOHA with dual arms, and mobile base. The"),
        (
            {"waist": True, "mobile_base": True},
            "The robot is ALOHA with dual arms, waist, and mobile base. The",
        ),
        ({"arms": "none", "mobile_base": True}, "The robot is ALOHA with mobile base. The"),
        ({"arms": "none"}, "The robot is ALOHA. The"),
        ({"control_frequency_hz": 12.5}, "The control frequency is 12.5 Hz. Please"),
        ({"action_horizon": 8}, "Please predict the next 8 control actions to"),
    ],
)
def test_the_sentence_names_what_the_robot_has(fields: dict[str, object], sentence: str):
    assert sentence in build_prompt(with_body(**fields), "go").text


@pytest.mark.parametrize("end", [".", "!", "?"])
def test_a_sentence_that_has_ended_gets_no_second_full_stop(end: str):
    assert build_prompt(ALOHA, f"pick it up{end}").text.endswith(f"task: pick it up{end}")


def test_a_navigation_prompt_states_convention_and_horizon():
    text = build_prompt(load_embodiment("diffbot_sim"), "go to the blue ball").text
    assert "in the frame of the previous waypoint" in text
    assert "the next 8 waypoints, 4 seconds ahead," in text
    assert text.endswith("task: go to the blue ball.")


def test_an_instruction_that_cannot_be_used_builds_no_prompt():
    with pytest.raises(InstructionError):
        build_prompt(ALOHA, "  ")


def test_the_command_prints_the_prompt_byte_for_byte(capfdbinary):
    assert prompt("aloha_sim", "hand over the red cube") == 0
    assert capfdbinary.readouterr().out == f"{HAND_OVER}\n".encode()


@pytest.mark.parametrize(
    ("robot", "instruction", "sentence"),
    [("aloha_sin", "go", "unknown robot 'aloha_sin'"), ("aloha_sim", " ", "is empty")],
)
def test_the_command_ends_with_code_2_and_a_sentence(capsys, robot, instruction, sentence):
    assert prompt(robot, instruction) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
