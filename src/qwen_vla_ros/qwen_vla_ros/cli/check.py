"""`qwen-vla check`: is an embodiment file good, and what does it say?"""

from __future__ import annotations

import sys

from rich.console import Console

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.embodiment.profile import NORMAL, Profile, find_profile
from qwen_vla_ros.embodiment.report import report
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.prompt.build import build_prompt
from qwen_vla_ros.safety.envelope import JointEnvelope
from qwen_vla_ros.safety.motion_guard import MotionGuard

# Wide enough for the table of joints where the output goes to a file.
_FILE_WIDTH = 176


def check(path: str, profile_name: str = NORMAL.name) -> int:
    """Print what the file of a robot says, or everything that is wrong with it.

    Args:
        path: A file, or the name of a known robot.
        profile_name: Under which it is to run.

    Returns:
        The exit code: 0, or 2 where the file cannot be used.
    """
    try:
        embodiment, profile = load_embodiment(path), find_profile(profile_name)
        profile.require_tools(embodiment)
        contacts = "" if embodiment.has_base else _contacts(embodiment, profile)
    except EmbodimentError as error:
        _console(stderr=True).print(str(error), style="red", markup=False, soft_wrap=True)
        return 2
    example = build_prompt(embodiment, "{instruction}", embodiment.make_example().state).text
    _console().print(report(embodiment, example, profile, contacts))
    return 0


def _contacts(embodiment: Embodiment, profile: Profile) -> str:
    """Say what is watched so that nothing touches, and what is not."""
    guard = MotionGuard(embodiment, JointEnvelope.from_embodiment(embodiment, profile), profile)
    collision = embodiment.file.safety.collision
    free = () if collision is None else collision.may_touch
    lines = [
        f"{len(guard.solids.pairs)} pairs of links and boxes stay {guard.margin:g} m apart at "
        f"every command, and come nearer by at most {1e3 * guard.sag:.1f} mm between two.",
        *(f"may touch: {one} and {other}" for one, other in free),
        *(f"not watched, near in every pose: {pair}" for pair in guard.solids.touching),
        *(f"not watched, has no shape in the URDF: '{link}'" for link in guard.solids.bare),
    ]
    return "\n".join(lines)


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _FILE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False)
