"""What is asked of a policy on the other end of a wire, and what the answer took."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from qwen_vla_ros.types import FloatArray, Observation


@dataclass(frozen=True, kw_only=True)
class InferenceRequest:
    """One request.

    Attributes:
        observation: What the robot senses.
        instruction: What it is asked to do, as a person wrote it.
        committed: Rows (d, c) that are played whatever the answer is.
        is_new_episode: Whether everything before is to be forgotten.
        deadline_s: Seconds after which nobody waits for the answer any more.
    """

    observation: Observation
    instruction: str
    committed: FloatArray | None = None
    is_new_episode: bool = False
    deadline_s: float = math.inf


class ServerTiming(NamedTuple):
    """Seconds that an answer took on the server.

    Attributes:
        queue_s: Until its turn came.
        infer_s: The policy itself.
        total_s: From the request's last byte on.
    """

    queue_s: float
    infer_s: float
    total_s: float
