"""The ALOHA cell as a MuJoCo model: gym-aloha's arms and physics, our cubes, light and cameras."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from qwen_vla_ros.errors import QwenVlaError
from qwen_vla_ros.sim.coarse_mesh import coarsen

Color = tuple[float, float, float, float]
"""Red, green, blue, alpha, 0 to 1."""

Point = tuple[float, float, float]

CUBES: Mapping[str, Color] = {
    "red_cube": (0.90, 0.10, 0.08, 1.0),
    "blue_cube": (0.10, 0.25, 0.90, 1.0),
    "yellow_cube": (0.98, 0.80, 0.05, 1.0),
}
CUBE_EDGE_M = 0.04

_HEAVY_MESHES = ("vx300s_7_gripper", "vx300s_9_gripper_bar")
_CELL_MM = 2.0
"""Over half of the cell's triangles are in two parts of the grippers, most of them in rounded
edges. On this grid a sixth of them is left, and a picture takes half of the time."""

_PACKAGE = "gym-aloha"
_SCENE = "bimanual_viperx_transfer_cube.xml"

_TABLE = (0.62, 0.52, 0.41, 1.0)
_ARM = (0.24, 0.25, 0.27, 1.0)
_GRIPPER = (0.36, 0.37, 0.40, 1.0)
_FINGER = (0.13, 0.13, 0.14, 1.0)
_FLOOR_Z_M = -0.75

_NEAREST = 0.005

_PARKED_CUBE = (0.0, 0.5, 0.05, 1.0, 0.0, 0.0, 0.0)

_CAMERAS = {"top": "cam_high", "left_wrist": "cam_left_wrist", "right_wrist": "cam_right_wrist"}
"""The names that ALOHA data sets use, by gym-aloha's."""

_TOP_M, _TOP_FOVY_DEG = (0.05, 0.52, 0.80), 36.0
"""Straight down onto where cubes lie and change hands: at 128 px a cube is 10 px wide."""

_WRIST_M, _WRIST_TARGET_M, _WRIST_FOVY_DEG = (0.03, 0.0, 0.12), (0.15, 0.0, -0.01), 70.0
"""In the frame of the gripper link: ahead of the gripper's body, which would hide the table from
gym-aloha's own place, and toward the fingertips."""


def compile_aloha_cell() -> Any:
    """Return the MjModel.

    Raises:
        QwenVlaError: The package that brings the arms is not installed.
    """
    scene = _find_scene()
    spec = mujoco.MjSpec.from_file(str(scene))
    for mesh in spec.meshes:
        if mesh.name in _HEAVY_MESHES:
            coarsen(mesh, scene.parent, _CELL_MM)
    box = spec.body("box")
    for name, rgba in CUBES.items():
        _make_cube(spec, box if name == "red_cube" else None, name, rgba)
    for key in spec.keys:
        # The file's keyframe knows one cube only.
        key.qpos = (*key.qpos[:16], *(_PARKED_CUBE * len(CUBES)))
    _paint(spec)
    _light(spec)
    _aim_cameras(spec)
    return spec.compile()


def _find_scene() -> Path:
    # Only the files are wanted: importing the package would ask for gymnasium and dm_control.
    found = importlib.util.find_spec("gym_aloha")
    for folder in (found.submodule_search_locations or ()) if found else ():
        scene = Path(folder) / "assets" / _SCENE
        if scene.is_file():
            return scene
    raise QwenVlaError(
        f"the simulated ALOHA cell needs the models of {_PACKAGE}: "
        f"'pip install --no-deps {_PACKAGE}'."
    )


def _make_cube(spec: Any, box: Any, name: str, rgba: Color) -> None:
    """Turn gym-aloha's box into a cube of ours, or add one of the same mass and contact."""
    if box is not None:
        for part in (box, box.joints[0], box.geoms[0]):
            part.name = name
        box.geoms[0].rgba = rgba
        return
    half = CUBE_EDGE_M / 2
    body = spec.worldbody.add_body(name=name, pos=[0.0, 0.5, 0.05])
    body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_FREE, frictionloss=0.01)
    body.ipos = [0, 0, 0]
    body.mass = 0.05
    body.inertia = [0.002, 0.002, 0.002]
    body.explicitinertial = True
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[half, half, half],
        condim=4,
        solimp=[2, 1, 0.01, 0.5, 2],
        solref=[0.01, 1],
        friction=[1, 0.005, 0.0001],
        rgba=rgba,
    )


def _paint(spec: Any) -> None:
    for geom in spec.geoms:
        if "gripper_finger" in geom.name:
            geom.rgba = _FINGER
        elif "gripper" in geom.name:
            geom.rgba = _GRIPPER
        elif geom.name.startswith("vx300s"):
            geom.rgba = _ARM
        elif geom.name == "table":
            geom.rgba = _TABLE
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.80, 0.86, 0.92],
        rgb2=[0.52, 0.58, 0.66],
        width=64,
        height=384,
    )
    spec.add_texture(
        name="tiles",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.50, 0.53, 0.57],
        rgb2=[0.54, 0.57, 0.61],
        width=64,
        height=64,
    )
    # Mesa draws a sky in plain white unless a flat texture is drawn as well.
    tiles = spec.add_material(name="tiles", texrepeat=[6, 6], specular=0.0)
    tiles.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "tiles"
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[3, 3, 0.1],
        pos=[0, 0.6, _FLOOR_Z_M],
        material="tiles",
        contype=0,
        conaffinity=0,
    )


def _light(spec: Any) -> None:
    for light in spec.lights:
        light.castshadow = False
        light.diffuse = [0.22, 0.22, 0.22]
        light.specular = [0.1, 0.1, 0.1]
    spec.visual.headlight.ambient = [0.38, 0.38, 0.38]
    spec.visual.headlight.diffuse = [0.25, 0.25, 0.25]
    spec.visual.headlight.specular = [0.05, 0.05, 0.05]
    # Shadows and multisampling cost a software rasteriser more than all the rest.
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    # As a share of the model's extent; fingers are nearer to a wrist camera than the file has it.
    spec.visual.map.znear = _NEAREST
    spec.visual.global_.offwidth = 1280
    spec.visual.global_.offheight = 960


def _aim_cameras(spec: Any) -> None:
    for camera in spec.cameras:
        if camera.name.endswith("wrist"):
            _look(camera, _WRIST_M, _WRIST_TARGET_M, _WRIST_FOVY_DEG, up=(0.0, 0.0, 1.0))
        elif camera.name == "top":
            below = (*_TOP_M[:2], 0.0)
            _look(camera, _TOP_M, below, _TOP_FOVY_DEG, up=(0.0, 1.0, 0.0))
        camera.name = _CAMERAS.get(camera.name, camera.name)
    spec.worldbody.add_camera(
        name="overview",
        pos=[0.0, -0.42, 0.62],
        fovy=52,
        mode=mujoco.mjtCamLight.mjCAMLIGHT_TARGETBODY,
        targetbody="midair",
    )


def _look(camera: Any, place: Point, target: Point, fovy_deg: float, *, up: Point) -> None:
    """Fix a camera to its body at `place`, looking at `target`; both in the body's frame (m)."""
    # A camera of MuJoCo looks along -z, with x to the right and y up in the picture.
    back = np.subtract(place, target)
    right = np.cross(up, back)
    camera.pos, camera.fovy = place, fovy_deg
    camera.mode, camera.targetbody = mujoco.mjtCamLight.mjCAMLIGHT_FIXED, ""
    camera.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
    camera.alt.xyaxes = [*right, *np.cross(back, right)]
