"""ROS's security is asked for by variables; where it cannot be had, a sentence says why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.security import ENABLE

NOT_BUILT = "doesn't have the security libraries"
"""What Fast DDS says that was built without them, as the one in the registry's wheels."""


@contextmanager
def explained_security() -> Iterator[None]:
    """Turn the middleware's refusal of a secure start into one sentence.

    Raises:
        QwenVlaError: Security is switched on and cannot be had.
    """
    try:
        yield
    except RuntimeError as error:
        if os.environ.get(ENABLE) != "true":
            raise
        raise QwenVlaError(_sentence(str(error))) from error


def _sentence(said: str) -> str:
    if NOT_BUILT in said:
        return (
            f"{ENABLE} is true, but the Fast DDS of this ROS was built without security: nothing "
            f"would be signed or encrypted. Use a ROS installation that has it, or unset {ENABLE}."
        )
    lines = [line for line in said.splitlines() if "SECURITY" in line.upper()] or [said]
    return f"{ENABLE} is true, and no secure start can be had: {lines[0].strip()}"
