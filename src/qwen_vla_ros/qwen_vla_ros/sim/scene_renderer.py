"""Draws the rows of demonstrations again, each time a little different, and says what is where.

It needs a folder that `shards` wrote and MuJoCo, and nothing else of the simulator.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import mujoco
import numpy as np
import numpy.typing as npt

from qwen_vla_ros.sim.offscreen import make_context
from qwen_vla_ros.types import FloatArray, ImageArray

FINER = 2
"""Pictures are drawn so much larger and then made smaller, which softens their edges."""
OUT_OF_SIGHT_M = (0.0, 0.0, -50.0)


@dataclass(frozen=True, kw_only=True)
class Variation:
    """By how much a picture differs from what is there: the axes of the randomisation.

    Attributes:
        camera_m: Standard deviation of where a camera is, along each axis.
        camera_rad: The same of where it looks.
        light: Standard deviation of the brightness of all lights, as a share.
        colour: Largest change of a colour, of the range 0 to 1.
        gain: Standard deviation of contrast and of each colour's gain, as a share.
        noise: Standard deviation of a pixel, of 255.
    """

    camera_m: float = 0.004
    camera_rad: float = 0.008
    light: float = 0.15
    colour: float = 0.06
    gain: float = 0.08
    noise: float = 3.0


@dataclass(frozen=True)
class Camera:
    """One camera of the robot's file, as `scene.json` has it."""

    name: str
    size: tuple[int, int]
    seen_size: tuple[int, int]
    fit: str

    @property
    def aspect(self) -> float:
        """Width by height of what is seen, before it is brought to the model's shape."""
        width, height = self.size
        return width / height if self.fit == "stretch" else self.seen_size[0] / self.seen_size[1]


