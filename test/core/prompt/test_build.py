from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qwen_vla_ros.cli.prompt import prompt
from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.embodiment.schema import HistorySpec
from qwen_vla_ros.errors import InstructionError
from qwen_vla_ros.prompt.build import build_prompt, with_state

ALOHA = load_embodiment("aloha_sim")
HAND_OVER = (
    "<|ego_start|> <image> <|ego_end|>\n"
    "<|cam_left_wrist_start|> <image> <|cam_left_wrist_end|>\n"
    "<|cam_right_wrist_start|> <image> <|cam_right_wrist_end|>\n"
    "The robot is ALOHA with dual arms. The control frequency is 50 Hz. Please predict the next "
    "16 control actions to execute the following task: hand over the red cube."
)


DIFFBOT = load_embodiment("diffbot_sim")
VARIANTS = Path(__file__).parents[2] / "golden" / "variants"


def with_body(**fields: object) -> Embodiment:
    prompt_spec = ALOHA.file.prompt.model_copy(update=fields)
    return replace(ALOHA, file=ALOHA.file.model_copy(update={"prompt": prompt_spec}))


def with_history(robot: Embodiment, camera: int, frames: int) -> Embodiment:
    cameras = list(robot.file.cameras)
    history = HistorySpec(frames=frames, spacing_s=0.5)
    cameras[camera] = cameras[camera].model_copy(update={"history": history})
    return replace(robot, file=robot.file.model_copy(update={"cameras": tuple(cameras)}))


def golden(name: str) -> str:
    return (VARIANTS / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")


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


def test_a_camera_with_a_history_has_a_place_per_image_between_its_tags():
    prompt = build_prompt(with_history(DIFFBOT, 0, 3), "go to the blue ball")
    assert prompt.text == golden("diffbot_sim_with_history")
    assert prompt.cameras == ("front",) * 4


def test_only_the_line_of_the_camera_with_a_history_changes():
    lines = build_prompt(with_history(ALOHA, 1, 1), "go").text.splitlines()
    before = build_prompt(ALOHA, "go").text.splitlines()
    assert lines[1] == "<|cam_left_wrist_start|> <image> <image> <|cam_left_wrist_end|>"
    assert [lines[0], *lines[2:]] == [before[0], *before[2:]]


def test_a_prompt_may_tell_the_state_before_the_instruction():
    robot = with_body(state_text=True)
    joints = [robot.file.safety.joints[name] for name in robot.joints]
    middle = 128.5 / 256
    positions = [limits.lower + middle * (limits.upper - limits.lower) for limits in joints]
    positions[:2] = joints[0].lower, joints[1].upper
    state = robot.channels_from_joints(np.array(positions))
    prompt = build_prompt(robot, "hand over the red cube", state)
    assert prompt.text == golden("aloha_sim_with_state")


def test_a_state_is_needed_where_it_is_told():
    with pytest.raises(ValueError, match="the prompt of aloha_sim tells its state; none was giv"):
        build_prompt(with_body(state_text=True), "go")


def test_a_state_changes_nothing_where_it_is_not_told():
    state = ALOHA.make_example().state
    assert build_prompt(ALOHA, "go", state) == build_prompt(ALOHA, "go")
    assert build_prompt(DIFFBOT, "go", np.ones(3)) == build_prompt(DIFFBOT, "go")


def test_a_prompt_is_told_the_state_of_another_moment():
    robot = with_body(state_text=True)
    then, now = robot.make_example(0).state, robot.make_example(1).state
    prompt = build_prompt(robot, "  go  on ", then)
    assert with_state(robot, prompt, now) == build_prompt(robot, "go on", now)
    assert with_state(robot, prompt, now) != prompt
    plain = build_prompt(ALOHA, "go on")
    assert with_state(ALOHA, plain, now) is plain


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
