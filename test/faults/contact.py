"""Whether a robot touches itself or what stands beside it, by MuJoCo, from the files as they are.

Nothing here is the gate's: another reader of the description, other kinematics, another search for
contacts, and no margin. The ALOHA cell is judged a second time, by the meshes of its own model.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import mujoco
import numpy as np
import xacro

from faults.judge import Floats
from faults.rig import ROOT, plain_file
from qwen_vla_ros.sim.aloha_model import compile_aloha_cell

MESH_LINKS = {
    "shoulder_link": "shoulder_link",
    "upper_arm_link": "upper_arm_link",
    "upper_forearm_link": "upper_forearm_link",
    "lower_forearm_link": "lower_forearm_link",
    "wrist_link": "wrist_link",
    "gripper_link": "gripper_link",
    "gripper_prop_link": "gripper_link",
    "left_finger_link": "finger_link",
    "right_finger_link": "finger_opposite_link",
}
MESH_JOINTS = {"left_finger": ("finger", 1.0), "right_finger": ("finger", -1.0)}


class ContactJudge:
    """Looks for links that overlap and must not.

    Attributes:
        deepest: How far two overlapped at most, in m.
        pair: Which two.
        looks: How many poses were looked at.
        touching: In how many of them two overlapped.
    """

    def __init__(self, name: str) -> None:
        self.file = plain_file(name)
        collision = self.file["safety"]["collision"]
        allowed = {frozenset(pair) for pair in collision.get("may_touch", ())}
        robot = _description(self.file["urdf"])
        self._models = [_of_urdf(robot.toxml(), collision.get("surroundings", {}))]
        self._links = [_names(self._models[0], lambda body: body)]
        self._slots = [_slots_of_urdf(self._models[0], robot)]
        if name == "aloha_sim":
            model = cell_of_meshes()
            self._models.append(model)
            self._links.append(_names(model, _link_of_mesh))
            self._slots.append(slots_of_meshes(model))
        self._data = [mujoco.MjData(model) for model in self._models]
        self._ignored = [
            _ignored(model, links, allowed)
            for model, links in zip(self._models, self._links, strict=True)
        ]
        self.deepest, self.pair = 0.0, ""
        self.looks = self.touching = 0

    def look(self, names: Sequence[str], position: Floats) -> bool:
        """Take in where joints are; returns whether two links overlap."""
        values = dict(zip(names, position, strict=True))
        deepest = 0.0
        for k, model in enumerate(self._models):
            data = self._data[k]
            for slot, joint, factor in self._slots[k]:
                data.qpos[slot] = factor * values[joint]
            mujoco.mj_kinematics(model, data)
            mujoco.mj_collision(model, data)
            geoms, distances = data.contact.geom, data.contact.dist
            if not len(geoms):
                continue
            depths = np.where(self._ignored[k][geoms[:, 0], geoms[:, 1]], 0.0, -distances)
            worst = int(depths.argmax())
            deepest = max(deepest, float(depths[worst]))
            if depths[worst] > self.deepest:
                self.deepest = float(depths[worst])
                self.pair = " and ".join(self._links[k][geom] for geom in geoms[worst])
        self.looks += 1
        self.touching += deepest > 0
        return deepest > 0


class ToolJudge:
    """Finds the tools of a robot outside their workspaces."""

    def __init__(self, name: str) -> None:
        file = plain_file(name)
        robot = _description(file["urdf"])
        self._model = _of_urdf(robot.toxml(), {})
        self._data = mujoco.MjData(self._model)
        self._slots = _slots_of_urdf(self._model, robot)
        self._tools = {
            tool: spec for tool, spec in file["safety"]["tools"].items() if "workspace" in spec
        }

    def outside(self, names: Sequence[str], position: Floats) -> tuple[float, str]:
        """Return how far outside (m) a tool is at most, or by how much none is: and which."""
        values = dict(zip(names, position, strict=True))
        for slot, joint, factor in self._slots:
            self._data.qpos[slot] = factor * values[joint]
        mujoco.mj_kinematics(self._model, self._data)
        found = []
        for tool, spec in self._tools.items():
            body = self._data.body(spec["link"])
            place = body.xpos + body.xmat.reshape(3, 3) @ spec.get("point", (0.0, 0.0, 0.0))
            box = spec["workspace"]
            beyond = np.maximum(np.subtract(box["lower"], place), place - box["upper"])
            found.append((float(beyond.max()), tool))
        return max(found)


def _description(urdf: str) -> Any:
    robot = xacro.process_file(str(ROOT / "urdf" / urdf))
    for tag in ("collision", "visual"):
        for k, body in enumerate(robot.getElementsByTagName(tag)):
            body.setAttribute("name", f"{tag}_{k}")  # MuJoCo grumbles otherwise
    return robot


@cache
def cell_of_meshes() -> Any:
    """Return the ALOHA cell, whose cubes touch nothing."""
    model = compile_aloha_cell()
    for geom in range(model.ngeom):
        body = model.body(model.geom_bodyid[geom]).name
        if "cube" in body:  # what is held is no part of the robot
            model.geom_contype[geom] = model.geom_conaffinity[geom] = 0
    return model


def _of_urdf(xml: str, boxes: dict[str, Any]) -> Any:
    spec = mujoco.MjSpec.from_string(xml)
    spec.compiler.fusestatic = False
    for name, box in boxes.items():
        body = spec.worldbody.add_body(name=name, pos=box["center"])
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[edge / 2 for edge in box["size"]])
    return spec.compile()


def _names(model: Any, link_of: Any) -> list[str]:
    bodies = [model.body(model.geom_bodyid[geom]).name for geom in range(model.ngeom)]
    return [link_of(body) for body in bodies]


def _link_of_mesh(body: str) -> str:
    arm, _, part = body.partition("/")
    return f"{arm.removeprefix('vx300s_')}_{MESH_LINKS[part]}" if part in MESH_LINKS else body


def _slots_of_urdf(model: Any, robot: Any) -> list[tuple[int, str, float]]:
    followers = {}
    for joint in robot.getElementsByTagName("joint"):
        for mimic in joint.getElementsByTagName("mimic"):
            factor = float(mimic.getAttribute("multiplier") or 1)
            followers[joint.getAttribute("name")] = (mimic.getAttribute("joint"), factor)
    found = []
    for k in range(model.njnt):
        name = model.joint(k).name
        found.append((int(model.jnt_qposadr[k]), *followers.get(name, (name, 1.0))))
    return found


def slots_of_meshes(model: Any) -> list[tuple[int, str, float]]:
    """Return the places of joints in `qpos`, each with our joint and a factor."""
    found = []
    for k in range(model.njnt):
        arm, _, part = model.joint(k).name.partition("/")
        if part:
            joint, factor = MESH_JOINTS.get(part, (part, 1.0))
            slot = int(model.jnt_qposadr[k])
            found.append((slot, f"{arm.removeprefix('vx300s_')}_{joint}", factor))
    return found


def _ignored(model: Any, links: list[str], allowed: set[frozenset[str]]) -> Any:
    """Return which pairs of geoms may touch, shape (geoms, geoms)."""
    ignored = np.zeros((model.ngeom, model.ngeom), dtype=bool)
    for i, one in enumerate(links):
        for j, other in enumerate(links):
            bodies = {int(model.geom_bodyid[i]), int(model.geom_bodyid[j])}
            parents = {int(model.body_parentid[body]) for body in bodies}
            ignored[i, j] = (
                one == other
                or frozenset({one, other}) in allowed
                or bool(bodies & parents - {0})  # neighbours
                or all(model.body_weldid[body] == 0 for body in bodies)  # nothing moves them
            )
    return ignored
