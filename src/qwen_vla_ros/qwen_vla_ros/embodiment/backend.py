"""How a kind of controller is spoken to. Each backend is one file in `backends/`.

The gate writes with it, a simulated controller and an audit read with it. It makes its messages
with what it is given for that, so that neither the file nor who reads it needs ROS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from qwen_vla_ros.embodiment.schema import BACKENDS, OutputSpec
from qwen_vla_ros.plugins import load_plugin


@dataclass(frozen=True, kw_only=True)
class TrajectoryPoint:
    """Where the joints shall be `time_from_start_ns` after the start; empty means not given."""

    time_from_start_ns: int
    positions: tuple[float, ...]
    velocities: tuple[float, ...] = ()
    accelerations: tuple[float, ...] = ()
    effort: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JointTrajectory:
    """What joints are commanded: rad or m, and their rates; a start of 0 means now.

    A gate's begins where the joints are commanded to be when its slot of the grid of periods does;
    the second point was sent before, the third is new, and the points after it are the brake that
    follows if nothing else does.
    """

    start_ns: int
    joints: tuple[str, ...]
    points: tuple[TrajectoryPoint, ...]


@dataclass(frozen=True, kw_only=True)
class StampedTwist:
    """What a base is commanded, in m/s and rad/s; a stamp of 0 means now."""

    linear: float
    angular: float
    stamp_ns: int = 0


Command = JointTrajectory | StampedTwist
Commands = list[tuple[OutputSpec, Command]]
"""What is sent in one tick, by command topic."""
NewMessage = Callable[..., Any]
"""Makes a message of a type: `new("std_msgs/msg/Float64MultiArray", data=[0.1])`."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One kind of command topic.

    Attributes:
        moves: What can be commanded through it.
        type: Of the message: `package/msg/Name`.
        write: Makes the message of a command, for the topic that an output describes.
        read: Tells what a message on it commands, unchecked: that is a controller's work.
        ends: Why a motion ends although the gate is lost, in words; empty where it does not, so
            that a monitor must end it by commanding rest.
        is_timed: Whether the controller follows points in time, and so brakes by itself when the
            next command is late. Otherwise it jumps to what it is told, and stays.
        state_topic: Beside the command topic, where a controller tells its state, stamped by the
            clock that it plays commands by; "" where it has none.
        state_type: Of that state's message: `package/msg/Name`.
        has_frame: Whether the message says in which frame its twist is.
    """

    moves: Literal["joints", "base"]
    type: str
    write: Callable[[NewMessage, Any, OutputSpec], Any]
    read: Callable[[Any, OutputSpec], Command]
    ends: str = ""
    is_timed: bool = False
    state_topic: str = ""
    state_type: str = ""
    has_frame: bool = False

    def __post_init__(self) -> None:
        if self.moves == "joints" and not self.ends:
            # Rest is a twist of zero; no word of a monitor ends the motion of joints.
            raise ValueError("a backend for joints must say what ends a motion without its gate")


def load_backend(name: str) -> Backend:
    """Return a backend by the name of its file."""
    backend: Backend = load_plugin(BACKENDS, name).BACKEND
    return backend
