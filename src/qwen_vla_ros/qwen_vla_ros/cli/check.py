"""`qwen-vla check`: is an embodiment file good, and what does it say?"""

from __future__ import annotations

import sys

from rich.console import Console

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.embodiment.report import report
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.prompt.build import build_prompt

# Wide enough for the table of joints where the output goes to a file.
_FILE_WIDTH = 160


def check(path: str) -> int:
    """Print what the file of a robot says, or everything that is wrong with it.

    Args:
        path: A file, or the name of a known robot.

    Returns:
        The exit code: 0, or 2 where the file cannot be used.
    """
    try:
        embodiment = load_embodiment(path)
    except EmbodimentError as error:
        _console(stderr=True).print(str(error), style="red", markup=False, soft_wrap=True)
        return 2
    example = build_prompt(embodiment, "{instruction}", embodiment.make_example().state).text
    _console().print(report(embodiment, example))
    return 0


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _FILE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False)
