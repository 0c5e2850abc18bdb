"""One robot, loaded: its file, its description, and the maps between channels and joints."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qwen_vla_ros.embodiment.backend import load_backend
from qwen_vla_ros.embodiment.schema import CameraSpec, ChannelSpec, EmbodimentFile
from qwen_vla_ros.embodiment.urdf import Urdf
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.types import FloatArray, ImageArray, Observation


@dataclass(frozen=True, kw_only=True, eq=False)
class Embodiment:
    """Who the robot is. Valid once it exists: `load_embodiment` refuses everything else.

    Attributes:
        file: The embodiment file.
        path: Where the file was read from.
        robot: The robot description.
    """

    file: EmbodimentFile
    path: Path
    robot: Urdf

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits that change whenever the file's data or the description does."""
        data = self.file.model_dump(mode="json")
        canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(f"{canonical}\n{self.robot.xml}".encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Name of the robot, as in its file."""
        return self.file.name

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Names of the action's columns."""
        return tuple(channel.name for channel in self.file.action)

    @cached_property
    def joints(self) -> tuple[str, ...]:
        """Commanded joints in channel order; empty for a base."""
        return tuple(channel.joint for channel in self._joint_channels if channel.joint)

    @property
    def dt(self) -> float:
        """Seconds between two rows of a chunk."""
        return 1.0 / self.file.prompt.control_frequency_hz

    @property
    def has_base(self) -> bool:
        """Whether the actions are waypoints of a planar base."""
        return self.file.safety.base is not None

    @cached_property
    def ends(self) -> str:
        """Why a motion ends although the gate is lost; empty where a monitor must end it."""
        reasons = [load_backend(output.backend).ends for output in self.file.command.outputs]
        return "" if "" in reasons else "; ".join(dict.fromkeys(reasons))

    @property
    def world(self) -> str:
        """Name of the simulated world that stands in for the robot.

        Raises:
            EmbodimentError: None does.
        """
        if self.file.simulation is None:
            raise EmbodimentError(f"{self.name}: its file has no 'simulation' section.")
        return self.file.simulation.world

    def joints_from_channels(self, values: FloatArray) -> FloatArray:
        """Return joint positions (..., J) in rad or m for channel values (..., c).

        A gripper value beyond 0 to 1 extrapolates: keeping joints in bounds is the gate's work.
        """
        return np.asarray(values)[..., self._columns] * self._gain + self._bias

    def channels_from_joints(self, positions: FloatArray) -> FloatArray:
        """Return channel values (..., c) for joint positions (..., J) in rad or m.

        The columns of a base have no joint and are 0: no motion.
        """
        positions = np.asarray(positions)
        values = np.zeros((*positions.shape[:-1], len(self.channels)))
        values[..., self._columns] = (positions - self._bias) / self._gain
        return values

    def make_example(self, seed: int = 0) -> Observation:
        """Return a plausible observation with the right names, shapes, types and ranges."""
        rng = np.random.default_rng(seed)

        def look(camera: CameraSpec) -> ImageArray:
            return rng.integers(0, 256, (camera.height_px, camera.width_px, 3), dtype=np.uint8)

        images = {camera.name: look(camera) for camera in self.file.cameras}
        if self.has_base:
            state = rng.uniform([-2.0, -2.0, -np.pi], [2.0, 2.0, np.pi])
        else:
            limits = [self.file.safety.joints[joint] for joint in self.joints]
            lower = np.array([limit.lower for limit in limits])
            upper = np.array([limit.upper for limit in limits])
            state = self.channels_from_joints(rng.uniform(lower, upper))
        history = {
            camera.name: tuple(look(camera) for _ in range(camera.history.frames))
            for camera in self.file.cameras
            if camera.history is not None
        }
        return Observation(stamp_ns=1_000_000_000, images=images, state=state, history=history)

    @cached_property
    def _joint_channels(self) -> tuple[ChannelSpec, ...]:
        return tuple(channel for channel in self.file.action if channel.joint is not None)

    @cached_property
    def _columns(self) -> list[int]:
        return [i for i, channel in enumerate(self.file.action) if channel.joint is not None]

    @cached_property
    def _gain(self) -> FloatArray:
        return np.array([gain_and_bias(channel)[0] for channel in self._joint_channels])

    @cached_property
    def _bias(self) -> FloatArray:
        return np.array([gain_and_bias(channel)[1] for channel in self._joint_channels])


def gain_and_bias(channel: ChannelSpec) -> tuple[float, float]:
    """Return (gain, bias) with `joint = gain * channel + bias`; absent keys are 1 and 0."""
    if channel.kind == "gripper":
        closed = 0.0 if channel.closed is None else channel.closed
        opened = 1.0 if channel.open is None else channel.open
        return opened - closed, closed
    scale = 1.0 if channel.scale is None else channel.scale
    return scale, 0.0 if channel.offset is None else channel.offset
