"""The shapes of a robot's links, as convex bodies that enclose what its description says.

A link's `<collision>` elements count, and its `<visual>` ones where it has none. A box stays a
box. Everything else becomes the smallest capsule about an axis of its own: a cylinder about its
own axis, a mesh about the direction in which it is longest. An enclosing shape is never smaller
than what it stands for, so that nothing has to be added for the fit.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import coal
import numpy as np

from qwen_vla_ros.embodiment.urdf import Urdf, pose_of_origin
from qwen_vla_ros.errors import EmbodimentError
from qwen_vla_ros.types import FloatArray

MAX_MESH_BYTES = 64 * 1024 * 1024
MESH_KINDS = (".stl", ".obj", ".dae")
_PACKAGE_PATH = re.compile(r"package://([A-Za-z0-9_][A-Za-z0-9_.-]*)/(.+)")
_RADII = 64
"""Radii that are tried to find the capsule of least volume."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """A box, grown by a radius: a capsule where the box is a line.

    Attributes:
        link: Whose it is.
        pose: `link_from_shape` (4, 4).
        half: Half of the box's edges, shape (3,), m.
        radius: In m; 0 for a plain box.
    """

    link: str
    pose: FloatArray
    half: FloatArray
    radius: float

    @property
    def reach(self) -> float:
        """How far from the link's origin any point of it is at most, in m."""
        corner = float(np.linalg.norm(self.half))
        return float(np.linalg.norm(self.pose[:3, 3])) + corner + self.radius

    def geometry(self) -> coal.ShapeBase:
        """Return coal's body."""
        if self.radius == 0:
            return coal.Box(*(2 * self.half))
        return coal.Capsule(self.radius, 2 * float(self.half[2]))


def read_shapes(robot: Urdf) -> tuple[Shape, ...]:
    """Return the shapes of all links that have one.

    Raises:
        EmbodimentError: A mesh cannot be read.
    """
    shapes = []
    for link in ET.fromstring(robot.xml).findall("link"):
        elements = link.findall("collision") or link.findall("visual")
        shapes += [_read(link.get("name", ""), element) for element in elements]
    return tuple(shapes)


def enclosing_capsule(along: FloatArray, across: FloatArray) -> tuple[float, float]:
    """Return (half length, radius) of the smallest capsule about an axis that holds some points.

    Args:
        along: Where the points are along the axis, from its middle, shape (N,), m.
        across: How far from the axis they are, shape (N,), m.
    """
    widest, farthest = float(across.max()), float(np.hypot(along, across).max())
    best = (0.0, farthest)
    for radius in np.linspace(widest, farthest, _RADII):
        cap = np.sqrt(np.maximum(radius**2 - across**2, 0.0))
        half = max(0.0, float((np.abs(along) - cap).max()))
        if _volume(half, float(radius)) < _volume(*best):
            best = (half, float(radius))
    return best


def _volume(half: float, radius: float) -> float:
    return radius**2 * (2 * half + 4 / 3 * radius)


def _read(link: str, element: ET.Element) -> Shape:
    where = f"link '{link}'"
    pose = pose_of_origin(element.find("origin"))
    geometry = element.find("geometry")
    body = None if geometry is None or len(geometry) == 0 else geometry[0]
    if body is None:
        raise EmbodimentError(f"{where}: a shape without <geometry>.")
    if body.tag == "box":
        half = _numbers(body, "size", where, 3) / 2
        return Shape(link=link, pose=pose, half=half, radius=0.0)
    if body.tag == "sphere":
        radius = float(_numbers(body, "radius", where)[0])
        return Shape(link=link, pose=pose, half=np.zeros(3), radius=radius)
    if body.tag in ("cylinder", "capsule"):
        radius = float(_numbers(body, "radius", where)[0])
        half_length = float(_numbers(body, "length", where)[0]) / 2
        if body.tag == "cylinder":
            rim = np.array([half_length]), np.array([radius])
            half_length, radius = enclosing_capsule(*rim)
        return Shape(link=link, pose=pose, half=np.array([0, 0, half_length]), radius=radius)
    if body.tag == "mesh":
        return _enclose_mesh(link, pose, body)
    raise EmbodimentError(
        f"{where}: unknown shape <{body.tag}>. Known: box, capsule, cylinder, mesh, sphere."
    )


def _numbers(
    element: ET.Element, key: str, where: str, count: int = 1, default: str = ""
) -> FloatArray:
    """Return the positive numbers of an attribute; those of a scale may mirror a mesh."""
    text = element.get(key, default)
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        values = np.empty(0)
    sizes = np.abs(values) if key == "scale" else values
    if values.shape != (count,) or not np.isfinite(values).all() or not (sizes > 0).all():
        many = "a positive number" if count == 1 else f"{count} positive numbers"
        raise EmbodimentError(f"{where}: <{element.tag}> {key} '{text[:60]}' is not {many}.")
    return values


def _enclose_mesh(link: str, pose: FloatArray, mesh: ET.Element) -> Shape:
    name = mesh.get("filename", "")
    scale = _numbers(mesh, "scale", f"link '{link}'", 3, default="1 1 1")
    try:
        points = coal.MeshLoader().load(str(_find_mesh(link, name)), scale).vertices()
    except ValueError as error:
        why = str(error).partition("message: ")[2].partition("\n")[0]
        raise EmbodimentError(f"link '{link}': mesh '{name}' cannot be read: {why}") from None
    # The direction in which it is longest, and the middle of its bounding box about it.
    centred = points - points.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1]  # columns, the longest last
    axes[:, 0] *= np.linalg.det(axes)
    turned = points @ axes
    middle = (turned.max(axis=0) + turned.min(axis=0)) / 2
    turned -= middle
    half, radius = enclosing_capsule(turned[:, 2], np.linalg.norm(turned[:, :2], axis=1))
    mesh_from_shape = np.eye(4)
    mesh_from_shape[:3, :3], mesh_from_shape[:3, 3] = axes, axes @ middle
    return Shape(
        link=link, pose=pose @ mesh_from_shape, half=np.array([0, 0, half]), radius=radius
    )


def _find_mesh(link: str, name: str) -> Path:
    """Return the file of a mesh: one inside an installed package, and of a size to be read."""
    match = _PACKAGE_PATH.fullmatch(name)
    if match is None or ".." in Path(match[2]).parts:
        raise EmbodimentError(
            f"link '{link}': mesh '{name[:200]}' is not in a package. "
            "Allowed: package://PACKAGE/FOLDER/FILE."
        )
    if Path(name).suffix.lower() not in MESH_KINDS:
        kinds = ", ".join(MESH_KINDS)
        raise EmbodimentError(f"link '{link}': mesh '{name}' is of no known kind. Known: {kinds}.")
    prefixes = [each for each in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if each]
    for prefix in prefixes:
        path = Path(prefix, "share", match[1], match[2])
        if path.is_file():
            if path.stat().st_size > MAX_MESH_BYTES:
                raise EmbodimentError(
                    f"link '{link}': mesh '{name}' has {path.stat().st_size} bytes; at most "
                    f"{MAX_MESH_BYTES} are read."
                )
            return path
    raise EmbodimentError(
        f"link '{link}': mesh '{name}' is in none of the {len(prefixes)} folders of "
        "$AMENT_PREFIX_PATH. Is the package installed, and its setup file sourced?"
    )
