"""The prompt: what the model reads, byte for byte the same in training and on the robot."""

from __future__ import annotations

from dataclasses import replace

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.schema import PromptSpec
from qwen_vla_ros.prompt.instruction import clean_instruction
from qwen_vla_ros.prompt.state_text import STATE, state_text
from qwen_vla_ros.types import FloatArray, Prompt

_ARMS = {"none": "", "single": "single arm", "dual": "dual arms"}
_FULL_STOPS = (".", "!", "?")


def build_prompt(
    embodiment: Embodiment, instruction: str, state: FloatArray | None = None
) -> Prompt:
    """Return the prompt for one instruction.

    Every camera gets a line with an image place between its view's tags, in the order of the
    embodiment file; then comes one sentence after another about the robot and the task.

    The paper does not say how a model sees what was before. Here a camera with a history has a
    place per image in its line, the oldest first and the newest last: the order of reading is the
    order of time, an image costs the same wherever it stands, and a robot without history has the
    prompt that it had.

    Args:
        embodiment: The robot.
        instruction: What it shall do, in human words.
        state: What it measures of itself, in channel order and units; (c,). Told to the model
            where the robot's file says `state_text`, and needed then; not read otherwise.

    Raises:
        InstructionError: The instruction cannot be used.
        ValueError: The state is needed and missing, or has another shape.
    """
    cleaned = clean_instruction(instruction)
    cameras = embodiment.file.cameras
    places = [1 if camera.history is None else camera.history.frames + 1 for camera in cameras]
    lines = [
        f"<|{camera.view}_start|> {' '.join(['<image>'] * count)} <|{camera.view}_end|>"
        for camera, count in zip(cameras, places, strict=True)
    ]
    if embodiment.file.prompt.state_text:
        if state is None:
            raise ValueError(f"the prompt of {embodiment.name} tells its state; none was given")
        lines.append(state_text(embodiment, state))
    lines.append(_sentence(embodiment.file.prompt, cleaned))
    return Prompt(
        instruction=cleaned,
        text="\n".join(lines),
        cameras=tuple(
            camera.name
            for camera, count in zip(cameras, places, strict=True)
            for _ in range(count)
        ),
    )


def with_state(embodiment: Embodiment, prompt: Prompt, state: FloatArray) -> Prompt:
    """Return the same prompt for another moment; itself where it does not tell the state."""
    if not embodiment.file.prompt.state_text:
        return prompt
    return build_prompt(embodiment, prompt.instruction, state)


def without_state(prompt: Prompt) -> Prompt:
    """Return a prompt that does not tell the state, for the share of training that must look."""
    lines = prompt.text.split("\n")
    kept = [line for line in lines if not line.startswith(STATE)]
    return replace(prompt, text="\n".join(kept))


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
