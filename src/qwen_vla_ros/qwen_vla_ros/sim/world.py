"""What a simulated world is to its owner: stepped, looked at, asked, judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from qwen_vla_ros.types import FloatArray, ImageArray


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judge says about the instruction in force.

    Attributes:
        target: Name of the object that the instruction names; empty when it names none.
        success: Whether the instruction holds now.
        progress: 0 to 1; never falls between two resets. A hint for people.
    """

    target: str
    success: bool
    progress: float


@dataclass(frozen=True)
class Snapshot:
    """All that a camera needs to draw a moment, so that it can be drawn in another thread."""

    positions: FloatArray
    mocap_positions: FloatArray
    mocap_quaternions: FloatArray


class World(Protocol):
    """A simulated robot in its surroundings, advanced in fixed periods by its owner.

    Attributes:
        model: The MjModel, for whoever draws it.
        cameras: Names of the robot's cameras.
        overview: Name of the camera for people.
        frame_id: What the robot's own messages call the world frame.
        period_s: Time per `step`.
        time_s: Time since the last reset.
    """

    model: Any
    cameras: tuple[str, ...]
    overview: str
    frame_id: str
    period_s: float
    time_s: float

    def reset(self, seed: int) -> None:
        """Put everything where this seed has it; the robot is at rest."""
        ...

    def step(self) -> None:
        """Advance by one period."""
        ...

    def objects(self) -> Mapping[str, FloatArray]:
        """Return the pose (x, y, z m, quaternion w, x, y, z) of every object in the scene."""
        ...

    def object_color(self, name: str) -> tuple[float, float, float, float]:
        """Return the colour (r, g, b, a; 0 to 1) of an object."""
        ...

    def object_size(self, name: str) -> tuple[float, float, float]:
        """Return the full edges, or three times the diameter, of an object in metres."""
        ...

    def snapshot(self) -> Snapshot:
        """Copy what a camera needs."""
        ...

    def render(self, camera: str, width: int, height: int) -> ImageArray:
        """Draw now, in the calling thread: an RGB image (height, width, 3)."""
        ...

    def suggest_instruction(self) -> str:
        """Return an instruction that fits the scene."""
        ...

    def judge(self, instruction: str) -> Verdict:
        """Say how far the instruction is carried out; it judges from the last reset on."""
        ...


@runtime_checkable
class JointWorld(World, Protocol):
    """A world whose robot has position-controlled joints."""

    joints: tuple[str, ...]

    def positions(self) -> FloatArray:
        """Return the measured position of every joint (rad or m), in the order of `joints`."""
        ...

    def velocities(self) -> FloatArray:
        """Return the measured velocity of every joint (rad/s or m/s)."""
        ...

    def set_targets(self, joints: Sequence[str], positions: FloatArray) -> None:
        """Give the servos of some joints new position set-points (rad or m)."""
        ...


@runtime_checkable
class WheeledWorld(World, Protocol):
    """A world whose robot has two driven wheels."""

    wheel_separation_m: float
    wheel_radius_m: float

    def wheel_positions(self) -> tuple[float, float]:
        """Return the angle of the left and the right wheel in rad, not wrapped."""
        ...

    def set_wheel_velocities(self, left: float, right: float) -> None:
        """Give the wheels new speeds in rad/s."""
        ...
