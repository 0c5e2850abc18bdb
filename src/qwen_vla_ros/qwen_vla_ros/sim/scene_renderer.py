"""Pictures of demonstrations, drawn from the physics they were kept as; see `shards`.

It needs `mujoco` and `numpy` and nothing else, so that it runs where a model is trained.
MUJOCO_GL chooses how to draw without a screen: `egl`, which is the default, or `osmesa`.
"""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Image = npt.NDArray[np.uint8]

_MAX_GEOMS = 1000
_HIDDEN_M = (0.0, 0.0, -50.0)
_CUBIC = -0.5


@dataclass(frozen=True)
class View:
    """One camera of a robot: how large it is drawn, and what of that a model sees.

    Attributes:
        name: Of the camera in the model.
        width_px, height_px: What the camera gives.
        fit: How that becomes what the model sees: `crop` takes the middle, `stretch` all.
        input_px: Width and height that the model sees.
    """

    name: str
    width_px: int
    height_px: int
    fit: str
    input_px: tuple[int, int]

    @property
    def drawn_px(self) -> tuple[int, int]:
        """Width and height of the part that is seen: the middle, in the shape of `input_px`."""
        if self.fit == "stretch":
            return self.width_px, self.height_px
        across, down = self.input_px
        # The vertical field of view is the camera's, so that only the width may be cut.
        return min(self.width_px, self.height_px * across // down), self.height_px


class SceneRenderer:
    """Draws rows of demonstrations as the robot's cameras see them.

    It belongs to the thread that made it.

    Attributes:
        model: MjModel; a `Variation` changes how it looks.
        scene: What `scene.json` says.
        views: The cameras, in the robot's order.
        objects: Names of the objects, in the order of a shard's `objects`.
    """

    def __init__(self, mjb: str | Path, description: str | Path) -> None:
        """Load a scene.

        Args:
            mjb: The compiled model. MuJoCo reads only what its own version has written.
            description: The `scene.json` beside it.

        Raises:
            ValueError: It was written by another version of MuJoCo, or a camera is not drawn
                like this.
        """
        self.scene = json.loads(Path(description).read_text())
        if self.scene["mujoco"] != mujoco.__version__:
            raise ValueError(
                f"{mjb}: written by MuJoCo {self.scene['mujoco']}, and this is "
                f"{mujoco.__version__}; install 'mujoco=={self.scene['mujoco']}'."
            )
        self.model = mujoco.MjModel.from_binary_path(str(mjb))
        self.views = tuple(
            View(**camera | {"input_px": tuple(camera["input_px"])})
            for camera in self.scene["cameras"]
        )
        if any(view.fit == "pad" for view in self.views):
            raise ValueError(f"{description}: pictures with borders (fit: pad) are not drawn.")
        self.objects = tuple(self.scene["objects"])
        self._data = mujoco.MjData(self.model)
        self._bodies = [self.model.body(name).id for name in self.objects]
        self._mocaps = [int(self.model.body_mocapid[body]) for body in self._bodies]
        self._ids = [self.model.camera(view.name).id for view in self.views]
        self._resizers = [
            tuple(_resizer(n, m) for n, m in zip(view.drawn_px, view.input_px, strict=True))
            for view in self.views
        ]
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        size = np.max([view.drawn_px for view in self.views], axis=0)
        backend = importlib.import_module(f"mujoco.{os.environ.get('MUJOCO_GL') or 'egl'}")
        self._gl = backend.GLContext(int(size[0]), int(size[1]))
        self._gl.make_current()
        self._draws = mujoco.MjvScene(self.model, maxgeom=_MAX_GEOMS)
        self._context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def render(self, qpos: Floats, objects: Floats) -> Image:
        """Draw one row through every camera.

        Args:
            qpos: Positions (nq,).
            objects: Poses (n, 7) of the objects; one with NaN is not there.

        Returns:
            RGB (n_cameras, H, W, 3): what the model sees. All cameras must be seen at one size.
        """
        self._place(qpos, objects)
        pictures = []
        for view, camera, resizers in zip(self.views, self._ids, self._resizers, strict=True):
            self._camera.fixedcamid = camera
            mujoco.mjv_updateScene(
                self.model, self._data, self._option, None, self._camera,
                mujoco.mjtCatBit.mjCAT_ALL, self._draws,
            )  # fmt: skip
            self._draws.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            self._draws.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
            width, height = view.drawn_px
            rectangle = mujoco.MjrRect(0, 0, width, height)
            mujoco.mjr_render(rectangle, self._draws, self._context)
            image = np.empty((height, width, 3), np.uint8)
            mujoco.mjr_readPixels(image, None, rectangle, self._context)
            pictures.append(_resize(image[::-1], *resizers))
        return np.stack(pictures)

    def locate(self, qpos: Floats, objects: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Say where in the pictures the centre of every object is; nothing is drawn.

        Args:
            qpos: Positions (nq,).
            objects: Poses (n, 7); one with NaN is not there.

        Returns:
            Pixels (n_cameras, n, 2) from the left and from the top of what the model sees, 0 at
            the outer edge of the first pixel; and whether it is within the picture
            (n_cameras, n). What hides it is not asked.
        """
        self._place(qpos, objects)
        places = self._data.xpos[self._bodies]
        is_drawn = self.model.geom_rgba[self.model.body_geomadr[self._bodies], 3] > 0
        is_there = np.isfinite(objects[:, 0]) & is_drawn
        pixels = np.zeros((len(self.views), len(self.objects), 2), np.float32)
        seen = np.zeros(pixels.shape[:2], bool)
        for i, (view, camera) in enumerate(zip(self.views, self._ids, strict=True)):
            axes = self._data.cam_xmat[camera].reshape(3, 3)
            x, y, z = ((places - self._data.cam_xpos[camera]) @ axes).T
            depth = np.where(z < 0, -z, np.inf)
            half = np.tan(np.deg2rad(self.model.cam_fovy[camera]) / 2)
            width, height = view.drawn_px
            across, down = x / depth / half * height / width, -y / depth / half
            pixels[i] = np.stack([across + 1, down + 1], axis=-1) / 2 * view.input_px
            is_inside = (np.abs(across) < 1) & (np.abs(down) < 1) & (z < 0)
            seen[i] = is_inside & is_there
        return pixels, seen

    def close(self) -> None:
        """Free the context; call it in the thread that draws."""
        self._context.free()
        self._gl.free()

    def _place(self, qpos: Floats, objects: Floats) -> None:
        data = self._data
        data.qpos[:] = qpos
        for mocap, pose in zip(self._mocaps, objects, strict=True):
            if mocap >= 0:
                is_there = np.isfinite(pose[0])
                data.mocap_pos[mocap] = pose[:3] if is_there else _HIDDEN_M
                data.mocap_quat[mocap] = pose[3:] if is_there else (1.0, 0.0, 0.0, 0.0)
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        mujoco.mj_camlight(self.model, data)


def _resizer(size: int, wanted: int) -> Floats:
    """Return the matrix (wanted, size) of a bicubic resampling that averages where it shrinks."""
    scale = max(1.0, size / wanted)
    centres = (np.arange(wanted) + 0.5) * size / wanted
    x = np.abs(np.arange(size) + 0.5 - centres[:, np.newaxis]) / scale
    near = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x**2 + 1
    far = _CUBIC * (((x - 5) * x + 8) * x - 4)
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _resize(image: Image, across: Floats, down: Floats) -> Image:
    narrow = np.einsum("vx,yxc->yvc", across, image.astype(np.float32), optimize=True)
    small = np.tensordot(down, np.rint(narrow).clip(0, 255), axes=1)
    return np.rint(small).clip(0, 255).astype(np.uint8)
