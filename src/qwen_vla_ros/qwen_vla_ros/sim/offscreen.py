"""Drawing without a screen: one OpenGL context, any camera, any size."""

from __future__ import annotations

import ctypes
import importlib
import os
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.types import FloatArray, ImageArray

_EGL_PLATFORM_DEVICE_EXT = 0x313F
_MAX_DEVICES = 16
_MAX_GEOMS = 1000


@dataclass(frozen=True)
class Snapshot:
    """All that a camera needs to draw a moment, so that it can be drawn in another thread."""

    positions: FloatArray
    mocap_positions: FloatArray
    mocap_quaternions: FloatArray


class OffscreenRenderer:
    """Draws snapshots of one model. It belongs to the thread that made it."""

    def __init__(self, model: Any) -> None:
        # A copy of the moving parts of its own: the physics goes on while it draws.
        self._model = model
        self._data = mujoco.MjData(model)
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        buffer = model.vis.global_
        self._gl = _make_context(buffer.offwidth, buffer.offheight)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def render(self, snapshot: Snapshot, camera: str, width: int, height: int) -> ImageArray:
        """Draw a snapshot through a camera.

        Args:
            snapshot: Where everything is.
            camera: Name of a camera of the model.
            width: Pixels, at most the model's off-screen buffer.
            height: Pixels, at most the model's off-screen buffer.

        Returns:
            RGB image (height, width, 3), top row first.
        """
        self._gl.make_current()  # another renderer may have drawn meanwhile
        data = self._data
        data.qpos[:] = snapshot.positions
        data.mocap_pos[:] = snapshot.mocap_positions
        data.mocap_quat[:] = snapshot.mocap_quaternions
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_camlight(self._model, data)
        self._camera.fixedcamid = self._model.camera(camera).id
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._option,
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        # Software rasterisers pay dearly for these, and a policy learns nothing from them.
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        view = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(view, self._scene, self._context)
        image = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, view, self._context)
        return np.ascontiguousarray(image[::-1])

    def close(self) -> None:
        """Free the context; call it in the thread that draws."""
        self._context.free()
        self._gl.free()


def choose_backend() -> str:
    """Return the off-screen OpenGL that MuJoCo shall use: MUJOCO_GL if set, else what works.

    EGL is preferred, since it finds a GPU where there is one; on Mesa without a GPU it is also
    the faster of the two.
    """
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    if wanted in ("egl", "osmesa", "glfw"):
        return wanted
    return "egl" if _egl_works() else "osmesa"


def _make_context(width: int, height: int) -> Any:
    backend = choose_backend()
    try:
        return importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise QwenVlaError(
            f"cannot draw without a screen ({backend}: {error}). On Debian and Ubuntu, "
            "'apt install libegl1 libgl1-mesa-dri libosmesa6' brings what is missing."
        ) from error


def _egl_works() -> bool:
    """Ask EGL itself: MuJoCo's own attempt cannot be taken back once it has failed."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
        egl.eglGetProcAddress.restype = ctypes.c_void_p
        query_at = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
        display_at = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    except (OSError, AttributeError):
        return False
    if not query_at or not display_at:
        return False
    pointer = ctypes.c_void_p
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointer, pointer)(query_at)
    display_of = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(display_at)
    devices = (pointer * _MAX_DEVICES)()
    count = ctypes.c_int(0)
    query(_MAX_DEVICES, devices, ctypes.byref(count))
    egl.eglInitialize.argtypes = [pointer, pointer, pointer]
    for device in devices[: count.value]:
        display = display_of(_EGL_PLATFORM_DEVICE_EXT, device, None)
        if display and egl.eglInitialize(display, None, None):
            return True
    return False
