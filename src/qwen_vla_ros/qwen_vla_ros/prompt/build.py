"""The prompt: what the model reads, byte for byte the same in training and on the robot."""

from __future__ import annotations

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.schema import PromptSpec
from qwen_vla_ros.prompt.instruction import clean_instruction
from qwen_vla_ros.types import Prompt

_ARMS = {"none": "", "single": "single arm", "dual": "dual arms"}
_FULL_STOPS = (".", "!", "?")


def build_prompt(embodiment: Embodiment, instruction: str) -> Prompt:
    """Return the prompt for one instruction.

    Every camera gets a line with an image place between its view's tags, in the order of the
    embodiment file; then comes one sentence after another about the robot and the task.

    Raises:
        InstructionError: The instruction cannot be used.
    """
    cleaned = clean_instruction(instruction)
    cameras = embodiment.file.cameras
    views = [f"<|{camera.view}_start|> <image> <|{camera.view}_end|>" for camera in cameras]
    sentence = _sentence(embodiment.file.prompt, cleaned)
    return Prompt(
        instruction=cleaned,
        text="\n".join([*views, sentence]),
        cameras=tuple(camera.name for camera in cameras),
    )


def _sentence(robot: PromptSpec, instruction: str) -> str:
    task = instruction if instruction.endswith(_FULL_STOPS) else f"{instruction}."
    rate = f"{robot.control_frequency_hz:g}"
    about = f"The robot is {_body(robot)}. The control frequency is {rate} Hz."
    if robot.task == "manipulation":
        return (
            f"{about} Please predict the next {robot.action_horizon} control actions "
            f"to execute the following task: {task}"
        )
    # The paper says that the navigation prompt states convention and horizon, but not its words.
    seconds = f"{robot.action_horizon / robot.control_frequency_hz:g}"
    return (
        f"{about} Each waypoint is (dx, dy, dtheta): metres ahead, metres to the left and radians "
        "counter-clockwise, in the frame of the previous waypoint; no motion means stop. "
        f"Please predict the next {robot.action_horizon} waypoints, {seconds} seconds ahead, "
        f"to execute the following task: {task}"
    )


def _body(robot: PromptSpec) -> str:
    """Return `ALOHA with dual arms, waist, and mobile base`, without what the robot lacks."""
    parts = [part for part in (_ARMS[robot.arms], "waist" if robot.waist else "") if part]
    if robot.mobile_base:
        parts.append("and mobile base" if parts else "mobile base")
    return f"{robot.robot_tag} with {', '.join(parts)}" if parts else robot.robot_tag
