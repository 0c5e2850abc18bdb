"""What this project adds to openpi's messages, under one key that openpi's own never look at."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import Field

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.serving.metadata import RobotError, WireSection, Word
from qwen_vla_ros.serving.request import InferenceRequest
from qwen_vla_ros.serving.wire import WireError
from qwen_vla_ros.types import ActionChunk

KEY = "qwen_vla"
LATEST_NS = 2**62
MOST_STAGES = 32


class RequestKeys(WireSection):
    """Which request, about which robot, when it was seen, and how long the answer may take.

    Attributes:
        id: Comes back with the answer.
        embodiment: Name of the robot.
        embodiment_hash: Hash of its file and description.
        stamp_ns: Time of the observation.
        deadline_s: Seconds that the client waits.
        is_new_episode: Whether everything before is to be forgotten.
        committed: Array (d, c) of rows that are played whatever the answer is, if there are any.
    """

    id: Annotated[int, Field(ge=0, lt=2**63)]
    embodiment: Word
    embodiment_hash: Word
    stamp_ns: Annotated[int, Field(ge=0, le=LATEST_NS)]
    deadline_s: Annotated[float, Field(gt=0.0)]
    is_new_episode: bool
    committed: Any = None

    @classmethod
    def of(cls, request: InferenceRequest, number: int, embodiment: Embodiment) -> Self:
        """Return what is added to a request; the server judges it."""
        return cls.model_construct(
            id=number,
            embodiment=embodiment.name,
            embodiment_hash=embodiment.hash,
            stamp_ns=request.observation.stamp_ns,
            deadline_s=request.deadline_s,
            is_new_episode=request.is_new_episode,
            committed=request.committed,
        )

    def require(self, embodiment: Embodiment) -> None:
        """Refuse a request about another robot.

        Raises:
            RobotError: Says which.
        """
        if (self.embodiment, self.embodiment_hash) != (embodiment.name, embodiment.hash):
            raise RobotError(
                f"this server serves robot '{embodiment.name}' ({embodiment.hash}), not "
                f"'{self.embodiment}' ({self.embodiment_hash})."
            )


class ResponseKeys(WireSection):
    """To which request, for which robot, and whether the episode is over."""

    id: int
    embodiment: Word
    embodiment_hash: Word
    rest: bool

    @classmethod
    def of(cls, chunk: ActionChunk, number: int, embodiment: Embodiment) -> Self:
        """Return what is added to an answer."""
        return cls(
            id=number,
            embodiment=chunk.embodiment or embodiment.name,
            embodiment_hash=chunk.embodiment_hash or embodiment.hash,
            rest=chunk.rest,
        )

    def require(self, number: int, embodiment: Embodiment) -> None:
        """Refuse an answer to another request, or for another robot.

        Raises:
            WireError: It is one.
        """
        if self.id != number:
            raise WireError("the answer is to another request.")
        if (self.embodiment, self.embodiment_hash) != (embodiment.name, embodiment.hash):
            raise WireError(
                f"the answer is for robot '{self.embodiment}' ({self.embodiment_hash}), not "
                f"'{embodiment.name}' ({embodiment.hash})."
            )


def read_timings(answer: dict[Any, Any]) -> dict[str, float]:
    """Return the seconds that an answer says it took, by stage, none of them twice.

    `server` is what the server's policy needed beyond the stages that it names. What makes no
    sense is left out: a stranger's clock is no reason to refuse its actions.
    """
    server, stages = (_seconds(answer.get(key)) for key in ("server_timing", "policy_timing"))
    infer_s = server.get("infer", 0.0)
    stages.pop("infer", None)
    rest_s = max(0.0, infer_s - sum(stages.values()))
    return {**stages, "server": rest_s, "queue": server.get("queue", 0.0)}


def _seconds(timing: object) -> dict[str, float]:
    if not isinstance(timing, dict) or len(timing) > MOST_STAGES:
        return {}
    return {
        name.removesuffix("_ms")[:64]: ms / 1e3
        for name, ms in timing.items()
        if isinstance(name, str) and name.endswith("_ms")
        if isinstance(ms, float) and 0 <= ms < math.inf
    }