class SceneRenderer:
    """Draws for one process. OpenGL begins with the first picture."""

    def __init__(self, folder: Path, variation: Variation | None = None) -> None:
        """Read `scene.mjb` and `scene.json`; no `variation` draws what is there."""
        scene = json.loads((folder / "scene.json").read_text())
        self.cameras = tuple(
            Camera(
                each["name"],
                (each["width_px"], each["height_px"]),
                (each["input_px"][0], each["input_px"][1]),
                each["fit"],
            )
            for each in scene["cameras"]
        )
        self.objects: tuple[str, ...] = tuple(scene["objects"])
        self.phrases: tuple[str, ...] = tuple(scene["phrases"])
        self._variation = variation
        self._model = mujoco.MjModel.from_binary_path(str(folder / "scene.mjb"))
        self._data = mujoco.MjData(self._model)
        model = self._model
        bodies = [model.body(i).name for i in range(model.nbody)]
        self._mocap = [
            int(model.body(name).mocapid[0]) if name in bodies else -1 for name in self.objects
        ]
        self._kept = [np.array(x) for x in self._varied]
        self._gl: Any = None

    def scatter(
        self, qpos: FloatArray, objects: FloatArray, area: FloatArray, rng: np.random.Generator
    ) -> None:
        """Move the objects of a row to anywhere in an area, in place.

        Args:
            qpos: Of the whole model.
            objects: Pose of each object, not finite where it is not there; (N, 7).
            area: Least and most x and y; (2, 2).
            rng: What the places are drawn from.
        """
        for pose, name, at in zip(objects, self.objects, self._mocap, strict=True):
            if not np.isfinite(pose[0]):
                continue
            pose[:2] = rng.uniform(area[0], area[1])
            if at < 0:
                half = rng.uniform(-math.pi, math.pi) / 2
                pose[2:] = self._rest_height(name), math.cos(half), 0, 0, math.sin(half)
                begin = int(self._model.joint(name).qposadr[0])
                qpos[begin : begin + 7] = pose

    def _rest_height(self, name: str) -> float:
        """Return the z of an object's centre on a table at z = 0."""
        geom = self._model.body_geomadr[self._model.joint(name).bodyid[0]]
        return float(self._model.geom_size[geom][2])

    @property
    def _varied(self) -> tuple[Any, ...]:
        model = self._model
        return (
            model.cam_pos, model.cam_quat, model.light_diffuse, model.light_ambient,
            model.geom_rgba, model.mat_rgba, model.vis.headlight.diffuse,
            model.vis.headlight.ambient,
        )  # fmt: skip

    def draw(
        self, qpos: FloatArray, objects: FloatArray, rng: np.random.Generator
    ) -> tuple[dict[str, ImageArray], npt.NDArray[np.float32]]:
        """Return the pictures of one row, and where the centre of each object is in them.

        Args:
            qpos: Of the whole model.
            objects: Pose of each object, not finite where it is not there; (N, 7).
            rng: What the variation is drawn from.

        Returns:
            RGB pictures (height, width, 3) by camera, as the model sees them, and columns and rows
            from 0 to 1, (cameras, N, 2), which are outside of that range where out of sight.
        """
        if self._gl is None:
            self._open()
        self._vary(rng)
        model, data = self._model, self._data
        data.qpos[:] = qpos
        for at, pose in zip(self._mocap, objects, strict=True):
            if at >= 0:
                data.mocap_pos[at] = pose[:3] if np.isfinite(pose[0]) else OUT_OF_SIGHT_M
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        pictures = {camera.name: self._shoot(camera, rng) for camera in self.cameras}
        places = np.stack([self._places(camera, objects[:, :3]) for camera in self.cameras])
        return pictures, places.astype(np.float32)

    def _open(self) -> None:
        model = self._model
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        self._option, self._view = mujoco.MjvOption(), mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        buffer = model.vis.global_
        self._gl = make_context(buffer.offwidth, buffer.offheight)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def _shoot(self, camera: Camera, rng: np.random.Generator) -> ImageArray:
        self._view.fixedcamid = self._model.camera(camera.name).id
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, None, self._view,
            mujoco.mjtCatBit.mjCAT_ALL, self._scene,
        )  # fmt: skip
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        for eye in self._scene.camera:
            # Half the width of what is seen, on the near plane: the picture may be squeezed.
            eye.frustum_width = camera.aspect * (eye.frustum_top - eye.frustum_bottom) / 2
        width, height = (FINER * side for side in camera.seen_size)
        area = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(area, self._scene, self._context)
        image = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, area, self._context)
        small = cv2.resize(image[::-1], camera.seen_size, interpolation=cv2.INTER_AREA)
        return self._expose(small, rng)

    def _expose(self, image: ImageArray, rng: np.random.Generator) -> ImageArray:
        """Let the camera itself differ: contrast, white balance, noise."""
        variation = self._variation
        if variation is None:
            return image
        gain = (
            1
            + variation.gain * rng.standard_normal()
            + (variation.gain / 2 * rng.standard_normal(3))
        )
        noise = rng.standard_normal(image.shape, dtype=np.float32) * variation.noise
        varied = (image.astype(np.float32) - 100) * gain.astype(np.float32) + 100 + noise
        return np.clip(varied, 0, 255).astype(np.uint8)

    def _places(self, camera: Camera, points: FloatArray) -> FloatArray:
        """Return column and row of points (N, 3) in a picture; (N, 2)."""
        at = self._model.camera(camera.name).id
        rotation = self._data.cam_xmat[at].reshape(3, 3)
        seen = (points - self._data.cam_xpos[at]) @ rotation  # x right, y up, looking along -z
        depth = -seen[:, 2]
        tall = math.tan(math.radians(self._model.cam_fovy[at]) / 2) * np.where(depth > 0, depth, 1)
        places = 0.5 + 0.5 * np.stack((seen[:, 0] / camera.aspect, -seen[:, 1]), 1) / tall[:, None]
        return np.where((depth > 0)[:, None], places, -1.0)

    def _vary(self, rng: np.random.Generator) -> None:
        variation = self._variation
        for values, kept in zip(self._varied, self._kept, strict=True):
            values[:] = kept
        if variation is None:
            return
        model = self._model
        model.cam_pos[:] += variation.camera_m * rng.standard_normal(model.cam_pos.shape)
        tilt = variation.camera_rad / 2 * rng.standard_normal((model.ncam, 3))
        for quaternion, turn in zip(model.cam_quat, tilt, strict=True):
            result = np.zeros(4)
            mujoco.mju_mulQuat(result, quaternion, np.array([1.0, *turn]))
            quaternion[:] = result / np.linalg.norm(result)
        bright = max(0.3, 1 + variation.light * rng.standard_normal())
        for light in (model.light_diffuse, model.vis.headlight.diffuse):
            light[:] *= bright
        for colours in (model.geom_rgba, model.mat_rgba):
            shift = rng.uniform(-variation.colour, variation.colour, (len(colours), 3))
            colours[:, :3] = np.clip(colours[:, :3] + shift, 0, 1)
