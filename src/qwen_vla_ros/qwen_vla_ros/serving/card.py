"""What a policy server says of itself before anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from qwen_vla_ros.embodiment.embodiment import Embodiment
from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.serving.fields import Fields

PROTOCOL = 2
"""Version of this project's messages."""


class CardError(QwenVlaError):
    """The server serves another robot, or in another way."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Who answers, and what its answers look like.

    Attributes:
        embodiment: Name of the robot that is served.
        embodiment_hash: Hash of its file and description.
        model: What answers, in a word or two.
        channels: Names of the action's columns.
        units: Their units.
        dt: Seconds between two rows.
        action_horizon: Most rows of an answer.
        protocol: Version of the messages.
    """

    embodiment: str
    embodiment_hash: str
    model: str
    channels: tuple[str, ...]
    units: tuple[str, ...]
    dt: float
    action_horizon: int
    protocol: int = PROTOCOL

    @classmethod
    def of(cls, embodiment: Embodiment, model: str) -> Self:
        """Return the card of a server for this robot."""
        return cls(
            embodiment=embodiment.name,
            embodiment_hash=embodiment.hash,
            model=model,
            channels=embodiment.channels,
            units=tuple(channel.unit for channel in embodiment.file.action),
            dt=embodiment.dt,
            action_horizon=embodiment.file.prompt.action_horizon,
        )

    @classmethod
    def from_wire(cls, fields: Fields) -> Self:
        """Read a card.

        Raises:
            WireError: It is none.
        """
        return cls(
            embodiment=fields.text("embodiment"),
            embodiment_hash=fields.text("embodiment_hash"),
            model=fields.text("model"),
            channels=fields.texts("channels"),
            units=fields.texts("units"),
            dt=fields.number("dt", 1e-4, 1e3),
            action_horizon=fields.whole("action_horizon", 1, 1024),
            protocol=fields.whole("protocol"),
        )

    def to_wire(self) -> dict[str, Any]:
        """Return the map that is sent."""
        return {
            "server": "qwen-vla",
            "protocol": self.protocol,
            "embodiment": self.embodiment,
            "embodiment_hash": self.embodiment_hash,
            "model": self.model,
            "channels": list(self.channels),
            "units": list(self.units),
            "dt": self.dt,
            "action_horizon": self.action_horizon,
        }

    def require(self, embodiment: Embodiment) -> None:
        """Refuse a server whose answers this robot could not use.

        Raises:
            CardError: Says what differs.
        """
        wanted = Card.of(embodiment, self.model)
        if self.protocol != wanted.protocol:
            raise CardError(
                f"the server speaks version {self.protocol} of the protocol, this is version "
                f"{wanted.protocol}: install the same release on both"
            )
        if self.embodiment != wanted.embodiment:
            raise CardError(
                f"the server serves robot '{self.embodiment}', this is '{wanted.embodiment}'"
            )
        if self.embodiment_hash != wanted.embodiment_hash:
            raise CardError(
                f"the server has another version of '{wanted.embodiment}' "
                f"({self.embodiment_hash}, here {wanted.embodiment_hash}): start it with this "
                "robot's file and URDF"
            )
        for name in ("channels", "units", "dt", "action_horizon"):
            theirs, ours = getattr(self, name), getattr(wanted, name)
            if theirs != ours:
                raise CardError(f"{name}: the server has {theirs}, this robot {ours}")
