"""What a simulated world is to its owner: stepped, looked at, asked, judged."""

from __future__ import annotations

import atexit
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco

from qwen_vla_ros.sim.offscreen import OffscreenRenderer, Snapshot
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


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Places on a surface: x and y from `low` to `high` (m), `apart_m` from each other."""

    low: tuple[float, float]
    high: tuple[float, float]
    apart_m: float


class World(ABC):
    """A simulated robot in its surroundings, advanced in fixed periods by its owner.

    Attributes:
        cameras: Names of the robot's cameras.
        object_names: Every object that may be in the scene.
        scatter: Where objects may be put for pictures that show nothing but where they are.
        phrases: Ways to ask for what this world is about, with `{thing}` for the object.
        overview: Name of the camera for people.
        frame_id: What the robot's own messages call the world frame.
        time_s: Time since the last reset.
    """

    cameras: tuple[str, ...]
    object_names: tuple[str, ...]
    scatter: Scatter
    phrases: tuple[str, ...]
    overview = "overview"
    frame_id: str

    def __init__(self, model: Any, period_s: float) -> None:
        """Take over a model.

        Args:
            model: MjModel.
            period_s: Time per `step`, a multiple of the model's own timestep.
        """
        self.model = model
        self.period_s = period_s
        self.time_s = 0.0
        self._data = mujoco.MjData(model)
        self._renderer: OffscreenRenderer | None = None

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Put everything where this seed has it; the robot is at rest."""

    @abstractmethod
    def step(self) -> None:
        """Advance by one period."""

    @abstractmethod
    def objects(self) -> Mapping[str, FloatArray]:
        """Return the pose (x, y, z m, quaternion w, x, y, z) of every object in the scene."""

    @abstractmethod
    def object_color(self, name: str) -> tuple[float, float, float, float]:
        """Return the colour (r, g, b, a; 0 to 1) of an object."""

    @abstractmethod
    def object_size(self, name: str) -> tuple[float, float, float]:
        """Return the full edges, or three times the diameter, of an object in metres."""

    @abstractmethod
    def suggest_instruction(self) -> str:
        """Return an instruction that fits the scene."""

    @abstractmethod
    def judge(self, instruction: str) -> Verdict:
        """Say how far the instruction is carried out; it judges from the last reset on."""

    def snapshot(self) -> Snapshot:
        """Copy what a camera needs."""
        data = self._data
        return Snapshot(data.qpos.copy(), data.mocap_pos.copy(), data.mocap_quat.copy())

    def render(self, camera: str, width: int, height: int) -> ImageArray:
        """Draw now, in the calling thread, which must always be the same."""
        if self._renderer is None:
            self._renderer = OffscreenRenderer(self.model)
            # OpenGL complains about contexts that outlive it.
            atexit.register(self._renderer.close)
        return self._renderer.render(self.snapshot(), camera, width, height)

    def _settle(self, seconds: float) -> None:
        """Let what was put somewhere come to rest; time begins afterwards."""
        mujoco.mj_step(self.model, self._data, nstep=self._substeps(seconds))
        self.time_s = 0.0

    def _advance(self) -> None:
        mujoco.mj_step(self.model, self._data, nstep=self._substeps(self.period_s))
        self.time_s += self.period_s

    def _substeps(self, seconds: float) -> int:
        return max(1, round(seconds / float(self.model.opt.timestep)))


class JointWorld(World):
    """A world whose robot has position-controlled joints."""

    joints: tuple[str, ...]

    @abstractmethod
    def position_index(self, joint: str) -> int:
        """Return where the position of a joint stands in a snapshot."""

    @abstractmethod
    def positions(self) -> FloatArray:
        """Return the measured position of every joint (rad or m), in the order of `joints`."""

    @abstractmethod
    def velocities(self) -> FloatArray:
        """Return the measured velocity of every joint (rad/s or m/s)."""

    @abstractmethod
    def set_targets(self, joints: Sequence[str], positions: FloatArray) -> None:
        """Give the servos of some joints new position set-points (rad or m)."""


class WheeledWorld(World):
    """A world whose robot has two driven wheels."""

    wheel_separation_m: float
    wheel_radius_m: float

    @abstractmethod
    def wheel_positions(self) -> tuple[float, float]:
        """Return the angle of the left and the right wheel in rad, not wrapped."""

    @abstractmethod
    def set_wheel_velocities(self, left: float, right: float) -> None:
        """Give the wheels new speeds in rad/s."""
