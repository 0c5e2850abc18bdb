"""`qwen-vla prompt`: what the model would read."""

from __future__ import annotations

import sys

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.errors import EmbodimentError, InstructionError
from qwen_vla_ros.prompt.build import build_prompt


def prompt(robot: str, instruction: str) -> int:
    """Print the prompt for one instruction, byte for byte, and a line end.

    Where the prompt tells the robot's state, it is that of an example.

    Args:
        robot: Name of a robot, or the path of its file.
        instruction: What the robot shall do, in human words.

    Returns:
        The exit code: 0, or 2 where the robot or the instruction cannot be used.
    """
    try:
        embodiment = load_embodiment(robot)
        text = build_prompt(embodiment, instruction, embodiment.make_example().state).text
    except (EmbodimentError, InstructionError) as error:
        print(error, file=sys.stderr)
        return 2
    # Written as bytes: the terminal's encoding must not change what the model reads.
    sys.stdout.flush()
    sys.stdout.buffer.write(f"{text}\n".encode())
    sys.stdout.buffer.flush()
    return 0
