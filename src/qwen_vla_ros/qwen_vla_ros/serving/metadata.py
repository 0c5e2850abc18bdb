"""What a policy server says of itself before anything else."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.problems import printable
from qwen_vla_ros.serving.wire import WireError

PROTOCOL = 3
"""Version of the keys that this project adds to openpi's messages."""

Word = Annotated[str, Field(max_length=256)]
Words = Annotated[list[Word], Field(max_length=64)]


class WireSection(BaseModel):
    """Keys of a message: of their types, and others are a stranger's and not looked at."""

    model_config = ConfigDict(
        strict=True, extra="ignore", frozen=True, arbitrary_types_allowed=True
    )

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """Read the keys.

        Raises:
            WireError: One is missing, or is not what it must be; the sentence names it.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = "/".join(map(str, first["loc"])) or "message"
            given = printable(repr(first["input"])[:60])
            raise WireError(f"'{place}': {first['msg'].lower()}; it is {given}.") from error


class RobotError(QwenVlaError):
    """The other end has another robot, or another version of it."""


class ServerMetadata(WireSection):
    """Who answers, and what its answers look like.

    Attributes:
        protocol: Version of the keys that are added to openpi's.
        embodiment: Name of the robot that is served.
        embodiment_hash: Hash of its file and description.
        model: What answers, in a word or two.
        channels: Names of the action's columns.
        units: Their units.
        dt: Seconds between two rows.
        action_horizon: Most rows of an answer.
    """

    protocol: int
    embodiment: Word
    embodiment_hash: Word
    model: Word
    channels: Words
    units: Words
    dt: Annotated[float, Field(ge=1e-4, le=1e3)]
    action_horizon: Annotated[int, Field(ge=1, le=1024)]

    @classmethod
    def of(cls, embodiment: Embodiment, model: str) -> Self:
        """Return the metadata of a server for this robot."""
        return cls(
            protocol=PROTOCOL,
            embodiment=embodiment.name,
            embodiment_hash=embodiment.hash,
            model=model,
            channels=list(embodiment.channels),
            units=[channel.unit for channel in embodiment.file.action],
            dt=embodiment.dt,
            action_horizon=embodiment.file.prompt.action_horizon,
        )

    def to_wire(self) -> dict[str, Any]:
        """Return the map that is sent."""
        return {"server": "qwen-vla", **self.model_dump()}

    def require(self, embodiment: Embodiment) -> None:
        """Refuse a server, or a recording, whose answers this robot could not use.

        Raises:
            RobotError: Says what differs.
        """
        wanted = ServerMetadata.of(embodiment, self.model)
        if self.protocol != wanted.protocol:
            raise RobotError(
                f"the server speaks version {self.protocol} of the protocol, this is version "
                f"{wanted.protocol}: install the same release on both"
            )
        if self.embodiment != wanted.embodiment:
            raise RobotError(
                f"the server serves robot '{self.embodiment}', this is '{wanted.embodiment}'"
            )
        if self.embodiment_hash != wanted.embodiment_hash:
            raise RobotError(
                f"the server has another version of '{wanted.embodiment}' "
                f"({self.embodiment_hash}, here {wanted.embodiment_hash}): start it with this "
                "robot's file and URDF"
            )
        # The hash covers these; a difference is a server that computes them in another way.
        for name in ("channels", "units", "dt", "action_horizon"):
            theirs, ours = getattr(self, name), getattr(wanted, name)
            if theirs != ours:
                raise RobotError(f"{name}: the server has {theirs}, this robot {ours}")
